//! A server with one collection, and what the tests ask of it.

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::{Client, Groundswell, ROOT_EMAIL, ROOT_PASSWORD, Request, Response, Server};

/// A superuser's client.
#[derive(Clone)]
pub(crate) struct Root {
    client: Client,
    token: String,
}

/// Starts a server with the collection `items`: a unique `title` and a number `n`, open to everyone.
pub(crate) fn start() -> (Server, Root) {
    let server = Groundswell::start().unwrap();
    let root = Root::sign_in(&server);
    let made = root.send("POST", "/api/collections", Some(items_collection()));
    assert_eq!(made.status, 200, "{}", made.text());
    (server, root)
}

fn items_collection() -> Value {
    json!({
        "name": "items", "type": "base",
        "listRule": "", "viewRule": "", "createRule": "", "updateRule": "", "deleteRule": "",
        "fields": [
            {"name": "title", "type": "text"},
            {"name": "n", "type": "number"}
        ],
        "indexes": ["CREATE UNIQUE INDEX `idx_items_title` ON `items` (`title`)"]
    })
}

impl Root {
    pub(crate) fn sign_in(server: &Server) -> Root {
        let client = server.client();
        let body = json!({"identity": ROOT_EMAIL, "password": ROOT_PASSWORD});
        let request = Request::new("POST", "/api/collections/_superusers/auth-with-password");
        let answer = client.send(&request.json(body.to_string())).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let token = json_of(&answer)["token"].as_str().unwrap().to_owned();
        Root { client, token }
    }

    /// A request as superuser; fails the test when there is no answer.
    pub(crate) fn send(&self, method: &str, target: &str, body: Option<Value>) -> Response {
        self.try_send(method, target, body).unwrap()
    }

    /// A request as superuser; none when the server went away before it answered.
    pub(crate) fn try_send(&self, method: &str, target: &str, body: Option<Value>) -> Option<Response> {
        let mut request = Request::new(method, target);
        if let Some(body) = body {
            request = request.json(body.to_string());
        }
        self.try_request(request)
    }

    /// The same of any request.
    pub(crate) fn try_request(&self, request: Request) -> Option<Response> {
        self.client.send(&request.header("Authorization", &self.token)).ok()
    }

    pub(crate) fn create(&self, title: &str) -> Option<Response> {
        self.try_send("POST", "/api/collections/items/records", Some(json!({"title": title, "n": 1})))
    }
}

pub(crate) fn json_of(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// Makes a consumer of events known while no server holds the folder, so that events are kept.
pub(crate) fn register_consumer(dir: &Path) {
    let data = Connection::open(dir.join("data.db")).unwrap();
    data.execute("INSERT INTO `_gs_consumers` VALUES ('test', 0, '*') ON CONFLICT DO NOTHING", []).unwrap();
}

/// The titles in the table and those in the create events, while no server holds the folder.
pub(crate) fn stored_titles(dir: &Path) -> (Vec<String>, Vec<String>) {
    let data = Connection::open(dir.join("data.db")).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = data.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let integrity = texts("PRAGMA integrity_check");
    assert_eq!(integrity, ["ok"]);
    (
        texts("SELECT `title` FROM `items`"),
        texts("SELECT json_extract(`after`, '$.title') FROM `_gs_outbox` WHERE `action` = 'create'"),
    )
}

/// Whether the long form was asked for.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("SOAK").is_some()
}
