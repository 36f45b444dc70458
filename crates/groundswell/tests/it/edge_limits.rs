//! Who the client is, whom the edge lets in, and how much it takes of him.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::app::{App, wait_until};
use crate::server::{PATIENCE, Response, Server, connect, read_response, request};
use crate::upstreams::{echo, read_head, reply, upstream};

const ALL: &str = "[[gateway.routes]]\npath = \"/\"\nupstream = \"pool\"\n";

/// A server whose `[server]` goes on so, before whatever else stands in its configuration.
fn server(of_server: &str, rest: &str) -> Server {
    let config = format!("[server]\n{of_server}\n{rest}");
    Server::start_with(
        move |folder| std::fs::write(folder.join("g.toml"), config).unwrap(),
        &["--config", "g.toml"],
    )
}

/// A pool of one server that answers with the heads that it gets.
fn pool() -> String {
    format!("[gateway.upstreams.pool]\nservers = [\"http://{}\"]\n", echo())
}

/// A connection from another address of this machine: all of 127.0.0.0/8 is its own.
fn connect_from(source: &str, address: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&format!("{source}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// What is answered to bytes from there.
fn send_from(server: &Server, source: &str, bytes: &[u8]) -> Response {
    let mut stream = connect_from(source, &server.address);
    // The server may close before it has read all.
    let _ = stream.write_all(bytes);
    read_response(&mut stream)
}

fn get_from(server: &Server, source: &str, target: &str, headers: &[&str]) -> Response {
    send_from(server, source, &request("GET", target, headers))
}

/// A header of the PROXY protocol, version 2, for a client of IPv4.
fn proxied(client: [u8; 4]) -> Vec<u8> {
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [head.as_slice(), &client, &[127, 0, 0, 1], &[0x10, 0, 0, 80]].concat()
}

fn metric(server: &Server, line: &str) -> bool {
    let mut stream = connect(&server.management);
    stream.write_all(&request("GET", "/metrics", &[])).unwrap();
    read_response(&mut stream).text().lines().any(|found| found == line)
}

#[test]
fn a_proxy_says_by_the_proxy_protocol_whose_a_connection_is() {
    let of_server = "proxy_protocol = [\"127.0.0.2\"]\ndeny_ips = [\"192.0.2.66\"]";
    let server = server(of_server, &format!("{}{ALL}[log]\naccess = \"access.log\"\n", pool()));
    let get = request("GET", "/", &["X-Forwarded-For: 1.1.1.1"]);
    let answer = send_from(&server, "127.0.0.2", &[proxied([192, 0, 2, 7]), get.clone()].concat());
    assert!(answer.text().contains("x-forwarded-for: 192.0.2.7\n"), "{}", answer.text());
    let line = b"PROXY TCP4 192.0.2.8 127.0.0.1 4096 80\r\n".to_vec();
    let answer = send_from(&server, "127.0.0.2", &[line, get.clone()].concat());
    assert!(answer.text().contains("x-forwarded-for: 192.0.2.8\n"), "{}", answer.text());
    // A proxy that says nothing, or for somebody who may not come in, is closed on.
    assert_eq!(send_from(&server, "127.0.0.2", &get).status, 0);
    let denied = [proxied([192, 0, 2, 66]), get.clone()].concat();
    assert_eq!(send_from(&server, "127.0.0.2", &denied).status, 0);
    // From anybody else it is bad HTTP.
    let claimed = [proxied([192, 0, 2, 7]), get.clone()].concat();
    assert_eq!(send_from(&server, "127.0.0.1", &claimed).status, 400);
    assert!(metric(&server, "groundswell_connections_denied_total{why=\"proxy_header\"} 1"));
    assert!(metric(&server, "groundswell_connections_denied_total{why=\"address\"} 1"));
    let log = server.folder().join("access.log");
    wait_until("the lines", || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        lines.contains("\"client\":\"192.0.2.7\"") && lines.contains("\"client\":\"192.0.2.8\"")
    });
}

#[test]
fn a_trusted_proxy_names_the_client_and_nobody_else_does() {
    let server = server("trusted_proxies = [\"127.0.0.2\", \"10.0.0.0/8\"]", &format!("{}{ALL}", pool()));
    let headers = ["X-Forwarded-For: 1.1.1.1, 192.0.2.7, 10.0.0.1", "X-Forwarded-Proto: https"];
    let trusted = get_from(&server, "127.0.0.2", "/", &headers).text();
    assert!(trusted.contains("x-forwarded-for: 1.1.1.1, 192.0.2.7, 10.0.0.1, 127.0.0.2\n"), "{trusted}");
    assert!(trusted.contains("x-forwarded-proto: https"), "{trusted}");
    let other = get_from(&server, "127.0.0.3", "/", &headers).text();
    assert!(other.contains("x-forwarded-for: 127.0.0.3\n"), "{other}");
    assert!(other.contains("x-forwarded-proto: http\n"), "{other}");
}

/// Their rate limits count by address: two addresses have two counters.
#[test]
fn services_know_the_client_that_a_trusted_proxy_names_unless_their_settings_say_otherwise() {
    let app = App::start_with_env(&[("GROUNDSWELL__SERVER__TRUSTED_PROXIES", "127.0.0.2")]);
    let rules = json!([{"label": "/api/health", "maxRequests": 1, "duration": 100_000}]);
    app.done("PATCH", "/api/settings", &json!({"rateLimits": {"enabled": true, "rules": rules}}));
    let ask = |source: &str, header: &str| get_from(&app.server, source, "/api/health", &[header]).status;
    assert_eq!(ask("127.0.0.2", "X-Forwarded-For: 192.0.2.7"), 200);
    assert_eq!(ask("127.0.0.2", "X-Forwarded-For: 192.0.2.7"), 429);
    assert_eq!(ask("127.0.0.2", "X-Forwarded-For: 192.0.2.8"), 200);
    assert_eq!(ask("127.0.0.3", "X-Forwarded-For: 192.0.2.9"), 200);
    assert_eq!(ask("127.0.0.3", "X-Forwarded-For: 192.0.2.10"), 429);
    let proxy = json!({"trustedProxy": {"headers": ["X-Client"]}});
    app.done("PATCH", "/api/settings", &proxy);
    let both = "X-Forwarded-For: 192.0.2.11\r\nX-Client: 192.0.2.12";
    assert_eq!((ask("127.0.0.2", both), ask("127.0.0.2", both)), (200, 429));
    assert_eq!(ask("127.0.0.2", "X-Client: 192.0.2.12"), 429);
    assert_eq!(ask("127.0.0.2", "X-Forwarded-For: 192.0.2.11"), 200);
}

#[test]
fn who_is_denied_is_not_heard_and_routes_have_lists_of_their_own() {
    let routes = "[[gateway.routes]]\npath = \"/shop\"\nupstream = \"pool\"\nallow_ips = [\"127.0.0.2\"]\n\
                  [[gateway.routes]]\npath = \"/api/health\"\nservices = true\ndeny_ips = [\"127.0.0.2\"]\n";
    let of_server = "allow_ips = [\"127.0.0.0/8\"]\ndeny_ips = [\"127.0.1.0/24\"]";
    let server = server(of_server, &format!("{}{routes}", pool()));
    assert_eq!(get_from(&server, "127.0.1.1", "/api/health", &[]).status, 0);
    assert_eq!(get_from(&server, "127.0.0.2", "/shop", &[]).status, 200);
    let refused = get_from(&server, "127.0.0.3", "/shop", &[]);
    assert_eq!(refused.status, 403);
    let body = r#"{"data":{},"message":"You are not allowed to perform this request.","status":403}"#;
    assert_eq!(refused.text(), body);
    assert_eq!(get_from(&server, "127.0.0.2", "/api/health", &[]).status, 403);
    assert_eq!(get_from(&server, "127.0.0.3", "/api/health", &[]).status, 200);
    assert!(metric(&server, "groundswell_refused_total{cause=\"route_address\"} 2"));
}

#[test]
fn one_address_has_so_many_connections_and_others_are_served() {
    let server = server("max_connections_per_ip = 3", "");
    let used = |source: &str| {
        let mut stream = connect_from(source, &server.address);
        stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        stream
    };
    let held: Vec<TcpStream> = (0..3).map(|_| used("127.0.0.2")).collect();
    let refused = read_response(&mut connect_from("127.0.0.2", &server.address));
    assert_eq!((refused.status, refused.header("retry-after").as_str()), (503, "1"));
    assert_eq!(get_from(&server, "127.0.0.3", "/api/health", &[]).status, 200);
    assert!(metric(&server, "groundswell_connections_denied_total{why=\"too_many\"} 1"));
    drop(held);
    let again = || get_from(&server, "127.0.0.2", "/api/health", &[]).status == 200;
    wait_until("room for another", again);
}

#[test]
fn a_list_that_is_none_is_refused() {
    for (config, complaint) in [
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0/33\"]",
            "server.trusted_proxies: \"10.0.0.0/33\" is not right",
        ),
        (
            "[[gateway.routes]]\nservices = true\ndeny_ips = [\"a\"]",
            "gateway.routes.deny_ips: \"a\" is not right",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("g.toml"), config).unwrap();
        let output = crate::server::run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(complaint), "{said}");
    }
}

/// Statuses of so many requests for a path from there, one after the other.
fn statuses(server: &Server, source: &str, target: &str, headers: &[&str], times: usize) -> Vec<u16> {
    (0..times).map(|_| get_from(server, source, target, headers).status).collect()
}

#[test]
fn a_bucket_for_each_address_bounds_everything_and_one_for_each_key_bounds_a_route() {
    let limits = "[gateway.limits]\nrate_limit = { by = \"ip\", requests = 4, per = \"1h\" }\n\
                  [[gateway.routes]]\npath = \"/keyed\"\nupstream = \"pool\"\n\
                  rate_limit = { by = \"header:X-Key\", requests = 1, per = \"1h\", burst = 2 }\n\
                  [[gateway.routes]]\npath = \"/shared\"\nupstream = \"pool\"\n\
                  rate_limit = { by = \"route\", requests = 1, per = \"1h\" }\n";
    let server = server("", &format!("{}{limits}", pool()));
    assert_eq!(statuses(&server, "127.0.0.2", "/api/health", &[], 5), [200, 200, 200, 200, 429]);
    let refused = get_from(&server, "127.0.0.2", "/api/health", &["Origin: http://a.example"]);
    let body = r#"{"data":{},"message":"Too Many Requests.","status":429}"#;
    assert_eq!((refused.status, refused.text().as_str()), (429, body));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((890..=900).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit-policy"), "\"ip\";q=4;w=3600");
    assert!(refused.header("ratelimit").starts_with("\"ip\";r=0;t="), "{}", refused.head);
    // A page elsewhere may read it, and it is counted as an answer.
    assert_eq!(refused.header("access-control-allow-origin"), "*");
    assert!(!refused.header("x-request-id").is_empty());
    // What goes to other servers is counted with it.
    assert_eq!(get_from(&server, "127.0.0.2", "/shared", &[]).status, 429);

    assert_eq!(statuses(&server, "127.0.0.3", "/keyed", &["X-Key: a"], 3), [200, 200, 429]);
    assert_eq!(get_from(&server, "127.0.0.3", "/keyed", &["X-Key: b"]).status, 200);
    assert_eq!(get_from(&server, "127.0.0.4", "/keyed", &["X-Key: a"]).status, 429);
    assert_eq!(statuses(&server, "127.0.0.4", "/keyed", &[], 3), [200, 200, 429]);
    assert_eq!(get_from(&server, "127.0.0.5", "/shared", &[]).status, 200);
    assert_eq!(get_from(&server, "127.0.0.6", "/shared", &[]).status, 429);
    assert!(metric(&server, "groundswell_refused_total{cause=\"rate\"} 3"));
    assert!(metric(&server, "groundswell_refused_total{cause=\"route_rate\"} 4"));
}

#[test]
fn a_bucket_for_each_caller_is_shared_by_his_addresses_and_guests_have_one_for_each_address() {
    let route = "[[gateway.routes]]\npath = \"/mine\"\nupstream = \"pool\"\nauth = \"optional\"\n\
                 rate_limit = { by = \"caller\", requests = 2, per = \"1h\" }\n\
                 [[gateway.routes]]\npath = \"/api/health\"\nservices = true\n\
                 rate_limit = { by = \"caller\", requests = 1, per = \"1h\" }\n";
    let app = App::start_with_config(&format!("{}{route}", pool()));
    let token = |name: &str| {
        let email = format!("{name}@example.com");
        let body = json!({"email": email, "password": "1234567890", "passwordConfirm": "1234567890"});
        app.done("POST", "/api/collections/users/records", &body);
        let body = json!({"identity": email, "password": "1234567890"}).to_string();
        let answer = app.server.send_json("POST", "/api/collections/users/auth-with-password", &[], &body);
        format!("Authorization: {}", answer.value("token"))
    };
    let (one, other) = (token("one"), token("other"));
    let server = &app.server;
    assert_eq!(statuses(server, "127.0.0.2", "/mine", &[&one], 2), [200, 200]);
    assert_eq!(get_from(server, "127.0.0.3", "/mine", &[&one]).status, 429);
    assert_eq!(get_from(server, "127.0.0.2", "/mine", &[&other]).status, 200);
    // A token that is none does not make a new caller.
    assert_eq!(statuses(server, "127.0.0.4", "/mine", &["Authorization: a"], 2), [200, 200]);
    assert_eq!(get_from(server, "127.0.0.4", "/mine", &["Authorization: b"]).status, 429);
    assert_eq!(get_from(server, "127.0.0.5", "/mine", &[]).status, 200);
    assert_eq!(statuses(server, "127.0.0.2", "/api/health", &[&one], 2), [200, 429]);
    assert_eq!(statuses(server, "127.0.0.2", "/api/health", &[&other], 2), [200, 429]);
}

#[test]
fn a_new_configuration_leaves_the_buckets_of_routes_that_stay() {
    let route = |path: &str| {
        format!(
            "[[gateway.routes]]\npath = \"{path}\"\nservices = true\n\
             rate_limit = {{ by = \"ip\", requests = 1, per = \"1h\" }}\n"
        )
    };
    let server = server("", &route("/api/health"));
    assert_eq!(statuses(&server, "127.0.0.2", "/api/health", &[], 2), [200, 429]);
    let more = format!("[server]\n\n{}{}", route("/api/health"), route("/other"));
    std::fs::write(server.folder().join("g.toml"), more).unwrap();
    server.signal("HUP");
    wait_until("the new route", || get_from(&server, "127.0.0.3", "/other", &[]).status == 429);
    assert_eq!(get_from(&server, "127.0.0.2", "/api/health", &[]).status, 429);
}

/// A server that answers nobody until it is let, and how many it has.
#[derive(Clone, Default)]
struct Gate(Arc<(AtomicUsize, Mutex<bool>, Condvar)>);

impl Gate {
    fn upstream(&self) -> String {
        let gate = self.clone();
        upstream(move |stream| {
            while read_head(stream).is_some() {
                let (held, is_open, opened) = &*gate.0;
                held.fetch_add(1, Ordering::SeqCst);
                drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
                if !reply(stream, 200, "here") {
                    return;
                }
            }
        })
    }

    fn wait_for(&self, count: usize) {
        wait_until("requests at the server", || self.0.0.load(Ordering::SeqCst) >= count);
    }

    fn open(&self) {
        *self.0.1.lock().unwrap() = true;
        self.0.2.notify_all();
    }
}

fn pool_of(address: &str) -> String {
    format!("[gateway.upstreams.pool]\nservers = [\"http://{address}\"]\n")
}

/// A request that is not answered yet.
fn ask(server: &Server, method: &str, target: &str) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(&request(method, target, &[])).unwrap();
    stream
}

#[test]
fn a_route_has_so_many_requests_at_once_and_the_rest_goes_on() {
    let gate = Gate::default();
    let route = "[[gateway.routes]]\npath = \"/slow\"\nupstream = \"pool\"\nmax_in_flight = 3\n";
    let server = server("", &format!("{}{route}", pool_of(&gate.upstream())));
    let mut held: Vec<TcpStream> = (0..3).map(|_| ask(&server, "POST", "/slow")).collect();
    gate.wait_for(3);
    let refused = server.request("POST", "/slow", &[]);
    assert_eq!((refused.status, refused.header("retry-after").as_str()), (503, "1"));
    let body = r#"{"data":{},"message":"The server is busy, please try again later.","status":503}"#;
    assert_eq!(refused.text(), body);
    assert_eq!(server.get("/api/health").status, 200);
    assert!(metric(&server, "groundswell_refused_total{cause=\"route_overload\"} 1"));
    gate.open();
    for stream in &mut held {
        assert_eq!(read_response(stream).text(), "here");
    }
    assert_eq!(server.request("POST", "/slow", &[]).status, 200);
}

#[test]
fn some_may_wait_for_their_turn() {
    let gate = Gate::default();
    let route = "[[gateway.routes]]\npath = \"/slow\"\nupstream = \"pool\"\n\
                 max_in_flight = 1\nqueue = 2\nqueue_timeout = \"20s\"\n\
                 [[gateway.routes]]\npath = \"/hasty\"\nupstream = \"pool\"\n\
                 max_in_flight = 1\nqueue = 1\nqueue_timeout = \"100ms\"\n";
    let server = server("", &format!("{}{route}", pool_of(&gate.upstream())));
    let mut first = ask(&server, "GET", "/slow");
    gate.wait_for(1);
    // Of three more one is refused, whichever comes last.
    let mut others: Vec<TcpStream> = (0..3).map(|_| ask(&server, "GET", "/slow")).collect();
    wait_until("a refusal", || metric(&server, "groundswell_refused_total{cause=\"route_overload\"} 1"));
    let hasty = ask(&server, "GET", "/hasty");
    gate.wait_for(2);
    assert_eq!(server.get("/hasty").status, 503);
    gate.open();
    assert_eq!(read_response(&mut first).status, 200);
    let mut statuses: Vec<u16> = others.iter_mut().map(|stream| read_response(stream).status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    drop(hasty);
}

#[test]
fn streams_of_events_are_not_in_flight_once_they_are_answered() {
    let server = server("", "[gateway.limits]\nmax_in_flight = 2\n");
    let streams: Vec<TcpStream> = (0..6)
        .map(|_| {
            let mut stream = ask(&server, "GET", "/api/realtime");
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).unwrap();
            let head = String::from_utf8_lossy(&bytes[..count]).into_owned();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            stream
        })
        .collect();
    assert_eq!(server.get("/nowhere").status, 404);
    drop(streams);
}

/// Answers four requests at a time, each after 20 ms.
fn slow_upstream() -> String {
    let busy = Arc::new((Mutex::new(0), Condvar::new()));
    upstream(move |stream| {
        while read_head(stream).is_some() {
            let (count, left) = &*busy;
            *left.wait_while(count.lock().unwrap(), |count| *count >= 4).unwrap() += 1;
            thread::sleep(Duration::from_millis(20));
            *count.lock().unwrap() -= 1;
            left.notify_one();
            if !reply(stream, 200, "done") {
                return;
            }
        }
    })
}

/// What clients saw: the times of what was answered, and how many were refused.
#[derive(Default)]
struct Seen {
    took: Vec<Duration>,
    refused: usize,
}

impl Seen {
    /// Asks once; after a refusal it waits a little, as clients are told to.
    fn ask(&mut self, server: &Server, method: &str, headers: &[&str]) {
        let started = Instant::now();
        match server.request(method, "/slow", headers).status {
            200 => self.took.push(started.elapsed()),
            503 => {
                self.refused += 1;
                thread::sleep(Duration::from_millis(20));
            }
            status => panic!("{status}"),
        }
    }

    fn median(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took[took.len() / 2]
    }
}

/// 32 guests ask without a pause, eight times what the server does at once; meanwhile `then` is done.
fn overload(server: &Server, then: impl FnOnce(&dyn Fn() -> usize)) -> Seen {
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ask = || {
            let mut seen = Seen::default();
            while !is_over.load(Ordering::SeqCst) {
                seen.ask(server, "GET", &[]);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            seen
        };
        let guests: Vec<_> = (0..32).map(|_| scope.spawn(ask)).collect();
        then(&|| answered.load(Ordering::SeqCst));
        is_over.store(true, Ordering::SeqCst);
        guests.into_iter().map(|guest| guest.join().unwrap()).fold(Seen::default(), |mut all, seen| {
            all.took.extend(seen.took);
            all.refused += seen.refused;
            all
        })
    })
}

#[test]
fn under_overload_what_is_taken_stays_quick_and_signed_in_writes_pass() {
    let route = "[[gateway.routes]]\npath = \"/slow\"\nupstream = \"pool\"\nauth = \"optional\"\n\
                 max_in_flight = 8\n";
    let app = App::start_with_config(&format!("{}{route}", pool_of(&slow_upstream())));
    let body = json!({"email": "a@b.de", "password": "1234567890", "passwordConfirm": "1234567890"});
    app.done("POST", "/api/collections/users/records", &body);
    let body = json!({"identity": "a@b.de", "password": "1234567890"}).to_string();
    let answer = app.server.send_json("POST", "/api/collections/users/auth-with-password", &[], &body);
    let token = format!("Authorization: {}", answer.value("token"));
    let mut quiet = Seen::default();
    (0..10).for_each(|_| quiet.ask(&app.server, "GET", &[]));
    let mut writes = Seen::default();
    let guests = overload(&app.server, |answered| {
        wait_until("a load", || answered() > 100);
        (0..30).for_each(|_| writes.ask(&app.server, "POST", &[&token]));
    });
    assert_eq!((writes.refused, writes.took.len()), (0, 30));
    assert!(guests.refused > guests.took.len() / 4, "{} of {}", guests.refused, guests.took.len());
    for seen in [&guests, &writes] {
        assert!(seen.median() < 5 * quiet.median(), "{:?}, quiet {:?}", seen.median(), quiet.median());
    }
    println!("quiet {:?}, guests {:?}, writes {:?}", quiet.median(), guests.median(), writes.median());
}

#[test]
fn an_adaptive_bound_finds_what_a_slow_server_can_do() {
    let route = "[[gateway.routes]]\npath = \"/slow\"\nupstream = \"pool\"\nmax_in_flight = \"adaptive\"\n";
    let server = server("", &format!("{}{route}", pool_of(&slow_upstream())));
    let mut quiet = Seen::default();
    (0..30).for_each(|_| quiet.ask(&server, "GET", &[]));
    assert_eq!(quiet.refused, 0);
    let refusals = || {
        let mut stream = connect(&server.management);
        stream.write_all(&request("GET", "/metrics", &[])).unwrap();
        let metrics = read_response(&mut stream).text();
        let count = |line: &str| {
            let count = line.strip_prefix("groundswell_refused_total{cause=\"route_overload\"} ")?;
            count.parse::<u64>().ok()
        };
        metrics.lines().find_map(count).unwrap_or(0)
    };
    // Until it has found out; then once more.
    overload(&server, |_| wait_until("refusals", || refusals() > 50));
    let seen = overload(&server, |answered| wait_until("answers", || answered() > 300));
    assert!(seen.refused > 0 && seen.took.len() > 20, "{} of {}", seen.refused, seen.took.len());
    assert!(seen.median() < 6 * quiet.median(), "{:?}, quiet {:?}", seen.median(), quiet.median());
    println!("quiet {:?}, taken {:?}", quiet.median(), seen.median());
}

/// What is answered to a body of which a byte comes now and then, for half a minute at most.
fn drip(server: &Server, target: &str) -> Response {
    const PAUSE: Duration = Duration::from_millis(500);
    let mut stream = connect(&server.address);
    let headers = ["Content-Type: application/json", "Content-Length: 100000"];
    stream.write_all(&request("POST", target, &headers)).unwrap();
    stream.set_read_timeout(Some(PAUSE)).unwrap();
    let until = Instant::now() + PATIENCE.max(Duration::from_secs(30));
    while stream.peek(&mut [0]).is_err() {
        assert!(Instant::now() < until, "{target} is not answered");
        stream.write_all(b" ").unwrap();
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    read_response(&mut stream)
}

#[test]
fn a_body_that_drips_is_answered_408_by_services_and_routes() {
    let patient = upstream(|stream| {
        let _ = read_head(stream);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let shop = "[[gateway.routes]]\npath = \"/shop\"\nupstream = \"pool\"\n";
    let pool = format!("[gateway.upstreams.pool]\nservers = [\"http://{patient}\"]\n{shop}");
    let server = server("", &pool);
    thread::scope(|scope| {
        let targets = ["/shop", "/api/collections/_superusers/auth-with-password"];
        let answers = targets.map(|target| {
            scope.spawn({
                let server = &server;
                move || drip(server, target)
            })
        });
        for answer in answers.map(|answer| answer.join().unwrap()) {
            assert_eq!(answer.status, 408, "{}", answer.head);
            assert!(answer.text().contains("\"status\":408"), "{}", answer.text());
        }
    });
    assert!(metric(&server, "groundswell_refused_total{cause=\"client_late\"} 2"));
}
