//! Several writes as one: all or none, also of their files.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, Part, file, json_of, pattern, value, wait_until};
use crate::server::Response;

const MIB: u64 = 1 << 20;

#[test]
fn a_batch_takes_files_with_its_requests() {
    let app = notes();
    let (large, small) = (pattern(3 << 20), b"small".as_slice());
    let requests = json!([
        create(&json!({"title": "one"})),
        create(&json!({"id": "note00000000002", "title": "two"})),
        {"method": "PATCH", "url": "/api/collections/notes/records/note00000000002", "body": {"title": "changed"}}
    ]);
    let parts = [
        file("requests.0.doc", "large.bin", &large),
        file("requests[1].doc", "small.txt", small),
        file("requests.2.pages", "a.txt", b"a"),
        file("requests[2].pages+", "b.txt", b"b"),
    ];
    let answer = send(&app, &requests, &parts);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answers = json_of(&answer);
    let file_of = |position: usize, field: &str| {
        let record = &answers[position]["body"];
        app.server.get(&App::file_target(record, field)).body
    };
    assert!(file_of(0, "doc") == large);
    assert_eq!(file_of(1, "doc"), small);
    let changed = &answers[2]["body"];
    assert_eq!((&changed["title"], &changed["doc"]), (&json!("changed"), &answers[1]["body"]["doc"]));
    let pages: Vec<Vec<u8>> = changed["pages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| {
            let path = format!("/api/files/notes/note00000000002/{}", name.as_str().unwrap());
            app.server.get(&path).body
        })
        .collect();
    assert_eq!(pages, [b"a", b"b"]);
    assert_eq!(app.stored().len(), 4);
}

#[test]
fn a_batch_that_fails_leaves_no_record_and_no_file() {
    let app = notes();
    let kept = json_of(&send(
        &app,
        &json!([create(&json!({"title": "kept"}))]),
        &[file("requests.0.doc", "a", b"kept")],
    ));
    let kept = &kept[0]["body"];
    let path = format!("/api/collections/notes/records/{}", kept["id"].as_str().unwrap());
    let stored = app.stored();
    let large = pattern(1 << 20);
    let lasts = [
        create(&json!({"title": "much too long"})),
        create(&json!({"title": "denied"})),
        create(&json!({"title": "first"})),
        create(&json!({"id": "no"})),
        json!({"method": "DELETE", "url": "/api/collections/notes/records/missing"}),
        json!({"method": "PATCH", "url": "/api/collections/notes/records/missing", "body": {}}),
        json!({"method": "POST", "url": "/api/collections/nothing/records"}),
        json!({"method": "GET", "url": "/api/collections/notes/records"}),
    ];
    for last in &lasts {
        let requests = json!([
            create(&json!({"title": "first"})),
            {"method": "PATCH", "url": path, "body": {"title": "other"}},
            last
        ]);
        let parts = [
            file("requests.0.doc", "large.bin", &large),
            file("requests.1.doc", "b.txt", b"replaces"),
            file("requests.2.doc", "c.txt", b"with the last"),
        ];
        let answer = send(&app, &requests, &parts);
        assert_eq!(answer.status, 400, "{last}: {}", answer.text());
        let error = json_of(&answer);
        assert_eq!(error["message"], "Batch transaction failed.", "{last}");
        assert_eq!(error["data"]["requests"]["2"]["code"], "batch_request_failed", "{last}: {error}");
        assert_eq!(app.stored(), stored, "{last}");
    }
    let records = app.done("GET", "/api/collections/notes/records", &json!({}));
    assert_eq!(records["totalItems"], 1);
    assert_eq!(&records["items"][0], kept);
    assert_eq!(app.server.get(&App::file_target(kept, "doc")).text(), "kept");
}

#[test]
fn batches_at_the_same_time_behave_as_one_after_another() {
    const THREADS: usize = 8;
    const EACH: usize = 12;
    let app = notes();
    for id in ["counter00000001", "counter00000002"] {
        app.done("POST", "/api/collections/notes/records", &json!({"id": id, "title": &id[13..]}));
    }
    let count = |id: &str| json!({"method": "PATCH", "url": format!("/api/collections/notes/records/{id}"), "body": {"n+": 1}});
    let counts: Vec<Vec<i64>> = std::thread::scope(|scope| {
        let work = |thread: usize| {
            let app = &app;
            move || {
                let mut seen = Vec::new();
                for number in 0..EACH {
                    // Each takes the two from another side; every third fails at its end.
                    let mut requests = vec![count("counter00000001"), count("counter00000002")];
                    requests.rotate_left(thread % 2);
                    let fails = number % 3 == 2;
                    let title = if fails { "01".to_owned() } else { format!("{thread}-{number}") };
                    requests.push(create(&json!({"title": title})));
                    let name = format!("{thread}.txt");
                    let answer =
                        send(app, &json!(requests), &[file("requests.2.doc", &name, title.as_bytes())]);
                    assert_eq!(answer.status, if fails { 400 } else { 200 }, "{}", answer.text());
                    if !fails {
                        let answers = json_of(&answer);
                        let counted = |at: usize| answers[at]["body"]["n"].as_i64().unwrap();
                        assert_eq!(counted(0), counted(1), "another batch came between");
                        seen.push(counted(0));
                    }
                }
                seen
            }
        };
        let running: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        running.into_iter().map(|running| running.join().unwrap()).collect()
    });
    assert!(counts.iter().all(|seen| seen.is_sorted()), "a later batch saw less: {counts:?}");
    let mut all: Vec<i64> = counts.concat();
    all.sort_unstable();
    let total = (THREADS * EACH * 2 / 3) as i64;
    assert!(all.iter().copied().eq(1..=total), "{all:?}");
    let records = app.done("GET", "/api/collections/notes/records?perPage=1", &json!({}));
    assert_eq!(records["totalItems"], total + 2);
    assert_eq!(app.stored().len() as i64, total);
}

#[test]
fn a_batch_past_its_time_changes_nothing() {
    let app = notes();
    app.done("PATCH", "/api/settings", &json!({"batch": {"timeout": 1, "maxRequests": 200}}));
    let body = json!({"name": "people", "type": "auth", "createRule": ""});
    app.done("POST", "/api/collections", &body);
    // Each password takes its time to be hashed.
    let people = (0..199).map(|number| {
        let password = "password-1";
        let body = json!({"email": format!("{number}@acme.test"), "password": password, "passwordConfirm": password});
        json!({"method": "POST", "url": "/api/collections/people/records", "body": body})
    });
    let requests: Vec<Value> = std::iter::once(create(&json!({"title": "first"}))).chain(people).collect();
    let start = Instant::now();
    let answer = send(&app, &json!(requests), &[file("requests.0.doc", "a.txt", b"a")]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = json_of(&answer);
    assert_eq!((&error["message"], &error["data"]), (&json!("Batch transaction failed."), &json!({})));
    for collection in ["notes", "people"] {
        let records = app.done("GET", &format!("/api/collections/{collection}/records"), &json!({}));
        assert_eq!(records["totalItems"], 0, "{collection}");
    }
    assert!(app.stored().is_empty(), "{:?}", app.stored());
    // The hashes that were left over hold nobody up for long.
    wait_until("a batch in time", || send(&app, &json!(requests[..2]), &[]).status == 200);
}

#[test]
fn ten_thousand_requests_are_refused_within_bounds() {
    const MANY: usize = 10_000;
    let app = notes();
    send(&app, &json!([create(&json!({"title": "warm"}))]), &[]);
    let (before, start) = (app.memory("VmHWM"), Instant::now());
    let body = json!({"requests": vec![create(&json!({"title": "x"})); MANY]});
    for _ in 0..3 {
        let answer = app.send("POST", "/api/batch", &body);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("validation_length_too_long"), "{}", answer.text());
        assert!(answer.body.len() < 1_000, "{} bytes", answer.body.len());
    }
    // Not even where each of them is wrong is there an answer for each.
    let wrong = json!({"requests": vec![json!({"method": "x", "url": ""}); MANY]});
    let answer = app.send("POST", "/api/batch", &wrong);
    assert_eq!(answer.status, 400);
    assert!(answer.body.len() < 1_000, "{} bytes", answer.body.len());

    let names: Vec<String> = (0..MANY).map(|number| format!("requests.{number}.doc")).collect();
    let parts: Vec<Part<'_>> = names.iter().map(|name| file(name, "a.txt", b"a")).collect();
    let answer = send(&app, &json!([create(&json!({"title": "x"}))]), &parts);
    assert_eq!(answer.status, 400, "{}", answer.text());

    app.done("PATCH", "/api/settings", &json!({"batch": {"maxBodySize": 1 << 20}}));
    let large = pattern(2 << 20);
    let answer = send(&app, &json!([create(&json!({"title": "x"}))]), &[file("requests.0.doc", "a", &large)]);
    assert_eq!(answer.status, 413, "{}", answer.text());

    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let after = app.memory("VmHWM");
    assert!(after < before + 60 * MIB, "it went from {before} to {after} bytes");
    let records = app.done("GET", "/api/collections/notes/records", &json!({}));
    assert_eq!(records["totalItems"], 1);
    assert!(app.stored().is_empty());
}

/// A server that takes batches, and a collection of titles that are there once.
fn notes() -> App {
    let app = App::start();
    app.done(
        "PATCH",
        "/api/settings",
        &json!({"batch": {"enabled": true, "maxRequests": 50, "timeout": 20}}),
    );
    let body = json!({
        "name": "notes", "listRule": "", "viewRule": "", "createRule": "title != 'denied'", "updateRule": "", "deleteRule": "",
        "fields": [
            {"name": "title", "type": "text", "max": 8},
            {"name": "n", "type": "number"},
            {"name": "doc", "type": "file", "maxSize": 10 * MIB},
            {"name": "pages", "type": "file", "maxSelect": 3}
        ],
        "indexes": ["CREATE UNIQUE INDEX `idx_notes_title` ON `notes` (`title`)"]
    });
    app.done("POST", "/api/collections", &body);
    app
}

fn create(body: &Value) -> Value {
    json!({"method": "POST", "url": "/api/collections/notes/records", "body": body})
}

/// A batch from anybody, as the client of JavaScript sends it.
fn send(app: &App, requests: &Value, files: &[Part<'_>]) -> Response {
    let payload = json!({"requests": requests}).to_string();
    let payload = [value("@jsonPayload", &payload)];
    app.form("POST", "/api/batch", payload.iter().chain(files))
}
