//! The steps that a store takes when a collection changes.

use std::sync::Arc;

use model::collection::diff::{SchemaChange, diff};
use model::collection::{Collection, create, update};
use model::json::Json;
use model::schema::Schema;
use model::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;

const NOW: Timestamp = Timestamp(0);

fn created(body: &str) -> Collection {
    let body = Json::parse_whole(body).unwrap();
    create::create(&Schema::new(0, Vec::new()), &body, None, NOW, &mut StdRng::seed_from_u64(1)).unwrap()
}

fn updated(old: &Collection, body: &str) -> Collection {
    let schema = Schema::new(0, vec![Arc::new(old.clone())]);
    let body = Json::parse_whole(body).unwrap();
    update::update(&schema, old, &body, None, NOW, &mut StdRng::seed_from_u64(2)).unwrap()
}

/// The steps in one word each, with what they are about.
fn steps(old: &Collection, body: &str) -> Vec<String> {
    diff(Some(old), Some(&updated(old, body))).iter().map(in_short).collect()
}

fn in_short(change: &SchemaChange) -> String {
    match change {
        SchemaChange::CreateTable { table, fields } => format!("create {table} {}", fields.len()),
        SchemaChange::DropTable { table } => format!("drop {table}"),
        SchemaChange::RenameTable { from, to } => format!("rename {from} {to}"),
        SchemaChange::DropIndex { name } => format!("unindex {name}"),
        SchemaChange::CreateIndex { position, index } => format!("index {position} {}", index.render()),
        SchemaChange::DropColumn { table, column } => format!("{table} - {column}"),
        SchemaChange::AddColumn { table, field } => format!("{table} + {}", field.name),
        SchemaChange::RenameColumn { table, from, to } => format!("{table} {from} > {to}"),
        SchemaChange::SingleToMultiple { table, field } => format!("{table} {} multiple", field.name),
        SchemaChange::MultipleToSingle { table, field } => format!("{table} {} single", field.name),
    }
}

fn example() -> Collection {
    created(
        r#"{"name":"t","fields":[
            {"id":"a","name":"a","type":"text"},{"id":"b","name":"b","type":"text"},
            {"id":"s","name":"s","type":"select","values":["x","y"]}],
            "indexes":["create index i1 on t (a)"]}"#,
    )
}

const SELECT: &str = r#"{"id":"s","name":"s","type":"select","values":["x","y"]}"#;

#[test]
fn a_new_collection_is_a_table_and_its_indexes() {
    let new = example();
    let steps: Vec<String> = diff(None, Some(&new)).iter().map(in_short).collect();
    assert_eq!(steps, ["create t 4", "index 0 CREATE INDEX `i1` ON `t` (`a`)"]);
    let steps: Vec<String> = diff(Some(&new), None).iter().map(in_short).collect();
    assert_eq!(steps, ["drop t"]);
}

#[test]
fn nothing_is_done_to_a_table_when_only_rules_and_options_change() {
    let body = r#"{"listRule":"","fields":[{"id":"a","name":"a","type":"text","max":5},
        {"id":"b","name":"b","type":"text"},{"id":"s","name":"s","type":"select","values":["x"]}]}"#;
    assert_eq!(steps(&example(), body), [""; 0]);
}

#[test]
fn swapped_names_go_by_way_of_a_third() {
    let body = format!(
        r#"{{"fields":[{{"id":"a","name":"b","type":"text"}},{{"id":"b","name":"a","type":"text"}},{SELECT}]}}"#
    );
    assert_eq!(
        steps(&example(), &body),
        [
            "unindex i1",
            "t a > b~",
            "t b > a~",
            "t b~ > b",
            "t a~ > a",
            "index 0 CREATE INDEX `i1` ON `t` (`a`)",
        ]
    );
}

#[test]
fn columns_are_dropped_before_others_take_their_names() {
    let body = format!(
        r#"{{"indexes":[],"fields":[{{"id":"b","name":"a","type":"text"}},{{"name":"b","type":"bool"}},{SELECT}]}}"#
    );
    assert_eq!(steps(&example(), &body), ["unindex i1", "t - a", "t b > a", "t + b"]);
}

#[test]
fn a_change_of_case_alone_is_a_rename() {
    let body = format!(
        r#"{{"indexes":[],"fields":[{{"id":"a","name":"A","type":"text"}},{{"id":"b","name":"b","type":"text"}},{SELECT}]}}"#
    );
    assert_eq!(steps(&example(), &body), ["unindex i1", "t a > A~", "t A~ > A"]);
}

#[test]
fn a_renamed_table_keeps_its_indexes() {
    assert_eq!(steps(&example(), r#"{"name":"u"}"#), ["rename t u"]);
}

#[test]
fn values_change_with_the_number_of_choices() {
    let fields = r#"{"id":"a","name":"a","type":"text"},{"id":"b","name":"b","type":"text"}"#;
    let body = |most: u8| {
        format!(
            r#"{{"indexes":[],"fields":[{fields},{{"id":"s","name":"s","type":"select","values":["x","y"],"maxSelect":{most}}}]}}"#
        )
    };
    let old = updated(&example(), r#"{"indexes":[]}"#);
    let multiple = updated(&old, &body(2));
    assert_eq!(steps(&old, &body(2)), ["t s multiple"]);
    assert_eq!(steps(&multiple, &body(1)), ["t s single"]);
    assert_eq!(steps(&old, &body(1)), [""; 0]);
}
