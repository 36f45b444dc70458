//! Rules that are slow in PocketBase, timed there and here on the same file. Run by hand:
//! `POCKETBASE_BIN=… cargo test --release -p store --test filter -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::time::Instant;

use model::context::{Caller, RequestContext, RuleBody};
use model::filter::{Scope, check};
use model::json::Json;
use model::time::Timestamp;
use rusqlite::{Connection, params, params_from_iter};
use store::sqlite::filter_sql::{self, Expected, Root, RootKind};

use crate::pocketbase::PocketBase;
use crate::tables;

const RULES: &[&str] = &[
    "",
    "owner = @request.auth.id",
    "team.members.id ?= @request.auth.id",
    "members.id ?= @request.auth.id",
    "members ~ @request.auth.id",
    "team.memberships_via_team.user ?= @request.auth.id",
    "team.memberships_via_team.user ?= @request.auth.id && team.memberships_via_team.role ?= 'owner'",
    "team.groups_via_teams.user ?= @request.auth.id",
    "@collection.memberships.team ?= team && @collection.memberships.user ?= @request.auth.id",
    "owner = @request.auth.id || team.members.id ?= @request.auth.id",
    "team.name = 'team7'",
    "team.members.name ?~ 'user1'",
    "team.members.name != 'user1'",
    "@request.auth.memberships_via_user.team ?= team",
];

#[test]
#[ignore = "takes minutes and prints times"]
fn speed() {
    let Some(server) = PocketBase::start() else { return };
    fill(&server);
    let db = Connection::open(server.database()).unwrap();
    filter_sql::add_functions(&db).unwrap();
    let answer = server.ask("GET", "/api/collections?perPage=200&sort=@rowid", None);
    let schema = tables::schema(answer.get("items").unwrap());
    let token = server.sign_in("users", "u@example.com");
    let user = tables::records(&db, schema.find("users").unwrap())
        .into_iter()
        .find(|record| record.get("email").as_str() == "u@example.com")
        .unwrap();
    let caller = Caller::Record(Arc::new(user));
    for rule in RULES {
        let body = format!(r#"{{"listRule":{}}}"#, Json::from(*rule));
        server.ask("PATCH", "/api/collections/tasks", Some(&body));
        let theirs = |query: &str| {
            let path = format!("/api/collections/tasks/records?perPage=30&fields=id&{query}");
            least(|| {
                server.call("GET", &path, &token, None).1.get("totalItems").and_then(Json::as_number).unwrap()
            })
        };
        let (their_page, _) = theirs("skipTotal=1");
        let (their_total, total) = theirs("");
        let mut condition = filter_sql::Fragment { sql: "1".to_owned(), values: Vec::new() };
        if !rule.is_empty() {
            let filter = check(&schema, schema.find("tasks").unwrap(), rule, Scope::Rule).unwrap();
            let context = RequestContext { caller: caller.clone(), ..RequestContext::guest(Timestamp(0)) };
            let root = Root { alias: "r", kind: RootKind::Table, expected: Expected::Many };
            condition = filter_sql::condition(&filter, &context, &RuleBody::default(), root);
        }
        let page = format!("SELECT * FROM tasks AS r WHERE {} ORDER BY r.rowid LIMIT 30", condition.sql);
        let count = format!("SELECT count(*) FROM tasks AS r WHERE {}", condition.sql);
        let (our_page, _) = least(|| {
            let mut statement = db.prepare_cached(&page).unwrap();
            let mut rows = statement.query(params_from_iter(&condition.values)).unwrap();
            let mut found = 0.0;
            while rows.next().unwrap().is_some() {
                found += 1.0;
            }
            found
        });
        let (our_count, found) = least(|| {
            let mut statement = db.prepare_cached(&count).unwrap();
            statement.query_row(params_from_iter(&condition.values), |row| row.get::<_, f64>(0)).unwrap()
        });
        assert_eq!(found, total, "{rule}");
        println!(
            "{their_page:9.2} {their_total:9.2} | {our_page:8.2} {:8.2} ms | {found} | {rule}",
            our_page + our_count
        );
    }
}

/// The least time of a few, in milliseconds.
fn least<T>(mut run: impl FnMut() -> T) -> (f64, T) {
    let mut best = f64::MAX;
    let mut last = run();
    for _ in 0..4 {
        let start = Instant::now();
        last = run();
        best = best.min(start.elapsed().as_secs_f64() * 1000.0);
    }
    (best, last)
}

fn fill(server: &PocketBase) {
    let create = |body: &str| {
        let answer = server.ask("POST", "/api/collections", Some(body));
        answer.get("id").and_then(Json::as_str).unwrap().to_owned()
    };
    let teams = create(
        r#"{"name":"teams","type":"base","fields":[{"type":"text","name":"name"},{"type":"relation","name":"members","collectionId":"_pb_users_auth_","maxSelect":99}]}"#,
    );
    create(&format!(
        r#"{{"name":"tasks","type":"base","fields":[{{"type":"text","name":"title"}},{{"type":"relation","name":"team","collectionId":"{teams}"}},{{"type":"relation","name":"owner","collectionId":"_pb_users_auth_"}},{{"type":"relation","name":"members","collectionId":"_pb_users_auth_","maxSelect":99}}]}}"#
    ));
    create(&format!(
        r#"{{"name":"memberships","type":"base","fields":[{{"type":"relation","name":"team","collectionId":"{teams}"}},{{"type":"relation","name":"user","collectionId":"_pb_users_auth_"}},{{"type":"text","name":"role"}}]}}"#
    ));
    create(&format!(
        r#"{{"name":"groups","type":"base","fields":[{{"type":"relation","name":"teams","collectionId":"{teams}","maxSelect":99}},{{"type":"relation","name":"user","collectionId":"_pb_users_auth_"}}]}}"#
    ));
    server.ask("POST", "/api/collections/users/records", Some(r#"{"id":"user00000000000","email":"u@example.com","password":"1234567890","passwordConfirm":"1234567890"}"#));
    let mut db = Connection::open(server.database()).unwrap();
    let id = |kind: &str, number: usize| format!("{kind:0<10}{number:05}");
    let list = |kind: &str, numbers: &[usize]| {
        let ids: Vec<String> = numbers.iter().map(|number| format!("\"{}\"", id(kind, *number))).collect();
        format!("[{}]", ids.join(","))
    };
    let write = db.transaction().unwrap();
    for number in 1..500 {
        write
            .execute(
                "INSERT INTO users (id, name, email, tokenKey, password) VALUES (?, ?, ?, ?, '')",
                params![
                    id("user", number),
                    format!("user{number}"),
                    format!("{number}@x.co"),
                    id("key", number)
                ],
            )
            .unwrap();
    }
    for number in 0..1000 {
        let members: Vec<usize> = (0..8).map(|step| (number * 7 + step * 61) % 500).collect();
        write
            .execute(
                "INSERT INTO teams (id, name, members) VALUES (?, ?, ?)",
                params![id("team", number), format!("team{number}"), list("user", &members)],
            )
            .unwrap();
    }
    for number in 0..20_000 {
        let members: Vec<usize> = (0..6).map(|step| (number * 13 + step * 37) % 500).collect();
        write
            .execute(
                "INSERT INTO tasks (id, title, team, owner, members) VALUES (?, ?, ?, ?, ?)",
                params![
                    id("task", number),
                    format!("task {number}"),
                    id("team", number % 1000),
                    id("user", number % 500),
                    list("user", &members)
                ],
            )
            .unwrap();
    }
    for number in 0..8_000 {
        write
            .execute(
                "INSERT INTO memberships (id, team, user, role) VALUES (?, ?, ?, ?)",
                params![
                    id("mem", number),
                    id("team", number % 1000),
                    id("user", (number * 7) % 500),
                    if number % 3 == 0 { "owner" } else { "" }
                ],
            )
            .unwrap();
    }
    for number in 0..1_000 {
        let teams: Vec<usize> = (0..5).map(|step| (number * 11 + step * 17) % 1000).collect();
        write
            .execute(
                "INSERT INTO groups (id, teams, user) VALUES (?, ?, ?)",
                params![id("group", number), list("team", &teams), id("user", number % 500)],
            )
            .unwrap();
    }
    write.commit().unwrap();
}

/// What judging and rendering cost by themselves.
#[test]
#[ignore = "prints times"]
fn speed_in_memory() {
    let schema = tables::schema(
        &Json::parse_whole(
            r#"[{"id":"u","name":"users","type":"auth","fields":[{"type":"text","name":"id","primaryKey":true},{"type":"text","name":"role"}]},
                {"id":"t","name":"teams","type":"base","fields":[{"type":"text","name":"id","primaryKey":true},{"type":"relation","name":"members","collectionId":"u","maxSelect":9}]},
                {"id":"m","name":"main","type":"base","fields":[{"type":"text","name":"id","primaryKey":true},{"type":"text","name":"title"},{"type":"bool","name":"open"},{"type":"json","name":"j"},{"type":"relation","name":"owner","collectionId":"u"},{"type":"relation","name":"members","collectionId":"u","maxSelect":9},{"type":"relation","name":"team","collectionId":"t"}]}]"#,
        )
        .unwrap(),
    );
    let main = schema.find("main").unwrap();
    let mut record = model::record::Record::empty(main.clone());
    let text = |text: &str| model::value::Value::Text(text.to_owned());
    let id = |number: usize| format!("user0000000000{number}");
    record.set("id", text("main00000000001"));
    record.set("title", text("A title of some length"));
    record.set("owner", text(&id(2)));
    record.set("members", model::value::Value::from_list(&[id(3), id(4), id(1)]));
    record.set("j", model::value::Value::Json(r#"{"a":{"b":[1,2,3]},"kind":"note"}"#.to_owned()));
    let mut user = model::record::Record::empty(schema.find("users").unwrap().clone());
    user.set("id", text(&id(1)));
    user.set("role", text("admin"));
    let context =
        RequestContext { caller: Caller::Record(Arc::new(user)), ..RequestContext::guest(Timestamp(0)) };
    let body = RuleBody::default();
    for rule in [
        "owner = @request.auth.id",
        "@request.auth.id != '' && (owner = @request.auth.id || open = true)",
        "members.id ?= @request.auth.id",
        "@request.auth.role = 'admin' && title ~ 'some'",
        "j.kind = 'note'",
        "team.members.id ?= @request.auth.id",
    ] {
        let filter = check(&schema, main, rule, Scope::Rule).unwrap();
        let root = Root { alias: "r", kind: RootKind::Table, expected: Expected::Many };
        let times = 200_000;
        let start = Instant::now();
        for _ in 0..times {
            std::hint::black_box(filter.judge(std::hint::black_box(&record), &context, &body));
        }
        let judge = start.elapsed().as_nanos() / times;
        let start = Instant::now();
        for _ in 0..times {
            std::hint::black_box(filter_sql::condition(&filter, &context, &body, root));
        }
        let render = start.elapsed().as_nanos() / times;
        let verdict = filter.judge(&record, &context, &body);
        println!("judge {judge:5} ns {verdict:?} | resolve and render {render:5} ns | {rule}");
    }
}
