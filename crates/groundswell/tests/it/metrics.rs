//! What the management listener tells a scraper of routes, pools and refusals.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::app::wait_until;
use crate::connections::read_management;
use crate::server::Server;
use crate::upstreams::{upstream, upstream_that_says};

const SHOP: &str = "[[gateway.routes]]\nname = \"shop \\\"1\\\"\"\npath = \"/shop/\"\nupstream = \"shop\"\n";
const OLD: &str = "[[gateway.routes]]\nhost = \"old.example\"\nredirect = \"https://new.example/\"\n";

fn server(config: &str) -> Server {
    let config = config.to_owned();
    Server::start_with(
        move |folder| std::fs::write(folder.join("g.toml"), config).unwrap(),
        &["--config", "g.toml"],
    )
}

fn shop(servers: &[&str], more: &str) -> String {
    let urls: Vec<String> = servers.iter().map(|server| format!("\"http://{server}\"")).collect();
    format!("[gateway.upstreams.shop]\nservers = [{}]\n{more}\n{SHOP}{OLD}", urls.join(", "))
}

/// The samples of `/metrics`.
fn samples(server: &Server) -> BTreeMap<String, f64> {
    let text = read_management(server, "/metrics");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let lines = body.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    samples.collect()
}

#[test]
fn requests_are_counted_by_route_and_tries_by_pool() {
    let erring = upstream(|stream| {
        while crate::upstreams::read_head(stream).is_some_and(|_| crate::upstreams::reply(stream, 503, "")) {}
    });
    let server = server(&shop(&[&erring, "127.0.0.1:1"], ""));
    for _ in 0..3 {
        assert_eq!(server.get("/shop/cart").status, 503);
    }
    let host = ["Host: old.example"];
    assert_eq!(
        server.send(format!("GET /a HTTP/1.1\r\n{}\r\nConnection: close\r\n\r\n", host[0]).as_bytes()).status,
        308
    );
    server.get("/api/health");
    let samples = samples(&server);
    let is = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("no {name} in {samples:#?}"));
    let route = r#"route="shop \"1\"",upstream="shop""#;
    assert_eq!(is(&format!("groundswell_requests_total{{{route},status=\"5xx\"}}")), 3.0);
    assert_eq!(is(&format!("groundswell_request_duration_seconds_bucket{{{route},le=\"+Inf\"}}")), 3.0);
    assert_eq!(is(r#"groundswell_requests_total{route="old.example/",status="3xx"}"#), 1.0);
    assert_eq!(is(r#"groundswell_requests_total{route="services",status="2xx"}"#), 1.0);
    let tries =
        |outcome| is(&format!("groundswell_upstream_tries_total{{upstream=\"shop\",outcome=\"{outcome}\"}}"));
    assert!(tries("erred") >= 3.0 && tries("failed") >= 1.0 && tries("answered") == 0.0, "{samples:#?}");
    let retries = is(r#"groundswell_upstream_retries_total{upstream="shop"}"#);
    assert_eq!(retries, tries("erred") + tries("failed") - 3.0);
    assert_eq!(is(r#"groundswell_upstream_try_duration_seconds_count{upstream="shop"}"#), tries("erred"));
    assert_eq!(is(r#"groundswell_upstream_servers{upstream="shop"}"#), 2.0);
    assert_eq!(is(r#"groundswell_upstream_in_flight{upstream="shop"}"#), 0.0);
    assert!(is(r#"groundswell_upstream_connects_total{upstream="shop",result="failed"}"#) >= 1.0);
    assert!(is(r#"groundswell_upstream_connections{upstream="shop"}"#) >= 1.0);
}

#[test]
fn ejections_and_checks_are_counted_and_seen_in_the_servers_that_are_well() {
    let well = upstream_that_says("here");
    let server = server(&shop(&[&well, "127.0.0.1:1"], "health = { path = \"/\", every = \"10ms\" }"));
    wait_until("a server that is down", || {
        samples(&server)[r#"groundswell_upstream_servers_healthy{upstream="shop"}"#] == 1.0
    });
    let samples = samples(&server);
    assert_eq!(samples[r#"groundswell_upstream_ejections_total{upstream="shop",why="check"}"#], 1.0);
    assert!(samples[r#"groundswell_upstream_health_checks_total{upstream="shop",result="failed"}"#] >= 2.0);
    assert!(samples[r#"groundswell_upstream_health_checks_total{upstream="shop",result="passed"}"#] >= 1.0);
}

#[test]
fn what_is_no_longer_configured_is_told_of_no_more() {
    let server = server(&shop(&[&upstream_that_says("here")], ""));
    assert_eq!(server.get("/shop/").text(), "here");
    // A change of its settings does not begin the counts of a pool anew.
    let config = shop(&[&upstream_that_says("there")], "balance = \"hash\"");
    std::fs::write(server.folder().join("g.toml"), config).unwrap();
    wait_until("the new server", || server.get("/shop/").text() == "there");
    let before = samples(&server);
    assert!(before[r#"groundswell_upstream_tries_total{upstream="shop",outcome="answered"}"#] >= 2.0);
    std::fs::write(server.folder().join("g.toml"), OLD).unwrap();
    wait_until("the end of the pool", || samples(&server).keys().all(|name| !name.contains("shop")));
    let after = samples(&server);
    assert!(
        after.contains_key(r#"groundswell_requests_total{route="old.example/",status="3xx"}"#),
        "{after:#?}"
    );
}

#[test]
fn refusals_are_counted_by_their_cause() {
    let server = server(&shop(&["127.0.0.1:1"], ""));
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    assert_eq!(server.get("/shop/%2e%2e/a").status, 400);
    assert_eq!(server.send(format!("{head}Host: b\r\n\r\n").as_bytes()).status, 400);
    assert_eq!(server.get("/shop/a").status, 502);
    assert_eq!(server.get("/%zz").status, 400);
    let samples = samples(&server);
    for cause in ["leaves_route", "bad_host", "upstream_unanswered", "bad_path"] {
        assert_eq!(samples[&format!("groundswell_refused_total{{cause=\"{cause}\"}}")], 1.0, "{cause}");
    }
    assert_eq!(samples[r#"groundswell_requests_total{route="none",status="4xx"}"#], 1.0);
}

#[test]
fn heads_that_no_layer_sees_are_counted_by_their_cause() {
    let server = server(&shop(&["127.0.0.1:1"], ""));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(300));
    assert_eq!(server.send(b"GET / HTTP/1.1\r\nno header\r\n\r\n").status, 400);
    assert_eq!(server.send(many.as_bytes()).status, 431);
    let is = |cause: &str| {
        samples(&server).get(&format!("groundswell_refused_total{{cause=\"{cause}\"}}")) == Some(&1.0)
    };
    // They are counted once the connection has ended, which the client may see first.
    wait_until("the count of both", || is("bad_head") && is("head_size"));
}

/// Prometheus's own check of names, types and labels. Where there is no promtool nothing is checked.
#[test]
fn prometheus_has_nothing_to_say_about_the_metrics() {
    let Some(promtool) = promtool() else { return };
    let server = server(&shop(&[&upstream_that_says("here")], ""));
    server.get("/shop/");
    server.get("/api/health");
    let text = read_management(&server, "/metrics");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}{body}");
}

/// The one that is installed, or what `make test-tools` unpacks.
fn promtool() -> Option<PathBuf> {
    let unpacked = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/prometheus/usr/bin/promtool");
    let is_there = |program: &PathBuf| Command::new(program).arg("--version").output().is_ok();
    [PathBuf::from("promtool"), unpacked].into_iter().find(is_there)
}
