//! One application on two nodes: a gateway before a node that runs the services.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, json_of, wait_until};
use crate::connections::read_management;
use crate::handover::{Seen, load, until_created};
use crate::realtime::{open, read_until};
use crate::server::{Response, Server, between, groundswell, run};
use crate::upstreams::echo;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const FLAGS: [&str; 2] = ["--config", "g.toml"];

/// A gateway node, and the node behind it, which is reached directly, too.
struct Pair {
    app: App,
    gateway: Server,
    internal: String,
}

fn services_config(internal: &str) -> String {
    format!("[server]\ninternal = \"{internal}\"\n[nodes]\nkeys = [\"{KEY}\"]\n")
}

fn gateway_config(internal: &str, more: &str) -> String {
    format!(
        "[server]\nroles = [\"gateway\"]\n[nodes]\nkeys = [\"{KEY}\"]\n\
         [gateway.services]\nservers = [\"http://{internal}\"]\n{more}"
    )
}

fn gateway(config: String) -> Server {
    Server::start_with(move |folder| std::fs::write(folder.join("g.toml"), config).unwrap(), &FLAGS)
}

impl Pair {
    fn start() -> Pair {
        Pair::start_with("")
    }

    /// With more in the configuration of the gateway.
    fn start_with(more: &str) -> Pair {
        let app = App::start_with_config(&services_config("127.0.0.1:0"));
        let internal = between(&app.server.banner, "Internal:   http://", ",");
        // At the same place after a restart.
        std::fs::write(app.server.folder().join("g.toml"), services_config(&internal)).unwrap();
        let gateway = gateway(gateway_config(&internal, more));
        Pair { app, gateway, internal }
    }

    fn restart_services(self) -> Pair {
        let App { server, root } = self.app;
        let server = server.restart_with_flags(&FLAGS);
        Pair { app: App { server, root }, ..self }
    }

    /// A user, and the header by which he is signed in.
    fn user(&self, email: &str) -> (String, String) {
        let body = json!({"email": email, "password": "password-1", "passwordConfirm": "password-1"});
        let user = self.app.done("POST", "/api/collections/users/records", &body);
        (user["id"].as_str().unwrap().to_owned(), self.app.sign_in("users", email))
    }

    fn change_password(&self, user: &str) {
        let body = json!({"password": "password-2", "passwordConfirm": "password-2"});
        self.app.done("PATCH", &format!("/api/collections/users/records/{user}"), &body);
    }
}

/// An answer without what is another each time.
fn comparable(answer: &Response) -> (Vec<String>, String) {
    let mut lines: Vec<String> = answer.head.lines().map(str::to_lowercase).collect();
    lines.retain(|line| !line.starts_with("date:") && !line.starts_with("x-request-id:"));
    lines.sort();
    (lines, answer.text())
}

#[test]
fn a_gateway_node_answers_as_one_process_does() {
    let pair = Pair::start();
    let public = pair.app.server.folder().join("gs_public");
    std::fs::create_dir_all(public.join("internal")).unwrap();
    std::fs::write(public.join("page.html"), "x".repeat(4_000)).unwrap();
    std::fs::write(public.join("internal/events"), "a file").unwrap();
    pair.app.collection("cats", &json!([{"name": "name", "type": "text"}]));
    for name in ["a", "b"] {
        pair.app.done("POST", "/api/collections/cats/records", &json!({"name": name.repeat(3_000)}));
    }
    let (id, user) = pair.user("a@acme.test");
    let own = format!("/api/collections/users/records/{id}");
    let root = pair.app.root.clone();
    for (method, target, headers) in [
        ("GET", "/api/health", vec![]),
        ("HEAD", "/api/health", vec![]),
        ("GET", "/api/health", vec![root.as_str(), "X-Forwarded-For: 10.1.1.1"]),
        ("GET", "/api/health", vec!["Origin: https://a.example"]),
        ("OPTIONS", "/api/health", vec!["Origin: https://a.example", "Access-Control-Request-Headers: x"]),
        ("GET", "/api//health/../x?y=%20", vec![]),
        ("GET", "/api/nope", vec![]),
        ("PUT", "/api/health", vec![]),
        ("GET", "/api/collections/cats/records?filter=name~'a'", vec!["Accept-Encoding: gzip, br"]),
        ("HEAD", "/api/collections/cats/records", vec!["Accept-Encoding: gzip"]),
        ("GET", "/api/collections/cats/records?filter=(", vec![]),
        ("GET", own.as_str(), vec![]),
        ("GET", own.as_str(), vec![user.as_str()]),
        ("GET", own.as_str(), vec!["Authorization: nonsense"]),
        ("GET", "/api/settings", vec![user.as_str()]),
        ("GET", "/page.html", vec!["Accept-Encoding: br"]),
        ("HEAD", "/page.html", vec![]),
        ("GET", "/page.html", vec!["Range: bytes=5-9"]),
        // A file, and nothing that nodes ask of each other.
        ("GET", "/internal/events", vec![user.as_str()]),
        ("GET", "/internal/caller", vec![user.as_str()]),
    ] {
        let direct = pair.app.server.request(method, target, &headers);
        let through = pair.gateway.request(method, target, &headers);
        assert_ne!(direct.status, 0, "{method} {target}");
        assert_eq!(comparable(&through), comparable(&direct), "{method} {target} {headers:?}");
    }
}

#[test]
fn a_gateway_node_tells_of_the_services_as_of_a_pool() {
    let pair = Pair::start();
    assert_eq!(pair.gateway.request("GET", "/api/health", &[]).status, 200);
    let metrics = read_management(&pair.gateway, "/metrics");
    let value = |series: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series} in {metrics}")).trim().parse().unwrap()
    };
    let of_services =
        |name: &str| value(&format!("groundswell_upstream_{name}{{upstream=\"gateway.services\"}}"));
    assert_eq!((of_services("servers"), of_services("servers_healthy")), (1, 1));
    let answered = "groundswell_upstream_tries_total{upstream=\"gateway.services\",outcome=\"answered\"}";
    assert!(value(answered) >= 1);
    assert!(of_services("connections") >= 1);
}

#[test]
fn the_internal_listener_takes_only_what_a_node_signed() {
    let pair = Pair::start();
    let (id, user) = pair.user("a@acme.test");
    let own = format!("/api/collections/users/records/{id}");
    let ask = |target: &str, headers: &[&str]| {
        let mut stream = crate::server::connect(&pair.internal);
        stream.write_all(&crate::server::request("GET", target, headers)).unwrap();
        crate::server::read_response(&mut stream)
    };
    for target in ["/api/health", &own, "/internal/events", "/internal/caller"] {
        for forged in [vec![], vec!["X-Groundswell-Signed-Caller: AAAA"], vec![user.as_str()]] {
            let answer = ask(target, &forged);
            assert_eq!(answer.status, 401, "{target}: {}", answer.text());
            assert_eq!(json_of(&answer)["status"], 401);
        }
    }
    // What a client says of himself is replaced.
    let forged = pair.gateway.request("GET", &own, &["X-Groundswell-Signed-Caller: AAAA"]);
    assert_eq!(forged.status, 404, "{}", forged.text());
    assert_eq!(pair.gateway.request("GET", &own, &[&user, "X-Groundswell-Signed-Caller: AAAA"]).status, 200);
    // A gateway with another key is nobody.
    let config = gateway_config(&pair.internal, "").replace(KEY, &"ab".repeat(32));
    let stranger = gateway(config);
    let answer = stranger.get("/api/health");
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1".to_owned()));
}

#[test]
fn a_revoked_user_is_refused_at_once_by_the_services_and_within_a_second_by_routes() {
    let echo = echo();
    let pair = Pair::start_with(&format!(
        "[gateway.upstreams.echo]\nservers = [\"http://{echo}\"]\n\
         [[gateway.routes]]\npath = \"/must/\"\nupstream = \"echo\"\nauth = \"required\"\n"
    ));
    let (id, user) = pair.user("a@acme.test");
    let own = format!("/api/collections/users/records/{id}");
    for _ in 0..3 {
        assert_eq!(pair.gateway.request("GET", &own, &[&user]).status, 200);
        assert_eq!(pair.gateway.request("GET", "/must/", &[&user]).status, 200);
    }
    // The server behind the route is told by a token that the services signed.
    let told = pair.gateway.request("GET", "/must/", &[&user]).text().to_lowercase();
    assert!(told.contains("authorization: bearer ") && !told.contains(&user.to_lowercase()), "{told}");
    assert_eq!(pair.gateway.get("/api/gs/jwks").status, 200);
    pair.change_password(&id);
    let revoked = Instant::now();
    assert_eq!(pair.gateway.request("GET", &own, &[&user]).status, 404);
    wait_until("the refusal", || pair.gateway.request("GET", "/must/", &[&user]).status == 401);
    let took = revoked.elapsed();
    println!("a revoked user was refused by a route of the gateway after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn settings_hold_through_a_gateway_from_the_moment_they_are_saved() {
    let pair = Pair::start();
    let via = |target: &str, headers: &[&str]| pair.gateway.request("GET", target, headers);
    let root = pair.app.root.clone();
    pair.app.done("PATCH", "/api/settings", &json!({"trustedProxy": {"headers": ["X-Client"]}}));
    let health = json_of(&via("/api/health", &[&root, "X-Client: 10.2.3.4"]));
    assert_eq!(health["data"]["realIP"], "10.2.3.4");
    let limits = json!({"rateLimits": {"enabled": true, "rules": [
        {"label": "/api/nope", "maxRequests": 2, "duration": 100_000}
    ]}});
    pair.app.done("PATCH", "/api/settings", &limits);
    // Whichever door they come by.
    let statuses = [
        via("/api/nope", &[]).status,
        pair.app.server.get("/api/nope").status,
        via("/api/nope", &[]).status,
        pair.app.server.get("/api/nope").status,
    ];
    assert_eq!(statuses, [404, 404, 429, 429]);
    pair.app.done("PATCH", "/api/settings", &json!({"superuserIPs": ["127.0.0.1"]}));
    assert_eq!(via("/api/settings", &[&root]).status, 200);
    let refused = via("/api/settings", &[&root, "X-Client: 10.2.3.4"]);
    assert_eq!((refused.status, refused.header("x-content-type-options")), (403, String::new()));
}

#[test]
fn realtime_passes_through_a_gateway() {
    let pair = Pair::start();
    pair.app.collection("cats", &json!([{"name": "name", "type": "text"}]));
    let (mut stream, head, id) = open(&pair.gateway);
    assert!(head.contains("content-type: text/event-stream") && !head.contains("content-encoding"), "{head}");
    let body = json!({"clientId": id, "subscriptions": ["cats/*"]}).to_string();
    assert_eq!(pair.gateway.send_json("POST", "/api/realtime", &[], &body).status, 204);
    pair.app.done("POST", "/api/collections/cats/records", &json!({"name": "tom"}));
    read_until(&mut stream, &mut String::new(), "\"name\":\"tom\"");
}

#[test]
fn bodies_stream_through_both_nodes() {
    let pair = Pair::start();
    pair.app
        .collection("docs", &json!([{"name": "file", "type": "file", "maxSize": 100 << 20, "maxSelect": 1}]));
    let bytes = crate::app::pattern(30 << 20);
    let App { server, root } = pair.app;
    let through = App { server: pair.gateway, root };
    let record = through.create("docs", &[crate::app::file("file", "a.bin", &bytes)]);
    let target = App::file_target(&record, "file");
    assert!(through.server.get(&target).body == bytes);
    let part = through.server.request("GET", &target, &["Range: bytes=1000000-1000009"]);
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[1_000_000..1_000_010]));
    drop(server);
}

#[test]
fn without_the_services_a_gateway_says_so_at_once_and_recovers_by_itself() {
    let pair = Pair::start();
    let (id, user) = pair.user("a@acme.test");
    let own = format!("/api/collections/users/records/{id}");
    assert_eq!(pair.gateway.request("GET", &own, &[&user]).status, 200);
    let ready = |gateway: &Server| {
        let mut stream = crate::server::connect(&gateway.management);
        stream.write_all(&crate::server::request("GET", "/readyz", &[])).unwrap();
        crate::server::read_response(&mut stream)
    };
    assert_eq!(ready(&pair.gateway).status, 200);
    pair.app.server.signal("KILL");
    wait_until("the loss", || pair.gateway.get("/api/health").status == 503);
    let asked = Instant::now();
    let answer = pair.gateway.request("GET", &own, &[&user]);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1".to_owned()));
    assert_eq!(json_of(&answer)["status"], 503);
    wait_until("the word", || ready(&pair.gateway).text() == "the services are out of reach\n");
    let pair = pair.restart_services();
    let back = Instant::now();
    wait_until("the return", || pair.gateway.request("GET", &own, &[&user]).status == 200);
    println!("requests went on {:?} after the services were back", back.elapsed());
    assert_eq!(ready(&pair.gateway).status, 200);
}

#[test]
fn a_node_that_hangs_costs_nobody_more_than_a_moment() {
    let pair = Pair::start();
    assert_eq!(pair.gateway.get("/api/health").status, 200);
    pair.app.server.signal("STOP");
    // From here on new requests are answered at once. Those that are at the node wait for it.
    let deadline = Instant::now() + Duration::from_secs(10);
    let late = thread::scope(|scope| {
        let asks: Vec<_> = (0..12)
            .map(|_| {
                thread::sleep(Duration::from_millis(250));
                scope.spawn(|| {
                    let asked = Instant::now();
                    (pair.gateway.get("/api/health").status, asked.elapsed())
                })
            })
            .collect();
        pair.app.server.signal("CONT");
        asks.into_iter().map(|ask| ask.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(late.iter().all(|(status, _)| matches!(status, 200 | 503)), "{late:?}");
    // The last of them may come when the node goes on already.
    let is_refused = |(status, took): &(u16, Duration)| *status == 503 && *took < Duration::from_secs(1);
    assert!(late[8..].iter().any(is_refused), "{late:?}");
    wait_until("the return", || pair.gateway.get("/api/health").status == 200);
    assert!(Instant::now() < deadline + crate::server::PATIENCE);
}

#[test]
fn under_load_every_acknowledged_write_is_there_whichever_node_is_killed() {
    let mut pair = Pair::start();
    pair.app.collection("cats", &json!([{"name": "name", "type": "text"}]));
    let config = gateway_config(&pair.internal, "");
    for dies in ["the gateway", "the services"] {
        let (is_over, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let address = pair.gateway.address.clone();
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (is_over, acknowledged, address) =
                    (is_over.clone(), acknowledged.clone(), address.clone());
                thread::spawn(move || write_until(&is_over, &acknowledged, &address))
            })
            .collect();
        let more = |count: usize| {
            let aim = acknowledged.load(Ordering::SeqCst) + count;
            wait_until("more writes", || acknowledged.load(Ordering::SeqCst) >= aim);
        };
        more(100);
        match dies {
            "the gateway" => pair.gateway.signal("KILL"),
            _ => {
                pair.app.server.signal("KILL");
                pair = pair.restart_services();
                more(100);
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let (ids, answers): (Vec<_>, Vec<_>) =
            writers.into_iter().map(|writer| writer.join().unwrap()).unzip();
        let (ids, answers) = (ids.concat(), answers.concat());
        assert!(answers.iter().all(|status| matches!(status, 0 | 502 | 503)), "{dies}: {answers:?}");
        for id in &ids {
            let target = format!("/api/collections/cats/records/{id}");
            assert_eq!(pair.app.server.get(&target).status, 200, "{dies} died, and {id} is lost");
        }
        println!("{dies} died: {} writes acknowledged, {} not answered well", ids.len(), answers.len());
        if dies == "the gateway" {
            pair.gateway = gateway(config.clone());
        }
    }
}

/// Creates records without a pause, and gives the ids of those that were acknowledged and the statuses of the rest.
fn write_until(is_over: &AtomicBool, acknowledged: &AtomicUsize, address: &str) -> (Vec<String>, Vec<u16>) {
    let (mut ids, mut others) = (Vec::new(), Vec::new());
    let body = json!({"name": "tom"}).to_string();
    let length = format!("Content-Length: {}", body.len());
    let headers = ["Content-Type: application/json", length.as_str()];
    let head = crate::server::request("POST", "/api/collections/cats/records", &headers);
    while !is_over.load(Ordering::SeqCst) {
        let Ok(mut stream) = std::net::TcpStream::connect(address) else {
            others.push(0);
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        stream.set_read_timeout(Some(crate::server::PATIENCE)).unwrap();
        let _ = stream.write_all(&[&head[..], body.as_bytes()].concat());
        let answer = crate::server::read_response(&mut stream);
        match serde_json::from_slice::<Value>(&answer.body) {
            Ok(record) if answer.status == 200 => {
                ids.push(record["id"].as_str().unwrap().to_owned());
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            _ => {
                others.push(answer.status);
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    (ids, others)
}

#[test]
fn the_services_are_replaced_behind_a_gateway_and_no_request_fails() {
    let pair = Pair::start();
    pair.app.collection("notes", &json!([{"name": "title", "type": "text"}]));
    let (id, user) = pair.user("a@acme.test");
    let own = format!("/api/collections/users/records/{id}");
    assert_eq!(pair.gateway.request("GET", &own, &[&user]).status, 200);
    let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Seen>::default());
    let address = &pair.gateway.address;
    let clients: Vec<_> = (0..4).map(|which| load(address, which < 3, &stop, &seen)).collect();
    until_created(&seen, 100);
    let second = pair.app.server.take_over_with_flags(&FLAGS);
    until_created(&seen, 100);
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(seen.failed.load(Ordering::SeqCst), 0);
    // What the new process revokes holds for the gateway, too.
    let pair = Pair { app: App { server: second, root: pair.app.root }, ..pair };
    assert_eq!(pair.gateway.request("GET", &own, &[&user]).status, 200);
    pair.change_password(&id);
    assert_eq!(pair.gateway.request("GET", &own, &[&user]).status, 404);
}

#[test]
fn a_node_of_the_services_has_no_door_for_clients() {
    let folder = tempfile::tempdir().unwrap();
    let config = services_config("127.0.0.1:0").replace("[server]", "[server]\nroles = [\"services\"]");
    std::fs::write(folder.path().join("g.toml"), config).unwrap();
    let child = groundswell(&["serve", "--config", "g.toml", "--manage", "127.0.0.1:0"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut services = Killed(child);
    let mut lines = std::io::BufReader::new(services.0.stdout.take().unwrap());
    let mut banner = String::new();
    while !banner.contains("Data:") {
        assert!(std::io::BufRead::read_line(&mut lines, &mut banner).unwrap() > 0, "{banner}");
    }
    assert!(!banner.contains("REST API") && banner.contains("Services started at http://"), "{banner}");
    let internal = between(&banner, "Services started at http://", "\n");
    let gateway = gateway(gateway_config(&internal, ""));
    assert!(!gateway.folder().join("gs_data").exists(), "a gateway has no data");
    assert_eq!(gateway.get("/api/health").status, 200);
    let refused =
        run(&gateway.folder(), &["superuser", "upsert", "a@b.de", "1234567890", "--config", "g.toml"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has no data"));
}

/// A process that ends with its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_configuration_that_does_not_fit_together_says_why() {
    let keys = format!("[nodes]\nkeys = [\"{KEY}\"]\n");
    let services = "[gateway.services]\nservers = [\"http://a:1\"]\n";
    for (config, complaint) in [
        ("[server]\nroles = [\"records\"]".to_owned(), "the services go together"),
        ("[server]\nroles = [\"gateway\"]".to_owned(), "has to know where the services are"),
        (format!("[server]\nroles = [\"gateway\"]\n{services}"), "nodes know each other by keys"),
        (format!("[server]\nroles = [\"services\"]\n{keys}"), "gateways reach the services there"),
        (
            format!("[server]\ninternal = \"127.0.0.1:0\"\nroles = [\"gateway\"]\n{keys}{services}"),
            "this one is a gateway",
        ),
        (services.to_owned(), "is for gateway nodes"),
        ("[server]\ninternal = \"127.0.0.1:0\"".to_owned(), "nodes know each other by keys"),
        ("[nodes]\nkeys = [\"hunter2\"]".to_owned(), "key 1 is not 32 bytes"),
        (
            format!("[server]\nroles = [\"gateway\"]\n{keys}[gateway.services]\ndns = \"http://a:1\""),
            "takes neither dns, srv nor health",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("g.toml"), &config).unwrap();
        let output = run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{config}: {said}");
        assert!(said.contains(complaint) && !said.contains("hunter2"), "{config}: {said}");
    }
}
