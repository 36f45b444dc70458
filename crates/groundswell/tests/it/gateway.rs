//! Routes to other servers: what goes on and what does not, and what clients see while servers fail.

use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::app::wait_until;
use crate::server::{Server, connect, read_response, request};
use crate::upstreams::{Load, Process, echo, read_head, reply, upstream, upstream_that_says};

/// A gateway with this configuration.
fn gateway(config: &str) -> Server {
    let config = config.to_owned();
    Server::start_with(
        move |folder| std::fs::write(folder.join("g.toml"), config).unwrap(),
        &["--config", "g.toml"],
    )
}

fn pool(servers: &[&str], more: &str) -> String {
    let urls: Vec<String> = servers.iter().map(|server| format!("\"http://{server}\"")).collect();
    format!("[gateway.upstreams.pool]\nservers = [{}]\n{more}\n", urls.join(", "))
}

const ALL: &str = "[[gateway.routes]]\npath = \"/\"\nupstream = \"pool\"\n";

#[test]
fn a_request_goes_on_without_what_is_the_connections_or_only_claimed() {
    let server = gateway(&format!("{}{ALL}", pool(&[&echo()], "")));
    let headers = [
        "X-Forwarded-For: 10.9.9.9",
        "Forwarded: for=10.9.9.9",
        "Keep-Alive: 5",
        "TE: trailers",
        "X-Own: kept",
    ];
    let answer = server.request("GET", "/a%20b?c=d", &headers);
    assert_eq!(answer.status, 200);
    let text = answer.text().to_lowercase();
    assert!(text.starts_with("get /a%20b?c=d http/1.1\n"), "{text}");
    for line in [
        "host: test",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: test",
        "x-forwarded-proto: http",
        "x-own: kept",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    for name in ["10.9.9.9", "keep-alive", "\nte:", "forwarded: for", "connection"] {
        assert!(!text.contains(name), "{name}: {text}");
    }
    assert!(!answer.header("x-request-id").is_empty());
}

#[test]
fn routes_choose_by_host_and_path_and_the_rest_is_the_applications() {
    let (one, two) = (echo(), echo());
    let server = gateway(&format!(
        "[gateway.upstreams.one]\nservers = [\"http://{one}\"]\n[gateway.upstreams.two]\nservers = [\"http://{two}\"]\n\
         [[gateway.routes]]\npath = \"/shop/\"\nupstream = \"one\"\nrewrite = \"/\"\n\
         request_headers = {{ X-Shop = \"1\", X-Own = \"\" }}\nresponse_headers = {{ X-From = \"one\" }}\n\
         [[gateway.routes]]\nhost = \"*.two.example\"\nupstream = \"two\"\n\
         [[gateway.routes]]\npath = \"/old/\"\nredirect = \"/new/\"\n"
    ));
    let shop = server.request("GET", "/shop/cart?x=1", &["X-Own: 1"]);
    assert!(shop.text().starts_with("GET /cart?x=1 HTTP/1.1\n"), "{}", shop.text());
    let lines = shop.text().to_lowercase();
    assert!(lines.contains("x-shop: 1") && !lines.contains("x-own"), "{lines}");
    assert_eq!(shop.header("x-from"), "one");
    let two =
        server.send(b"GET /api/health HTTP/1.1\r\nHost: www.two.example:80\r\nConnection: close\r\n\r\n");
    assert!(two.text().starts_with("GET /api/health HTTP/1.1\n"), "{}", two.text());
    let old = server.get("/old/a?b=c");
    assert_eq!((old.status, old.header("location")), (308, "/new/a?b=c".to_owned()));
    assert_eq!(server.get("/api/health").status, 200);
    assert!(server.get("/api/health").text().contains("healthy"));
    for path in ["/shop/../api/health", "/shop/%2e%2e/x", "/shop/..%2fx", "/shop/a%5cb"] {
        let answer = server.get(path);
        assert!(answer.status == 400 || answer.status == 307, "{path}: {}", answer.status);
    }
}

#[test]
fn a_wrong_configuration_says_what_is_wrong() {
    for (config, complaint) in [
        ("[[gateway.routes]]\nupstream = \"nowhere\"", "there is no upstream \"nowhere\""),
        ("[[gateway.routes]]\npath = \"/\"", "must say where the route leads"),
        ("[gateway.upstreams.a]\nservers = [\"ftp://a\"]", "write http://HOST:PORT"),
        ("[gateway.upstreams.a]\nbalance = \"p2c\"", "servers: is missing"),
        ("[gateway]\nroutes = 1", "write [[gateway.routes]]"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("g.toml"), config).unwrap();
        let output = crate::server::run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn bodies_stream_both_ways_at_the_pace_of_the_slower_side() {
    const LARGE: usize = 200 << 20;
    let server = gateway(&format!(
        "{}{ALL}",
        pool(
            &[&upstream(|stream| {
                let head = read_head(stream).unwrap_or_default();
                if head.first().is_some_and(|line| line.starts_with("POST")) {
                    let mut left = LARGE;
                    let mut bytes = vec![0; 1 << 20];
                    while left > 0 {
                        match stream.read(&mut bytes) {
                            Ok(count) if count > 0 => left -= count,
                            _ => return,
                        }
                    }
                    reply(stream, 200, "all of it");
                } else {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
                    let _ = stream.get_mut().write_all(head.as_bytes());
                    let piece = vec![b'x'; 1 << 20];
                    for _ in 0..LARGE >> 20 {
                        if stream.get_mut().write_all(&piece).is_err() {
                            return;
                        }
                    }
                }
            })],
            ""
        )
    ));
    let before = memory(&server);
    let mut stream = server.connect();
    stream.write_all(&request("POST", "/", &[&format!("Content-Length: {LARGE}")])).unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..LARGE >> 20 {
        stream.write_all(&piece).unwrap();
    }
    assert_eq!(read_response(&mut stream).text(), "all of it");
    let mut stream = server.connect();
    stream.write_all(&request("GET", "/", &[])).unwrap();
    let mut first = [0; 4096];
    stream.read_exact(&mut first).unwrap();
    // Nobody reads: whatever the server has of it is in buffers of the system, and in a small one of its own.
    assert!(memory(&server) < before + (24 << 20));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > LARGE - 4096);
}

#[test]
fn events_of_a_server_come_as_they_are_sent() {
    let server = gateway(&format!(
        "{}{ALL}",
        pool(
            &[&upstream(|stream| {
                read_head(stream);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                let _ = stream.get_mut().write_all(format!("{head}data: 1\n\n").as_bytes());
                // The next only once the client has seen the first.
                let mut byte = [0];
                let _ = stream.read(&mut byte);
            })],
            ""
        )
    ));
    let mut stream = server.connect();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut seen = String::new();
    while !seen.contains("data: 1") {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

#[test]
fn an_upgraded_connection_is_joined_to_the_servers() {
    let server = gateway(&format!(
        "{}{ALL}",
        pool(
            &[&upstream(|stream| {
                let head = read_head(stream).unwrap_or_default().join("\n").to_lowercase();
                assert!(
                    head.contains("upgrade: websocket") && head.contains("connection: upgrade"),
                    "{head}"
                );
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                let _ = stream.get_mut().write_all(head.as_bytes());
                let mut bytes = [0; 5];
                while stream.read_exact(&mut bytes).is_ok() {
                    bytes.reverse();
                    let _ = stream.get_mut().write_all(&bytes);
                }
            })],
            ""
        )
    ));
    let mut stream = server.connect();
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let answer = read_head(&mut reader).unwrap().join("\n").to_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("upgrade: websocket"), "{answer}");
    for (said, heard) in [(b"hello", b"olleh"), (b"12345", b"54321")] {
        stream.write_all(said).unwrap();
        let mut bytes = [0; 5];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, heard);
    }
}

#[test]
fn frames_pass_an_upgraded_connection_byte_by_byte_and_each_side_ends_for_itself() {
    let socket = upstream(|stream| {
        read_head(stream);
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = stream.get_mut().write_all(head.as_bytes());
        // Answers only when the client has ended its side.
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let _ = stream.get_mut().write_all(&said);
    });
    let server = gateway(&format!("{}{ALL}", pool(&[&socket], "")));
    let mut reader = BufReader::new(server.connect());
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    reader.get_mut().write_all(head.as_bytes()).unwrap();
    assert!(read_head(&mut reader).unwrap()[0].contains("101"));
    let mask = [1, 2, 3, 4];
    let mut said = Vec::new();
    // A message of 1 MiB in frames of 64 KiB with a ping between them, a pong nobody asked for, reserved bits, a close.
    for part in 0..16u8 {
        said.extend([
            if part == 0 {
                0x02
            } else if part == 15 {
                0x80
            } else {
                0x00
            },
            0xff,
        ]);
        said.extend(65_536u64.to_be_bytes());
        said.extend(mask);
        said.extend((0..65_536u32).map(|at| at.to_le_bytes()[0] ^ part));
        said.extend([&[0x89, 0x81][..], &mask, &[part]].concat());
    }
    said.extend(
        [&[0x8a, 0x80][..], &mask, &[0xf3, 0x80], &mask, &[0x88, 0x82], &mask, &[0x03, 0xe9]].concat(),
    );
    for piece in said.chunks(10_007) {
        reader.get_mut().write_all(piece).unwrap();
    }
    reader.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    reader.read_to_end(&mut heard).unwrap();
    assert!(heard == said, "{} of {} bytes came back, or others", heard.len(), said.len());
}

#[test]
fn without_an_answer_the_client_gets_one_in_the_contracts_shape() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let silent = upstream(|stream| while read_head(stream).is_some() {});
    let garbage = upstream(|stream| {
        read_head(stream);
        let _ = stream.get_mut().write_all(b"this is no HTTP\r\n\r\n");
    });
    for (address, status) in [(&free, 502), (&silent, 504), (&garbage, 502)] {
        let server =
            gateway(&format!("{}{ALL}", pool(&[address], "try_timeout = \"300ms\"\ntimeout = \"500ms\"")));
        for method in ["GET", "POST"] {
            let answer = server.request(method, "/", &[]);
            assert_eq!(answer.status, status, "{method} {address}: {}", answer.text());
            assert!(answer.text().starts_with("{\"data\":{},\"message\":\"The service did not answer"));
        }
    }
}

#[test]
fn what_may_not_be_done_twice_is_not_and_what_erred_is_tried_elsewhere() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let breaks = upstream(move |stream| {
        while let Some(head) = read_head(stream) {
            counted.fetch_add(1, Ordering::SeqCst);
            if head[0].contains("/breaks") {
                return;
            }
            reply(stream, 500, "erred");
        }
    });
    let config = format!("{}{ALL}", pool(&[&breaks, &breaks.replace("127.0.0.1", "localhost")], ""));
    let server = gateway(&config);
    let tried = |method: &str, target: &str| {
        tries.store(0, Ordering::SeqCst);
        let answer = server.request(method, target, &[]);
        (answer.status, tries.load(Ordering::SeqCst))
    };
    assert_eq!(tried("POST", "/breaks"), (502, 1));
    assert_eq!(tried("POST", "/errs"), (500, 1));
    assert_eq!(tried("GET", "/errs"), (500, 2));
    let (status, times) = tried("GET", "/breaks");
    assert!(status == 502 && (2..=3).contains(&times), "{status} {times}");
}

#[test]
fn a_client_that_stops_in_its_upload_harms_neither_others_nor_the_server() {
    // Answers before the body is there, as servers do that refuse.
    let early = upstream(|stream| {
        while let Some(head) = read_head(stream) {
            let length = head
                .iter()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if !reply(stream, 200, "early") {
                return;
            }
            let mut body = vec![0; length.unwrap_or(0)];
            if stream.read_exact(&mut body).is_err() {
                return;
            }
        }
    });
    let server = gateway(&format!("{}{ALL}", pool(&[&early], "try_timeout = \"2s\"")));
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect();
        stream.write_all(&request("POST", "/", &["Content-Length: 100000"])).unwrap();
        stream.write_all(b"xx").unwrap();
        held.push(stream);
    }
    let started = Instant::now();
    for method in ["GET", "POST", "PUT"] {
        assert_eq!(server.request(method, "/", &[]).text(), "early");
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    drop(held);
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn a_client_that_is_late_or_leaves_is_told_so_and_the_server_stays_well() {
    let patient = upstream(|stream| {
        while let Some(head) = read_head(stream) {
            let length = head
                .iter()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if stream.read_exact(&mut body).is_err() || !reply(stream, 200, "all") {
                return;
            }
        }
    });
    let server =
        gateway(&format!("{}{ALL}", pool(&[&patient], "try_timeout = \"300ms\"\ntimeout = \"600ms\"")));
    for _ in 0..5 {
        let mut stream = server.connect();
        stream.write_all(&request("POST", "/", &["Content-Length: 100000"])).unwrap();
        drop(stream);
    }
    let mut stream = server.connect();
    stream.write_all(&request("POST", "/", &["Content-Length: 10"])).unwrap();
    assert_eq!(read_response(&mut stream).status, 408);
    // One that is slow, and longer about it than any of the times, but goes on.
    let mut stream = server.connect();
    stream.write_all(&request("POST", "/", &["Content-Length: 10"])).unwrap();
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(100));
        stream.write_all(b"x").unwrap();
    }
    assert_eq!(read_response(&mut stream).text(), "all");
    let metrics = String::from_utf8(management(&server, "/metrics")).unwrap();
    assert!(!metrics.contains("outcome=\"failed\"} 1"), "{metrics}");
}

#[test]
fn a_head_cannot_say_what_the_route_says_or_two_servers_read_differently() {
    let config = format!(
        "{}[[gateway.routes]]\nupstream = \"pool\"\nrequest_headers = {{ X-Secret = \"s3cret\" }}\n",
        pool(&[&echo()], "")
    );
    let server = gateway(&config);
    let answer = server.request(
        "GET",
        "/",
        &["Connection: x-secret, host", "X_Forwarded_For: 1.2.3.4", "X-Real-IP: 1.2.3.4"],
    );
    let text = answer.text().to_lowercase();
    assert!(text.contains("x-secret: s3cret") && text.contains("host: test"), "{text}");
    assert!(!text.contains("1.2.3.4"), "{text}");
    let id = answer.header("x-request-id");
    assert!(text.contains(&format!("x-request-id: {id}")), "{text}");
    let raw = |bytes: &str| server.send(bytes.replace('\n', "\r\n").as_bytes());
    assert_eq!(raw("GET / HTTP/1.1\nHost: a\nHost: b\nConnection: close\n\n").status, 400);
    let absolute = raw("GET http://a.example/x HTTP/1.1\nHost: b.example\nConnection: close\n\n");
    assert!(absolute.text().to_lowercase().contains("\nhost: a.example"), "{}", absolute.text());
    let old = raw("GET / HTTP/1.0\n\n");
    assert!(old.text().to_lowercase().contains("\nhost: 127.0.0.1"), "{}", old.text());
    let tunnel = raw(
        "GET / HTTP/1.1\nHost: a\nConnection: Upgrade, HTTP2-Settings, close\nUpgrade: h2c\nHTTP2-Settings: AA\n\n",
    );
    let text = tunnel.text().to_lowercase();
    assert!(!text.contains("upgrade") && !text.contains("http2-settings"), "{text}");
    let gzip = "POST / HTTP/1.1\nHost: a\nConnection: close\nTransfer-Encoding: gzip, chunked\n\n0\n\n";
    assert!([400, 501].contains(&raw(gzip).status));
}

#[test]
fn an_answer_that_says_what_is_wrong_is_passed_on_before_none() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let errs =
        upstream(|stream| while read_head(stream).is_some_and(|_| reply(stream, 500, "what is wrong")) {});
    let server = gateway(&format!("{}{ALL}", pool(&[&errs, &free(), &free()], "")));
    for _ in 0..10 {
        let answer = server.get("/");
        // Two that are gone may be all that was tried.
        assert!(
            answer.status == 500 && answer.text() == "what is wrong" || answer.status == 502,
            "{answer:?}"
        );
    }
}

#[test]
fn an_open_websocket_ends_when_the_process_is_asked_to_stop() {
    let socket = upstream(|stream| {
        read_head(stream);
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = stream.get_mut().write_all(head.as_bytes());
        let _ = stream.read(&mut [0]);
    });
    let server = gateway(&format!("{}{ALL}", pool(&[&socket], "")));
    let mut stream = server.connect();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    assert!(read_head(&mut reader).unwrap()[0].contains("101"));
    server.terminate();
    assert_eq!(server.wait().0, Some(0));
    assert_eq!(reader.read(&mut [0]).unwrap_or(0), 0);
}

fn management(server: &Server, path: &str) -> Vec<u8> {
    let mut stream = connect(&server.management);
    stream.write_all(&request("GET", path, &[])).unwrap();
    read_response(&mut stream).body
}

#[test]
fn a_name_stands_for_all_its_servers() {
    let address = echo();
    let port = address.rsplit(':').next().unwrap();
    let server = gateway(&format!("[gateway.upstreams.pool]\ndns = \"http://localhost:{port}\"\n{ALL}"));
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn a_changed_configuration_is_taken_while_requests_go_on_and_a_wrong_one_refused() {
    let (one, two) = (upstream_that_says("one"), upstream_that_says("two"));
    let server = gateway(&format!("{}{ALL}", pool(&[&one], "")));
    let file = server.folder().join("g.toml");
    let write = |config: &str| {
        let next = server.folder().join("next.toml");
        std::fs::write(&next, config).unwrap();
        std::fs::rename(next, &file).unwrap();
    };
    let load = Load::start(&server, 4);
    load.more(100);
    write(&format!("{}{ALL}", pool(&[&two], "")));
    wait_until("the other server", || server.get("/me").text() == "two");
    write("[[gateway.routes]]\nupstream = \"nowhere\"");
    hang_up(&server);
    load.more(300);
    assert_eq!(server.get("/me").text(), "two");
    write(&format!("{}{ALL}", pool(&[&one, &two], "balance = \"round_robin\"")));
    hang_up(&server);
    wait_until("both servers", || server.get("/me").text() == "one");
    wait_until("both servers", || server.get("/me").text() == "two");
    assert_eq!(load.failures().len(), 0);
}

fn hang_up(server: &Server) {
    let kill = format!("kill -HUP {}", server.pid());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

#[test]
fn the_access_log_has_a_line_for_every_answer_and_no_query() {
    let server = gateway(&format!(
        "[log]\naccess = \"access.log\"\n{}[[gateway.routes]]\npath = \"/shop/\"\nupstream = \"pool\"\n",
        pool(&[&echo()], "")
    ));
    server.get("/shop/a?token=secret");
    server.get("/api/health?token=secret");
    server.get("/missing");
    let file = server.folder().join("access.log");
    let read = || std::fs::read_to_string(&file).unwrap();
    wait_until("three lines", || read().lines().count() == 3);
    let log = read();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|line| (&line["path"], &line["status"], &line["upstream"])).collect();
    let text = |text: &str| json!(text);
    let none = serde_json::Value::Null;
    assert_eq!(
        told,
        [
            (&text("/shop/a"), &json!(200), &text("pool")),
            (&text("/api/health"), &json!(200), &none),
            (&text("/missing"), &json!(404), &none)
        ]
    );
    assert!(!log.contains("secret"));
}

#[test]
fn no_request_fails_while_servers_are_killed_paused_and_restarted() {
    let mut servers = [Process::start(), Process::start(), Process::start()];
    let addresses: Vec<&str> = servers.iter().map(|server| server.address.as_str()).collect();
    let health = "try_timeout = \"500ms\"\nslow_start = \"1s\"\n\
                  health = { path = \"/api/health\", every = \"100ms\", timeout = \"1s\" }";
    let gateway = gateway(&format!("{}{ALL}", pool(&addresses, health)));
    let load = Load::start(&gateway, 8);
    load.more(500);
    servers[0].kill();
    load.more(500);
    servers[1].signal("STOP");
    load.more(500);
    servers[1].signal("CONT");
    servers[0].restart();
    load.more(500);
    servers[2].restart();
    load.more(500);
    let failures = load.failures();
    let first = failures.first().map(|answer| format!("{} {}", answer.head, answer.text()));
    assert!(failures.is_empty(), "{} failed, such as {first:?}", failures.len());
}

#[test]
fn a_failing_server_gets_nothing_within_a_second_and_comes_back_gently() {
    let is_failing = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let (failing, counted) = (is_failing.clone(), asked.clone());
    let sick = upstream(move |stream| {
        while let Some(head) = read_head(stream) {
            if head[0].contains("/health") {
                reply(stream, 200, "");
                continue;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            if failing.load(Ordering::SeqCst) {
                reply(stream, 500, "erred");
            } else {
                reply(stream, 200, "well");
            }
        }
    });
    let gateway = gateway(&format!("{}{ALL}", pool(&[&sick, &echo(), &echo()], "slow_start = \"2s\"")));
    let load = Load::start(&gateway, 4);
    wait_until("requests", || asked.load(Ordering::SeqCst) > 100);
    is_failing.store(true, Ordering::SeqCst);
    let since = Instant::now();
    let is_left_alone = || {
        let before = asked.load(Ordering::SeqCst);
        load.more(300);
        asked.load(Ordering::SeqCst) == before
    };
    wait_until("to be left alone", is_left_alone);
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    is_failing.store(false, Ordering::SeqCst);
    let before = (asked.load(Ordering::SeqCst), load.answered.load(Ordering::SeqCst));
    wait_until("to be asked again", || asked.load(Ordering::SeqCst) > before.0);
    let first = (asked.load(Ordering::SeqCst), load.answered.load(Ordering::SeqCst));
    load.more(300);
    let share = (asked.load(Ordering::SeqCst) - first.0) as f64
        / (load.answered.load(Ordering::SeqCst) - first.1) as f64;
    assert!(share < 0.25, "a share of {share} at once");
    wait_until("its share again", || {
        let from = (asked.load(Ordering::SeqCst), load.answered.load(Ordering::SeqCst));
        load.more(300);
        let share = (asked.load(Ordering::SeqCst) - from.0) as f64
            / (load.answered.load(Ordering::SeqCst) - from.1) as f64;
        share > 0.2
    });
    assert_eq!(load.failures().len(), 0);
}

pub(crate) fn memory(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
