//! Change events: all of them, in order, without secrets, until they are acknowledged.

use contract::event::{Action, ChangeEvent};
use model::json::{Json, JsonObject};

use super::Stage;
use super::stage::server;

const NOTES: &str = r#"{"fields": [{"name": "title", "type": "text"}]}"#;

async fn notes_with_consumer(stage: &Stage) {
    stage.collection("notes", NOTES).await;
    stage.store().register_consumer("first".to_owned()).await.unwrap();
}

/// `action id` of each.
fn said(events: &[ChangeEvent]) -> Vec<String> {
    events.iter().map(|event| format!("{} {}", event.action.as_str(), event.record)).collect()
}

pub async fn a_consumer_gets_every_change_in_order(stage: Stage) {
    notes_with_consumer(&stage).await;
    stage.create("notes", r#"{"id": "a", "title": "x"}"#).await;
    stage.patch("notes", "a", r#"{"title": "y"}"#).await;
    stage.delete("notes", "a").await.unwrap();
    let events = stage.events("first", 3).await;
    assert_eq!(said(&events), ["create a", "update a", "delete a"]);
    assert!(events.is_sorted_by(|one, next| one.sequence < next.sequence));
    let title = |row: &Option<JsonObject>| Some(row.as_ref()?.get("title")?.as_str()?.to_owned());
    let titles: Vec<_> = events.iter().map(|event| (title(&event.before), title(&event.after))).collect();
    let (x, y) = (Some("x".to_owned()), Some("y".to_owned()));
    assert_eq!(titles, [(None, x.clone()), (x, y.clone()), (y, None)]);
    assert!(events.iter().all(|event| event.collection == stage.find("notes").id));
    assert!(events.iter().all(|event| event.schema_version == stage.store().schema().version()));
}

pub async fn a_batch_has_its_events_together_and_a_refused_one_has_none(stage: Stage) {
    notes_with_consumer(&stage).await;
    let create = |id: &str| stage.create_step("notes", &format!(r#"{{"id": "{id}"}}"#), server());
    stage.create("notes", r#"{"id": "a"}"#).await;
    stage.steps(vec![create("b"), stage.delete_step("notes", "missing", server())]).await.unwrap_err();
    stage
        .steps(vec![create("c"), stage.patch_step("notes", "c", r#"{"title": "x"}"#, server())])
        .await
        .unwrap();
    let events = stage.events("first", 3).await;
    assert_eq!(said(&events), ["create a", "create c", "update c"]);
    assert_eq!(events[1].batch, events[2].batch);
    assert_ne!(events[0].batch, events[1].batch);
}

pub async fn a_delete_has_an_event_for_all_that_went(stage: Stage) {
    notes_with_consumer(&stage).await;
    let comments = r#"{"fields": [
        {"name": "note", "type": "relation", "collectionId": "notes", "cascadeDelete": true}
    ]}"#;
    stage.collection("comments", comments).await;
    stage.create("notes", r#"{"id": "a"}"#).await;
    stage.create("comments", r#"{"id": "b", "note": "a"}"#).await;
    stage.delete("notes", "a").await.unwrap();
    let events = stage.events("first", 4).await;
    let deleted: Vec<_> = events.iter().filter(|event| event.action == Action::Delete).cloned().collect();
    assert_eq!(said(&deleted), ["delete a", "delete b"]);
}

pub async fn secrets_are_in_no_event(stage: Stage) {
    stage.collection("people", r#"{"type": "auth", "fields": []}"#).await;
    stage.store().register_consumer("first".to_owned()).await.unwrap();
    stage.create_user("people", "ann").await;
    let event = stage.events("first", 1).await.remove(0);
    let row = event.after.unwrap();
    assert_eq!(row.get("email").and_then(Json::as_str), Some("ann@example.com"));
    assert!(!row.contains_key("password") && !row.contains_key("tokenKey"));
}

/// A consumer starts after what was there when it came, and sees nothing twice that it acknowledged.
pub async fn acknowledged_events_are_gone(stage: Stage) {
    notes_with_consumer(&stage).await;
    stage.create("notes", r#"{"id": "a"}"#).await;
    stage.store().register_consumer("second".to_owned()).await.unwrap();
    stage.create("notes", r#"{"id": "b"}"#).await;
    stage.create("notes", r#"{"id": "c"}"#).await;
    let events = stage.events("first", 3).await;
    assert_eq!(said(&events), ["create a", "create b", "create c"]);
    stage.store().acknowledge("first".to_owned(), events[1].sequence).await.unwrap();
    stage.store().register_consumer("first".to_owned()).await.unwrap();
    assert_eq!(said(&stage.events("first", 1).await), ["create c"]);
    assert_eq!(said(&stage.events("second", 2).await), ["create b", "create c"]);
}
