//! Files under `kill -9` and on a full volume. A record's number says which version its file is of, so each
//! record that is seen tells what its file must be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use image::{GrayImage, ImageFormat};
use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::{Groundswell, Request, Response, Server};

use crate::app::{Root, is_soak, json_of};
use crate::full_disk::{Volume, fill};

const RECORDS: &str = "/api/collections/docs/records";
const PATIENCE: Duration = Duration::from_secs(30);
/// The last twelve bytes of every PNG.
const PNG_END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";

/// A form: its values, and files by the name of their part.
type Form<'f> = (Value, Vec<(&'f str, Vec<u8>)>);

/// What the clients were told of the record of a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It is there, with a version at least.
    There(u64),
    /// Its delete was asked for.
    Asked,
    Deleted,
    Refused,
}

#[derive(Default)]
struct Ledger {
    told: Mutex<BTreeMap<String, Told>>,
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
}

#[test]
fn files_of_acknowledged_writes_survive_kill_nine_and_no_others_stay() {
    let (mut server, root) = start();
    let collection = collection_id(&root);
    let mut everything = BTreeMap::new();
    let rounds = if is_soak() { 100 } else { 6 };
    let mut unnamed = 0;
    for round in 0..rounds {
        let ledger = Ledger::default();
        let enough = 20 + round * 7 % 23;
        write_until_killed(round, enough, &Root::sign_in(&server), &ledger, || server.kill().unwrap());
        everything.extend(ledger.told.into_inner().unwrap());
        let before = stored(&server.dir());
        age_notes(&server.dir());
        server.restart().unwrap();

        let root = Root::sign_in(&server);
        let records = records(&root, &format!("title>='{round:03}-'"));
        let titles = check_records(&root, &records, &everything);
        let of_round = format!("{round:03}-");
        for (title, told) in everything.iter().filter(|(title, _)| title.starts_with(&of_round)) {
            let is_there = titles.contains_key(title);
            match told {
                Told::There(version) => assert!(titles.get(title) >= Some(version), "{title} {titles:?}"),
                Told::Asked => {}
                Told::Deleted | Told::Refused => assert!(!is_there, "{title} is there, though {told:?}"),
            }
        }
        let left = wait_until_only_named_files_are_stored(&root, &server.dir(), &collection);
        unnamed += before.difference(&left).count();
    }
    let records = records(&root, "");
    check_records(&root, &records, &everything);
    println!("{rounds} kills, {} records with their files, {unnamed} other files removed", records.len());
}

#[test]
fn a_full_volume_refuses_files_keeps_reads_and_recovers() {
    let (mut server, _) = start();
    server.kill().unwrap();
    let Some(volume) = Volume::over(&server.dir()) else {
        assert!(!testkit::is_ci(), "mounting a small volume needs root");
        println!("skipped: full volume: mounting one needs root");
        return;
    };
    server.restart().unwrap();
    let root = Root::sign_in(&server);
    let collection = collection_id(&root);
    let made = send_form(&root, "POST", RECORDS, &new_record("before", 400_000)).unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
    let picture = json!({"title": "picture"});
    let picture = send_form(&root, "POST", RECORDS, &(picture, vec![("image", picture_bytes())])).unwrap();
    assert_eq!(picture.status, 200, "{}", picture.text());
    let picture = json_of(&picture);

    let ballast = server.dir().join("ballast");
    fill(&ballast);
    let mut everything = BTreeMap::from([("before".to_owned(), Told::There(0))]);
    let mut refused = 0;
    for (number, size) in [1_000, 100_000, 1_000_000].into_iter().cycle().take(60).enumerate() {
        let title = format!("{number}");
        let answer = send_form(&root, "POST", RECORDS, &new_record(&title, size)).unwrap();
        match answer.status {
            200 => everything.insert(title, Told::There(0)),
            503 => {
                refused += 1;
                assert!(answer.text().contains("\"status\":503"), "{}", answer.text());
                everything.insert(title, Told::Refused)
            }
            status => panic!("{status}: {}", answer.text()),
        };
    }
    assert!(refused >= 40, "the volume was not full: {refused} refused");
    let titles = check_records(&root, &records(&root, "title!='picture'"), &everything);
    assert!(titles.contains_key("before"));
    let thumb = get(&root, &format!("{}?thumb=20x20", file_target(&picture, "image"))).unwrap();
    assert_eq!(thumb.status, 200, "an image without room for its thumb: {}", thumb.text());
    assert!(thumb.body.ends_with(PNG_END));

    let stored_then = stored(&server.dir());
    // Both files have room while they wait, and the first where it is stored.
    shrink(&ballast, 4 << 20);
    let files = vec![("doc", content("", 0, 300_000)), ("image", content("", 0, 3_000_000))];
    let answer = send_form(&root, "POST", RECORDS, &(json!({"title": "two"}), files)).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    everything.insert("two".to_owned(), Told::Refused);
    assert_eq!(stored(&server.dir()), stored_then, "one of two refused files stays");

    fs::remove_file(&ballast).unwrap();
    let answer = send_form(&root, "POST", RECORDS, &new_record("after", 1_000_000)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    everything.insert("after".to_owned(), Told::There(0));
    let thumb = get(&root, &format!("{}?thumb=20x20", file_target(&picture, "image"))).unwrap();
    assert!(thumb.body.ends_with(PNG_END) && thumb.body != picture_bytes());

    server.kill().unwrap();
    age_notes(&server.dir());
    server.restart().unwrap();
    let titles = check_records(&root, &records(&root, "title!='picture'"), &everything);
    let there = everything.iter().filter(|(_, told)| matches!(told, Told::There(_)));
    assert!(there.map(|(title, _)| title).eq(titles.keys()), "{titles:?}");
    wait_until_only_named_files_are_stored(&root, &server.dir(), &collection);
    drop(volume);
}

/// Gives so many bytes of a file back.
fn shrink(path: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len().saturating_sub(bytes)).unwrap();
}

fn start() -> (Server, Root) {
    let server = Groundswell::start().unwrap();
    let root = Root::sign_in(&server);
    let body = json!({
        "name": "docs", "listRule": "", "viewRule": "", "createRule": "", "updateRule": "", "deleteRule": "",
        "fields": [
            {"name": "title", "type": "text", "max": 20},
            {"name": "version", "type": "number"},
            {"name": "doc", "type": "file"},
            {"name": "image", "type": "file", "thumbs": ["20x20"]}
        ],
        "indexes": ["CREATE UNIQUE INDEX `idx_docs_title` ON `docs` (`title`)"]
    });
    let made = root.send("POST", "/api/collections", Some(body));
    assert_eq!(made.status, 200, "{}", made.text());
    let settings = json!({"batch": {"enabled": true, "maxRequests": 50, "timeout": 30}});
    assert_eq!(root.send("PATCH", "/api/settings", Some(settings)).status, 200);
    (server, root)
}

/// Runs clients until enough is acknowledged, then calls `kill` while they go on.
fn write_until_killed(round: usize, enough: usize, root: &Root, ledger: &Ledger, kill: impl FnOnce()) {
    type Work = fn(&Root, &Ledger, &str) -> Option<()>;
    const CLIENTS: [Work; 6] = [change, change, write_batches, write_batches, make_thumbs, be_refused];
    let (tell, wait) = mpsc::channel();
    thread::scope(|scope| {
        for (client, work) in CLIENTS.into_iter().enumerate() {
            let tell = tell.clone();
            scope.spawn(move || {
                for number in 0.. {
                    let title = format!("{round:03}-{client}-{number}");
                    if ledger.is_over.load(Ordering::Relaxed) || work(root, ledger, &title).is_none() {
                        break;
                    }
                    if ledger.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == enough {
                        let _ = tell.send(());
                    }
                }
            });
        }
        drop(tell);
        let reached = wait.recv();
        kill();
        ledger.is_over.store(true, Ordering::Relaxed);
        assert!(reached.is_ok(), "the clients stopped before the server was killed");
    });
}

/// A record is made, gets another file, and every other time is deleted. None when the server is gone.
fn change(root: &Root, ledger: &Ledger, title: &str) -> Option<()> {
    let size = size_of(title);
    let made = json_of(&done(send_form(root, "POST", RECORDS, &new_record(title, size))?));
    ledger.tell(title, Told::There(0));
    let target = format!("{RECORDS}/{}", made["id"].as_str().unwrap());
    let form = (json!({"version": 1}), vec![("doc", content(title, 1, size))]);
    done(send_form(root, "PATCH", &target, &form)?);
    ledger.tell(title, Told::There(1));
    if size.is_multiple_of(2) {
        ledger.tell(title, Told::Asked);
        assert_eq!(root.try_send("DELETE", &target, None)?.status, 204);
        ledger.tell(title, Told::Deleted);
    }
    Some(())
}

/// Two records at once; then two and one that cannot be.
fn write_batches(root: &Root, ledger: &Ledger, title: &str) -> Option<()> {
    let size = size_of(title);
    let titles = [format!("{title}-a"), format!("{title}-b")];
    done(send_batch(root, &titles, size, false)?);
    titles.iter().for_each(|title| ledger.tell(title, Told::There(0)));
    let titles = [format!("{title}-c"), format!("{title}-d")];
    titles.iter().for_each(|title| ledger.tell(title, Told::Refused));
    assert_eq!(send_batch(root, &titles, size, true)?.status, 400);
    Some(())
}

fn make_thumbs(root: &Root, ledger: &Ledger, title: &str) -> Option<()> {
    let form = (json!({"title": title}), vec![("image", picture_bytes())]);
    let made = json_of(&done(send_form(root, "POST", RECORDS, &form)?));
    ledger.tell(title, Told::There(0));
    for size in ["20x20", "100x100"] {
        let thumb = done(get(root, &format!("{}?thumb={size}", file_target(&made, "image")))?);
        assert!(thumb.body.ends_with(PNG_END));
    }
    Some(())
}

fn be_refused(root: &Root, ledger: &Ledger, title: &str) -> Option<()> {
    ledger.tell(title, Told::Refused);
    let (mut values, files) = new_record(title, size_of(title));
    values["id"] = json!("no");
    let answer = send_form(root, "POST", RECORDS, &(values, files))?;
    assert_eq!(answer.status, 400, "{}", answer.text());
    Some(())
}

/// Each record has the files that it names; of a batch all are there or none. Returns titles with versions.
fn check_records(root: &Root, records: &[Value], told: &BTreeMap<String, Told>) -> BTreeMap<String, u64> {
    let mut titles = BTreeMap::new();
    for record in records {
        let (title, version) = (record["title"].as_str().unwrap(), record["version"].as_u64().unwrap());
        if record["image"] != "" {
            let target = file_target(record, "image");
            assert!(get(root, &target).unwrap().body == picture_bytes(), "{title}");
            let thumb = get(root, &format!("{target}?thumb=20x20")).unwrap();
            assert!(thumb.status == 200 && thumb.body.ends_with(PNG_END), "{title}: {}", thumb.status);
        } else {
            let file = get(root, &file_target(record, "doc")).unwrap();
            assert_eq!(file.status, 200, "{title} names a file that is not there");
            let expected = content(title, version, file.body.len());
            assert!(file.body == expected, "{title} has another file");
            assert!(
                file.body.len() == size_of(title) || !title.contains('-'),
                "{title} has part of its file"
            );
        }
        assert_ne!(told.get(title), Some(&Told::Refused), "{title}");
        titles.insert(title.to_owned(), version);
    }
    for title in titles.keys().filter_map(|title| title.strip_suffix("-a")) {
        assert!(titles.contains_key(&format!("{title}-b")), "{title} is there in part");
    }
    titles
}

/// Makes what was noted before a crash old enough to be swept at the next start.
fn age_notes(dir: &Path) {
    let data = Connection::open(dir.join("data.db")).unwrap();
    data.execute("UPDATE `_gs_uploads` SET `written` = 0", []).unwrap();
}

fn wait_until_only_named_files_are_stored(root: &Root, dir: &Path, collection: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for record in records(root, "") {
        let names = ["doc", "image"].map(|field| record[field].as_str().unwrap().to_owned());
        let names = names.iter().filter(|name| !name.is_empty());
        named.extend(names.map(|name| format!("{collection}/{}/{name}", record["id"].as_str().unwrap())));
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let stored = stored(dir);
        let missing: Vec<_> = named.difference(&stored).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let others: Vec<_> = stored.iter().filter(|path| !named.contains(&original_of(path))).collect();
        if others.is_empty() {
            return stored;
        }
        assert!(Instant::now() < until, "no record names {others:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The file that a thumb was made of; any other is its own.
fn original_of(path: &str) -> String {
    match path.split('/').collect::<Vec<_>>()[..] {
        [collection, record, folder, _] => {
            format!("{collection}/{record}/{}", folder.strip_prefix("thumbs_").unwrap_or(folder))
        }
        _ => path.to_owned(),
    }
}

/// The paths of all files in the storage folder.
fn stored(dir: &Path) -> BTreeSet<String> {
    let root = dir.join("storage");
    let (mut found, mut folders) = (BTreeSet::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(path.strip_prefix(&root).unwrap().display().to_string())),
            }
        }
    }
    found
}

fn records(root: &Root, filter: &str) -> Vec<Value> {
    let filter = filter.replace('>', "%3E").replace('=', "%3D").replace('\'', "%27").replace('!', "%21");
    let mut records = Vec::new();
    for page in 1.. {
        let target = format!("{RECORDS}?perPage=500&sort=title&page={page}&filter={filter}");
        let answer = json_of(&done(root.send("GET", &target, None)));
        let items = answer["items"].as_array().unwrap();
        records.extend(items.iter().cloned());
        if items.len() < 500 {
            break;
        }
    }
    records
}

fn collection_id(root: &Root) -> String {
    let collection = json_of(&done(root.send("GET", "/api/collections/docs", None)));
    collection["id"].as_str().unwrap().to_owned()
}

fn new_record(title: &str, size: usize) -> Form<'static> {
    (json!({"title": title, "version": 0}), vec![("doc", content(title, 0, size))])
}

fn send_batch(root: &Root, titles: &[String; 2], size: usize, fails: bool) -> Option<Response> {
    let create =
        |title: &str| json!({"method": "POST", "url": RECORDS, "body": {"title": title, "version": 0}});
    let mut requests: Vec<Value> = titles.iter().map(|title| create(title)).collect();
    if fails {
        requests.push(create("a title that is much too long"));
    }
    let mut files = vec![
        ("requests.0.doc", content(&titles[0], 0, size_of(&titles[0]))),
        ("requests.1.doc", content(&titles[1], 0, size_of(&titles[1]))),
    ];
    if fails {
        files.push(("requests.2.doc", content("", 0, size)));
    }
    send_form(root, "POST", "/api/batch", &(json!({"requests": requests}), files))
}

/// None when the server went away before it answered.
fn send_form(root: &Root, method: &str, target: &str, form: &Form<'_>) -> Option<Response> {
    const BOUNDARY: &str = "----------------boundary";
    let (values, files) = form;
    let disposition = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=");
    let mut body = format!("{disposition}\"@jsonPayload\"\r\n\r\n{values}").into_bytes();
    for (name, bytes) in files {
        body.extend(format!("\r\n{disposition}\"{name}\"; filename=\"file.bin\"\r\n\r\n").into_bytes());
        body.extend(bytes);
    }
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").into_bytes());
    let mut request = Request::new(method, target);
    request.body = body;
    root.try_request(request.header("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}")))
}

fn get(root: &Root, target: &str) -> Option<Response> {
    root.try_request(Request::new("GET", target))
}

fn done(answer: Response) -> Response {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn file_target(record: &Value, field: &str) -> String {
    let text = |key: &str| record[key].as_str().unwrap();
    format!("/api/files/docs/{}/{}", text("id"), text(field))
}

/// The bytes of the file of a title's version: no two are alike.
fn content(title: &str, version: u64, size: usize) -> Vec<u8> {
    let line = format!("{title} {version}\n");
    line.bytes().cycle().take(size).collect()
}

/// Some files are so small that they wait in memory, some are not.
fn size_of(title: &str) -> usize {
    let number = title.bytes().fold(7_usize, |number, byte| (number * 31 + usize::from(byte)) % 10_007);
    if number.is_multiple_of(3) { 300_000 + number } else { 100 + number }
}

fn picture_bytes() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::new(640, 480).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

// === impl Ledger ===

impl Ledger {
    fn tell(&self, title: &str, told: Told) {
        self.told.lock().unwrap().insert(title.to_owned(), told);
    }
}
