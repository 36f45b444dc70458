//! Hooks before and after writes, with targets that behave and targets that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::receiver::{Message, Receiver, Reply};

use crate::app::{App, json_of, wait_until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const LOOPBACK: (&str, &str) = ("GROUNDSWELL__OUTBOUND__ALLOW", "127.0.0.1");

fn app() -> App {
    let app = App::start_with_env(&[LOOPBACK]);
    app.collection(
        "notes",
        &json!([
            {"name": "title", "type": "text", "max": 20},
            {"name": "mark", "type": "text", "hidden": true},
            {"name": "n", "type": "number"},
            {"name": "doc", "type": "file"}
        ]),
    );
    app
}

fn agrees() -> Reply {
    Reply::Json(200, "{}".to_owned())
}

/// A hook `h` on notes, and what its creation answered.
fn hook(app: &App, receiver: &Receiver, on: &[&str], more: Value) -> Value {
    named("h", app, &receiver.address, on, more)
}

fn named(name: &str, app: &App, address: &str, on: &[&str], more: Value) -> Value {
    let mut body = json!({
        "name": name, "url": format!("http://{address}/hooks"), "on": on, "collections": ["notes"],
        "secrets": [SECRET],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.done("POST", "/api/gs/hooks", &body)
}

const NOTES: &str = "/api/collections/notes/records";

fn guest(app: &App, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let answer = app.server.send_json(method, target, &[], &body.to_string());
    (answer.status, if answer.body.is_empty() { Value::Null } else { json_of(&answer) })
}

fn of(record: &Value) -> String {
    format!("{NOTES}/{}", record["id"].as_str().unwrap())
}

/// The log of hook `h`, the newest attempt first.
fn deliveries(app: &App) -> Vec<Value> {
    let answer = app.done("GET", "/api/gs/hooks/h/deliveries", &Value::Null);
    answer["items"].as_array().unwrap().clone()
}

#[test]
fn a_hook_after_a_write_is_told_what_was_and_what_is() {
    let (app, receiver) = (app(), Receiver::start(|_| agrees()));
    let on = ["records.create.after", "records.update.after", "records.delete.after"];
    hook(&app, &receiver, &on, json!({}));
    let record = app.done("POST", NOTES, &json!({"title": "one", "mark": "secret mark"}));
    let (head, created) = receiver.next();
    assert_eq!(created["type"], "records.create.after");
    assert_eq!((&created["record"]["title"], &created["before"]), (&json!("one"), &Value::Null));
    assert_eq!((&created["recordId"], &created["collection"]["name"]), (&record["id"], &json!("notes")));
    assert!(head.header("webhook-signature").starts_with("v1,"));
    guest(&app, "PATCH", &of(&record), &json!({"title": "two"}));
    let (_, updated) = receiver.next();
    assert_eq!(
        [&updated["type"], &updated["before"]["title"], &updated["record"]["title"], &updated["callerId"]],
        [&json!("records.update.after"), &json!("one"), &json!("two"), &json!("")]
    );
    guest(&app, "DELETE", &of(&record), &Value::Null);
    let (_, deleted) = receiver.next();
    assert_eq!(
        [&deleted["type"], &deleted["before"]["title"], &deleted["record"]],
        [&json!("records.delete.after"), &json!("two"), &Value::Null]
    );
    for message in [&created, &updated, &deleted] {
        assert!(!message.to_string().contains("secret mark"));
    }
}

#[test]
fn a_message_that_is_not_taken_is_tried_again_with_the_same_id() {
    let status = Arc::new(AtomicU16::new(500));
    let app = app();
    let told = status.clone();
    let receiver = Receiver::start(move |_| Reply::Json(told.load(Ordering::SeqCst), "{}".to_owned()));
    hook(&app, &receiver, &["records.create.after"], json!({}));
    app.done("POST", NOTES, &json!({"title": "one"}));
    let (first, message) = receiver.next();
    status.store(204, Ordering::SeqCst);
    let (second, again) = receiver.next();
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(message["sequence"], again["sequence"]);
    assert_eq!(first.header("webhook-id"), message["id"].as_str().unwrap());
    // The time in it tells apart what has the same sequence in a store that was restored.
    let (start, written) = message["id"].as_str().unwrap().rsplit_once('-').unwrap();
    assert_eq!(start, format!("h-{}", message["sequence"]));
    assert!(written.parse::<u64>().unwrap() > 1_000_000_000_000);
    wait_until("the log of both attempts", || deliveries(&app).len() == 2);
    let log = deliveries(&app);
    let seen: Vec<_> = log.iter().map(|one| (&one["attempt"], &one["outcome"], &one["status"])).collect();
    assert_eq!(seen, [(&json!(2), &json!("done"), &json!(204)), (&json!(1), &json!("again"), &json!(500))]);
}

#[test]
fn a_dead_message_waits_for_a_replay() {
    let status = Arc::new(AtomicU16::new(410));
    let app = app();
    let told = status.clone();
    let receiver = Receiver::start(move |_| Reply::Json(told.load(Ordering::SeqCst), "{}".to_owned()));
    hook(&app, &receiver, &["records.create.after"], json!({}));
    let record = app.done("POST", NOTES, &json!({"title": "one"}));
    receiver.next();
    let dead = || app.done("GET", "/api/gs/jobs/dead?queue=hooks/h", &Value::Null);
    wait_until("the dead message", || dead()["totalItems"] == 1);
    assert_eq!(dead()["items"][0]["payload"]["recordId"], record["id"]);
    status.store(200, Ordering::SeqCst);
    let replayed = app.done("POST", "/api/gs/hooks/h/replay", &json!({}));
    assert_eq!(replayed, json!({"replayed": 1}));
    assert_eq!(receiver.next().1["recordId"], record["id"]);
    wait_until("the delivery", || deliveries(&app)[0]["outcome"] == "done");
    assert_eq!(dead()["totalItems"], 0);
}

#[test]
fn a_target_that_hangs_holds_up_neither_writes_nor_other_hooks() {
    let app = app();
    let (silent, lively) = (Receiver::start(|_| Reply::Silence), Receiver::start(|_| agrees()));
    named("a-silent", &app, &silent.address, &["records.create.after"], json!({"timeout": 30}));
    hook(&app, &lively, &["records.create.after"], json!({}));
    let started = Instant::now();
    for n in 0..30 {
        app.done("POST", NOTES, &json!({"title": "one", "n": n}));
    }
    let mut numbers: Vec<_> = (0..30).map(|_| lively.next().1["record"]["n"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    assert!(started.elapsed() < Duration::from_secs(20));
    // Eight at once, and no more.
    for _ in 0..8 {
        silent.next();
    }
    assert!(silent.rest().is_empty());
}

#[test]
fn redirects_gigabytes_and_silence_are_failures_after_a_write() {
    for (reply, error) in [
        (Reply::Bare(302, "Location: http://127.0.0.1:1/"), "redirects are not followed"),
        (Reply::Silence, "time"),
    ] {
        let app = app();
        let reply = std::sync::Mutex::new(Some(reply));
        let receiver = Receiver::start(move |_| reply.lock().unwrap().take().unwrap_or_else(agrees));
        hook(&app, &receiver, &["records.create.after"], json!({"timeout": 0.3}));
        app.done("POST", NOTES, &json!({"title": "one"}));
        wait_until("the log", || !deliveries(&app).is_empty());
        let attempt = deliveries(&app).pop().unwrap();
        assert_eq!(attempt["outcome"], "again");
        assert!(attempt["error"].as_str().unwrap().contains(error), "{attempt}");
    }
    // An answer without end is an answer: its status counts, and the rest is not read.
    let (app, receiver) = (app(), Receiver::start(|_| Reply::Endless));
    hook(&app, &receiver, &["records.create.after"], json!({}));
    let before = app.memory("VmRSS");
    app.done("POST", NOTES, &json!({"title": "one"}));
    wait_until("the delivery", || deliveries(&app).first().is_some_and(|one| one["outcome"] == "done"));
    assert!(app.memory("VmRSS") < before + (32 << 20));
}

#[test]
fn a_hook_before_a_write_sets_what_clients_may_not() {
    let app = app();
    let receiver =
        Receiver::start(|_| Reply::Json(200, r#"{"set": {"mark": "by hook", "n": 7}}"#.to_owned()));
    hook(&app, &receiver, &["records.create.before", "records.update.before"], json!({}));
    let rule = json!({"createRule": "@request.body.n:isset = false", "updateRule": "n = 7"});
    app.done("PATCH", "/api/collections/notes", &rule);
    let (status, record) = guest(&app, "POST", NOTES, &json!({"title": "one", "captcha": "c"}));
    assert_eq!((status, &record["n"]), (200, &json!(7)), "{record}");
    let (_, asked) = receiver.next();
    assert_eq!(
        [&asked["type"], &asked["body"], &asked["record"], &asked["recordId"], &asked["caller"]],
        [
            &json!("records.create.before"),
            &json!({"captcha": "c", "title": "one"}),
            &Value::Null,
            &Value::Null,
            &Value::Null
        ]
    );
    assert_eq!(app.done("GET", &of(&record), &Value::Null)["mark"], "by hook");
    let (status, changed) = guest(&app, "PATCH", &of(&record), &json!({"n+": 5}));
    assert_eq!((status, &changed["n"]), (200, &json!(7)), "{changed}");
    let (_, asked) = receiver.next();
    assert_eq!([&asked["body"], &asked["record"]["title"]], [&json!({"n+": 5}), &json!("one")]);
    // What the client sends is what the rule judges, and nobody is asked about what it denies.
    assert_eq!(guest(&app, "POST", NOTES, &json!({"n": 1})).0, 400);
    assert!(receiver.rest().is_empty());
}

#[test]
fn a_hook_before_a_write_refuses_with_its_own_words() {
    let app = app();
    let body = json!({
        "message": "No more notes today",
        "data": {"title": {"code": "validation_enough", "message": "Enough."}, "n": "no error"}
    });
    let receiver = Receiver::start(move |message: &Message| {
        let is_refused = !message.body.contains("welcome");
        if is_refused { Reply::Json(403, body.to_string()) } else { agrees() }
    });
    let on = ["records.create.before", "records.update.before", "records.delete.before"];
    hook(&app, &receiver, &on, json!({}));
    let refusal = json!({
        "data": {"title": {"code": "validation_enough", "message": "Enough."}},
        "message": "No more notes today.", "status": 403
    });
    assert_eq!(guest(&app, "POST", NOTES, &json!({"title": "one"})), (403, refusal.clone()));
    let (status, record) = guest(&app, "POST", NOTES, &json!({"title": "x", "say": "welcome"}));
    assert_eq!(status, 200);
    assert_eq!(guest(&app, "PATCH", &of(&record), &json!({"title": "two"})), (403, refusal.clone()));
    assert_eq!(guest(&app, "DELETE", &of(&record), &Value::Null), (403, refusal));
    assert_eq!(app.done("GET", NOTES, &Value::Null)["totalItems"], 1);
}

#[test]
fn a_refused_upload_leaves_no_file() {
    let app = app();
    let receiver = Receiver::start(|_| Reply::Json(400, r#"{"message": "No."}"#.to_owned()));
    hook(&app, &receiver, &["records.create.before"], json!({}));
    let answer = app.form("POST", NOTES, &[crate::app::file("doc", "a.txt", b"text")]);
    assert_eq!(answer.status, 400);
    assert_eq!(app.stored(), [""; 0]);
}

#[test]
fn a_failing_hook_before_a_write_does_what_its_policy_says() {
    let failures: [fn() -> Reply; 7] = [
        || Reply::Silence,
        || Reply::Endless,
        || Reply::Bare(302, "Location: http://127.0.0.1:1/"),
        || Reply::Json(500, "{}".to_owned()),
        || Reply::Json(404, "<h1>Not here</h1>".to_owned()),
        || Reply::Json(200, "no json".to_owned()),
        || Reply::Json(200, r#"{"set": {"id": "other0000000000"}}"#.to_owned()),
    ];
    let app = app();
    for (position, failure) in failures.into_iter().enumerate() {
        let receiver = Receiver::start(move |_| failure());
        hook(&app, &receiver, &["records.create.before"], json!({"timeout": 0.5}));
        let (status, answer) = guest(&app, "POST", NOTES, &json!({"title": "one"}));
        assert_eq!(status, 503, "{position}: {answer}");
        app.done("PATCH", "/api/gs/hooks/h", &json!({"onFailure": "allow"}));
        let (status, answer) = guest(&app, "POST", NOTES, &json!({"title": "one"}));
        assert_eq!(status, 200, "{position}: {answer}");
        assert_eq!(app.send("DELETE", "/api/gs/hooks/h", &Value::Null).status, 204);
    }
    assert_eq!(app.done("GET", NOTES, &Value::Null)["totalItems"], 7);
}

#[test]
fn every_request_of_a_batch_is_asked_about_and_one_refusal_undoes_all() {
    let app = app();
    app.done("PATCH", "/api/settings", &json!({"batch": {"enabled": true, "maxRequests": 10}}));
    let receiver = Receiver::start(|message: &Message| {
        let is_refused = message.body.contains("bad");
        if is_refused { Reply::Json(400, r#"{"message": "No."}"#.to_owned()) } else { agrees() }
    });
    hook(&app, &receiver, &["records.create.before", "records.update.before"], json!({}));
    let chosen = "chosen000000000";
    let request =
        |method: &str, target: &str, body: Value| json!({"method": method, "url": target, "body": body});
    let good = json!({"requests": [
        request("POST", NOTES, json!({"id": chosen, "title": "one"})),
        request("PATCH", &format!("{NOTES}/{chosen}"), json!({"title": "two"})),
        request("PUT", NOTES, json!({"title": "three"})),
    ]});
    assert_eq!(guest(&app, "POST", "/api/batch", &good).0, 200);
    let asked: Vec<_> = (0..3).map(|_| receiver.next().1["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked, ["records.create.before", "records.update.before", "records.create.before"]);
    let bad = json!({"requests": [
        request("POST", NOTES, json!({"title": "four"})),
        request("PUT", NOTES, json!({"id": chosen, "title": "bad"})),
    ]});
    let (status, answer) = guest(&app, "POST", "/api/batch", &bad);
    assert_eq!((status, &answer["data"]["requests"]["1"]["response"]["message"]), (400, &json!("No.")));
    assert_eq!(app.done("GET", NOTES, &Value::Null)["totalItems"], 2);
}

#[test]
fn private_targets_are_refused_unless_the_configuration_allows_them() {
    let app = App::start();
    app.collection("notes", &json!([{"name": "title", "type": "text"}]));
    let receiver = Receiver::start(|_| agrees());
    let port = receiver.address.rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"] {
        named("h", &app, &format!("{host}:{port}"), &["records.create.before"], json!({"timeout": 1}));
        assert_eq!(guest(&app, "POST", NOTES, &json!({"title": "one"})).0, 503, "{host}");
        let tried = app.done("POST", "/api/gs/hooks/h/test", &json!({}));
        assert!(tried["error"].as_str().unwrap().contains("outbound.allow"), "{host}: {tried}");
        assert_eq!(app.send("DELETE", "/api/gs/hooks/h", &Value::Null).status, 204);
    }
    assert!(receiver.rest().is_empty());
    for url in
        ["http://2130706433", "http://0x7f.1", "ftp://a.example", "http://u:p@a.example", "http://", "/"]
    {
        let body = json!({"name": "h", "url": url, "on": ["records.create.after"]});
        assert_eq!(app.send("POST", "/api/gs/hooks", &body).status, 400, "{url}");
    }
}

#[test]
fn a_private_target_may_be_allowed_at_one_port_alone() {
    let receivers = [Receiver::start(|_| agrees()), Receiver::start(|_| agrees())];
    let app = App::start_with_env(&[("GROUNDSWELL__OUTBOUND__ALLOW", &receivers[0].address)]);
    for (receiver, is_reached) in receivers.iter().zip([true, false]) {
        let body = json!({"name": "h", "url": format!("http://{}", receiver.address), "on": ["records.create.after"]});
        app.done("POST", "/api/gs/hooks", &body);
        let tried = app.done("POST", "/api/gs/hooks/h/test", &json!({}));
        assert_eq!(tried["status"] == 200, is_reached, "{tried}");
        assert_eq!(app.send("DELETE", "/api/gs/hooks/h", &Value::Null).status, 204);
    }
}

#[test]
fn hooks_are_seen_and_changed_by_superusers_alone_and_never_tell_their_secrets() {
    let (app, receiver) = (app(), Receiver::start(|_| agrees()));
    for (method, target) in [
        ("GET", "/api/gs/hooks"),
        ("POST", "/api/gs/hooks"),
        ("GET", "/api/gs/hooks/h"),
        ("PATCH", "/api/gs/hooks/h"),
        ("DELETE", "/api/gs/hooks/h"),
        ("GET", "/api/gs/hooks/h/deliveries"),
        ("POST", "/api/gs/hooks/h/replay"),
        ("POST", "/api/gs/hooks/h/test"),
    ] {
        assert_eq!(guest(&app, method, target, &json!({})).0, 401, "{method} {target}");
    }
    let made = hook(&app, &receiver, &["records.create.after"], json!({"secrets": []}));
    let secret = made["secrets"][0].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    let again =
        app.send("POST", "/api/gs/hooks", &json!({"name": "h", "url": "http://a.example", "on": ["x"]}));
    assert_eq!(again.status, 400);
    for (method, target) in
        [("GET", "/api/gs/hooks"), ("GET", "/api/gs/hooks/h"), ("PATCH", "/api/gs/hooks/h")]
    {
        let seen = app.done(method, target, &json!({})).to_string();
        assert!(seen.contains("\"h\"") && !seen.contains("whsec_"), "{seen}");
    }
    let tried = app.done("POST", "/api/gs/hooks/h/test", &json!({}));
    assert_eq!((&tried["status"], receiver.next().1["type"].as_str()), (&json!(200), Some("ping")));
    assert_eq!(app.send("GET", "/api/gs/hooks/other", &Value::Null).status, 404);
}

#[test]
fn a_hook_that_is_removed_takes_its_messages_with_it() {
    let app = app();
    let receiver = Receiver::start(|_| Reply::Json(500, "{}".to_owned()));
    hook(&app, &receiver, &["records.create.after"], json!({}));
    app.done("POST", NOTES, &json!({"title": "one"}));
    receiver.next();
    assert_eq!(app.send("DELETE", "/api/gs/hooks/h", &Value::Null).status, 204);
    let queues = app.done("GET", "/api/gs/jobs", &Value::Null)["queues"].to_string();
    assert!(!queues.contains("hooks/h"), "{queues}");
    assert_eq!(app.send("GET", "/api/gs/hooks/h/deliveries", &Value::Null).status, 404);
}

#[test]
fn hooks_and_what_waits_for_them_outlive_the_process() {
    let status = Arc::new(AtomicU16::new(500));
    let told = status.clone();
    let receiver = Receiver::start(move |_| Reply::Json(told.load(Ordering::SeqCst), "{}".to_owned()));
    let url = format!("http://{}/hooks", receiver.address);
    let of_config = [
        LOOPBACK,
        ("GROUNDSWELL__HOOKS__CONFIGURED__URL", url.as_str()),
        ("GROUNDSWELL__HOOKS__CONFIGURED__ON", "records.update.after"),
        ("GROUNDSWELL__HOOKS__CONFIGURED__SECRETS", SECRET),
    ];
    let app = app();
    hook(&app, &receiver, &["records.create.after"], json!({}));
    let record = app.done("POST", NOTES, &json!({"title": "one"}));
    receiver.next();
    let app = app.restart_with_env(&of_config);
    status.store(200, Ordering::SeqCst);
    assert_eq!(receiver.next().1["recordId"], record["id"]);
    let sources: Vec<_> = app.done("GET", "/api/gs/hooks", &Value::Null)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hook| (hook["name"].clone(), hook["source"].clone()))
        .collect();
    assert_eq!(sources, [(json!("configured"), json!("config")), (json!("h"), json!("api"))]);
    guest(&app, "PATCH", &of(&record), &json!({"title": "two"}));
    assert_eq!(receiver.next().1["hook"], "configured");
    let refused = app.send("PATCH", "/api/gs/hooks/configured", &json!({"enabled": false}));
    assert_eq!(refused.status, 400);
}

#[test]
fn a_collection_that_is_made_later_is_followed_from_its_first_record() {
    let app = App::start_with_env(&[LOOPBACK]);
    let receiver = Receiver::start(|_| agrees());
    hook(&app, &receiver, &["records.create.after"], json!({"collections": ["notes", "others"]}));
    app.collection("others", &json!([{"name": "title", "type": "text"}]));
    app.done("POST", "/api/collections/others/records", &json!({"title": "first"}));
    assert_eq!(receiver.next().1["record"]["title"], "first");
}

#[test]
fn a_hook_goes_with_its_collection_whatever_the_case_of_its_name_and_when_it_is_renamed() {
    let app = app();
    let receiver = Receiver::start(|_| agrees());
    let on = ["records.create.before", "records.create.after"];
    let made = hook(&app, &receiver, &on, json!({"collections": ["NOTES", "Later"]}));
    assert_eq!(made["collections"], json!(["notes", "Later"]));
    app.done("POST", NOTES, &json!({"title": "one"}));
    assert_eq!(receiver.next().1["type"], "records.create.before");
    assert_eq!(receiver.next().1["type"], "records.create.after");
    app.done("PATCH", "/api/collections/notes", &json!({"name": "papers"}));
    app.collection("later", &json!([]));
    for target in ["papers", "later"] {
        app.done("POST", &format!("/api/collections/{target}/records"), &json!({}));
        for on in on {
            let (_, message) = receiver.next();
            assert_eq!((&message["type"], &message["collection"]["name"]), (&json!(on), &json!(target)));
        }
    }
    let seen = app.done("GET", "/api/gs/hooks/h", &Value::Null);
    assert_eq!(seen["collections"], json!(["papers", "later"]));
    let seen = app.done("PATCH", "/api/gs/hooks/h", &json!({"timeout": 2}));
    assert_eq!(seen["collections"], json!(["papers", "later"]));
}

#[test]
fn a_hook_before_a_write_sees_the_values_that_would_be_stored() {
    let app = app();
    let receiver = Receiver::start(|message: &Message| {
        let is_first = message.body.contains("\"hook\":\"a\"");
        Reply::Json(200, if is_first { r#"{"set": {"n": "7"}}"# } else { "{}" }.to_owned())
    });
    let on = ["records.create.before", "records.update.before", "records.delete.before"];
    hook(&app, &receiver, &on, json!({}));
    let record = app.done("POST", NOTES, &json!({"title": 12, "n+": "3", "mark": "m", "captcha": "c"}));
    let (_, asked) = receiver.next();
    assert_eq!(asked["values"], json!({"n": 3, "title": "12"}));
    assert_eq!(asked["body"], json!({"captcha": "c", "n+": "3", "title": 12}));
    named("a", &app, &receiver.address, &on[..1], json!({}));
    guest(&app, "PATCH", &of(&record), &json!({"n-": 5}));
    assert_eq!(receiver.next().1["values"], json!({"n": -2}));
    // What one hook sets is a value of the next, as it would be stored.
    app.done("POST", NOTES, &json!({"title": "two"}));
    assert_eq!(receiver.next().1["values"], json!({"title": "two"}));
    let (_, asked) = receiver.next();
    assert_eq!(
        (&asked["body"], &asked["values"]),
        (&json!({"title": "two"}), &json!({"n": 7, "title": "two"}))
    );
    assert_eq!(app.send("DELETE", "/api/gs/hooks/a", &Value::Null).status, 204);
    let answer = app.form("POST", NOTES, &[crate::app::file("doc", "a.txt", b"text")]);
    assert_eq!(receiver.next().1["values"]["doc"], json_of(&answer)["doc"]);
    guest(&app, "DELETE", &of(&record), &Value::Null);
    assert_eq!(receiver.next().1["values"], json!({}));
}

#[test]
fn in_a_batch_a_hook_that_hangs_fails_before_the_batch_does() {
    let app = app();
    let batch = json!({"enabled": true, "maxRequests": 10, "timeout": 1});
    app.done("PATCH", "/api/settings", &json!({"batch": batch}));
    let receiver = Receiver::start(|_| Reply::Silence);
    hook(&app, &receiver, &["records.create.before"], json!({"timeout": 30}));
    let request = json!({"method": "POST", "url": NOTES, "body": {"title": "one"}});
    let requests = json!({"requests": [request, request]});
    let (_, answer) = guest(&app, "POST", "/api/batch", &requests);
    assert_eq!(answer["data"]["requests"]["0"]["response"]["status"], 503, "{answer}");
    app.done("PATCH", "/api/gs/hooks/h", &json!({"onFailure": "allow"}));
    let (status, answer) = guest(&app, "POST", "/api/batch", &requests);
    assert_eq!((status, answer.as_array().map(Vec::len)), (200, Some(2)), "{answer}");
}

#[test]
fn who_finds_no_place_among_those_that_wait_for_a_hook_meets_its_failure() {
    let app = App::start_with_env(&[LOOPBACK, ("GROUNDSWELL__SERVER__REQUEST_LOOPS", "1")]);
    app.collection("notes", &json!([{"name": "title", "type": "text"}]));
    let waiting = Arc::new(AtomicU16::new(0));
    let gate = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let (count, open) = (waiting.clone(), gate.clone());
    let receiver = Receiver::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        drop(open.1.wait_while(open.0.lock().unwrap(), |is_open| !*is_open).unwrap());
        agrees()
    });
    hook(&app, &receiver, &["records.create.before"], json!({"timeout": 30}));
    std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..32).map(|_| scope.spawn(|| guest(&app, "POST", NOTES, &json!({"title": "one"})).0)).collect();
        wait_until("all that may wait", || waiting.load(Ordering::SeqCst) == 32);
        app.done("PATCH", "/api/gs/hooks/h", &json!({"timeout": 0.2}));
        assert_eq!(guest(&app, "POST", NOTES, &json!({"title": "one"})).0, 503);
        assert_eq!(waiting.load(Ordering::SeqCst), 32);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        for one in asking {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
}

#[test]
fn a_hook_with_too_much_waiting_is_not_told_until_there_is_room_and_others_are() {
    let app = app();
    let receiver = Receiver::start(|_| agrees());
    let on = ["records.create.after"];
    hook(&app, &receiver, &on, json!({}));
    named("other", &app, &receiver.address, &on, json!({}));
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO `_gs_jobs` (`queue`, `payload`, `created`, `due`) SELECT 'hooks/h', '{}', 0, 9e15 FROM n";
    Connection::open(app.server.folder().join("gs_data/data.db")).unwrap().execute_batch(fill).unwrap();
    // A server counts the jobs that it left itself, and at the start.
    let app = app.restart_with_env(&[LOOPBACK]);
    let look = || app.done("PATCH", "/api/gs/hooks/h", &json!({}));
    app.done("POST", NOTES, &json!({"title": "one"}));
    assert_eq!(receiver.next().1["hook"], "other");
    assert_eq!(app.done("GET", "/api/gs/hooks/h", &Value::Null)["dropped"], 1);
    assert_eq!(app.done("GET", "/api/gs/hooks", &Value::Null)["items"][1]["dropped"], 0);
    app.done("DELETE", "/api/gs/jobs?queue=hooks/h", &json!({}));
    look();
    app.done("POST", NOTES, &json!({"title": "two"}));
    let mut told = [receiver.next().1, receiver.next().1].map(|message| message["hook"].to_string());
    told.sort();
    assert_eq!(told, ["\"h\"", "\"other\""]);
}

#[test]
fn a_stored_hook_that_is_broken_lets_no_write_pass_and_can_be_mended_and_removed() {
    let app = app();
    let receiver = Receiver::start(|_| agrees());
    hook(&app, &receiver, &["records.create.before"], json!({}));
    let break_it = |app: App| {
        let sql = "UPDATE `_gs_hooks` SET `definition` = replace(`definition`, 'http://', 'gopher://')";
        Connection::open(app.server.folder().join("gs_data/data.db")).unwrap().execute_batch(sql).unwrap();
        app.restart_with_env(&[LOOPBACK])
    };
    let app = break_it(app);
    let create = |app: &App| guest(app, "POST", NOTES, &json!({"title": "one"})).0;
    assert_eq!(create(&app), 503);
    let seen = app.done("GET", "/api/gs/hooks/h", &Value::Null);
    assert_eq!((&seen["isBroken"], &seen["collections"]), (&json!(true), &json!(["notes"])));
    assert!(seen["problems"]["url"].is_string() && !seen.to_string().contains("whsec_"), "{seen}");
    assert_eq!(app.done("GET", "/api/gs/hooks", &Value::Null)["items"], json!([seen]));
    assert_eq!(app.send("POST", "/api/gs/hooks/h/test", &json!({})).status, 400);
    assert_eq!(app.send("PATCH", "/api/gs/hooks/h", &json!({"onFailure": "allow"})).status, 400);
    let mended = json!({"url": format!("http://{}", receiver.address), "onFailure": "allow"});
    assert_eq!(app.done("PATCH", "/api/gs/hooks/h", &mended)["isBroken"], false);
    assert_eq!(create(&app), 200);
    assert_eq!(receiver.next().1["hook"], "h");
    let app = break_it(app);
    assert_eq!(create(&app), 200, "its policy is to allow");
    assert_eq!(app.send("DELETE", "/api/gs/hooks/h", &Value::Null).status, 204);
    assert_eq!(app.done("GET", "/api/gs/hooks", &Value::Null)["items"], json!([]));
}

#[test]
fn of_hooks_that_are_made_at_once_under_one_name_one_is_made_and_no_change_is_lost() {
    let app = app();
    let body = |n: usize| json!({"name": "h", "url": format!("http://a{n}.example"), "on": ["records.create.after"]});
    let changes = [
        json!({"enabled": false}),
        json!({"timeout": 7}),
        json!({"onFailure": "allow"}),
        json!({"on": ["records.delete.after"]}),
    ];
    std::thread::scope(|scope| {
        let app = &app;
        let made: Vec<_> =
            (0..4).map(|n| scope.spawn(move || app.send("POST", "/api/gs/hooks", &body(n)).status)).collect();
        let made = made.into_iter().map(|one| one.join().unwrap());
        assert_eq!(made.filter(|status| *status == 200).count(), 1);
    });
    std::thread::scope(|scope| {
        for change in &changes {
            scope.spawn(|| app.done("PATCH", "/api/gs/hooks/h", change));
        }
    });
    let hook = app.done("GET", "/api/gs/hooks/h", &Value::Null);
    for change in changes {
        for (key, value) in change.as_object().unwrap() {
            assert_eq!(&hook[key], value, "{hook}");
        }
    }
}

#[test]
fn a_timeout_that_is_no_number_is_told_what_is_one() {
    let app = app();
    let body =
        json!({"name": "h", "url": "http://a.example", "on": ["records.create.after"], "timeout": "2s"});
    let answer = app.send("POST", "/api/gs/hooks", &body);
    let message = json_of(&answer)["data"]["timeout"]["message"].clone();
    assert_eq!((answer.status, message), (400, json!("Must be a number of seconds, from 0.1 to 30.")));
}
