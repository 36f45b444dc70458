//! Reads other than lists, and how calls end that have no answer.

use std::sync::Arc;

use contract::event;
use contract::store::{
    FindByField, GetRecord, GetRecords, JudgeRow, ListRecords, ReferringRecords, StoreError,
};
use model::record::Record;
use model::step::WriteBatch;
use model::value::Value;

use super::Stage;
use super::stage::{ids, server};

const NOTES: &str = r#"{"fields": [
    {"name": "title", "type": "text"},
    {"name": "parent", "type": "relation", "collectionId": "folders"},
    {"name": "others", "type": "relation", "collectionId": "folders", "maxSelect": 9}
]}"#;

/// Notes in folders: `one` in `a`, `two` in `b` and, among others, in `a`.
async fn notes(stage: &Stage) {
    stage.collection("folders", r#"{"fields": [{"name": "name", "type": "text"}]}"#).await;
    stage.collection("notes", NOTES).await;
    stage.create("folders", r#"{"id": "a", "name": "A"}"#).await;
    stage.create("folders", r#"{"id": "b", "name": "B"}"#).await;
    stage.create("notes", r#"{"id": "one", "title": "First", "parent": "a"}"#).await;
    stage.create("notes", r#"{"id": "two", "title": "first", "parent": "b", "others": ["b", "a"]}"#).await;
}

pub async fn a_record_is_there_only_if_the_conditions_hold(stage: Stage) {
    notes(&stage).await;
    let found = async |id: &str, filter: &str| {
        let query = GetRecord {
            schema_version: stage.store().schema().version(),
            collection: stage.find("notes"),
            id: id.to_owned(),
            conditions: vec![stage.condition("notes", filter)],
        };
        stage.store().get(query).await.unwrap().is_some()
    };
    assert!(found("one", "title = 'First'").await);
    assert!(!found("one", "title = 'Second'").await);
    assert!(found("one", "parent.name = 'A'").await);
    assert!(!found("one", "parent.name = 'B'").await);
    assert!(!found("three", "id != ''").await);
}

pub async fn several_records_are_found_by_id(stage: Stage) {
    notes(&stage).await;
    let query = |ids: &[&str], filter: &str| GetRecords {
        schema_version: stage.store().schema().version(),
        collection: stage.find("notes"),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        conditions: vec![stage.condition("notes", filter)],
    };
    let mut both = stage.store().get_many(query(&["two", "three", "one"], "id != ''")).await.unwrap();
    both.sort_by(|a, b| a.id().cmp(b.id()));
    assert_eq!(ids(&both), "one two");
    let of_a = stage.store().get_many(query(&["two", "one"], "parent.name = 'A'")).await.unwrap();
    assert_eq!(ids(&of_a), "one");
}

pub async fn records_that_refer_to_one_are_found(stage: Stage) {
    notes(&stage).await;
    let referring = async |field: &str, limit| {
        let query = ReferringRecords {
            schema_version: stage.store().schema().version(),
            collection: stage.find("notes"),
            field: field.to_owned(),
            id: "a".to_owned(),
            conditions: Vec::new(),
            limit,
        };
        ids(&stage.store().referring(query).await.unwrap())
    };
    stage.create("notes", r#"{"id": "last", "parent": "a"}"#).await;
    assert_eq!(referring("parent", 9).await, "one last");
    assert_eq!(referring("parent", 1).await, "one");
    assert_eq!(referring("others", 9).await, "two");
}

/// Neither the row of a record that is gone nor an earlier state of one is looked up; what they point to is.
pub async fn a_row_is_judged_as_it_is_given(stage: Stage) {
    notes(&stage).await;
    let (one, two) = (stage.get("notes", "one").await.unwrap(), stage.get("notes", "two").await.unwrap());
    let judged = async |row: &Record| {
        let filters = [
            "parent.name = 'A'",
            "parent.name != 'A' && title ~ 'first'",
            "others.name ?= 'A' && title = 'first'",
            "title = '' || parent.name = 'X'",
        ];
        let query = JudgeRow {
            schema_version: stage.store().schema().version(),
            row: Arc::new(event::record(&row.collection, &event::row(row))),
            questions: filters.iter().map(|filter| vec![stage.condition("notes", filter)]).collect(),
        };
        stage.store().judge(query).await.unwrap()
    };
    assert_eq!(judged(&one).await, [true, false, false, false]);
    assert_eq!(judged(&two).await, [false, true, true, false]);
    stage.delete("notes", "one").await.unwrap();
    stage.patch("notes", "two", r#"{"title": "", "parent": "", "others": []}"#).await;
    assert_eq!(judged(&one).await, [true, false, false, false]);
    assert_eq!(judged(&two).await, [false, true, true, false]);
}

pub async fn a_record_is_found_by_a_value(stage: Stage) {
    notes(&stage).await;
    let find = async |value: &str, ignore_case| {
        let query = FindByField {
            schema_version: stage.store().schema().version(),
            collection: stage.find("notes"),
            field: "title".to_owned(),
            value: value.to_owned(),
            ignore_case,
        };
        stage.store().find_by_field(query).await.unwrap().map(|record| record.id().to_owned())
    };
    assert_eq!(find("first", false).await.as_deref(), Some("two"));
    assert_eq!(find("FIRST", false).await, None);
    assert_eq!(find("FIRST", true).await.as_deref(), Some("one"), "of several the oldest");
}

pub async fn a_read_sees_every_write_that_was_acknowledged_before(stage: Stage) {
    stage.collection("things", r#"{"fields": [{"name": "n", "type": "number"}]}"#).await;
    stage.create("things", r#"{"id": "a"}"#).await;
    for n in 1..200 {
        stage.patch("things", "a", &format!(r#"{{"n": {n}}}"#)).await;
        let seen = stage.get("things", "a").await.unwrap();
        assert_eq!(*seen.get("n"), Value::Number(n.into()));
    }
}

pub async fn a_read_past_its_deadline_is_stopped(stage: Stage) {
    stage.collection("things", r#"{"fields": [{"name": "n", "type": "number"}]}"#).await;
    let one = |n: usize| stage.create_step("things", &format!(r#"{{"n": {n}}}"#), server());
    stage.steps((0..400).map(one).collect()).await.unwrap();
    // Four numbers, each less than the next and the last less than the first: all choices are tried.
    let endless = "@collection.things:a.n ?< @collection.things:b.n \
                   && @collection.things:b.n ?< @collection.things:c.n \
                   && @collection.things:c.n ?< @collection.things:d.n \
                   && @collection.things:d.n ?< @collection.things:a.n";
    let query = ListRecords { conditions: vec![stage.condition("things", endless)], ..stage.all("things") };
    assert!(matches!(stage.store().list(query).await, Err(StoreError::Deadline(_))));
    assert_eq!(stage.store().list(stage.all("things")).await.unwrap().records.len(), 100);
}

pub async fn a_closed_store_refuses_writes(stage: Stage) {
    stage.collection("things", r#"{"fields": []}"#).await;
    stage.store().close().await.unwrap();
    let batch = WriteBatch::one(stage.create_step("things", "{}", server()));
    assert_eq!(stage.store().write(batch).await.unwrap_err(), StoreError::Closed);
}
