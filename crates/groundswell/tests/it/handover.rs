//! One server takes the place of another, which answers all that it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::app::{App, json_of, wait_until};
use crate::server::{Server, connect, run};

/// A client that keeps its connection for as long as the server does.
struct Client {
    address: String,
    connection: Option<BufReader<TcpStream>>,
}

/// What clients have seen.
#[derive(Default)]
pub(crate) struct Seen {
    created: AtomicUsize,
    pub(crate) failed: AtomicUsize,
    slowest_ms: AtomicUsize,
}

impl Client {
    fn new(address: &str) -> Self {
        Self { address: address.to_owned(), connection: None }
    }

    /// The status of an answer, and whether the server closes the connection. None without an answer.
    fn ask(&mut self, request: &str) -> Option<(u16, bool)> {
        let connection = self.connection.get_or_insert_with(|| BufReader::new(connect(&self.address)));
        let answer = answer_to(connection, request);
        if answer.is_none_or(|(_, is_last)| is_last) {
            self.connection = None;
        }
        answer
    }
}

fn answer_to(connection: &mut BufReader<TcpStream>, request: &str) -> Option<(u16, bool)> {
    connection.get_mut().write_all(request.as_bytes()).ok()?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (connection.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1)?.split('\r').next()?.parse().ok()?;
    connection.read_exact(&mut vec![0; length]).ok()?;
    Some((head.split(' ').nth(1)?.parse().ok()?, head.contains("connection: close")))
}

fn create(number: usize) -> String {
    let body = format!("{{\"title\":\"{number}\"}}");
    format!(
        "POST /api/collections/notes/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const READ: &str = "GET /api/collections/notes/records?perPage=1 HTTP/1.1\r\nHost: x\r\n\r\n";

/// Reads and writes in turns until it is told to stop; with `is_kept` over one connection.
pub(crate) fn load(address: &str, is_kept: bool, stop: &Arc<AtomicBool>, seen: &Arc<Seen>) -> JoinHandle<()> {
    let (mut client, stop, seen) = (Client::new(address), stop.clone(), seen.clone());
    thread::spawn(move || {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (began, is_create) = (Instant::now(), number % 2 == 0);
            let request = if is_create { create(number) } else { READ.to_owned() };
            match client.ask(&request) {
                Some((200, _)) => _ = seen.created.fetch_add(usize::from(is_create), Ordering::Relaxed),
                _ => _ = seen.failed.fetch_add(1, Ordering::Relaxed),
            }
            let took = usize::try_from(began.elapsed().as_millis()).unwrap();
            seen.slowest_ms.fetch_max(took, Ordering::Relaxed);
            if !is_kept {
                client.connection = None;
            }
        }
    })
}

/// Waits until so many more records were made.
pub(crate) fn until_created(seen: &Seen, more: usize) {
    let enough = seen.created.load(Ordering::Relaxed) + more;
    wait_until("progress", || seen.created.load(Ordering::Relaxed) >= enough);
}

#[test]
fn a_server_is_replaced_under_load_and_no_request_fails() {
    let app = App::start();
    app.collection("notes", &json!([{"name": "title", "type": "text"}]));
    let first = &app.server;
    let mut idle = Client::new(&first.address);
    assert_eq!(idle.ask(READ), Some((200, false)));
    let mut events = first.connect();
    events.write_all(b"GET /api/realtime HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();

    let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Seen>::default());
    let clients: Vec<_> = (0..8).map(|which| load(&first.address, which < 6, &stop, &seen)).collect();
    until_created(&seen, 200);
    let second = first.take_over();
    assert_eq!(second.address, first.address);
    assert_eq!(second.management, first.management);
    until_created(&seen, 200);
    // What was idle all the time is answered, by the new server and for the last time.
    assert_eq!(idle.ask(READ), Some((200, true)));
    let mut read = Vec::new();
    while !read.ends_with(b"0\r\n\r\n") {
        let mut chunk = [0; 4_096];
        let count = events.read(&mut chunk).unwrap();
        assert!(count > 0, "the stream has an end, so that its client connects again");
        read.extend_from_slice(&chunk[..count]);
    }
    drop(events);
    let third = second.take_over();
    until_created(&seen, 200);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }

    assert_eq!(seen.failed.load(Ordering::Relaxed), 0);
    let list = third.get("/api/collections/notes/records?perPage=1");
    let created = seen.created.load(Ordering::Relaxed);
    assert_eq!(json_of(&list)["totalItems"], created, "every acknowledged record is there, once");
    println!("{created} created, the slowest request took {} ms", seen.slowest_ms.load(Ordering::Relaxed));
    assert_eq!(app.server.wait().0, Some(0));
    assert_eq!(second.wait().0, Some(0));
    let upsert = run(&third.folder(), &["superuser", "upsert", "b@example.com", "password-1"]);
    assert!(upsert.status.success(), "commands reach the last server: {upsert:?}");
    third.terminate();
    assert_eq!(third.wait().0, Some(0));
}

#[test]
fn an_upload_that_takes_longer_is_told_to_come_again_and_a_download_is_read_to_its_end() {
    let app = App::start();
    app.collection("files", &json!([{"name": "file", "type": "file", "maxSize": 1 << 30}]));
    let bytes = crate::app::pattern(24 << 20);
    let record = app.create("files", &[crate::app::file("file", "a.bin", &bytes)]);
    let mut download = app.server.connect();
    let target = App::file_target(&record, "file");
    let get = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    download.write_all(get.as_bytes()).unwrap();
    let mut start = [0; 1];
    download.read_exact(&mut start).unwrap();
    let mut upload = app.server.connect();
    let target = "/api/collections/files/records";
    let (head, end) = crate::app::upload_head(target, &["Connection: close"], "file", 1_000);
    upload.write_all(&head).unwrap();

    let second = app.server.take_over();
    upload.write_all(&[vec![1; 1_000], end].concat()).unwrap();
    let answer = crate::server::read_response(&mut upload);
    assert_eq!((answer.status, answer.header("retry-after").is_empty()), (503, false), "{}", answer.text());
    let answer = crate::server::read_response(&mut start.chain(download));
    assert!(answer.status == 200 && answer.body == bytes);
    assert_eq!(app.server.wait().0, Some(0));
    assert_eq!(second.get("/api/health").status, 200);
}

#[test]
fn with_nobody_to_replace_a_server_just_starts() {
    let server = Server::start(&["--take-over"]);
    assert_eq!(server.get("/api/health").status, 200);
}

#[test]
fn a_server_goes_on_when_the_one_that_wanted_its_place_is_gone() {
    let app = App::start();
    app.collection("notes", &json!([{"name": "title", "type": "text"}]));
    let mut gone = UnixStream::connect(app.server.folder().join("gs_data/.gs.sock")).unwrap();
    gone.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    gone.write_all(b"{\"take_over\":true}\n").unwrap();
    gone.read_exact(&mut [0; 4]).unwrap();
    drop(gone);
    assert_eq!(Client::new(&app.server.address).ask(&create(1)), Some((200, false)));
    let second = app.server.take_over();
    assert_eq!(Client::new(&second.address).ask(&create(2)), Some((200, false)));
    assert_eq!(app.server.wait().0, Some(0));
}
