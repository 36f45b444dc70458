//! What must never leave a row: in no change event, no job, no message to a hook and no line of the log.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::receiver::{Receiver, Reply};
use testkit::{Groundswell, ROOT_PASSWORD, Server};

use crate::app::{Root, json_of, register_consumer};

/// Passwords as they are typed.
const PASSWORDS: [&str; 3] = ["first-plain-password", "second-plain-password", "wrong-plain-password"];
const HOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Of a hidden field. Events keep it for superusers; hooks and the log must not see it.
const HIDDEN: &str = "value-of-a-hidden-field";

#[test]
fn no_event_job_hook_or_log_line_holds_a_password_a_hash_or_a_key() {
    // What it answers is logged and looked at, too.
    let receiver = Receiver::start(|message| {
        let may_set = message.body.contains(r#""name":"users""#) && !message.body.contains("delete.before");
        Reply::Json(200, if may_set { r#"{"set": {"name": "set-by-a-hook"}}"# } else { "{}" }.to_owned())
    });
    let mut server = Groundswell::default()
        .env("GROUNDSWELL__LOG__LEVEL", "trace")
        .env("GROUNDSWELL__OUTBOUND__ALLOW", "127.0.0.1")
        .env("GROUNDSWELL__HOOKS__ALL__URL", format!("http://{}/path-of-a-hook", receiver.address))
        .env("GROUNDSWELL__HOOKS__ALL__COLLECTIONS", "users,_superusers")
        .env(
            "GROUNDSWELL__HOOKS__ALL__ON",
            "records.create.after,records.update.after,records.delete.after,\
             records.create.before,records.update.before,records.delete.before",
        )
        .env("GROUNDSWELL__HOOKS__ALL__SECRETS", HOOK_SECRET)
        .launch()
        .unwrap();
    server.kill().unwrap();
    register_consumer(&server.dir());
    server.restart().unwrap();
    let mut secrets: BTreeSet<String> = PASSWORDS.iter().map(|password| (*password).to_owned()).collect();
    secrets.extend([ROOT_PASSWORD, HOOK_SECRET, "path-of-a-hook"].map(str::to_owned));
    live(&server, &mut secrets);
    let told = told(&receiver);

    let log = server.log();
    server.kill().unwrap();
    let kept = kept(&server.dir());
    for known in ["ann@example.com", "left-for-a-job"] {
        assert!(kept.contains(known), "the test sees no {known}");
    }
    assert!(
        told.contains("set-by-a-hook") && told.contains("bob@example.com"),
        "the test sees no hooks: {told}"
    );
    assert!(!told.contains(HIDDEN) && !log.contains(HIDDEN), "a hidden field was told");
    assert!(log.lines().count() > 10, "the test sees no log: {log}");
    assert!(secrets.len() > 12, "the test knows too few secrets: {}", secrets.len());
    for secret in &secrets {
        assert!(!kept.contains(secret), "an event or a job holds {secret:?}");
        assert!(!told.contains(secret), "a hook was told {secret:?}");
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log holds {secret:?}");
    }
}

/// Sign-ups, sign-ins and changes, with everything that is secret at each moment.
fn live(server: &Server, secrets: &mut BTreeSet<String>) {
    let root = Root::sign_in(server);
    let send = |method: &str, target: &str, body: Value| {
        let answer = root.send(method, target, Some(body));
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap_or_default())
    };
    let hidden = json!({"fields": [{"name": "score", "type": "text", "hidden": true}]});
    let (_, users) = send("GET", "/api/collections/users", Value::Null);
    let fields =
        [users["fields"].as_array().unwrap().as_slice(), hidden["fields"].as_array().unwrap()].concat();
    assert_eq!(send("PATCH", "/api/collections/users", json!({"fields": fields})).0, 200);
    let users = "/api/collections/users/records";
    let sign_up = |email: &str| {
        let body = json!({
            "email": email, "password": PASSWORDS[0], "passwordConfirm": PASSWORDS[0], "score": HIDDEN
        });
        let (status, user) = send("POST", users, body);
        assert_eq!(status, 200, "{user}");
        user["id"].as_str().unwrap().to_owned()
    };
    let (ann, bob) = (sign_up("ann@example.com"), sign_up("bob@example.com"));
    note_secrets(&server.dir(), secrets);

    let sign_in = |password: &str| {
        let body = json!({"identity": "ann@example.com", "password": password});
        send("POST", "/api/collections/users/auth-with-password", body)
    };
    let (_, signed_in) = sign_in(PASSWORDS[0]);
    secrets.insert(signed_in["token"].as_str().unwrap().to_owned());
    assert_eq!(sign_in(PASSWORDS[2]).0, 400);
    let change = json!({"password": PASSWORDS[1], "passwordConfirm": PASSWORDS[1], "name": "ann"});
    assert_eq!(send("PATCH", &format!("{users}/{ann}"), change).0, 200);
    note_secrets(&server.dir(), secrets);

    let refused = json!({"email": "no address", "password": PASSWORDS[2], "passwordConfirm": PASSWORDS[1]});
    assert_eq!(send("POST", users, refused).0, 400);
    let (_, lent) =
        send("POST", &format!("/api/collections/users/impersonate/{ann}"), json!({"duration": 60}));
    secrets.insert(lent["token"].as_str().unwrap().to_owned());
    let nonsense = json!({"filter": PASSWORDS[2]});
    send("POST", "/api/collections", json!({"name": "x y", "fields": [], "options": nonsense}));
    assert_eq!(send("DELETE", &format!("{users}/{bob}"), json!({})).0, 204);
    let root_ids = json_of(&root.send("GET", "/api/collections/_superusers/records", None));
    let root_id = root_ids["items"][0]["id"].as_str().unwrap().to_owned();
    let (status, _) =
        send("PATCH", &format!("/api/collections/_superusers/records/{root_id}"), json!({"verified": true}));
    assert_eq!(status, 200);
    note_secrets(&server.dir(), secrets);
    // So that the test sees that it sees jobs.
    let data = Connection::open(server.dir().join("data.db")).unwrap();
    let later = "INSERT INTO `_gs_jobs` (`queue`, `payload`, `created`, `due`) \
                 VALUES ('other', '\"left-for-a-job\"', 0, 9000000000000)";
    data.execute(later, []).unwrap();
}

/// All that hooks were told, once they were told of the last delete.
fn told(receiver: &Receiver) -> String {
    let mut told = String::new();
    loop {
        let (message, json) = receiver.next();
        told.push_str(&format!("{message:?}"));
        if json["type"] == "records.update.after" && json["collection"]["name"] == "_superusers" {
            return told;
        }
    }
}

/// The hashes, keys and secrets that are stored now.
fn note_secrets(dir: &Path, secrets: &mut BTreeSet<String>) {
    let data = Connection::open(dir.join("data.db")).unwrap();
    let queries = [
        "SELECT `password` FROM `users` UNION SELECT `tokenKey` FROM `users`",
        "SELECT `password` FROM `_superusers` UNION SELECT `tokenKey` FROM `_superusers`",
        "SELECT json_extract(`options`, '$.authToken.secret') FROM `_collections` WHERE `type` = 'auth' \
         UNION SELECT json_extract(`options`, '$.fileToken.secret') FROM `_collections` WHERE `type` = 'auth'",
    ];
    for query in queries {
        let found = texts(&data, query);
        assert!(found.iter().all(|secret| secret.len() > 8), "{query}: {found:?}");
        secrets.extend(found);
    }
}

/// Everything that is kept of changes and jobs.
fn kept(dir: &Path) -> String {
    let data = Connection::open(dir.join("data.db")).unwrap();
    let queries = [
        "SELECT `record` || `caller` || coalesce(`before`, '') || coalesce(`after`, '') FROM `_gs_outbox`",
        "SELECT `payload` FROM `_gs_jobs`",
        "SELECT `payload` || `error` FROM `_gs_dead_jobs`",
        "SELECT `error` || `note` FROM `_gs_attempts`",
    ];
    queries.iter().flat_map(|query| texts(&data, query)).collect()
}

fn texts(data: &Connection, query: &str) -> Vec<String> {
    let mut statement = data.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}
