use std::io::{Read, Write};
use std::net::TcpStream;

use crate::app::wait_until;
use crate::server::{Server, connect, read_response, request};

#[test]
fn raw_bytes_in_a_target_are_taken_on_every_plain_request_of_a_connection() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    stream
        .write_all(b"GET /api/health?filter=a=\"<b>\"&x=\xC3\xA9\xFF#c HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert!(read_some(&mut stream).starts_with("HTTP/1.1 200 "));
    stream.write_all(&request("GET", "/api/health?filter=\"<>", &[])).unwrap();
    assert_eq!(read_response(&mut stream).status, 200);
}

#[test]
fn raw_bytes_in_a_target_are_taken_after_a_request_in_chunks() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let head =
        "POST /api/collections/users/records?a=\"<>\" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n";
    let body = "Content-Type: application/json\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX-Sum: \"1\"\r\n\r\n";
    stream.write_all([head, body].concat().as_bytes()).unwrap();
    assert!(read_some(&mut stream).contains("Failed to create record."));
    stream.write_all(&request("GET", "/api/health?filter=\"<>", &[])).unwrap();
    assert_eq!(read_response(&mut stream).status, 200);
}

#[test]
fn raw_bytes_arriving_one_by_one_are_taken() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    for byte in request("GET", "/api/health?a=\"\"<>", &[]) {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(read_response(&mut stream).status, 200);
}

#[test]
fn two_hundred_headers_are_taken() {
    let server = Server::start(&[]);
    let headers: Vec<String> = (0..200).map(|number| format!("X-{number}: {number}")).collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    assert_eq!(server.request("GET", "/api/health", &headers).status, 200);
}

#[test]
fn oversized_heads_are_refused_with_431() {
    let server = Server::start(&[]);
    // Just above the bound, and far above: it is not to matter how the bytes arrive.
    for kibibytes in [128, 130, 200, 512] {
        let large = format!("X-Large: {}", "a".repeat(kibibytes * 1024));
        for _ in 0..20 {
            assert_eq!(server.request("GET", "/api/health", &[&large]).status, 431, "{kibibytes} KiB");
        }
    }
    let many: Vec<String> = (0..5000).map(|number| format!("X-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(server.request("GET", "/api/health", &many).status, 431);
}

#[test]
fn both_framings_in_one_head_are_refused() {
    let server = Server::start(&[]);
    for headers in [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
    ] {
        let mut bytes = request("POST", "/api/health", &headers);
        bytes.extend(b"0\r\n\r\n");
        assert_eq!(server.send(&bytes).status, 400, "{headers:?}");
    }
}

#[test]
fn a_slow_head_is_cut() {
    let server = Server::start_with(
        |folder| std::fs::write(folder.join("g.toml"), "[server]\nhead_timeout = \"300ms\"\n").unwrap(),
        &["--config", "g.toml"],
    );
    let mut stream = server.connect();
    stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: ").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "the server did not wait for the rest");
}

#[test]
fn connections_past_the_limit_are_told_so() {
    let server = Server::start_with(
        |folder| std::fs::write(folder.join("g.toml"), "[server]\nmax_connections = 2\n").unwrap(),
        &["--config", "g.toml"],
    );
    let held: Vec<TcpStream> = (0..2).map(|_| open_and_use(&server)).collect();
    let refused = read_response(&mut server.connect());
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), "1");
    drop(held);
}

#[test]
fn sigterm_ends_idle_connections_and_the_process() {
    let server = Server::start(&[]);
    let mut idle = open_and_use(&server);
    assert!(read_management(&server, "/readyz").starts_with("HTTP/1.1 200 "));
    server.terminate();
    let mut rest = Vec::new();
    assert_eq!(idle.read_to_end(&mut rest).unwrap(), 0, "an idle connection is closed");
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn sigterm_waits_for_the_request_in_flight() {
    /// More than all buffers between may hold: a system may give a connection 32 MiB.
    const LARGE: usize = 64 << 20;
    let server = Server::start_with(
        |folder| {
            std::fs::create_dir(folder.join("gs_public")).unwrap();
            std::fs::write(folder.join("gs_public/large.bin"), vec![7; LARGE]).unwrap();
        },
        &[],
    );
    let mut stream = server.connect();
    stream.write_all(&request("GET", "/large.bin", &[])).unwrap();
    let mut first = [0; 1024];
    stream.read_exact(&mut first).unwrap();
    server.terminate();
    // The server is still writing the answer.
    while !read_management(&server, "/readyz").contains("draining") {}
    wait_until("no new connection", || TcpStream::connect(&server.address).is_err());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > LARGE - 1024, "{} bytes", rest.len());
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn the_management_listener_counts() {
    let server = Server::start(&[]);
    server.get("/api/health");
    assert!(read_management(&server, "/livez").starts_with("HTTP/1.1 200 "));
    let metrics = read_management(&server, "/metrics");
    assert!(metrics.contains("groundswell_requests_total{route=\"services\",status=\"2xx\"} 1"), "{metrics}");
    assert!(metrics.contains("groundswell_connections_accepted_total 1"), "{metrics}");
}

/// A kept connection that has had its first answer.
fn open_and_use(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(read_some(&mut stream).starts_with("HTTP/1.1 200 "));
    stream
}

/// Reads an answer of health, which comes in one piece.
fn read_some(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with('}') {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

pub(crate) fn read_management(server: &Server, path: &str) -> String {
    let mut stream = connect(&server.management);
    stream.write_all(&request("GET", path, &[])).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
