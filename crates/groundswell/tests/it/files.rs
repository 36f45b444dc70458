//! Files of records: what comes back, what stays nowhere, and what is bounded.

use std::fs;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, Part, file, json_of, pattern, upload_head, value, wait_until};
use crate::png;
use crate::server::{Response, read_response, request};

const MIB: u64 = 1 << 20;
/// What a large file repeats.
const PIECE_BYTES: usize = 1 << 20;
/// More than any buffer on the way, far less than a large file.
const MOST_GROWTH: u64 = 60 * MIB;

#[test]
fn a_file_comes_back_byte_for_byte() {
    let app = library();
    for length in [0, 1, 12_345, 1 << 20, 20 << 20] {
        let bytes = pattern(length);
        let record = app.create("docs", &[file("doc", "a.bin", &bytes)]);
        let answer = app.server.get(&App::file_target(&record, "doc"));
        assert_eq!(answer.status, 200, "{length}: {}", answer.head);
        assert_eq!(answer.header("content-length"), length.to_string());
        assert!(answer.body == bytes, "{length} bytes came back otherwise");
    }
}

#[test]
fn memory_does_not_grow_with_the_size_of_a_file() {
    const SIZE: u64 = 300 * MIB;
    let app = library();
    // What every request needs is there from here on.
    app.create("docs", &[file("doc", "a.bin", &pattern(4 << 20))]);
    let before = app.memory("VmHWM");

    let record = upload(&app, SIZE);
    let after_upload = app.memory("VmHWM");
    assert!(after_upload < before + MOST_GROWTH, "an upload took it from {before} to {after_upload} bytes");

    let mut stream = app.server.connect();
    stream.write_all(&request("GET", &App::file_target(&record, "doc"), &[])).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    let piece = pattern(PIECE_BYTES);
    let (mut buffer, mut count) = (vec![0; PIECE_BYTES], 0);
    while count < SIZE {
        stream.read_exact(&mut buffer).unwrap();
        assert!(buffer == piece, "the bytes from {count} on came back otherwise");
        count += buffer.len() as u64;
    }
    let after = app.memory("VmHWM");
    assert!(after < before + MOST_GROWTH, "a download took it from {before} to {after} bytes");
    assert_eq!(app.stored().len(), 2);
}

#[test]
fn what_is_no_file_gets_no_room_of_files() {
    let app = library();
    let large = "x".repeat(100 << 20);
    let target = "/api/collections/docs/records";
    let before = app.memory("VmHWM");
    let answer = app.form("POST", target, &[value("nothing", &large)]);
    assert_eq!(answer.status, 413, "{}", answer.text());
    let answer = app.send("POST", target, &json!({"nothing": large}));
    assert_eq!(answer.status, 413, "{}", answer.text());
    let answer = app.form("POST", target, &[file("nothing", "a", large.as_bytes())]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let after = app.memory("VmHWM");
    // The usual 32 MiB while they grow.
    assert!(after < before + 100 * MIB, "it went from {before} to {after} bytes");
    assert!(app.stored().is_empty());
}

#[test]
fn a_refused_write_leaves_no_file() {
    let app = library();
    let kept = app.create("docs", &[file("doc", "kept.txt", b"kept"), value("title", "kept")]);
    let stored = app.stored();
    let large = pattern(3 << 10);
    let text = file("doc", "a.txt", b"text");
    let refusals: [(&str, Vec<Part<'_>>, &str); 5] = [
        ("a rule", vec![text, value("title", "denied")], "Failed to create record."),
        (
            "another field",
            vec![file("doc", "a.txt", b"text"), value("title", "much too long")],
            "validation_max_text_constraint",
        ),
        (
            "their number",
            vec![file("pages", "a", b"a"), file("pages", "b", b"b"), file("pages", "c", b"c")],
            "validation_too_many_files",
        ),
        (
            "the size",
            vec![file("doc", "a.txt", b"text"), file("small", "b", &large)],
            "validation_file_size_limit",
        ),
        (
            "the type",
            vec![file("doc", "a.txt", b"text"), file("image", "b.png", b"<html></html>")],
            "validation_invalid_mime_type",
        ),
    ];
    for (what, parts, code) in &refusals {
        let answer = app.form("POST", "/api/collections/docs/records", parts);
        assert_eq!(answer.status, 400, "{what}");
        assert!(answer.text().contains(code), "{what}: {}", answer.text());
        assert_eq!(app.stored(), stored, "{what}");
    }
    let target = format!("/api/collections/docs/records/{}", kept["id"].as_str().unwrap());
    let answer = app.form("PATCH", &target, &[file("doc", "b", b"b"), value("title", "much too long")]);
    assert_eq!(answer.status, 400);
    let missing = "/api/collections/docs/records/nobody";
    assert_eq!(app.form("PATCH", missing, &[file("doc", "b", b"b")]).status, 404);
    assert_eq!(app.stored(), stored);
    assert_eq!(app.server.get(&App::file_target(&kept, "doc")).text(), "kept");
}

#[test]
fn files_that_no_record_names_any_more_go_and_take_their_thumbs_along() {
    let app = library();
    let picture = png::black(300, 200);
    let first = app.create("docs", &[file("doc", "a.txt", b"one"), file("image", "a.png", &picture)]);
    let other = app.create("docs", &[file("doc", "b.txt", b"other"), file("image", "b.png", &picture)]);
    for record in [&first, &other] {
        assert_eq!(app.server.get(&thumb_target(record, "100x100")).status, 200);
    }
    assert_eq!(app.stored().len(), 6);

    let target = |record: &Value| format!("/api/collections/docs/records/{}", record["id"].as_str().unwrap());
    let answer = app.form("PATCH", &target(&first), &[file("doc", "c.txt", b"two"), value("image", "")]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let first_now = json_of(&answer);
    wait_until("the removal of what was replaced", || app.stored().len() == 4);
    assert_eq!(app.server.get(&App::file_target(&first, "doc")).status, 404);
    assert_eq!(app.server.get(&App::file_target(&first_now, "doc")).text(), "two");

    assert_eq!(app.send("DELETE", &target(&other), &json!({})).status, 204);
    wait_until("the removal of what was deleted", || app.stored().len() == 1);
    assert_eq!(app.server.get(&App::file_target(&first_now, "doc")).text(), "two");

    assert_eq!(app.send("DELETE", "/api/collections/docs/truncate", &json!({})).status, 204);
    wait_until("the removal of what was truncated", || app.stored().is_empty());
}

#[test]
fn a_path_in_a_file_name_stays_inside() {
    let app = library();
    let outside = app.server.folder();
    let before = names_of(&outside);
    let mut count = 0;
    for name in [
        "../../../escape.txt",
        "..\\..\\escape.txt",
        "/etc/escape.txt",
        "%2e%2e%2fescape.txt",
        "..",
        ".",
        "a/../../b",
        "C:\\escape.txt",
        "....//....//escape",
        "%put",
        "thumbs_a",
    ] {
        let record = app.create("docs", &[file("doc", name, b"inside")]);
        let stored = record["doc"].as_str().unwrap();
        assert!(!stored.contains(['/', '\\', '%']) && !stored.starts_with('.'), "{name} became {stored}");
        assert_eq!(app.server.get(&App::file_target(&record, "doc")).text(), "inside", "{name}");
        count += 1;
        let folder = format!("{}/{}/{stored}", record["collectionId"].as_str().unwrap(), id_of(&record));
        assert!(app.stored().contains(&folder), "{name}");
    }
    assert_eq!(app.stored().len(), count);
    assert_eq!(names_of(&outside), before);

    // Nor does one lead out that is asked for.
    let record = app.create("docs", &[file("doc", "a.txt", b"inside")]);
    let base = format!("/api/files/docs/{}", id_of(&record));
    for name in ["..%2f..%2f..%2fdata.db", "%2e%2e/%2e%2e/%2e%2e/data.db", "%2fetc%2fpasswd", "%2e%2e", "%00"]
    {
        let answer = app.server.get(&format!("{base}/{name}"));
        assert!(matches!(answer.status, 400 | 404), "{name}: {}", answer.head);
    }
}

#[test]
fn what_could_run_is_served_by_its_true_type_as_an_attachment() {
    let app = library();
    let html = b"<html><script>alert(1)</script></html>";
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";
    for (name, bytes, kind) in [
        ("a.png", &html[..], "text/html; charset=utf-8"),
        ("a.html", html, "text/html; charset=utf-8"),
        ("a.svg", svg, "image/svg+xml"),
        ("a.js", b"alert(1)", "text/javascript"),
    ] {
        let record = app.create("docs", &[file("doc", name, bytes)]);
        let target = App::file_target(&record, "doc");
        for target in [target.clone(), format!("{target}?download=0"), format!("{target}?thumb=100x100")] {
            let answer = app.server.get(&target);
            assert_eq!(answer.header("content-type"), kind, "{target}");
            let disposition = answer.header("content-disposition");
            assert!(disposition.starts_with("attachment; "), "{target}: {disposition}");
            let policy = answer.header("content-security-policy");
            assert!(
                policy.contains("default-src 'none'") && policy.ends_with("sandbox"),
                "{target}: {policy}"
            );
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{target}");
            assert!(answer.body == bytes, "{target}");
        }
    }
}

#[test]
fn a_decompression_bomb_is_served_as_it_is() {
    let app = library();
    let bomb = png::black(30_000, 30_000);
    assert!((bomb.len() as u64) < MIB);
    let record = app.create("docs", &[file("image", "bomb.png", &bomb)]);
    app.server.get(&App::file_target(&record, "image"));
    let (before, start) = (app.memory("VmHWM"), Instant::now());
    for _ in 0..10 {
        let answer = app.server.get(&thumb_target(&record, "100x100"));
        assert_eq!((answer.status, answer.header("content-type").as_str()), (200, "image/png"));
        assert!(answer.body == bomb, "{} bytes", answer.body.len());
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let after = app.memory("VmHWM");
    assert!(after < before + MOST_GROWTH, "it went from {before} to {after} bytes");
    assert_eq!(app.stored().len(), 1);
}

#[test]
fn a_storm_of_sizes_that_are_not_listed_makes_no_file() {
    let app = library();
    let picture = png::black(300, 200);
    let record = app.create("docs", &[file("image", "a.png", &picture)]);
    for side in 101..601 {
        let answer = app.server.get(&thumb_target(&record, &format!("{side}x{side}")));
        assert!(answer.status == 200 && answer.body == picture, "{side}");
    }
    for size in ["100x100f", "0100x100", "+100x100", "100x100%20", "../../x", "100X100", "0x0", "x"] {
        let answer = app.server.get(&thumb_target(&record, size));
        assert!(answer.status == 200 && answer.body == picture, "{size}");
    }
    assert_eq!(app.stored().len(), 1);
    assert!(app.server.get(&thumb_target(&record, "20x20")).body != picture);
    assert_eq!(app.stored().len(), 2);
}

#[test]
fn a_thumb_that_many_ask_for_at_once_is_made_once() {
    let app = library();
    let picture = png::black(2_000, 1_500);
    let record = app.create("docs", &[file("image", "a.png", &picture)]);
    let target = thumb_target(&record, "100x100");
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..50).map(|_| scope.spawn(|| app.server.get(&target))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!(answer.status, 200);
        assert!(answer.body == answers[0].body && answer.body != picture);
        // One that is made again has another time.
        assert_eq!(answer.header("last-modified"), answers[0].header("last-modified"));
    }
    let name = record["image"].as_str().unwrap();
    assert!(answers[0].header("content-disposition").contains(&format!("100x100_{name}")));
    let stored = app.stored();
    assert_eq!(stored.len(), 2, "{stored:?}");
    assert!(
        stored.iter().any(|path| path.ends_with(&format!("/thumbs_{name}/100x100_{name}"))),
        "{stored:?}"
    );
}

#[test]
fn encrypted_files_are_read_with_their_key_alone() {
    const KEYS: &str = "GROUNDSWELL__BLOBS__ENCRYPTION_KEYS";
    const FIRST: &str = "00000000000000000000000000000000000000000000000000000000000000a1";
    const SECOND: &str = "00000000000000000000000000000000000000000000000000000000000000b2";
    let bytes = pattern(200_000);
    let app = make_library(App::start_with_env(&[(KEYS, FIRST)]));
    let old =
        app.create("docs", &[file("doc", "old.bin", &bytes), file("image", "a.png", &png::black(99, 9))]);
    assert_eq!(app.server.get(&thumb_target(&old, "20x20")).status, 200);
    assert_nowhere(&app, &bytes[1_000..1_064]);
    assert_nowhere(&app, b"IHDR");
    assert_ranges(&app, &old, &bytes);

    let both = format!("{SECOND},{FIRST}");
    let app = app.restart_with_env(&[(KEYS, &both)]);
    assert_ranges(&app, &old, &bytes);
    let new = app.create("docs", &[file("doc", "new.bin", &bytes)]);
    assert_ranges(&app, &new, &bytes);
    assert_nowhere(&app, &bytes[1_000..1_064]);

    let app = app.restart_with_env(&[(KEYS, SECOND)]);
    assert_ranges(&app, &new, &bytes);
    assert_refused(&app, &old);
    let app = app.restart_with_env(&[(KEYS, FIRST)]);
    assert_ranges(&app, &old, &bytes);
    assert_refused(&app, &new);
    let app = app.restart_with_env(&[]);
    assert_refused(&app, &old);
    assert_refused(&app, &new);
}

#[test]
fn a_protected_file_is_for_those_whom_a_file_token_names() {
    let app = library();
    people(&app);
    let (ann, bob) = (app.sign_in("people", "ann@acme.test"), app.sign_in("people", "bob@acme.test"));
    let body = json!({
        "name": "letters", "viewRule": "owner = @request.auth.id", "createRule": "",
        "fields": [
            {"name": "owner", "type": "text"},
            {"name": "letter", "type": "file", "protected": true, "thumbs": ["20x20"]}
        ]
    });
    app.done("POST", "/api/collections", &body);
    let picture = png::black(200, 200);
    let parts = [file("letter", "letter.png", &picture), value("owner", "ann000000000001")];
    let answer = app.form("POST", "/api/collections/letters/records", &parts);
    // Who made it may not see it: it is there all the same.
    assert_eq!(answer.status, 200, "{}", answer.text());
    let letter =
        json_of(&app.send("GET", "/api/collections/letters/records", &json!({})))["items"][0].clone();
    let target = App::file_target(&letter, "letter");
    let status = |token: &str| {
        let answers = ["", "&thumb=20x20", "&thumb=9x9", "&download=1"]
            .map(|rest| app.server.get(&format!("{target}?token={token}{rest}")));
        let all_equal = answers.iter().all(|answer| answer.status == answers[0].status);
        assert!(all_equal, "{:?}", answers.map(|answer| answer.status));
        answers[0].status
    };

    let of_ann = file_token(&app, &ann);
    assert_eq!(status(&of_ann), 200);
    assert_eq!(status(&file_token(&app, &bob)), 404, "another's token");
    assert_eq!(status(""), 404);
    assert_eq!(status("nonsense"), 404);
    assert_eq!(status(ann.trim_start_matches("Authorization: ")), 404, "a token of the API");
    assert_eq!(app.server.request("GET", &target, &[&ann]).status, 404, "the header counts for nothing");
    let with_it = format!("Authorization: {of_ann}");
    let answer = app.server.request("GET", "/api/collections/people/records/ann000000000001", &[&with_it]);
    assert_eq!(answer.status, 404, "a file token opens no record");
    assert_eq!(app.server.request("POST", "/api/files/token", &[]).status, 401);

    // Those of before are worth nothing after a new password.
    let body = json!({"password": "password-2", "passwordConfirm": "password-2"});
    app.done("PATCH", "/api/collections/people/records/ann000000000001", &body);
    assert_eq!(status(&of_ann), 404);
    let body = json!({"password": "password-1", "passwordConfirm": "password-1"});
    app.done("PATCH", "/api/collections/people/records/ann000000000001", &body);
    assert_eq!(status(&of_ann), 404);
    let ann = app.sign_in("people", "ann@acme.test");
    assert_eq!(status(&file_token(&app, &ann)), 200);

    // The shortest life that can be set.
    app.done("PATCH", "/api/collections/people", &json!({"fileToken": {"duration": 10}}));
    let short = file_token(&app, &ann);
    assert_eq!(status(&short), 200);
    wait_until("the end of a token", || app.server.get(&format!("{target}?token={short}")).status == 404);
}

#[test]
fn uploads_past_what_may_wait_are_refused_until_those_that_wait_are_gone() {
    const MOST: (&str, &str) = ("GROUNDSWELL__BLOBS__MAX_WAITING_MIB_PER_ADDRESS", "4");
    let app = make_library(App::start_with_env(&[MOST]));
    let target = "/api/collections/docs/records";
    let upload = || app.form("POST", target, &[file("doc", "b.bin", &pattern(2 << 20))]);
    assert_eq!(upload().status, 200);
    let stored = app.stored();

    // One that has sent most of what may wait, and does not go on.
    let (start, _) = upload_head(target, &[], "doc", 4 * MIB);
    let mut waiting = app.server.connect();
    waiting.write_all(&[start, pattern(3 << 20)].concat()).unwrap();
    let mut refused = None;
    wait_until("a refusal", || {
        let answer = upload();
        let is_refused = answer.status == 503;
        refused = Some(answer).filter(|_| is_refused);
        is_refused
    });
    let refused = refused.unwrap();
    assert!(!refused.header("retry-after").is_empty(), "{}", refused.head);
    assert!(refused.text().contains("\"status\":503"), "{}", refused.text());
    let records = || json_of(&app.send("GET", target, &json!({})))["totalItems"].as_u64().unwrap();
    let (records_then, stored_then) = (records(), app.stored());
    assert_eq!(stored_then.len() as u64, records_then);
    // What is small has room beside it.
    assert_eq!(app.form("POST", target, &[file("doc", "c", b"small")]).status, 200);

    drop(waiting);
    wait_until("room", || upload().status == 200);
    assert_eq!(app.stored().len() as u64, records());
    assert!(app.stored().len() > stored.len());
    let spooled = names_of(&app.server.folder().join("gs_data"));
    assert!(spooled.iter().all(|name| !name.starts_with(".tmp")), "{spooled:?}");
}

fn library() -> App {
    make_library(App::start())
}

fn make_library(app: App) -> App {
    let fields = json!([
        {"name": "title", "type": "text", "max": 6},
        {"name": "doc", "type": "file", "maxSize": 400 * MIB},
        {"name": "pages", "type": "file", "maxSelect": 2},
        {"name": "small", "type": "file", "maxSize": 2048},
        {"name": "image", "type": "file", "mimeTypes": ["image/png"], "thumbs": ["20x20", "0x30"]}
    ]);
    app.collection("docs", &fields);
    app.done("PATCH", "/api/collections/docs", &json!({"createRule": "title != 'denied'"}));
    app
}

/// Two that can sign in.
fn people(app: &App) {
    app.done(
        "POST",
        "/api/collections",
        &json!({"name": "people", "type": "auth", "viewRule": "id = @request.auth.id"}),
    );
    for name in ["ann", "bob"] {
        let body = json!({
            "id": format!("{name}000000000001"), "email": format!("{name}@acme.test"),
            "password": "password-1", "passwordConfirm": "password-1"
        });
        app.done("POST", "/api/collections/people/records", &body);
    }
}

fn file_token(app: &App, authorization: &str) -> String {
    let answer = app.server.send_json("POST", "/api/files/token", &[authorization], "{}");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.value("token")
}

fn thumb_target(record: &Value, size: &str) -> String {
    format!("{}?thumb={size}", App::file_target(record, "image"))
}

fn id_of(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

fn names_of(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().display().to_string()).collect();
    names.sort();
    names
}

/// Sends pieces until it is so much, which nobody ever holds in full.
fn upload(app: &App, size: u64) -> Value {
    let (head, end) = upload_head("/api/collections/docs/records", &[], "doc", size);
    let mut stream = app.server.connect();
    stream.write_all(&head).unwrap();
    let piece = pattern(PIECE_BYTES);
    for _ in 0..size / PIECE_BYTES as u64 {
        stream.write_all(&piece).unwrap();
    }
    stream.write_all(&end).unwrap();
    let answer = read_response(&mut stream);
    assert_eq!(answer.status, 200, "{}", answer.text());
    json_of(&answer)
}

/// The head of an answer, and nothing after it.
fn read_head(stream: &mut std::net::TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn assert_nowhere(app: &App, needle: &[u8]) {
    for path in app.stored() {
        let bytes = fs::read(app.storage().join(&path)).unwrap();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{path}");
    }
}

/// The file as a whole, and parts of it within and over the chunks in which it is encrypted.
fn assert_ranges(app: &App, record: &Value, bytes: &[u8]) {
    let target = App::file_target(record, "doc");
    let whole = app.server.get(&target);
    assert!(whole.status == 200 && whole.body == bytes, "{}", whole.head);
    for range in [0..1, 65_530..65_550, 131_071..131_073, 10..190_000, 199_999..200_000] {
        let header = format!("Range: bytes={}-{}", range.start, range.end - 1);
        let answer = app.server.request("GET", &target, &[&header]);
        assert_eq!(answer.status, 206, "{header}");
        assert_eq!(answer.header("content-range"), format!("bytes {}-{}/200000", range.start, range.end - 1));
        assert!(answer.body == bytes[range], "{header}");
    }
}

fn assert_refused(app: &App, record: &Value) {
    let target = App::file_target(record, "doc");
    for headers in [&[][..], &["Range: bytes=70000-70100"]] {
        let answer = app.server.request("GET", &target, headers);
        assert_eq!(answer.status, 500, "{headers:?}: {}", answer.head);
        assert!(answer.text().starts_with('{'), "{headers:?}");
        assert!(!answer.header("cache-control").contains("max-age"), "an error is not kept");
    }
}
