use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::collection::{create, system};
use crate::field::FieldKind;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Queries, each with what PocketBase makes of it: `= name:type …`, where `*` is a copy of a field and
/// `->` a relation, or `! error`.
const SELECT_LISTS: &str = include_str!("select_lists.txt");

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

/// Fresh collections with `cats`, `toys` and the view `v1`.
fn schema() -> Schema {
    let mut collections: Vec<Arc<Collection>> =
        system::fresh_install(NOW, &mut rng()).into_iter().map(Arc::new).collect();
    for body in [
        r#"{"name": "cats", "fields": [
            {"name": "name", "type": "text", "required": true, "max": 20},
            {"name": "age", "type": "number", "onlyInt": true},
            {"name": "tags", "type": "select", "values": ["a", "b"], "maxSelect": 2},
            {"name": "secret", "type": "text", "hidden": true},
            {"name": "j", "type": "json", "maxSize": 5},
            {"name": "b", "type": "bool"},
            {"name": "owner", "type": "relation", "collectionId": "_pb_users_auth_", "maxSelect": 1},
            {"name": "pw", "type": "password"},
            {"name": "created", "type": "autodate", "onCreate": true}]}"#,
        r#"{"name": "toys", "fields": [{"name": "title", "type": "text"},
            {"name": "cat", "type": "relation", "collectionId": "pbc_3834699042", "maxSelect": 1}]}"#,
        r#"{"name": "v1", "type": "view", "viewQuery": "select id, name from cats"}"#,
    ] {
        let schema = Schema::new(0, collections.clone());
        let body = Json::parse_whole(body).unwrap();
        collections.push(Arc::new(create::create(&schema, &body, None, NOW, &mut rng()).unwrap()));
    }
    Schema::new(0, collections)
}

fn word(schema: &Schema, field: &Field) -> String {
    let is_clone = field.id.starts_with("_clone_") && field.id.len() == 11;
    let kind = match &field.kind {
        FieldKind::Relation(options) if !is_clone => {
            format!("->{}", schema.by_id(&options.collection_id).unwrap().name)
        }
        FieldKind::Number(options) if options.only_int && !is_clone => "int".to_owned(),
        kind => kind.type_name().to_owned(),
    };
    format!("{}:{kind}{}", field.name, if is_clone { "*" } else { "" })
}

/// What a query is made of, in the words of [`SELECT_LISTS`]. `columns` are those that a store finds.
fn outcome(schema: &Schema, query: &str, columns: &[String]) -> String {
    match SelectList::parse(query) {
        Err(text) => format!("! {text}"),
        Ok(list) => {
            let fields = list.fields(schema, columns, &mut rng());
            let words: Vec<String> = fields.iter().map(|field| word(schema, field)).collect();
            format!("= {}", words.join(" "))
        }
    }
}

#[test]
fn fields_are_those_that_pocketbase_infers() {
    let schema = schema();
    let (mut cases, mut wrong) = (0, Vec::new());
    for case in SELECT_LISTS.trim_end().split("\n\n") {
        let (query, expected) = case.rsplit_once('\n').unwrap();
        let columns = expected.trim_start_matches(['=', ' ']).split(' ');
        let columns: Vec<String> =
            columns.filter_map(|word| Some(word.split_once(':')?.0.to_owned())).collect();
        let found = outcome(&schema, query, &columns);
        if found != expected {
            wrong.push(format!("{query}\n{expected}\n{found}\n"));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 150, "{cases}");
}

#[test]
fn a_copy_has_every_option_of_the_field() {
    let schema = schema();
    let list = SelectList::parse("select id, tags as labels from cats").unwrap();
    let fields = list.fields(&schema, &["id".to_owned(), "labels".to_owned()], &mut rng());
    let original = schema.by_name("cats").unwrap().field("tags").unwrap();
    let expected = Field { id: fields[1].id.clone(), name: "labels".to_owned(), ..original.clone() };
    assert_eq!(fields[1], expected);
}

#[test]
fn a_field_that_no_collection_may_have_is_named() {
    let schema = schema();
    let try_columns = |columns: &[&str]| {
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let list = SelectList::parse("select id, name from cats").unwrap();
        let trial = Trial::of_columns(&schema, &list, &columns, &mut rng());
        trial.fault.map_or(String::new(), |fault| fault.to_string())
    };
    assert_eq!(try_columns(&["id", "name"]), "");
    assert_eq!(try_columns(&["id", "a b"]), "invalid field \"a b\" (1): name: must be in a valid format.");
    assert_eq!(
        try_columns(&["id", "name", "a_via_b"]),
        "invalid field \"a_via_b\" (2): name: The value cannot contain \"_via_\".."
    );
    assert!(try_columns(&["name"]).starts_with("missing required id column"));
}

#[test]
fn ids_are_there_and_differ() {
    let fault = |ids: &[&str]| {
        let mut trial = Trial::default();
        trial.check_ids(ids.iter().copied());
        trial.fault
    };
    assert_eq!(fault(&["a", "b"]), None);
    assert!(matches!(fault(&["a", "b", "a"]), Some(Fault::Records(text)) if text.contains("non-unique")));
    assert!(matches!(fault(&["a", ""]), Some(Fault::Records(text)) if text.contains("empty")));
}

#[test]
fn nothing_in_a_query_panics_or_takes_long() {
    let longest = "(".repeat(99_000);
    for query in
        ["", ";", "'", "\\", "select", "select '", "from from", "/*", "--", "cast(", "é'`\"", &longest]
    {
        let _ = SelectList::parse(query);
    }
    assert!(SelectList::parse(&"x".repeat(100_001)).is_err());
}

#[test]
fn only_a_view_has_a_query_to_try() {
    let schema = schema();
    let submitted = |old: Option<&str>, body: &str| {
        let old = old.map(|name| &**schema.by_name(name).unwrap());
        submitted_query(old, &Json::parse_whole(body).unwrap())
    };
    let query = || Some("select 1 as id".to_owned());
    assert_eq!(submitted(None, r#"{"type": "view", "viewQuery": "select 1 as id"}"#), query());
    assert_eq!(submitted(None, r#"{"viewQuery": "select 1 as id"}"#), None);
    assert_eq!(submitted(Some("cats"), r#"{"viewQuery": "select 1 as id"}"#), None);
    assert_eq!(submitted(Some("v1"), r#"{"viewQuery": "select 1 as id"}"#), query());
    assert_eq!(submitted(Some("v1"), r#"{"viewQuery": null}"#), None);
    assert!(submitted(Some("v1"), "{}").is_some());
}

#[test]
fn a_comment_without_an_end_is_none() {
    for query in ["select id, '/*a/*b' as t from a", "select /* x */ id, /* y */ '/*a' as t from a /*"] {
        let list = SelectList::parse(query).unwrap();
        assert_eq!(list.names().collect::<Vec<_>>(), ["id", "t"], "{query}");
    }
}
