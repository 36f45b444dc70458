//! Changes of collections: the values that are there, and what was worked out before.

use contract::store::StoreError;
use model::step::{Guard, Step, Why, WriteBatch};
use model::value::Value;

use super::Stage;
use super::stage::server;

const TITLE: &str = r#"{"fields": [{"id": "f1", "name": "title", "type": "text"}]}"#;

async fn change(stage: &Stage, name: &str, body: &str) {
    stage.write(stage.change_collection(name, body)).await.unwrap();
}

pub async fn a_new_field_is_empty_in_the_records_that_are_there(stage: Stage) {
    stage.collection("notes", TITLE).await;
    stage.create("notes", r#"{"id": "a", "title": "kept"}"#).await;
    let wider = r#"{"fields": [
        {"id": "f1", "name": "title", "type": "text"},
        {"id": "f2", "name": "n", "type": "number"},
        {"id": "f3", "name": "list", "type": "select", "values": ["x", "y"], "maxSelect": 2},
        {"id": "f4", "name": "data", "type": "json"}
    ]}"#;
    change(&stage, "notes", wider).await;
    let note = stage.get("notes", "a").await.unwrap();
    assert_eq!(note.get("title").as_str(), "kept");
    let empty = [Value::Number(0.0), Value::Json("[]".to_owned()), Value::Null];
    assert_eq!(["n", "list", "data"].map(|name| note.get(name).clone()), empty);
    assert_eq!(stage.create("notes", r#"{"n": 7}"#).await.get("n"), &Value::Number(7.0));
}

/// Two fields change their names with each other.
pub async fn a_renamed_field_keeps_its_values(stage: Stage) {
    let before = r#"{"fields": [
        {"id": "f1", "name": "one", "type": "text"},
        {"id": "f2", "name": "two", "type": "text"}
    ]}"#;
    stage.collection("notes", before).await;
    stage.create("notes", r#"{"id": "a", "one": "1", "two": "2"}"#).await;
    change(&stage, "notes", &before.replace("one", "_").replace("two", "one").replace('_', "two")).await;
    let note = stage.get("notes", "a").await.unwrap();
    assert_eq!((note.get("one").as_str(), note.get("two").as_str()), ("2", "1"));
    assert_eq!(stage.filtered("notes", "one = '2'").await, "a");
}

pub async fn a_dropped_field_takes_its_values_along(stage: Stage) {
    stage.collection("notes", TITLE).await;
    stage.create("notes", r#"{"id": "a", "title": "gone"}"#).await;
    change(&stage, "notes", r#"{"fields": []}"#).await;
    assert_eq!(*stage.get("notes", "a").await.unwrap().get("title"), Value::Null);
    change(&stage, "notes", TITLE).await;
    assert_eq!(*stage.get("notes", "a").await.unwrap().get("title"), Value::Text(String::new()));
}

pub async fn a_relation_that_becomes_multiple_keeps_its_record(stage: Stage) {
    stage.collection("tags", r#"{"fields": []}"#).await;
    let field = |max: u8| {
        format!(
            r#"{{"fields": [{{"id": "f1", "name": "tag", "type": "relation", "collectionId": "tags", "maxSelect": {max}}}]}}"#
        )
    };
    stage.collection("notes", &field(1)).await;
    stage.create("tags", r#"{"id": "red"}"#).await;
    stage.create("notes", r#"{"id": "a", "tag": "red"}"#).await;
    stage.create("notes", r#"{"id": "b"}"#).await;
    let tags = async || {
        [stage.get("notes", "a").await, stage.get("notes", "b").await]
            .map(|note| note.unwrap().get("tag").as_str().to_owned())
    };
    change(&stage, "notes", &field(9)).await;
    assert_eq!(tags().await, [r#"["red"]"#, "[]"]);
    change(&stage, "notes", &field(1)).await;
    assert_eq!(tags().await, ["red", ""]);
}

pub async fn a_unique_index_over_equal_values_is_refused(stage: Stage) {
    stage.collection("notes", TITLE).await;
    stage.create("notes", r#"{"title": "same"}"#).await;
    stage.create("notes", r#"{"id": "b", "title": "same"}"#).await;
    let index = r#"{"indexes": ["CREATE UNIQUE INDEX `once` ON `notes` (`title`)"]}"#;
    let refused = stage.write(stage.change_collection("notes", index)).await.unwrap_err();
    assert!(matches!(refused.why, Why::Fields(errors) if errors.contains("indexes")));
    assert!(stage.find("notes").indexes.is_empty());
    stage.delete("notes", "b").await.unwrap();
    change(&stage, "notes", index).await;
}

pub async fn a_renamed_collection_keeps_its_records(stage: Stage) {
    stage.collection("notes", TITLE).await;
    stage.create("notes", r#"{"id": "a", "title": "kept"}"#).await;
    change(&stage, "notes", r#"{"name": "pages"}"#).await;
    assert_eq!(stage.filtered("pages", "title = 'kept'").await, "a");
    assert!(stage.store().schema().by_name("notes").is_none());
}

pub async fn a_dropped_collection_is_gone(stage: Stage) {
    stage.collection("notes", TITLE).await;
    stage.create("notes", r#"{"id": "a"}"#).await;
    let version = stage.store().schema().version();
    let late = stage.create_step("notes", "{}", server());
    let drop = Step::DeleteCollection { collection: stage.find("notes"), check_views: true };
    stage
        .write(WriteBatch { steps: vec![drop], schema_version: Some(version), ..WriteBatch::default() })
        .await
        .unwrap();
    assert!(stage.store().schema().by_name("notes").is_none());
    assert_eq!(stage.step(late).await.unwrap_err(), Why::NotFound);
    stage.collection("notes", TITLE).await;
    assert_eq!(stage.ids(stage.all("notes")).await, "");
}

/// What was worked out on a schema that is no longer the current one is worked out again.
pub async fn a_change_of_an_older_schema_is_refused(stage: Stage) {
    stage.collection("notes", TITLE).await;
    let old = stage.change_collection("notes", r#"{"fields": []}"#);
    stage.collection("other", TITLE).await;
    let refused = stage.write(old).await.unwrap_err();
    assert_eq!(refused.why, Why::Guard(Guard::SchemaVersion));
    assert!(stage.find("notes").field("title").is_some());
    stage.write(stage.change_collection("notes", r#"{"fields": []}"#)).await.unwrap();
    assert!(stage.find("notes").field("title").is_none());
}

pub async fn a_query_of_an_older_schema_is_refused(stage: Stage) {
    stage.collection("notes", TITLE).await;
    let old = stage.all("notes");
    change(&stage, "notes", r#"{"fields": []}"#).await;
    assert_eq!(stage.store().list(old).await.unwrap_err(), StoreError::SchemaChanged);
    assert!(stage.store().list(stage.all("notes")).await.is_ok());
}
