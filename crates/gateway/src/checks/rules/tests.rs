use std::net::SocketAddr;

use super::*;
use crate::net::Transport;

fn request(method: &str, target: &str, lines: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer = Peer::new(SocketAddr::from(([10, 1, 2, 3], 9)), Transport::Plain);
    request.extensions_mut().insert(peer);
    request
}

fn holds(condition: &str, request: &Request<Body>) -> bool {
    let condition: Condition = condition.parse().unwrap_or_else(|error| panic!("{condition}: {error}"));
    condition.holds(&Head::of(request))
}

#[test]
fn a_condition_says_which_requests_it_fits() {
    let lines = [
        ("host", "App.example:80"),
        ("user-agent", "SQLmap/1.0"),
        ("x-two", "one"),
        ("x-two", "two"),
        ("cookie", "12345"),
    ];
    let asked = request("POST", "/a%20b/%2e%2e/C.php?q=%2e", &lines);
    for condition in [
        "method == \"POST\"",
        "method != 'GET'",
        "method in [\"GET\", \"POST\"]",
        "path == \"/a b/../C.php\"",
        "raw_path starts_with \"/a%20b\"",
        "path ends_with \".php\"",
        "lower(path) ends_with \"/c.php\"",
        "query == \"q=%2e\"",
        "host == \"app.EXAMPLE\"",
        "host in ['b', 'app.example']",
        "header[\"User-Agent\"] contains \"SQL\"",
        "lower(header['user-agent']) contains 'sqlmap'",
        "lower(header['user-agent']) matches '^sqlmap/[0-9.]+$'",
        "header['x-two'] == 'two'",
        "not header['x-two'] != 'one'",
        "header['missing'] == ''",
        "header['missing'] != 'x'",
        "ip in '10.0.0.0/8'",
        "ip == '10.1.2.3' and ip != '10.1.2.4'",
        "ip in ['::1', '10.1.2.0/24']",
        "length(path) == 13 and length(raw_path) > 13",
        "length(header['x-two']) <= 6 and length(header['x-two']) >= 6 and length(header['no']) < 1",
        "length(query) != 4",
        "path == 'x' or path contains 'b' and method == 'POST'",
        "not (path == 'x' or method == 'GET') and not not host != 'z'",
        "path matches 'b/\\.\\./C'",
    ] {
        assert!(holds(condition, &asked), "{condition}");
        assert!(!holds(&format!("not ({condition})"), &asked), "{condition}");
    }
}

#[test]
fn what_is_no_condition_says_where_and_what_to_write() {
    for (condition, expected) in [
        ("", "at character 1: the end is not right here; write method, path, raw_path"),
        ("path", "at character 5: the end is not right here; write ==, !=, contains"),
        ("path begins \"/\"", "at character 6: \"begins\" is not right here; write ==, !=, contains"),
        ("path == /x", "at character 9: '/' stands for nothing"),
        ("path == 5", "at character 9: 5 is not right here; write a text between quotes"),
        (
            "path == \"a\" \"b\"",
            "at character 13: the text \"b\" is not right here; write and, or, or nothing",
        ),
        ("(path == \"a\"", "at character 13: the end is not right here; write \")\""),
        ("header[\"a b\"] == \"\"", "at character 8: \"a b\" is no header"),
        ("header == \"\"", "at character 8: \"==\" is not right here; write \"[\""),
        ("length(ip) > 3", "at character 8: \"ip\" is not right here"),
        ("length(path) > \"3\"", "at character 16: the text \"3\" is not right here; write a number"),
        ("length(path) contains 3", "at character 14: \"contains\" is not right here; write ==, !=, <"),
        ("ip in \"10.0.0.0/99\"", "at character 7: \"10.0.0.0/99\" is no address"),
        ("ip contains \"10.\"", "at character 4: \"contains\" is not right here; write in, == or !="),
        (
            "lower(path) contains \"A\"",
            "at character 22: lower(…) has no capitals, and \"A\" has; write \"a\"",
        ),
        ("path contains \"\"", "at character 15: an empty text stands in every other"),
        ("path matches \"(\"", "at character 14: the pattern cannot be read: unclosed group"),
        ("path matches \"\\w{1000}{100}\"", "at character 14: the pattern is too large"),
        ("path in []", "at character 10: \"]\" is not right here; write a text"),
    ] {
        let error = condition.parse::<Condition>().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{condition}: {error}");
    }
    let deep = format!("{}path == \"a\"", "not ".repeat(40));
    assert!(deep.parse::<Condition>().unwrap_err().message.contains("nested deeper"));
    let deep = format!("{}path == \"a\"{}", "(".repeat(31), ")".repeat(31));
    assert!(deep.parse::<Condition>().is_ok());
}

fn rule(name: &str, when: &str, action: RuleAction) -> Rule {
    Rule { name: name.to_owned(), when: when.parse().unwrap(), action }
}

#[test]
fn the_first_rule_that_stops_a_request_decides_and_one_that_logs_does_not() {
    let wait = Duration::from_secs(7);
    let rules = Rules::new(vec![
        rule("noted", "path starts_with '/a'", RuleAction::Log),
        rule("noted-too", "path starts_with '/a'", RuleAction::Log),
        rule("challenged", "path == '/a/b'", RuleAction::Challenge(wait)),
        rule("blocked", "path starts_with '/a/'", RuleAction::Block),
    ])
    .unwrap();
    let judged = |target: &str| {
        let mut request = request("GET", target, &[]);
        let stop = rules.judge(&mut request);
        let noted = request.extensions().get::<Noted>().map(|noted| noted.0.to_string());
        let response = stop.map(Stop::into_response);
        let refusal = response.as_ref().and_then(|response| response.extensions().get::<Refusal>()).cloned();
        (noted, response.map(|response| response.status().as_u16()), refusal.and_then(|refusal| refusal.rule))
    };
    assert_eq!(judged("/x"), (None, None, None));
    assert_eq!(judged("/a"), (Some("noted".to_owned()), None, None));
    assert_eq!(judged("/a/b"), (Some("noted".to_owned()), Some(429), Some("challenged".into())));
    assert_eq!(judged("/a/c"), (Some("noted".to_owned()), Some(403), Some("blocked".into())));
    let response = rules.judge(&mut request("GET", "/a/b", &[])).unwrap().into_response();
    assert_eq!(response.headers()["retry-after"], "7");
    assert!(Rules::new(Vec::new()).is_none());
}

fn fitting(target: &str, lines: &[(&str, &str)]) -> Vec<String> {
    let mut request = request("GET", target, lines);
    let rules = Scanners::Block.rules(&[]);
    assert_eq!(rules.len(), scanner_names().count(), "all can be read");
    let _ = &mut request;
    let head = Head::of(&request);
    rules.into_iter().filter(|rule| rule.when.holds(&head)).map(|rule| rule.name).collect()
}

#[test]
fn probes_are_known() {
    for (target, agent, rule) in [
        ("/", "sqlmap/1.7.2#stable (https://sqlmap.org)", "scanner.user-agent"),
        ("/api/health", "Mozilla/5.00 (Nikto/2.1.6)", "scanner.user-agent"),
        (
            "/",
            "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)",
            "scanner.user-agent",
        ),
        ("/.env", "", "probe.dotfiles"),
        ("/app/.git/config", "", "probe.dotfiles"),
        ("/%2Eenv.local", "", "probe.dotfiles"),
        ("/phpMyAdmin/", "", "probe.php"),
        ("/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", "", "probe.php"),
        ("/wp-login.php", "", "probe.wordpress"),
        ("/blog/xmlrpc.php?rsd", "", "probe.wordpress"),
        ("/cgi-bin/luci/;stok=/locale", "", "probe.devices"),
        ("/actuator/heapdump", "", "probe.devices"),
        ("/static/..%2f..%2fetc/passwd", "", "probe.traversal"),
        ("/static/%2e%2e/%2e%2e/etc/passwd", "", "probe.traversal"),
        ("/static/%252e%252e%252fetc", "", "probe.traversal"),
        ("/", "${jndi:ldap://x/a}", "probe.jndi"),
    ] {
        assert_eq!(fitting(target, &[("user-agent", agent)]), [rule], "{target} {agent}");
    }
}

#[test]
fn ordinary_requests_are_no_probes() {
    for (target, agent) in [
        ("/", "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"),
        ("/", "curl/8.5.0"),
        ("/", "python-httpx/0.27"),
        ("/", "Go-http-client/2.0"),
        ("/", ""),
        ("/.well-known/acme-challenge/x", ""),
        ("/.well-known/security.txt", ""),
        ("/environment/.envoy", ""),
        ("/blog/how-to-write-a-.gitignore", ""),
        ("/index.php", ""),
        ("/wp", ""),
        ("/a..b/c", ""),
        ("/a%20b/%C3%A9", ""),
        ("/actuator/health", ""),
        ("/shop?next=../../cart&q=/etc/passwd&x=.env", ""),
        ("/api/collections/posts/records?filter=title~'../../.env'", ""),
        ("/api/collections/posts/records/wp-login.php", ""),
        ("/api/files/posts/abc/.env", ""),
        ("/api/files/posts/abc/..%2f..%2fx", ""),
        ("/_/", ""),
    ] {
        assert_eq!(fitting(target, &[("user-agent", agent)]), Vec::<String>::new(), "{target} {agent}");
    }
}

/// Not a test but a measure: `cargo test --release -p gateway -- --ignored --nocapture cost_of_rules`.
#[test]
#[ignore = "prints what rules cost"]
#[allow(clippy::print_stdout, reason = "that is what it is for")]
fn cost_of_rules() {
    let lines = [
        ("host", "app.example"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
        ),
        ("accept", "*/*"),
        ("authorization", "Bearer x"),
    ];
    let own = vec![
        rule(
            "own",
            "path starts_with '/admin' and not ip in ['192.168.0.0/16', '127.0.0.1']",
            RuleAction::Block,
        ),
        rule("long", "length(query) > 4000 or length(header['cookie']) > 8000", RuleAction::Block),
    ];
    for (what, rules) in
        [("no rules", Vec::new()), ("two rules", own), ("the built-in scanners", Scanners::Block.rules(&[]))]
    {
        let rules = arc_swap::ArcSwapOption::from(Rules::new(rules).map(Arc::new));
        for target in
            ["/api/collections/posts/records?page=1&filter=(a=1)", "/blog/2024/a-page", "/blog/a%20b"]
        {
            let mut request = request("GET", target, &lines);
            let rounds = 200_000;
            let started = std::time::Instant::now();
            for _ in 0..rounds {
                let rules = rules.load();
                let stop = rules.as_ref().and_then(|rules| rules.judge(std::hint::black_box(&mut request)));
                assert!(std::hint::black_box(stop).is_none());
            }
            println!("{what}, {target}: {} ns", started.elapsed().as_nanos() / rounds);
        }
    }
}
