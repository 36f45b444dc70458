//! A PocketBase of one test, spoken to as its superuser.

use model::json::Json;
use testkit::{Client, ROOT_EMAIL, ROOT_PASSWORD, Request, Server};

/// A running server; stopped and removed when dropped.
pub(crate) struct PocketBase {
    client: Client,
    token: String,
    _server: Server,
}

impl PocketBase {
    /// Starts one; gives nothing where there is none.
    pub(crate) fn start() -> Option<PocketBase> {
        testkit::PocketBase::binary().ok()?;
        let server = testkit::PocketBase::start().unwrap();
        let mut pocketbase = PocketBase { client: server.client(), token: String::new(), _server: server };
        let path = "/api/collections/_superusers/auth-with-password";
        let body = format!(r#"{{"identity":"{ROOT_EMAIL}","password":"{ROOT_PASSWORD}"}}"#);
        let (_, answer) = pocketbase.send("POST", path, &body);
        let answer = Json::parse_whole(&answer).unwrap();
        pocketbase.token = answer.get("token").and_then(Json::as_str).unwrap().to_owned();
        Some(pocketbase)
    }

    /// As [`PocketBase::start`], and says so where there is none, which a CI run does not accept.
    pub(crate) fn start_or_skip() -> Option<PocketBase> {
        if let Err(missing) = testkit::PocketBase::binary() {
            assert!(!testkit::is_ci(), "{missing}");
            println!("skipped: {missing}");
        }
        PocketBase::start()
    }

    /// The status and the body of an answer to a JSON request.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::new(method, path).header("Authorization", &self.token).json(body);
        let answer = self.client.send(&request).unwrap();
        (answer.status, answer.text())
    }
}
