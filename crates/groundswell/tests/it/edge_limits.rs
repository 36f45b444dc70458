//! Who the client is, whom the edge lets in, and how much it takes of him.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::app::App;
use crate::server::{PATIENCE, Response, Server, connect, read_response, request};
use crate::upstreams::echo;

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
    crate::app::wait_until("the lines", || {
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
    crate::app::wait_until("room for another", again);
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
    crate::app::wait_until("the new route", || get_from(&server, "127.0.0.3", "/other", &[]).status == 429);
    assert_eq!(get_from(&server, "127.0.0.2", "/api/health", &[]).status, 429);
}
