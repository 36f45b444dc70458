//! What is told of single requests: the access log, and the trace that servers are told of.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::app::wait_until;
use crate::server::{Server, request};
use crate::upstreams::{echo, read_head, upstream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ALL: &str = "[[gateway.routes]]\nname = \"all\"\nupstream = \"pool\"\n[[gateway.routes]]\npath = \"/api/\"\nservices = true\n";

/// A gateway to one server with an access log.
fn server(upstream: &str, more: &str) -> Server {
    let config = format!(
        "[log]\naccess = \"access.log\"\n[gateway]\n{more}\n[gateway.upstreams.pool]\nservers = [\"http://{upstream}\"]\n{ALL}"
    );
    Server::start_with(
        move |folder| std::fs::write(folder.join("g.toml"), config).unwrap(),
        &["--config", "g.toml"],
    )
}

/// The lines of the access log, once there are so many.
fn lines(path: &PathBuf, count: usize) -> Vec<Value> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    wait_until("lines of the access log", || read().lines().count() >= count);
    read().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_tells_what_became_of_a_request() {
    let server = server(&echo(), "");
    let parent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    let answer =
        server.request("GET", "/cart?token=secret", &[&parent, "User-Agent: test/1", "X-Request-Id: r1"]);
    assert_eq!(server.get("/api/health").status, 200);
    let lines = lines(&server.folder().join("access.log"), 2);
    let line = &lines[0];
    for (key, value) in [
        ("id", "r1"),
        ("trace", TRACE),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("host", "test"),
        ("path", "/cart"),
        ("route", "all"),
        ("upstream", "pool"),
        ("agent", "test/1"),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert_eq!((&line["status"], &line["tries"]), (&200.into(), &1.into()), "{line}");
    assert_eq!(line["bytes"], answer.body.len());
    assert!(line["head_us"].as_u64() <= line["took_us"].as_u64() && line["took_us"].is_u64(), "{line}");
    assert!(line["server"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{line}");
    assert!(!line.to_string().contains("secret") && line["cut"].is_null(), "{line}");
    assert_eq!((&lines[1]["route"], &lines[1]["upstream"]), (&"/api/".into(), &Value::Null), "{}", lines[1]);
}

#[test]
fn a_line_is_json_whatever_bytes_come() {
    let server = server(&echo(), "");
    for (target, agent) in [
        (&b"/%00%ff\"<>{}|\\^`"[..], &b"\"quoted\" \\ {\"a\":1}\t\xff\xfe\xc3"[..]),
        (b"/\xc3\xa4\xff/%e2%80%a8", b"\xe2\x80\xa8 line"),
        (b"/api/%22%0d%0a{\"x\":1}", b"a"),
        (b"/api/../x", b"\xed\xa0\x80"),
        (b"http://a\"b/", b""),
    ] {
        let mut bytes = b"GET ".to_vec();
        bytes.extend_from_slice(target);
        bytes.extend_from_slice(b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: ");
        bytes.extend_from_slice(agent);
        bytes.extend_from_slice(b"\r\n\r\n");
        let mut stream = server.connect();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
    }
    server.get("/last");
    let path = server.folder().join("access.log");
    wait_until("the last line", || std::fs::read_to_string(&path).unwrap_or_default().contains("/last"));
    // What is no HTTP is no request.
    let lines = lines(&path, 3);
    assert!(lines.iter().all(|line| line["method"] == "GET"), "{lines:?}");
    assert!(
        lines.iter().any(|line| line["agent"].as_str().is_some_and(|agent| agent.contains("\"quoted\" \\"))),
        "{lines:?}"
    );
}

#[test]
fn a_refusal_and_an_answer_that_was_cut_say_so() {
    let server = server(
        &upstream(|stream| {
            let head = read_head(stream).unwrap_or_default();
            if head[0].starts_with("GET /cut") {
                let _ = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
            }
        }),
        "",
    );
    server.get("/cut");
    assert_eq!(server.get("/lost").status, 502);
    let lines = lines(&server.folder().join("access.log"), 2);
    assert_eq!(
        (&lines[0]["cut"], &lines[0]["bytes"], &lines[0]["status"]),
        (&true.into(), &3.into(), &200.into())
    );
    assert_eq!(
        (&lines[1]["refused"], &lines[1]["upstream"]),
        (&"upstream_unanswered".into(), &"pool".into())
    );
    assert!(lines[1]["tries"].as_u64().unwrap() >= 1, "{}", lines[1]);
}

#[test]
fn a_client_that_leaves_before_the_answer_is_a_line_too() {
    let server = server(
        &upstream(|stream| {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        }),
        "",
    );
    let mut stream = server.connect();
    stream.write_all(&request("GET", "/slow", &[])).unwrap();
    let metrics = || crate::connections::read_management(&server, "/metrics");
    wait_until("the request", || {
        metrics().contains("groundswell_requests_in_flight{route=\"all\",upstream=\"pool\"} 1")
    });
    drop(stream);
    let lines = lines(&server.folder().join("access.log"), 1);
    assert_eq!((&lines[0]["status"], &lines[0]["cut"]), (&499.into(), &true.into()), "{}", lines[0]);
}

#[test]
fn a_rotated_file_is_let_go_at_a_signal() {
    let server = server(&echo(), "");
    let path = server.folder().join("access.log");
    for (number, name) in ["USR1", "HUP"].into_iter().enumerate() {
        server.get("/a");
        lines(&path, 1);
        let rotated = server.folder().join(format!("access.log.{number}"));
        std::fs::rename(&path, &rotated).unwrap();
        let kill = format!("kill -{name} {}", server.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        wait_until("a new file", || path.exists());
        let length = std::fs::metadata(&rotated).unwrap().len();
        server.get("/b");
        assert_eq!(lines(&path, 1)[0]["path"], "/b");
        assert_eq!(std::fs::metadata(&rotated).unwrap().len(), length);
        std::fs::remove_file(&path).unwrap();
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        wait_until("a new file", || path.exists());
    }
}

#[test]
fn servers_are_told_of_the_trace_as_the_configuration_says() {
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let line = format!("traceparent: {parent}");
    let told = |server: &Server, headers: &[&str]| {
        let text = server.request("GET", "/", headers).text().to_lowercase();
        let found =
            text.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap_or_default().to_owned();
        (found, text.contains("tracestate: a=1"))
    };
    let starts = server(&echo(), "trace = \"start\"");
    let (goes_on, has_state) = told(&starts, &[&line, "tracestate: a=1"]);
    assert!(goes_on.starts_with(&format!("00-{TRACE}-")) && goes_on != parent && has_state, "{goes_on}");
    let (begun, has_state) = told(&starts, &["traceparent: nonsense", "tracestate: a=1"]);
    assert!(begun.len() == 55 && !has_state, "{begun}");
    let passes = server(&echo(), "");
    assert_eq!(told(&passes, &[&line, "tracestate: a=1"]), (parent, true));
    assert_eq!(told(&passes, &[]).0, "");
}
