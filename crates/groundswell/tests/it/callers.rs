//! Who asks, on routes to other servers: whom they let through, and what the servers are told.

use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Response, run};
use crate::upstreams::echo;

/// An application with two users, one of `users` and one of `staff`, in front of a server that answers what it got.
struct Edge {
    app: App,
    user: String,
    staff: String,
}

const ROUTES: &str = "[[gateway.routes]]\npath = \"/open/\"\nupstream = \"echo\"\n\
    [[gateway.routes]]\npath = \"/must/\"\nupstream = \"echo\"\nauth = \"required\"\n\
    [[gateway.routes]]\npath = \"/may/\"\nupstream = \"echo\"\nauth = \"optional\"\nauth_cookie = \"pb_auth\"\n\
    [[gateway.routes]]\npath = \"/staff/\"\nupstream = \"echo\"\nauth = \"required\"\ncollections = [\"staff\"]\n";

impl Edge {
    fn start() -> Edge {
        let config = format!("[gateway.upstreams.echo]\nservers = [\"http://{}\"]\n{ROUTES}", echo());
        let app = App::start_with_config(&config);
        app.done("POST", "/api/collections", &json!({"name": "staff", "type": "auth"}));
        for collection in ["users", "staff"] {
            let email = format!("{collection}@acme.test");
            let user = json!({"email": email, "password": "password-1", "passwordConfirm": "password-1"});
            app.done("POST", &format!("/api/collections/{collection}/records"), &user);
        }
        let user = app.sign_in("users", "users@acme.test");
        let staff = app.sign_in("staff", "staff@acme.test");
        Edge { app, user, staff }
    }

    fn get(&self, target: &str, headers: &[&str]) -> Response {
        self.app.server.request("GET", target, headers)
    }

    fn statuses(&self, target: &str) -> Vec<u16> {
        [&[][..], &["Authorization: nonsense"], &[&self.user], &[&self.staff]]
            .map(|headers| self.get(target, headers).status)
            .to_vec()
    }
}

/// The header of a name that the server got.
fn told(answer: &Response, name: &str) -> Option<String> {
    let text = answer.text();
    let mut lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

#[test]
fn a_route_lets_through_whom_it_says() {
    let edge = Edge::start();
    assert_eq!(edge.statuses("/open/"), [200, 200, 200, 200]);
    assert_eq!(edge.statuses("/must/"), [401, 401, 200, 200]);
    assert_eq!(edge.statuses("/may/"), [200, 200, 200, 200]);
    assert_eq!(edge.statuses("/staff/"), [401, 401, 403, 200]);
    let refused = edge.get("/must/", &[]);
    let shape =
        r#"{"data":{},"message":"The request requires valid record authorization token.","status":401}"#;
    assert_eq!((refused.text().as_str(), refused.header("www-authenticate").as_str()), (shape, "Bearer"));
    let bearer = edge.user.replace(": ", ": Bearer ");
    assert_eq!(edge.get("/must/", &[&bearer]).status, 200);
    assert_eq!(edge.get("/must/", &[&edge.user, &edge.user]).status, 400);
    let preflight = ["Origin: https://a.example", "Access-Control-Request-Method: POST"];
    assert_eq!(edge.app.server.request("OPTIONS", "/must/", &preflight).status, 200);
    assert_eq!(edge.app.server.request("OPTIONS", "/must/", &[]).status, 401);
}

#[test]
fn a_clients_token_goes_no_further_where_a_route_asks_for_it() {
    let edge = Edge::start();
    let user = edge.user.split_once(": ").unwrap().1;
    let answer = edge.get("/open/", &[&edge.user, "X-Groundswell-Caller: root"]);
    assert_eq!(told(&answer, "authorization").as_deref(), Some(user));
    assert_eq!(told(&answer, "x-groundswell-caller"), None);
    for target in ["/must/", "/may/"] {
        let answer = edge.get(target, &[&edge.user]);
        assert!(answer.status == 200 && !answer.text().contains(user), "{}", answer.text());
    }
    let answer = edge.get("/may/", &["Authorization: nonsense"]);
    assert_eq!(told(&answer, "authorization"), None);
    let cookie = format!("Cookie: a=1; pb_auth=%7B%22token%22%3A%22{user}%22%7D; b=2");
    let answer = edge.get("/may/", &[&cookie]);
    assert_eq!(told(&answer, "cookie").as_deref(), Some("a=1; b=2"));
}

#[test]
fn a_token_that_was_revoked_opens_no_route() {
    let edge = Edge::start();
    assert_eq!(edge.get("/must/", &[&edge.user]).status, 200);
    let users: Value = edge.app.done("GET", "/api/collections/users/records", &json!({}));
    let id = users["items"][0]["id"].as_str().unwrap();
    let password = json!({"password": "password-2", "passwordConfirm": "password-2"});
    edge.app.done("PATCH", &format!("/api/collections/users/records/{id}"), &password);
    assert_eq!(edge.get("/must/", &[&edge.user]).status, 401);
}

#[test]
fn what_a_route_asks_is_checked_when_it_is_configured() {
    let upstream = "[gateway.upstreams.a]\nservers = [\"http://a:1\"]\n[[gateway.routes]]\n";
    for (route, complaint) in [
        ("upstream = \"a\"\nauth = \"yes\"", "write required, optional or none"),
        ("upstream = \"a\"\ncollections = [\"users\"]", "does nothing without auth"),
        ("upstream = \"a\"\nauth = \"none\"\nauth_cookie = \"c\"", "does nothing without auth"),
        ("upstream = \"a\"\nauth = \"required\"\ncollections = []", "must name an auth collection"),
        ("upstream = \"a\"\nauth = \"required\"\nauth_cookie = \"a b\"", "write the name of a cookie"),
        ("services = true\nauth = \"required\"", "is for routes to an upstream"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("g.toml"), format!("{upstream}{route}\n")).unwrap();
        let output = run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}
