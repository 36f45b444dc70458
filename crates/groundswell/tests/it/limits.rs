//! The limits of requests that the settings have.

use serde_json::{Value, json};

use crate::app::{App, json_of};

/// A window that no test outlives: the clock has one second a time, and windows begin with the first request.
const LONG: u32 = 100_000;

fn limit(app: &App, rules: &[(&str, u32)]) {
    let rule = |(label, most): &(&str, u32)| json!({"label": label, "maxRequests": most, "duration": LONG});
    let rules: Vec<Value> = rules.iter().map(rule).collect();
    let limits = json!({"rateLimits": {"enabled": true, "rules": rules}, "batch": {"enabled": true}});
    app.done("PATCH", "/api/settings", &limits);
}

fn statuses(app: &App, target: &str, times: usize) -> Vec<u16> {
    (0..times).map(|_| app.server.get(target).status).collect()
}

#[test]
fn one_request_too_many_is_answered_429_and_superusers_go_on() {
    let app = App::start();
    assert_eq!(statuses(&app, "/api/health", 3), [200, 200, 200]);
    limit(&app, &[("/api/", 2)]);
    assert_eq!(statuses(&app, "/api/health", 3), [200, 200, 429]);
    let refused = app.server.get("/api/nope");
    assert_eq!(json_of(&refused), json!({"data": {}, "message": "Too Many Requests.", "status": 429}));
    assert_eq!(refused.header("x-content-type-options"), "nosniff");
    app.done("GET", "/api/health", &json!({}));
    assert_eq!(app.server.get("/elsewhere").status, 404);
}

/// A connection is served by one loop, and every request here has a connection of its own.
#[test]
fn all_request_loops_count_together() {
    let app = App::start_with_env(&[("GROUNDSWELL__SERVER__REQUEST_LOOPS", "4")]);
    limit(&app, &[("/api/health", 20)]);
    let open: Vec<_> = (0..8).map(|_| app.server.connect()).collect();
    let answers = statuses(&app, "/api/health", 30);
    drop(open);
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 20);
}

#[test]
fn saved_settings_begin_anew_and_a_restart_keeps_the_limits() {
    let app = App::start();
    limit(&app, &[("/api/health", 1)]);
    assert_eq!(statuses(&app, "/api/health", 2), [200, 429]);
    limit(&app, &[("/api/health", 1)]);
    assert_eq!(statuses(&app, "/api/health", 2), [200, 429]);
    let app = app.restart_with_env(&[]);
    assert_eq!(statuses(&app, "/api/health", 2), [200, 429]);
    app.done("PATCH", "/api/settings", &json!({"rateLimits": {"enabled": false}}));
    assert_eq!(statuses(&app, "/api/health", 2), [200, 200]);
}

#[test]
fn requests_of_a_batch_are_counted_whatever_address_they_claim() {
    let app = App::start();
    app.collection("cats", &json!([{"name": "name", "type": "text"}]));
    limit(&app, &[("cats:create", 2)]);
    app.done("PATCH", "/api/settings", &json!({"trustedProxy": {"headers": ["X-Client"]}}));
    let create = |address: &str| {
        let url = "/api/collections/cats/records";
        json!({"method": "POST", "url": url, "headers": {"X-Client": address}, "body": {}})
    };
    let send = |requests: &[Value]| {
        let body = json!({"requests": requests}).to_string();
        app.server.send_json("POST", "/api/batch", &[], &body)
    };
    let failed = send(&[create("10.0.0.1"), create("10.0.0.2"), create("10.0.0.3")]);
    assert_eq!(failed.status, 400, "{}", failed.text());
    let answer = &json_of(&failed)["data"]["requests"]["2"]["response"];
    assert_eq!(answer, &json!({"data": {}, "message": "Too Many Requests.", "status": 429}));
    let all = app.server.get("/api/collections/cats/records");
    assert_eq!(json_of(&all)["totalItems"], 0);
}
