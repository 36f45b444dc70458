//! What routes accept, and the rules of `[gateway]`: what is refused, and what is told of it.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::app::wait_until;
use crate::server::{Response, Server, connect, read_response, request, run};
use crate::upstreams::{read_head, reply, upstream};

/// A server with this configuration.
fn server(config: &str) -> Server {
    let config = config.to_owned();
    Server::start_with(
        move |folder| std::fs::write(folder.join("g.toml"), config).unwrap(),
        &["--config", "g.toml"],
    )
}

/// A server that counts the bytes that it gets, and answers when a body has ended.
fn counting() -> (String, Arc<AtomicUsize>) {
    let got = Arc::<AtomicUsize>::default();
    let counted = got.clone();
    let address = upstream(move |stream| {
        while let Some(head) = read_head(stream) {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut body = Vec::new();
            while head.iter().any(|line| line.to_lowercase().contains("chunked"))
                && !body.ends_with(b"0\r\n\r\n")
            {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                body.push(byte[0]);
            }
            if !reply(stream, 200, "ok") {
                return;
            }
        }
    });
    (address, got)
}

fn in_chunks(server: &Server, target: &str, pieces: usize) -> Response {
    let mut stream = server.connect();
    let headers = ["Transfer-Encoding: chunked", "Content-Type: application/json"];
    stream.write_all(&request("POST", target, &headers)).unwrap();
    for _ in 0..pieces {
        // It may be refused before all is sent.
        let _ = stream.write_all(&[b"400\r\n".to_vec(), vec![b' '; 1024], b"\r\n".to_vec()].concat());
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    read_response(&mut stream)
}

#[test]
fn a_route_takes_its_methods_types_and_sizes_alone() {
    let (address, got) = counting();
    let server = server(&format!(
        "[gateway.upstreams.pool]\nservers = [\"http://{address}\"]\n[[gateway.routes]]\npath = \"/shop/\"\nupstream = \"pool\"\n\
         allow_methods = [\"GET\", \"POST\"]\ncontent_types = [\"application/json\"]\nmax_body = \"4KiB\"\nmax_target = 40\n"
    ));
    let refused = server.request("DELETE", "/shop/x", &[]);
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, POST, HEAD".to_owned()));
    assert!(refused.text().starts_with("{\"data\":{},\"message\":"), "{}", refused.text());
    for (headers, status) in [
        (["Content-Type: text/html", "Content-Length: 2"], 415),
        (["X: y", "Content-Length: 2"], 415),
        (["Content-Type: application/json", "Content-Length: 4097"], 413),
    ] {
        assert_eq!(server.request("POST", "/shop/x", &headers).status, status, "{headers:?}");
    }
    let long = format!("/shop/{}", "x".repeat(35));
    assert_eq!(server.request("GET", &long, &[]).status, 414);
    assert_eq!(got.load(Ordering::SeqCst), 0, "none of it reached the server");
    assert_eq!(server.get("/shop/x").status, 200);
    assert_eq!(server.request("TRACE", "/shop/x", &[]).status, 405);
    assert_eq!(in_chunks(&server, "/shop/x", 4).status, 200);
    got.store(0, Ordering::SeqCst);
    assert_eq!(in_chunks(&server, "/shop/x", 1000).status, 413);
    assert!(got.load(Ordering::SeqCst) < 6 << 10, "{} bytes were passed on", got.load(Ordering::SeqCst));
    assert_eq!(server.get("/shop/x").status, 200);
}

#[test]
fn a_route_to_the_services_may_bound_them() {
    let server = server(
        "[[gateway.routes]]\npath = \"/api/collections/\"\nservices = true\nmax_body = \"2KiB\"\n\
         [[gateway.routes]]\npath = \"/api/health\"\nservices = true\nallow_methods = [\"HEAD\"]\n",
    );
    let target = "/api/collections/users/auth-with-password";
    assert_eq!(in_chunks(&server, target, 2).status, 400, "the body is taken, and has nothing in it");
    assert_eq!(in_chunks(&server, target, 3).status, 413);
    let refused = server.request("POST", target, &["Content-Length: 2049"]);
    assert_eq!(refused.status, 413);
    assert_eq!(server.get("/api/health").status, 405);
    assert_eq!(server.request("HEAD", "/api/health", &[]).status, 200);
    assert_eq!(in_chunks(&server, "/api/batch", 3).status, 403, "what has no route has no bound of its own");
}

#[test]
fn what_a_route_cannot_accept_is_a_wrong_configuration() {
    for (line, complaint) in [
        ("allow_methods = [\"get\"]", "\"get\" is not right; write methods such as GET"),
        ("allow_methods = []", "must name one"),
        ("content_types = [\"json\"]", "\"json\" is not right; write types such as application/json"),
        ("max_body = \"1MB\"", "write a number of bytes such as 64KiB"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("[[gateway.routes]]\npath = \"/\"\nservices = true\n{line}\n");
        std::fs::write(folder.path().join("g.toml"), config).unwrap();
        let output = run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}

const RULES: &str = r#"
[log]
access = "access.log"

[gateway.checks]
scanners = "block"
except = ["probe.wordpress"]

[[gateway.rules]]
name = "admin"
when = 'path starts_with "/admin" and not ip in ["10.0.0.0/8"]'
action = "block"

[[gateway.rules]]
name = "odd-agent"
when = 'lower(header["user-agent"]) contains "curl"'
action = "log"

[[gateway.rules]]
name = "slow-down"
when = 'path == "/api/health" and query contains "slow"'
action = "challenge"
retry_after = "7s"
"#;

#[test]
fn rules_hold_for_the_services_and_for_routes_and_each_block_is_told_of() {
    let (address, got) = counting();
    let routes = format!(
        "[gateway.upstreams.pool]\nservers = [\"http://{address}\"]\n[[gateway.routes]]\npath = \"/shop/\"\nupstream = \"pool\"\n"
    );
    let server = server(&format!("{RULES}{routes}"));
    let blocked = server.get("/%61dmin/x?token=secret");
    assert_eq!(blocked.status, 403);
    assert!(blocked.text().starts_with("{\"data\":{},\"message\":"), "{}", blocked.text());
    assert!(!blocked.header("x-request-id").is_empty());
    let challenged = server.get("/api/health?slow");
    assert_eq!((challenged.status, challenged.header("retry-after")), (429, "7".to_owned()));
    assert_eq!(server.request("GET", "/api/health", &["User-Agent: cURL/8"]).status, 200);
    assert_eq!(server.get("/shop/.git/config").status, 403);
    assert_eq!(server.get("/shop/wp-login.php").status, 200, "it is left out");
    assert_eq!(server.request("GET", "/shop/x", &["User-Agent: sqlmap/1"]).status, 403);
    assert_eq!(got.load(Ordering::SeqCst), 1);

    let metrics = metrics(&server);
    for (rule, action) in [
        ("admin", "block"),
        ("slow-down", "challenge"),
        ("odd-agent", "log"),
        ("probe.dotfiles", "block"),
        ("scanner.user-agent", "block"),
    ] {
        let line = format!("groundswell_gateway_rule_matches_total{{rule=\"{rule}\",action=\"{action}\"}} 1");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    assert!(metrics.contains("groundswell_refused_total{cause=\"rule\"} 4"), "{metrics}");
    let file = server.folder().join("access.log");
    let read = || std::fs::read_to_string(&file).unwrap();
    wait_until("six lines", || read().lines().count() == 6);
    for (path, rest) in [
        ("/%61dmin/x", "\"refused\":\"rule\",\"rule\":\"admin\""),
        ("/api/health", "\"noted\":\"odd-agent\""),
        ("/shop/.git/config", "\"refused\":\"rule\",\"rule\":\"probe.dotfiles\""),
    ] {
        let log = read();
        let mut lines = log.lines().filter(|line| line.contains(&format!("\"path\":\"{path}\"")));
        assert!(lines.any(|line| line.contains(rest)), "{path}: {log}");
    }
    assert!(!read().contains("secret"));
}

#[test]
fn rules_are_taken_anew_while_the_server_runs_and_wrong_ones_refused() {
    let server = server(RULES);
    let file = server.folder().join("g.toml");
    let write = |config: &str| {
        std::fs::write(server.folder().join("next.toml"), config).unwrap();
        std::fs::rename(server.folder().join("next.toml"), &file).unwrap();
    };
    assert_eq!(server.get("/admin").status, 403);
    write("[[gateway.rules]]\nname = \"all\"\nwhen = \"path is\"\naction = \"block\"\n");
    server.signal("HUP");
    write(&RULES.replace("/admin", "/other"));
    wait_until("the new rule", || server.get("/other").status == 403);
    assert_eq!(server.get("/admin").status, 404);
}

#[test]
fn a_wrong_rule_is_told_with_its_place() {
    let rule = |lines: &str| format!("[[gateway.rules]]\nname = \"a\"\naction = \"block\"\n{lines}\n");
    for (config, complaint) in [
        (
            rule("when = 'path begins \"/\"'"),
            "at character 6: \"begins\" is not right here; write ==, !=, contains",
        ),
        (rule(""), "gateway.rules.when: is missing; write a condition"),
        (rule("when = 'path == \"/\"'\nretry_after = \"3s\""), "is for action = \"challenge\" alone"),
        (rule("when = 'path == \"/\"'\nstatus = 404"), "unknown key"),
        (format!("{0}{0}", rule("when = 'path == \"/\"'")), "another rule is called \"a\""),
        (
            rule("when = 'path == \"/\"'").replace("\"a\"", "\"probe.php\""),
            "another rule is called \"probe.php\"",
        ),
        ("[gateway.checks]\nscanners = \"on\"\n".to_owned(), "\"on\" is not right; write off, log or block"),
        ("[gateway.checks]\nexcept = [\"php\"]\n".to_owned(), "write names such as probe.wordpress"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("g.toml"), &config).unwrap();
        let output = run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{config}: {said}");
        assert!(said.contains(complaint), "{config}: {said}");
    }
}

#[test]
fn printed_rules_can_be_read_again_and_hide_what_headers_are_compared_with() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("g.toml"), RULES.replace("curl", "s3cret")).unwrap();
    let print = |file: &str| {
        let output = run(folder.path(), &["serve", "--config", file, "--print-config"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = print("g.toml");
    assert!(
        printed.contains("except = [\"probe.wordpress\"]") && printed.contains("retry_after = \"7s\""),
        "{printed}"
    );
    assert!(!printed.contains("s3cret"), "{printed}");
    std::fs::write(folder.path().join("again.toml"), &printed).unwrap();
    let is_shown = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let again = print("again.toml");
    assert!(again.lines().filter(is_shown).eq(printed.lines().filter(is_shown)), "{again}");
}

fn metrics(server: &Server) -> String {
    let mut stream = connect(&server.management);
    stream.write_all(&request("GET", "/metrics", &[])).unwrap();
    read_response(&mut stream).text()
}
