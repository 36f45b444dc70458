//! The evaluator and SQL agree, on random records and random texts; and so do the two ways in which
//! SQL finds joined rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::collection::Collection;
use model::context::{Caller, Origin, RequestContext, RuleBody};
use model::field::FieldKind;
use model::filter::semantics::text_of_real;
use model::filter::{Scope, Verdict, check};
use model::json::Json;
use model::record::Record;
use model::schema::Schema;
use model::time::Timestamp;
use model::value::Value;
use proptest::prelude::*;
use rusqlite::{Connection, params_from_iter};
use store::sqlite::filter_sql::{self, Expected, Root, RootKind};

use crate::tables;

pub(crate) const COLLECTIONS: &str = r#"[
    {"id":"u","name":"users","type":"auth","listRule":"","fields":[{"type":"text","name":"id","primaryKey":true},{"type":"text","name":"role"},{"type":"number","name":"level"},{"type":"relation","name":"tags","collectionId":"t","maxSelect":5},{"type":"email","name":"email"},{"type":"bool","name":"emailVisibility"},{"type":"bool","name":"verified"}]},
    {"id":"t","name":"tags","type":"base","listRule":"rank>0","fields":[{"type":"text","name":"id","primaryKey":true},{"type":"text","name":"name"},{"type":"number","name":"rank"},{"type":"relation","name":"up","collectionId":"t"},{"type":"relation","name":"users","collectionId":"u","maxSelect":5}]},
    {"id":"m","name":"main","type":"base","listRule":"","fields":[{"type":"text","name":"id","primaryKey":true},{"type":"text","name":"title"},{"type":"number","name":"n"},{"type":"bool","name":"b"},{"type":"date","name":"d"},{"type":"select","name":"s"},{"type":"select","name":"sm","maxSelect":5},{"type":"relation","name":"tag","collectionId":"t"},{"type":"relation","name":"tags","collectionId":"t","maxSelect":5},{"type":"relation","name":"users","collectionId":"u","maxSelect":5},{"type":"json","name":"j"},{"type":"geoPoint","name":"g"}]}
]"#;

const OPERANDS: &[&str] = &[
    "''",
    "null",
    "true",
    "false",
    "'a'",
    "'b'",
    "'a%'",
    "'_'",
    "1",
    "0",
    "'1'",
    "-1.5",
    "2.5",
    "'1.0'",
    "@now",
    "@year",
    "'t1'",
    "'[]'",
    "title",
    "n",
    "b",
    "d",
    "s",
    "sm",
    "tag",
    "tags",
    "users",
    "j",
    "g",
    "id",
    "title:lower",
    "n:lower",
    "sm:each",
    "sm:length",
    "s:each",
    "s:length",
    "tags:each",
    "tags:length",
    "j.a",
    "j.0",
    "j.a.b",
    "g.lon",
    "tag.name",
    "tag.rank",
    "tag.id",
    "tag.up.name",
    "tags.name",
    "tags.id",
    "tags.rank",
    "tags.up.name",
    "tags.users.id",
    "users.id",
    "users.role",
    "main_via_tags.n",
    "tags.main_via_tag.title",
    "@collection.tags.name",
    "@collection.tags.id",
    "@collection.tags:x.rank",
    "@request.auth.id",
    "@request.auth.role",
    "@request.auth.level",
    "@request.auth.tags",
    "@request.auth.tags:each",
    "@request.auth.tags.id",
    "@request.auth.tags.name",
    "@request.auth.verified",
    "@request.auth.nope",
    "@request.body.title",
    "@request.body.n",
    "@request.body.sm",
    "@request.body.sm:each",
    "@request.body.sm:length",
    "@request.body.tags.name",
    "@request.body.j.a",
    "@request.body.title:isset",
    "@request.body.title:changed",
    "@request.body.n:changed",
    "@request.query.q",
    "@request.headers.h",
    "@request.method",
    "strftime('%Y', d)",
    "strftime('%m', d)",
    "strftime('%j', d)",
    "geoDistance(g.lon, g.lat, 1, n)",
];

const SIGNS: &[&str] =
    &["=", "!=", "~", "!~", "<", "<=", ">", ">=", "?=", "?!=", "?~", "?!~", "?<", "?<=", "?>", "?>="];

pub(crate) const TEXTS: &[&str] = &["", "a", "b", "A", "1", "1.0", "a%", "_", "[1]", "é"];
const IDS: &[&str] = &["", "t0", "t1", "t2", "gone"];
const JSONS: &[&str] = &[
    "null",
    "1",
    "2.5",
    "\"a\"",
    "\"1\"",
    "true",
    "[1,\"a\"]",
    "{\"a\":1}",
    "{\"a\":{\"b\":\"a\"}}",
    "[]",
    "\"\"",
];

pub(crate) fn text_filter() -> impl Strategy<Value = String> {
    let operand = || proptest::sample::select(OPERANDS);
    let comparison = (operand(), proptest::sample::select(SIGNS), operand())
        .prop_map(|(left, sign, right)| format!("{left} {sign} {right}"));
    comparison.prop_recursive(3, 8, 3, |inner| {
        (proptest::collection::vec(inner, 1..4), any::<bool>())
            .prop_map(|(parts, all)| format!("({})", parts.join(if all { " && " } else { " || " })))
    })
}

fn value(kind: &FieldKind, multiple: bool, roll: u32) -> Value {
    let pick = |from: &[&'static str]| from[roll as usize % from.len()];
    let list = |from: &[&str]| {
        let items: Vec<&str> = from
            .iter()
            .enumerate()
            .filter(|(at, item)| roll >> at & 1 == 1 && !item.is_empty())
            .map(|(_, item)| *item)
            .collect();
        Value::from_list(&items)
    };
    match kind {
        FieldKind::Number(_) => Value::Number([0.0, 1.0, -1.5, 2.5, 100.0][roll as usize % 5]),
        FieldKind::Bool => Value::bool(roll.is_multiple_of(2)),
        FieldKind::Json(_) if roll % 12 == 11 => Value::Null,
        FieldKind::Json(_) => Value::Json(pick(JSONS).to_owned()),
        FieldKind::GeoPoint => {
            Value::Json(pick(&["{\"lon\":0,\"lat\":0}", "{\"lon\":1,\"lat\":2.5}"]).to_owned())
        }
        FieldKind::Date(_) => {
            Value::Text(pick(&["", "2022-01-02 03:04:05.678Z", "2023-12-31 23:59:59.999Z"]).to_owned())
        }
        FieldKind::Relation(options) if options.collection_id == "u" => {
            if multiple {
                list(&["u0", "u1", "gone"])
            } else {
                Value::Text(pick(&["", "u0", "u1"]).to_owned())
            }
        }
        FieldKind::Relation(_) if multiple => list(IDS),
        FieldKind::Relation(_) => Value::Text(pick(IDS).to_owned()),
        _ if multiple => list(TEXTS),
        _ => Value::Text(pick(TEXTS).to_owned()),
    }
}

pub(crate) fn record(collection: &Arc<Collection>, id: &str, rolls: &[u32]) -> Record {
    let mut record = Record::empty(collection.clone());
    for (at, field) in collection.fields.iter().enumerate() {
        record.values[at] =
            value(&field.kind, field.is_multiple(), rolls[at % rolls.len()].wrapping_mul(at as u32 + 1) >> 3);
    }
    record.set("id", Value::Text(id.to_owned()));
    record
}

pub(crate) fn insert(db: &Connection, record: &Record) {
    let marks = vec!["?"; record.values.len()].join(", ");
    let row = filter_sql::new_row(record);
    db.execute(
        &format!("INSERT INTO \"{}\" VALUES ({marks})", record.collection.name),
        params_from_iter(row.values),
    )
    .unwrap();
}

pub(crate) fn context(caller: Caller) -> RequestContext {
    RequestContext {
        origin: Origin::Default,
        method: "PATCH",
        query: BTreeMap::from([("q".to_owned(), "a".to_owned())]),
        headers: BTreeMap::from([("h".to_owned(), "1".to_owned())]),
        caller,
        now: Timestamp(1_700_000_000_000),
    }
}

pub(crate) fn ids(db: &Connection, sql: &str, values: Vec<rusqlite::types::Value>) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    let mut found: Vec<String> = statement
        .query_map(params_from_iter(values), |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn the_evaluator_and_sql_agree(
        text in text_filter(),
        rolls in proptest::collection::vec(any::<u32>(), 24),
        body in proptest::sample::select(vec!["{}", r#"{"title":"a","n":1,"sm":["a","b"],"tags":["t0"],"j":{"a":1}}"#, r#"{"title":"","n":2.5,"sm":[],"tags":["t1","gone"],"j":5}"#]),
        signed_in in any::<bool>(),
        client in any::<bool>(),
    ) {
        let schema: Schema = tables::schema(&Json::parse_whole(COLLECTIONS).unwrap());
        let db = Connection::open_in_memory().unwrap();
        filter_sql::add_functions(&db).unwrap();
        for collection in schema.collections() {
            db.execute(&tables::create_table(collection), []).unwrap();
        }
        let mut callers = Vec::new();
        let mut mains = Vec::new();
        for (name, count) in [("users", 2), ("tags", 3), ("main", 5)] {
            let collection = schema.find(name).unwrap();
            for number in 0..count {
                let rolls: Vec<u32> = rolls.iter().map(|roll| roll.rotate_left(number * 5 + count)).collect();
                let record = record(collection, &format!("{}{number}", &name[..1]), &rolls);
                insert(&db, &record);
                match name {
                    "users" => callers.push(record),
                    "main" => mains.push(record),
                    _ => {}
                }
            }
        }
        let main = schema.find("main").unwrap();
        let scope = if client { Scope::Client } else { Scope::Rule };
        let Ok(filter) = check(&schema, main, &text, scope) else { return Ok(()) };
        let caller = if signed_in { Caller::Record(Arc::new(callers.remove(0))) } else { Caller::Guest };
        let context = context(caller);
        let body = RuleBody { values: Json::parse_whole(body).unwrap().as_object().unwrap().clone() };
        let select = |expected| {
            let condition = filter_sql::condition(&filter, &context, &body, Root { alias: "r", kind: RootKind::Table, expected });
            ids(&db, &format!("SELECT id FROM main AS r WHERE {}", condition.sql), condition.values)
        };
        let found = select(Expected::Many);
        prop_assert_eq!(&found, &select(Expected::One));
        for record in &mains {
            let verdict = filter.judge(record, &context, &body);
            if verdict != Verdict::NeedsStore {
                prop_assert_eq!(verdict == Verdict::Yes, found.contains(&record.id().to_owned()), "{:?}", record.values);
            }
            let verdict = filter.judge_new(record, &context, &body);
            if verdict != Verdict::NeedsStore {
                let row = filter_sql::new_row(record);
                let root = Root { alias: "r", kind: RootKind::NewRow, expected: Expected::One };
                let condition = filter_sql::condition(&filter, &context, &body, root);
                let sql = format!("SELECT id FROM {} AS r WHERE {}", row.sql, condition.sql);
                let found = ids(&db, &sql, [row.values, condition.values].concat());
                prop_assert_eq!(verdict == Verdict::Yes, !found.is_empty(), "new {:?}", record.values);
            }
        }
    }

    #[test]
    fn numbers_have_the_text_that_sqlite_gives_them(digits in 0i64..10_000_000_000, scale in 0i32..18) {
        let db = Connection::open_in_memory().unwrap();
        for number in [digits as f64 / 10f64.powi(scale), digits as f64 * 10f64.powi(scale)] {
            let text: String = db.query_row("SELECT CAST(? AS TEXT)", [number], |row| row.get(0)).unwrap();
            prop_assert_eq!(text, text_of_real(number));
        }
    }

    #[test]
    fn the_text_of_any_number_is_that_number(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        if number.is_finite() {
            let read: f64 = text_of_real(number).parse().unwrap();
            prop_assert!((read - number).abs() <= number.abs() * 1e-15);
        }
    }

    #[test]
    fn like_is_sqlites(text in "[a-cA-C%_\\\\é]{0,6}", pattern in "[a-cA-C%_\\\\é]{0,6}") {
        let db = Connection::open_in_memory().unwrap();
        let matched: bool = db.query_row("SELECT ?1 LIKE ?2 ESCAPE '\\'", [&text, &pattern], |row| row.get(0)).unwrap();
        prop_assert_eq!(matched, model::filter::semantics::like(&text, &pattern));
    }

    #[test]
    fn text_that_is_a_number_is_sqlites(text in "[ ]?[-+]?[0-9]{0,4}[.]?[0-9]{0,3}(e[-+]?[0-9]{1,2})?[ x]?") {
        let db = Connection::open_in_memory().unwrap();
        db.execute("CREATE TABLE t (n NUMERIC)", []).unwrap();
        db.execute("INSERT INTO t VALUES (?)", [&text]).unwrap();
        let is_number: bool = db.query_row("SELECT typeof(n) <> 'text' FROM t", [], |row| row.get(0)).unwrap();
        prop_assert_eq!(is_number, model::filter::semantics::number_in_text(&text).is_some());
    }
}

/// How many cases of each law; more where the environment says so.
pub(crate) fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(512)
}
