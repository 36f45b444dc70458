use std::sync::Arc;

use super::*;
use crate::collection::{CollectionKind, Rules};
use crate::context::Caller;
use crate::field::{Field, FieldKind, NumberOptions, RelationOptions, SelectOptions, TextOptions};
use crate::json::Json;
use crate::record::Record;
use crate::time::Timestamp;
use crate::value::Value;

fn field(name: &str, kind: FieldKind) -> Field {
    Field {
        id: name.to_owned(),
        name: name.to_owned(),
        system: false,
        hidden: name == "secret",
        presentable: false,
        required: false,
        help: String::new(),
        kind,
    }
}

fn relation(name: &str, to: &str, max_select: u64) -> Field {
    let options = RelationOptions { collection_id: to.to_owned(), max_select, ..RelationOptions::default() };
    field(name, FieldKind::Relation(options))
}

fn collection(name: &str, list: Option<&str>, fields: Vec<Field>) -> Arc<Collection> {
    let id = field("id", FieldKind::Text(TextOptions { primary_key: true, ..TextOptions::default() }));
    Arc::new(Collection {
        id: format!("{name}_id"),
        name: name.to_owned(),
        system: false,
        rules: Rules { list: list.map(str::to_owned), ..Rules::default() },
        fields: std::iter::once(id).chain(fields).collect(),
        indexes: Vec::new(),
        created: String::new(),
        updated: String::new(),
        kind: CollectionKind::Base,
    })
}

fn schema() -> Schema {
    let text = |name: &str| field(name, FieldKind::Text(TextOptions::default()));
    let several = SelectOptions { max_select: 3, ..SelectOptions::default() };
    let cats = collection("cats", Some(""), vec![text("name"), relation("next", "cats_id", 1)]);
    let main = collection(
        "main",
        Some(""),
        vec![
            text("title"),
            field("n", FieldKind::Number(NumberOptions::default())),
            field("sm", FieldKind::Select(several)),
            relation("cat", "cats_id", 1),
            relation("cats", "cats_id", 5),
            relation("hush", "hushed_id", 1),
            text("secret"),
        ],
    );
    Schema::new(1, vec![cats, main, collection("hushed", None, vec![text("name")])])
}

fn error(text: &str, scope: Scope) -> String {
    let schema = schema();
    check(&schema, schema.find("main").unwrap(), text, scope).unwrap_err().to_string()
}

fn filter(text: &str) -> Filter {
    let schema = schema();
    check(&schema, schema.find("main").unwrap(), text, Scope::Rule).unwrap()
}

fn judge(text: &str, title: &str, n: f64, sm: &str) -> Verdict {
    let schema = schema();
    let mut record = Record::empty(schema.find("main").unwrap().clone());
    record.set("title", Value::Text(title.to_owned()));
    record.set("n", Value::Number(n));
    record.set("sm", Value::Json(sm.to_owned()));
    let mut context = RequestContext::guest(Timestamp(0));
    context.query.insert("q".to_owned(), "one".to_owned());
    let values = Json::parse_whole(r#"{"title":"one","n":1}"#).unwrap().as_object().unwrap().clone();
    filter(text).judge(&record, &context, &RuleBody { values })
}

#[test]
fn messages_are_the_contracts() {
    let cases = [
        ("missing=1", "invalid left operand \"missing\" - unknown field \"missing\""),
        ("title=missing", "invalid right operand \"missing\" - unknown field \"missing\""),
        ("title.x=1", "invalid left operand \"title.x\" - field \"title\" is not a valid relation"),
        ("nope.x=1", "invalid left operand \"nope.x\" - failed to resolve field \"nope\""),
        ("@foo=1", "invalid left operand \"@foo\" - failed to resolve field \"@foo\""),
        ("title:foo=1", "invalid left operand \"title:foo\" - unknown modifier in \"title:foo\""),
        ("foo(1)=1", "invalid left operand \"foo\" - unknown function \"foo\""),
        (
            "geoDistance(1,2,3)=1",
            "invalid left operand \"geoDistance\" - [geoDistance] expected 4 arguments, got 3",
        ),
        (
            "@request.body.nope:changed=true",
            "invalid left operand \"@request.body.nope:changed\" - invalid modifier sequence nope:changed",
        ),
        (
            "@request.body.n:length=1",
            "invalid left operand \"@request.body.n:length\" - field \"n\" doesn't support multivalue operations",
        ),
        (
            "@collection.nope.x=1",
            "invalid left operand \"@collection.nope.x\" - failed to load collection \"nope\" from field path \"@collection.nope.x\"",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(error(text, Scope::Rule), message);
    }
}

#[test]
fn clients_name_no_hidden_fields_and_no_locked_collections() {
    assert!(error("secret=''", Scope::Client).contains("non-filterable"));
    assert!(error("hush.name=''", Scope::Client).contains("superusers"));
    // The id of a single relation is in the record itself.
    let schema = schema();
    assert!(check(&schema, schema.find("main").unwrap(), "hush.id=''", Scope::Client).is_ok());
    assert!(forbidden_for_clients("title = '@request.x'").is_some());
    assert!(forbidden_for_clients("title = 'request'").is_none());
}

#[test]
fn texts_are_bounded() {
    let many = |count: usize| vec!["n=1"; count].join("&&");
    let schema = schema();
    let main = schema.find("main").unwrap();
    assert!(check(&schema, main, &many(200), Scope::Rule).is_ok());
    assert!(check(&schema, main, &many(201), Scope::Rule).is_err());
    assert!(check(&schema, main, "cat.next.next.next.next.next.name=''", Scope::Rule).is_ok());
    assert!(check(&schema, main, "cat.next.next.next.next.next.next.name=''", Scope::Rule).is_err());
    let aliases = |count: usize| {
        let each = |number| format!("@collection.cats:a{number}.name?='x'");
        (0..count).map(each).collect::<Vec<_>>().join("&&")
    };
    assert!(check(&schema, main, &aliases(63), Scope::Rule).is_ok());
    assert!(check(&schema, main, &aliases(64), Scope::Rule).is_err());
}

#[test]
fn what_needs_other_records_is_left_to_the_store_unless_the_rest_decides() {
    assert_eq!(judge("cat.name = 'x'", "one", 1.0, "[]"), Verdict::NeedsStore);
    assert_eq!(judge("title = 'one' || cat.name = 'x'", "one", 1.0, "[]"), Verdict::Yes);
    assert_eq!(judge("title = 'two' && cat.name = 'x'", "one", 1.0, "[]"), Verdict::No);
    assert_eq!(judge("@collection.cats.name ?= title || n = 1", "one", 1.0, "[]"), Verdict::Yes);
}

#[test]
fn items_of_a_list_are_judged_all_or_any() {
    assert_eq!(judge("sm:each = 'a'", "", 0.0, r#"["a","b"]"#), Verdict::No);
    assert_eq!(judge("sm:each ?= 'a'", "", 0.0, r#"["a","b"]"#), Verdict::Yes);
    assert_eq!(judge("sm:each != 'c'", "", 0.0, r#"["a","b"]"#), Verdict::Yes);
    assert_eq!(judge("sm:each != 'a'", "", 0.0, "[]"), Verdict::Yes);
    assert_eq!(judge("sm:each ?= 'a' && sm:each ?= 'b'", "", 0.0, r#"["a","b"]"#), Verdict::No);
    assert_eq!(judge("sm:length = 2", "", 0.0, r#"["a","b"]"#), Verdict::Yes);
}

#[test]
fn values_of_the_request_take_part() {
    assert_eq!(judge("title = @request.query.q", "one", 0.0, "[]"), Verdict::Yes);
    assert_eq!(judge("@request.auth.id != ''", "one", 0.0, "[]"), Verdict::No);
    assert_eq!(judge("@request.body.title:changed = true", "two", 0.0, "[]"), Verdict::Yes);
    assert_eq!(judge("@request.body.title:changed = true", "one", 0.0, "[]"), Verdict::No);
    assert_eq!(judge("@request.body.sm:isset = false && n != @request.body.n", "", 2.0, "[]"), Verdict::Yes);
}

#[test]
fn the_request_alone_decides_some() {
    let guest = RequestContext::guest(Timestamp(0));
    let body = RuleBody::default();
    assert_eq!(filter("@request.auth.id != '' && title = 'x'").judge_request(&guest, &body), Verdict::No);
    assert_eq!(filter("@request.method = 'GET' || title = 'x'").judge_request(&guest, &body), Verdict::Yes);
    assert_eq!(filter("title = 'x'").judge_request(&guest, &body), Verdict::NeedsStore);
    let Caller::Guest = guest.caller else { panic!("a guest") };
}

#[test]
fn dependencies_are_seen_from_the_text() {
    let depends =
        filter("title = @request.auth.id && cats.name ?= @request.query.q && n > @second").depends();
    assert!(
        depends.fields.contains("title") && depends.fields.contains("cats") && depends.fields.contains("n")
    );
    assert!(depends.caller.contains("id") && depends.query.contains("q") && depends.time);
    assert_eq!(depends.collections.into_iter().collect::<Vec<_>>(), ["cats_id"]);
    assert!(filter("title = @request.auth.id").depends().is_local());
}

#[test]
fn two_filters_together_share_their_rows() {
    let (one, two) = (filter("cats.name ?= 'a'"), filter("cats.id ?= 'x' && title = ''"));
    assert!(one.shares_rows_with(&two) && !one.shares_rows_with(&filter("cat.name = 'a'")));
    let both = one.and(&two).unwrap();
    let query = both.resolve(&RequestContext::guest(Timestamp(0)), &RuleBody::default());
    assert_eq!(query.joins.len(), 2);
}

#[test]
fn sorts_name_fields_and_nothing_of_the_request() {
    let schema = schema();
    let main = schema.find("main").unwrap();
    let sort = check_sort(&schema, main, " -title, cats.name,@rowid", Scope::Rule).unwrap();
    assert_eq!(sort.terms.len(), 3);
    assert!(sort.terms[0].descending && !sort.is_own());
    for bad in ["title,", "null", "1", "@request.auth.id", "@request.auth.role", "nope", "secret"] {
        assert!(check_sort(&schema, main, bad, Scope::Client).is_err(), "{bad}");
    }
}

#[test]
fn any_unique_index_of_one_column_makes_a_back_relation_single() {
    for (index, single) in [
        ("CREATE UNIQUE INDEX `i` ON `details` (`main`)", true),
        ("create unique index if not exists i on details (MAIN COLLATE NOCASE)", true),
        ("CREATE UNIQUE INDEX i ON details (main) WHERE note != ''", true),
        ("CREATE UNIQUE INDEX i ON details (main, note)", false),
        ("CREATE INDEX i ON details (main)", false),
    ] {
        let main = collection("main", Some(""), Vec::new());
        let mut details = (*collection("details", Some(""), vec![relation("main", "main_id", 1)])).clone();
        details.indexes.push(index.to_owned());
        let schema = Schema::new(1, vec![main.clone(), Arc::new(details)]);
        let filter = check(&schema, &main, "details_via_main.id = 'x'", Scope::Rule).unwrap();
        // Several rows are asked for one that violates the comparison.
        let query = filter.resolve(&RequestContext::guest(Timestamp(0)), &RuleBody::default());
        assert_eq!(!format!("{:?}", query.expr).contains("Never {"), single, "{index}");
    }
}
