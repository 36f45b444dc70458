//! Who asks, on routes to other servers: whom they let through, and what the servers are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::caller_keys::KeySet;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::app::{App, json_of, wait_until};
use crate::server::{Response, run};
use crate::upstreams::{echo, read_head, reply, upstream};

/// An application with two users, one of `users` and one of `staff`, in front of a server that answers what it got.
struct Edge {
    app: App,
    user: String,
    staff: String,
}

const ROUTES: &str = "[[gateway.routes]]\npath = \"/open/\"\nupstream = \"echo\"\n\
    [[gateway.routes]]\npath = \"/must/\"\nupstream = \"echo\"\nauth = \"required\"\n\
    [[gateway.routes]]\npath = \"/may/\"\nupstream = \"echo\"\nauth = \"optional\"\nauth_cookie = \"pb_auth\"\n\
    token_fields = [\"email\", \"name\"]\n\
    [[gateway.routes]]\npath = \"/staff/\"\nupstream = \"echo\"\nauth = \"required\"\ncollections = [\"staff\"]\n";

impl Edge {
    fn start() -> Edge {
        Edge::start_with("")
    }

    fn start_with(more: &str) -> Edge {
        let config = format!("[gateway.upstreams.echo]\nservers = [\"http://{}\"]\n{ROUTES}{more}", echo());
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

    /// The token that the server got with this header of a client.
    fn token(&self, target: &str, header: &str) -> String {
        let answer = self.get(target, &[header]);
        let token = told(&answer, "authorization").unwrap_or_else(|| panic!("{}", answer.text()));
        token.strip_prefix("Bearer ").unwrap().to_owned()
    }

    fn jwks(&self) -> Value {
        json_of(&self.get("/api/gs/jwks", &[]))
    }

    fn statuses(&self, target: &str) -> Vec<u16> {
        [&[][..], &["Authorization: nonsense"], &[&self.user], &[&self.staff]]
            .map(|headers| self.get(target, headers).status)
            .to_vec()
    }
}

/// What a token says, verified as a server does it: by the published key that its header names.
fn verified(token: &str, jwks: &Value) -> Value {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{token}") };
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let json = |text: &str| serde_json::from_slice::<Value>(&decode(text)).unwrap();
    let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == json(header)["kid"]).unwrap();
    assert_eq!((&json(header)["alg"], &key["alg"]), (&json!("ES256"), &json!("ES256")));
    let coordinate = |name: &str| decode(key[name].as_str().unwrap());
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let signed = format!("{header}.{payload}");
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(signed.as_bytes(), &decode(signature)).unwrap();
    json(payload)
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
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
fn a_server_is_told_who_calls_by_a_token_of_its_own() {
    let edge = Edge::start();
    let jwks = edge.jwks();
    let claims = verified(&edge.token("/must/", &edge.user), &jwks);
    let users = edge.app.done("GET", "/api/collections/users/records", &json!({}));
    assert_eq!(claims["sub"], users["items"][0]["id"]);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("groundswell"), &json!("echo")));
    assert_eq!(claims["collection"], "users");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert_eq!(claims.get("email"), None);
    let claims = verified(&edge.token("/may/", &edge.user), &jwks);
    assert_eq!((&claims["email"], &claims["name"]), (&json!("users@acme.test"), &json!("")));
    // A client that would have the header dropped on the way only keeps its own from the server.
    let answer = edge.get("/must/", &[&edge.user, "Connection: authorization"]);
    assert!(told(&answer, "authorization").is_some(), "{}", answer.text());
    let change = json!({"name": "Ann"});
    let id = claims["sub"].as_str().unwrap();
    edge.app.done("PATCH", &format!("/api/collections/users/records/{id}"), &change);
    assert_eq!(verified(&edge.token("/may/", &edge.user), &jwks)["name"], "Ann");
    assert_eq!(verified(&edge.token("/staff/", &edge.staff), &jwks)["collection"], "staff");
}

#[test]
fn keys_are_published_where_servers_look_for_them() {
    let edge = Edge::start();
    let known = edge.get("/.well-known/jwks.json", &[]);
    assert_eq!(json_of(&known), edge.jwks());
    assert_eq!(known.header("cache-control"), "public, max-age=300");
    let key = &edge.jwks()["keys"][0];
    assert_eq!(key.get("d"), None);
    // A file of the public folder is not shadowed.
    let folder = edge.app.server.folder().join("gs_public/.well-known");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("jwks.json"), "mine").unwrap();
    assert_eq!(edge.get("/.well-known/jwks.json", &[]).text(), "mine");
    assert_eq!(edge.get("/api/gs/jwks", &[]).status, 200);
    // Where no route asks, there are no keys.
    let plain = App::start();
    assert_eq!(plain.server.get("/api/gs/jwks").status, 404);
    assert_eq!(plain.server.get("/.well-known/jwks.json").status, 404);
}

#[test]
fn keys_outlive_the_process_and_come_with_the_first_route_that_asks() {
    let folder_of = |app: &App| app.server.folder().join("g.toml");
    let upstream = format!("[gateway.upstreams.echo]\nservers = [\"http://{}\"]\n", echo());
    let app = App::start_with_config(&upstream);
    assert_eq!(app.server.get("/api/gs/jwks").status, 404);
    std::fs::write(folder_of(&app), format!("{upstream}{ROUTES}")).unwrap();
    wait_until("keys", || app.server.get("/api/gs/jwks").status == 200);
    let before = app.server.get("/api/gs/jwks").text();
    let server = app.server.restart_with_flags(&["--config", "g.toml"]);
    assert_eq!(server.get("/api/gs/jwks").text(), before);
}

#[test]
fn a_new_key_is_published_before_it_signs_and_the_old_one_stays() {
    let edge = Edge::start_with(
        "[gateway.tokens]\nrotate_every = \"4s\"\nlifetime = \"2s\"\nissuer = \"https://app.example\"\n",
    );
    let first = kid(&edge.token("/must/", &edge.user));
    let published = || {
        let jwks = edge.jwks();
        let keys = jwks["keys"].as_array().unwrap();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // One that was published a moment ago may sign only later.
    wait_until("a token of the second key", || {
        let begun = Instant::now();
        let known = published();
        let signer = kid(&edge.token("/must/", &edge.user));
        assert!(known.contains(&signer) || begun.elapsed() > Duration::from_millis(500));
        signer != first
    });
    assert_eq!(published()[0], first);
    assert_eq!(verified(&edge.token("/must/", &edge.user), &edge.jwks())["iss"], "https://app.example");
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
        ("upstream = \"a\"\nauth = \"required\"\ntoken_fields = [\"sub\"]", "leave it out"),
        ("upstream = \"a\"\nauth = \"required\"\ntoken_fields = [\"tokenKey\"]", "leave it out"),
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

/// A token of an identity provider.
fn external(keys: &KeySet, changes: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut claims = json!({
        "iss": "https://id.example", "aud": ["shop"], "sub": "u1", "exp": now + 300, "email": "u1@id.example"
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    format!("Authorization: Bearer {}", keys.sign(&claims.to_string(), now).unwrap())
}

fn external_routes(keys: &str) -> String {
    let route = "[[gateway.routes]]\nupstream = \"echo\"\nidentity = \"corp\"\n";
    format!(
        "[outbound]\nallow = [\"127.0.0.1\"]\n[gateway.identity_providers.corp]\nissuer = \"https://id.example\"\n\
         audience = [\"shop\"]\n{keys}\n\
         {route}path = \"/corp/\"\nauth = \"required\"\ntoken_fields = [\"email\"]\n\
         {route}path = \"/same/\"\nauth = \"required\"\nforward = \"original\"\n\
         {route}path = \"/perhaps/\"\nauth = \"optional\"\n"
    )
}

#[test]
fn an_identity_provider_may_vouch_for_callers() {
    let keys = KeySet::generate(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, keys.jwks()).unwrap();
    let edge = Edge::start_with(&external_routes(&format!("jwks_file = \"{}\"", file.display())));
    let caller = external(&keys, &json!({}));
    wait_until("keys", || edge.get("/corp/", &[&caller]).status != 503);
    let claims = verified(&edge.token("/corp/", &caller), &edge.jwks());
    for (name, expected) in [
        ("iss", "groundswell"),
        ("aud", "echo"),
        ("sub", "u1"),
        ("provider", "corp"),
        ("iss_original", "https://id.example"),
        ("email", "u1@id.example"),
    ] {
        assert_eq!(claims[name], expected, "{name}");
    }
    assert_eq!(claims.get("collection"), None);
    let original = caller.split_once("Bearer ").unwrap().1;
    assert_eq!(edge.token("/same/", &caller), original);
    let refused = [
        edge.user.clone(),
        external(&keys, &json!({"exp": 1})),
        external(&keys, &json!({"aud": "other"})),
        external(&keys, &json!({"iss": "https://other.example"})),
        external(&KeySet::generate(0), &json!({})),
    ];
    for header in &refused {
        let answer = edge.get("/corp/", &[header]);
        assert_eq!(answer.status, 401, "{header}");
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        let guest = edge.get("/perhaps/", &[header]);
        assert_eq!((guest.status, told(&guest, "authorization")), (200, None));
    }
    assert_eq!(edge.get("/corp/", &[&caller, &caller]).status, 400);
    // Whom a provider vouches for is nobody to the application.
    assert_eq!(edge.get("/must/", &[&caller]).status, 401);
}

#[test]
fn without_keys_nobody_is_refused_for_good() {
    let keys = KeySet::generate(0);
    let (is_up, jwks) = (Arc::<AtomicBool>::default(), keys.jwks().to_owned());
    let seen = is_up.clone();
    let provider = upstream(move |stream| {
        while read_head(stream).is_some() {
            let status = if seen.load(Ordering::SeqCst) { 200 } else { 500 };
            reply(stream, status, &jwks);
        }
    });
    let edge = Edge::start_with(&external_routes(&format!("jwks = \"http://{provider}/jwks.json\"")));
    let caller = external(&keys, &json!({}));
    let answer = edge.get("/corp/", &[&caller]);
    assert_eq!((answer.status, answer.header("retry-after").as_str()), (503, "1"));
    is_up.store(true, Ordering::SeqCst);
    wait_until("keys", || edge.get("/corp/", &[&caller]).status == 200);
}

#[test]
fn an_identity_provider_is_checked_when_it_is_configured() {
    let provider =
        "[gateway.identity_providers.p]\nissuer = \"i\"\naudience = [\"a\"]\njwks = \"https://i/jwks\"\n";
    let route = "[gateway.upstreams.u]\nservers = [\"http://a:1\"]\n[[gateway.routes]]\nupstream = \"u\"\nauth = \"required\"\n";
    for (config, complaint) in [
        (provider.replace("issuer = \"i\"\n", ""), "issuer: is missing"),
        (provider.replace("audience = [\"a\"]\n", ""), "audience: is missing"),
        (provider.replace("https://i/jwks", "i"), "begin it with `https://`"),
        (format!("{provider}jwks_file = \"f\"\n"), "write one of jwks"),
        (format!("{provider}algorithms = [\"HS256\"]\n"), "\"HS256\" is not right"),
        (format!("{provider}algorithms = [\"none\"]\n"), "\"none\" is not right"),
        (format!("{provider}clock_skew = \"1h\"\n"), "ten minutes at most"),
        (format!("{route}identity = \"p\"\n"), "there is no identity provider \"p\""),
        (
            format!("{provider}{route}identity = \"p\"\ncollections = [\"users\"]\n"),
            "are the application's own",
        ),
        (format!("{route}forward = \"original\"\n"), "never reach a server"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("g.toml"), &config).unwrap();
        let output = run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}
