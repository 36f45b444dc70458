use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::server::{Server, request};

/// Reads until what came holds a text.
pub(crate) fn read_until(stream: &mut TcpStream, read: &mut String, text: &str) {
    let mut chunk = [0; 4096];
    while !read.contains(text) {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the stream ended: {read}");
        read.push_str(str::from_utf8(&chunk[..count]).unwrap());
    }
}

/// A stream of events, past its first message.
pub(crate) fn open(server: &Server) -> (TcpStream, String, String) {
    let mut stream = server.connect();
    let get = "GET /api/realtime HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\n\r\n";
    stream.write_all(get.as_bytes()).unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "\"}\n\n");
    let (head, body) = read.split_once("\r\n\r\n").unwrap();
    let id = body.split_once("\nid:").map_or(body, |(_, rest)| rest).trim_start_matches("id:");
    let id = id.split('\n').next().unwrap().to_owned();
    (stream, head.to_ascii_lowercase(), id)
}

#[test]
fn a_stream_has_the_contracts_head_and_tells_a_guest_nothing_of_users() {
    let server = Server::start(&[]);
    let (mut stream, head, id) = open(&server);
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("cache-control: no-store\r\n") && head.contains("x-accel-buffering: no\r\n"));
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-encoding"), "{head}");
    assert_eq!(id.len(), 40, "{id}");
    let body = format!(r#"{{"clientId": "{id}", "subscriptions": ["users/*"]}}"#);
    assert_eq!(server.send_json("POST", "/api/realtime", &[], &body).status, 204);
    let user = r#"{"email": "a@example.com", "password": "secret1234", "passwordConfirm": "secret1234"}"#;
    assert_eq!(server.send_json("POST", "/api/collections/users/records", &[], user).status, 200);
    // The rule of a fresh install's users lets nobody but themselves know: the stream stays silent, and open.
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(stream.read(&mut [0; 64]).is_err(), "a guest was told of a user");
}

#[test]
fn streams_end_when_the_server_is_asked_to_stop() {
    let server = Server::start(&[]);
    let mut streams: Vec<_> = (0..20).map(|_| open(&server).0).collect();
    let started = Instant::now();
    server.terminate();
    for stream in &mut streams {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(b"0\r\n\r\n"), "the body has an end");
    }
    assert_eq!(server.wait().0, Some(0));
    assert!(started.elapsed() < Duration::from_secs(15), "not only once the drain limit was over");
}

/// Others are served while thousands wait.
#[test]
fn two_thousand_idle_streams_keep_nobody_waiting() {
    let server = Server::start(&[]);
    let _streams: Vec<_> = (0..2_000).map(|_| open(&server).0).collect();
    assert_eq!(server.send(&request("GET", "/api/health", &["Connection: close"])).status, 200);
}
