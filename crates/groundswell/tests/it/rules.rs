//! Which rules cost a query: the everyday ones none. `GET /api/gs/status` counts both kinds.

use std::collections::BTreeMap;

use crate::server::{Response, Server, run};

/// Rules as apps have them. Each is judged twice: a request that it allows, one that it does not.
#[test]
fn everyday_rules_are_decided_in_memory() {
    let app = App::start();
    let start = app.counts();
    let mut judgements = 0;
    for (action, rule, allowed, denied) in everyday_rules() {
        app.set_rule(action, rule);
        for (ask, is_allowed) in [(denied, false), (allowed, true)] {
            let before = app.counts();
            let answer = app.ask(action, &ask);
            let expected = if is_allowed { action.allowed() } else { action.denied() };
            assert_eq!(answer.status, expected, "{action:?} {rule} {ask:?}: {}", answer.text());
            judgements += 1;
            let expected = Counts { in_memory: before.in_memory + 1, ..before };
            assert_eq!(app.counts(), expected, "{action:?} {rule} {ask:?}");
        }
    }
    let expected = Counts { in_memory: start.in_memory + judgements, left_to_store: start.left_to_store };
    assert_eq!(app.counts(), expected);
}

#[test]
fn a_rule_that_asks_for_other_records_is_left_to_the_store() {
    let app = App::start();
    for (action, rule, ask) in [
        (Action::View, "owner.role = 'admin'", ann()),
        (Action::View, "@collection.members.team ?= team", guest()),
        (Action::View, "tasks_via_note.id = ''", guest()),
        (Action::View, "@request.auth.tasks_via_note.id = '' && owner.team = team", ann()),
        (Action::Create, "owner.team = @request.auth.team", ann().body(r#"{"owner":"ann000000000001"}"#)),
        (Action::Update, "editors.role ?= 'admin'", bob()),
        (Action::Delete, "@request.auth.id != '' && owner.team = 'red'", bob()),
    ] {
        app.set_rule(action, rule);
        let before = app.counts();
        let answer = app.ask(action, &ask);
        assert_eq!(answer.status, action.allowed(), "{action:?} {rule}: {}", answer.text());
        let expected = Counts { left_to_store: before.left_to_store + 1, ..before };
        assert_eq!(app.counts(), expected, "{action:?} {rule}");
    }
}

fn everyday_rules() -> Vec<(Action, &'static str, Ask, Ask)> {
    use Action::{Create, Delete, Update, View};
    vec![
        // Who asks.
        (View, "@request.auth.id != ''", ann(), guest()),
        (View, "owner = @request.auth.id", ann(), bob()),
        (View, "@request.auth.id != '' && owner = @request.auth.id", ann(), guest()),
        (View, "public = true || owner = @request.auth.id", guest().other(), guest()),
        (View, "owner != @request.auth.id", bob(), ann()),
        (View, "@request.auth.role = 'admin'", ann(), bob()),
        (View, "@request.auth.roles ~ 'editor'", ann(), bob()),
        (View, "@request.auth.roles:each ?= 'editor'", ann(), bob()),
        (View, "@request.auth.roles:length > 1", ann(), bob()),
        (View, "@request.auth.verified = true", ann(), bob()),
        (View, "@request.auth.email ~ '@acme.test'", ann(), bob()),
        (View, "@request.auth.collectionName = 'members'", ann(), guest()),
        (View, "@request.auth.team = team", ann(), bob()),
        (View, "@request.auth.level >= score", ann(), bob()),
        (View, "@request.auth.prefs.beta = true", ann(), bob()),
        (
            View,
            "owner != '' && ((@request.auth.role = 'admin' && team = 'red') || \
             (@request.auth.role = 'reader' && (team = 'blue' || public = true)))",
            ann(),
            bob(),
        ),
        // What the record holds, its lists among it.
        (View, "status = 'open'", guest(), guest().other()),
        (View, "score > 5 && score <= 7", guest(), guest().other()),
        (View, "title:lower = 'plan'", guest(), guest().other()),
        (View, "title !~ 'oth' && title ~ 'p%n'", guest(), guest().other()),
        (View, "editors ~ @request.auth.id", ann(), ann().other()),
        (View, "editors.id ?= @request.auth.id", ann(), ann().other()),
        (View, "editors:each ?= @request.auth.id", ann(), ann().other()),
        (View, "editors:length > 1", guest(), guest().other()),
        (View, "tags:each ?= 'a'", guest(), guest().other()),
        (View, "tags:each != 'c'", guest(), guest().other()),
        (View, "tags ~ 'b'", guest(), guest().other()),
        (View, "tags:length = 2", guest(), guest().other()),
        (View, "meta.kind = 'x'", guest(), guest().other()),
        (View, "meta.list.1 = 2", guest(), guest().other()),
        (View, "geoDistance(place.lon, place.lat, 23.3, 42.7) < 25", guest(), guest().other()),
        // When.
        (View, "due > @now", guest(), guest().other()),
        (View, "due >= @todayStart && created <= @todayEnd", guest(), guest().other()),
        (View, "strftime('%Y', due) = '2999'", guest(), guest().other()),
        // How it is asked.
        (View, "@request.query.share = title", guest().query("share=Plan"), guest().query("share=No")),
        (View, "@request.query.share:isset = true", guest().query("share="), guest()),
        (View, "@request.headers.x_key = 'k1'", guest().header("X-Key: k1"), guest().header("X-Key: k2")),
        (
            View,
            "@request.method = 'GET' && @request.context = 'default' && score = 7",
            guest(),
            guest().other(),
        ),
        // A new record.
        (
            Create,
            "@request.auth.id != '' && owner = @request.auth.id",
            ann().body(r#"{"owner":"ann000000000001"}"#),
            bob().body(r#"{"owner":"ann000000000001"}"#),
        ),
        (
            Create,
            "@request.body.owner = @request.auth.id",
            ann().body(r#"{"owner":"ann000000000001"}"#),
            ann().body(r#"{"owner":"bob000000000001"}"#),
        ),
        (
            Create,
            "@request.body.status:isset = false || @request.auth.role = 'admin'",
            bob().body(r#"{"title":"x"}"#),
            bob().body(r#"{"status":"open"}"#),
        ),
        (
            Create,
            "@request.body.tags:length <= 2 && @request.body.tags:each != 'c'",
            guest().body(r#"{"tags":["a","b"]}"#),
            guest().body(r#"{"tags":["a","c"]}"#),
        ),
        (
            Create,
            "@request.body.title:lower = 'plan' && title != ''",
            guest().body(r#"{"title":"PLAN"}"#),
            guest().body(r#"{"title":"x"}"#),
        ),
        (
            Create,
            "@request.body.meta.kind = 'x'",
            guest().body(r#"{"meta":{"kind":"x"}}"#),
            guest().body(r#"{"meta":{"kind":"y"}}"#),
        ),
        (
            Create,
            "@request.auth.verified = true && public = false && team = @request.auth.team",
            ann().body(r#"{"team":"red"}"#),
            ann().body(r#"{"team":"red","public":true}"#),
        ),
        (
            Create,
            "editors.id ?= @request.auth.id && tags:length = 1 && score >= 0",
            ann().body(r#"{"editors":["ann000000000001"],"tags":["a"]}"#),
            ann().body(r#"{"editors":["bob000000000001"],"tags":["a"]}"#),
        ),
        // A change.
        (
            Update,
            "owner = @request.auth.id && @request.body.owner:isset = false",
            ann().body(r#"{"title":"x"}"#),
            ann().body(r#"{"owner":"ann000000000001"}"#),
        ),
        (
            Update,
            "@request.body.owner:changed = false",
            guest().body(r#"{"owner":"ann000000000001"}"#),
            guest().body(r#"{"owner":"bob000000000001"}"#),
        ),
        (Update, "locked = false || @request.auth.role = 'admin'", ann().other(), bob().other()),
        (
            Update,
            "@request.body.status != 'closed' || @request.auth.role = 'admin'",
            bob().body(r#"{"status":"draft"}"#),
            bob().body(r#"{"status":"closed"}"#),
        ),
        (
            Update,
            "@request.body.tags:each ?= 'a'",
            guest().body(r#"{"tags":["a","c"]}"#),
            guest().body(r#"{"tags":["c"]}"#),
        ),
        (
            Update,
            "@request.body.tags:length = tags:length",
            guest().body(r#"{"tags":["b","c"]}"#),
            guest().body(r#"{"tags":["b"]}"#),
        ),
        (
            Update,
            "@request.body.score > score",
            guest().body(r#"{"score":8}"#),
            guest().body(r#"{"score":6}"#),
        ),
        (
            Update,
            "status = 'open' && @request.body.status ?= 'closed' && editors.id ?= @request.auth.id",
            bob().body(r#"{"status":"closed"}"#),
            bob().body(r#"{"status":"draft"}"#),
        ),
        (Update, "@request.query.force = '1' && team = @request.auth.team", ann().query("force=1"), ann()),
        // An end.
        (Delete, "owner = @request.auth.id", ann(), bob()),
        (Delete, "status != 'closed' && created >= @yesterday", guest(), guest().other()),
        (
            Delete,
            "@request.auth.role = 'admin' || (owner = @request.auth.id && locked = false)",
            ann().other(),
            bob().other(),
        ),
        (Delete, "@request.query.confirm = 'yes'", guest().query("confirm=yes"), guest()),
        (Delete, "editors.id ?= @request.auth.id && tags:length > 0", ann(), ann().other()),
    ]
}

/// The record that requests are about, unless they say [`Ask::other`].
const NOTE: &str = r#"{"id":"note00000000001","owner":"ann000000000001","editors":["ann000000000001","bob000000000001"],
    "public":false,"locked":false,"status":"open","tags":["a","b"],"team":"red","title":"Plan","score":7,
    "meta":{"kind":"x","list":[1,2]},"place":{"lon":23.32,"lat":42.69},"due":"2999-05-05 10:00:00.000Z"}"#;
const OTHER: &str = r#"{"id":"note00000000002","owner":"bob000000000001","editors":["bob000000000001"],
    "public":true,"locked":true,"status":"closed","tags":["c"],"team":"blue","title":"Other","score":1,
    "meta":{"kind":"y","list":[]},"place":{"lon":0,"lat":0},"due":"2001-05-05 10:00:00.000Z"}"#;

const ANN: &str = r#"{"id":"ann000000000001","email":"ann@acme.test","password":"password-1","passwordConfirm":"password-1",
    "verified":true,"role":"admin","roles":["editor","author"],"team":"red","level":7,"prefs":{"beta":true}}"#;
const BOB: &str = r#"{"id":"bob000000000001","email":"bob@else.test","password":"password-1","passwordConfirm":"password-1",
    "verified":false,"role":"reader","roles":[],"team":"blue","level":1,"prefs":{}}"#;

const MEMBERS: &str = r#"{"name":"members","type":"auth","fields":[
    {"name":"role","type":"select","values":["admin","reader"]},
    {"name":"roles","type":"select","maxSelect":3,"values":["editor","author","guest"]},
    {"name":"team","type":"text"},{"name":"level","type":"number"},{"name":"prefs","type":"json"}]}"#;
/// `MEMBERS` stands for the id of that collection.
const NOTES: &str = r#"{"name":"notes","fields":[
    {"name":"owner","type":"relation","collectionId":"MEMBERS"},
    {"name":"editors","type":"relation","collectionId":"MEMBERS","maxSelect":5},
    {"name":"public","type":"bool"},{"name":"locked","type":"bool"},
    {"name":"status","type":"select","values":["draft","open","closed"]},
    {"name":"tags","type":"select","maxSelect":3,"values":["a","b","c"]},
    {"name":"team","type":"text"},{"name":"title","type":"text"},{"name":"score","type":"number"},
    {"name":"meta","type":"json"},{"name":"place","type":"geoPoint"},{"name":"due","type":"date"},
    {"name":"created","type":"autodate","onCreate":true}]}"#;
const TASKS: &str = r#"{"name":"tasks","fields":[{"name":"note","type":"relation","collectionId":"NOTES"}]}"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    View,
    Create,
    Update,
    Delete,
}

/// One request.
#[derive(Debug, Clone)]
struct Ask {
    caller: &'static str,
    id: &'static str,
    query: &'static str,
    header: Option<&'static str>,
    body: &'static str,
}

/// What the evaluator did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    in_memory: u64,
    left_to_store: u64,
}

/// A server with two members and two notes.
struct App {
    server: Server,
    /// The header by which each caller is known.
    authorization: BTreeMap<&'static str, String>,
}

fn guest() -> Ask {
    Ask { caller: "guest", id: "note00000000001", query: "", header: None, body: "{}" }
}

fn ann() -> Ask {
    Ask { caller: "ann", ..guest() }
}

fn bob() -> Ask {
    Ask { caller: "bob", ..guest() }
}

// === impl Action ===

impl Action {
    fn method(self) -> &'static str {
        match self {
            Action::View => "GET",
            Action::Create => "POST",
            Action::Update => "PATCH",
            Action::Delete => "DELETE",
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Action::View => "viewRule",
            Action::Create => "createRule",
            Action::Update => "updateRule",
            Action::Delete => "deleteRule",
        }
    }

    fn allowed(self) -> u16 {
        if self == Action::Delete { 204 } else { 200 }
    }

    /// A rule's no is a 404 where there is a record that it may not betray.
    fn denied(self) -> u16 {
        if self == Action::Create { 400 } else { 404 }
    }
}

// === impl Ask ===

impl Ask {
    fn other(self) -> Ask {
        Ask { id: "note00000000002", ..self }
    }

    fn query(self, query: &'static str) -> Ask {
        Ask { query, ..self }
    }

    fn header(self, header: &'static str) -> Ask {
        Ask { header: Some(header), ..self }
    }

    fn body(self, body: &'static str) -> Ask {
        Ask { body, ..self }
    }
}

// === impl App ===

impl App {
    fn start() -> App {
        let server = Server::start(&[]);
        let upsert = run(&server.folder(), &["superuser", "upsert", "root@acme.test", "password-1"]);
        assert!(upsert.status.success());
        let mut app = App { server, authorization: BTreeMap::new() };
        app.sign_in("root", "_superusers", "root@acme.test");
        let members = app.make("/api/collections", MEMBERS);
        let notes = app.make("/api/collections", &NOTES.replace("MEMBERS", &members));
        app.make("/api/collections", &TASKS.replace("NOTES", &notes));
        for (name, member, email) in [("ann", ANN, "ann@acme.test"), ("bob", BOB, "bob@else.test")] {
            app.make("/api/collections/members/records", member);
            app.sign_in(name, "members", email);
        }
        app.make_notes();
        app
    }

    fn sign_in(&mut self, name: &'static str, collection: &str, email: &str) {
        let body = format!(r#"{{"identity":"{email}","password":"password-1"}}"#);
        let target = format!("/api/collections/{collection}/auth-with-password");
        let token = self.server.send_json("POST", &target, &[], &body).value("token");
        self.authorization.insert(name, format!("Authorization: {token}"));
    }

    /// As the superuser, whom no rule binds.
    fn send(&self, method: &str, target: &str, body: &str) -> Response {
        self.server.send_json(method, target, &[&self.authorization["root"]], body)
    }

    /// Makes a collection or a record, and gives its id.
    fn make(&self, target: &str, body: &str) -> String {
        let answer = self.send("POST", target, body);
        assert_eq!(answer.status, 200, "{target} {body}: {}", answer.text());
        answer.value("id")
    }

    fn make_notes(&self) {
        for note in [NOTE, OTHER] {
            self.make("/api/collections/notes/records", note);
        }
    }

    /// Sets the rule of an action over the notes, which are again as they were at first.
    fn set_rule(&self, action: Action, rule: &str) {
        let body = format!(r#"{{"{}":"{rule}"}}"#, action.rule());
        let answer = self.send("PATCH", "/api/collections/notes", &body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        assert_eq!(self.send("DELETE", "/api/collections/notes/truncate", "").status, 204);
        self.make_notes();
    }

    fn ask(&self, action: Action, ask: &Ask) -> Response {
        let Ask { caller, id, query, header, body } = ask;
        let id = if action == Action::Create { String::new() } else { format!("/{id}") };
        let target = format!("/api/collections/notes/records{id}?{query}");
        let authorization = self.authorization.get(caller).map(String::as_str);
        let headers: Vec<&str> = authorization.into_iter().chain(*header).collect();
        self.server.send_json(action.method(), &target, &headers, body)
    }

    fn counts(&self) -> Counts {
        let status = self.send("GET", "/api/gs/status", "");
        let count = |key| status.value(key).parse().unwrap();
        Counts { in_memory: count("decidedInMemory"), left_to_store: count("leftToStore") }
    }
}
