//! Change events: all of them, in order, without secrets, until they are acknowledged.

use contract::event::{Action, ChangeEvent, Events, Interest};
use contract::store::{Commit, MAX_EVENTS};
use model::json::{Json, JsonObject};

use super::Stage;
use super::stage::server;

const NOTES: &str = r#"{"fields": [{"name": "title", "type": "text"}]}"#;

async fn notes_with_consumer(stage: &Stage) {
    stage.collection("notes", NOTES).await;
    stage.register("first", Interest::All).await;
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
    assert!(events[0].written.0 > 0 && events.is_sorted_by_key(|event| event.written));
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
    stage.register("first", Interest::All).await;
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
    stage.register("second", Interest::All).await;
    stage.create("notes", r#"{"id": "b"}"#).await;
    stage.create("notes", r#"{"id": "c"}"#).await;
    let events = stage.events("first", 3).await;
    assert_eq!(said(&events), ["create a", "create b", "create c"]);
    stage.acknowledge("first", events[1].sequence).await;
    stage.register("first", Interest::All).await;
    assert_eq!(said(&stage.events("first", 1).await), ["create c"]);
    assert_eq!(said(&stage.events("second", 2).await), ["create b", "create c"]);
}

pub async fn a_consumer_gets_what_it_wants_and_goes_past_the_rest(stage: Stage) {
    stage.collection("notes", NOTES).await;
    stage.collection("pictures", r#"{"fields": [{"name": "picture", "type": "file"}]}"#).await;
    stage.register("all", Interest::All).await;
    stage.register("files", Interest::Files).await;
    stage.register("notes", Interest::Collections(vec![stage.find("notes").id.clone()])).await;
    stage.create("notes", r#"{"id": "a"}"#).await;
    stage.create("pictures", r#"{"id": "b"}"#).await;
    stage.create("notes", r#"{"id": "c"}"#).await;
    let all = stage.events("all", 3).await;
    assert_eq!(said(&all), ["create a", "create b", "create c"]);
    assert_eq!(said(&stage.events("notes", 2).await), ["create a", "create c"]);
    let page = stage.store().events("files".to_owned(), 0, 10).await.unwrap();
    assert_eq!(page.events, Events::Some(Vec::new()), "no record lost a file");
    assert_eq!(page.through, all[2].sequence, "what others wanted is not read again");
}

pub async fn a_change_that_nobody_wants_leaves_no_event(stage: Stage) {
    stage.collection("notes", NOTES).await;
    stage.collection("others", NOTES).await;
    stage.register("first", Interest::Collections(vec![stage.find("notes").id.clone()])).await;
    stage.take_commits();
    stage.create("others", r#"{"id": "a"}"#).await;
    assert_eq!(stage.take_commits(), [], "nobody is told of an event");
    stage.register("second", Interest::All).await;
    stage.create("others", r#"{"id": "b"}"#).await;
    assert_eq!(said(&stage.events("second", 1).await), ["create b"]);
    // From now on only the second one wants everything, and then nobody does.
    stage.register("second", Interest::Files).await;
    stage.take_commits();
    stage.create("others", r#"{"id": "c"}"#).await;
    assert_eq!(stage.take_commits(), []);
}

pub async fn a_known_consumer_keeps_its_place_and_gets_the_new_interest(stage: Stage) {
    notes_with_consumer(&stage).await;
    stage.create("notes", r#"{"id": "a"}"#).await;
    stage.register("first", Interest::Collections(Vec::new())).await;
    assert_eq!(said(&stage.events_after("first", 0, 10).await), [""; 0]);
    stage.register("first", Interest::All).await;
    assert_eq!(said(&stage.events("first", 1).await), ["create a"]);
}

pub async fn a_forgotten_consumer_begins_anew(stage: Stage) {
    notes_with_consumer(&stage).await;
    stage.create("notes", r#"{"id": "a"}"#).await;
    for _ in 0..2 {
        stage.store().unregister_consumer("first".to_owned()).await.unwrap();
    }
    assert!(stage.store().events("first".to_owned(), 0, 1).await.is_err());
    assert!(stage.store().acknowledge("first".to_owned(), 1).await.is_err());
    stage.create("notes", r#"{"id": "b"}"#).await;
    stage.register("first", Interest::All).await;
    stage.create("notes", r#"{"id": "c"}"#).await;
    assert_eq!(said(&stage.events("first", 1).await), ["create c"]);
}

pub async fn a_consumer_may_read_ahead_of_what_it_acknowledged(stage: Stage) {
    notes_with_consumer(&stage).await;
    for id in ["a", "b", "c"] {
        stage.create("notes", &format!(r#"{{"id": "{id}"}}"#)).await;
    }
    let events = stage.events("first", 3).await;
    let ahead = stage.events_after("first", events[1].sequence, 10).await;
    assert_eq!(said(&ahead), ["create c"]);
    stage.acknowledge("first", events[1].sequence).await;
    let behind = stage.events_after("first", events[0].sequence, 10).await;
    assert_eq!(said(&behind), ["create c"], "what was acknowledged does not come again");
}

pub async fn a_delivery_holds_whole_batches(stage: Stage) {
    notes_with_consumer(&stage).await;
    let create = |id: &str| stage.create_step("notes", &format!(r#"{{"id": "{id}"}}"#), server());
    stage.steps(vec![create("a")]).await.unwrap();
    stage.steps(vec![create("b"), create("c"), create("d")]).await.unwrap();
    stage.steps(vec![create("e")]).await.unwrap();
    stage.events("first", 5).await;
    let mut after = 0;
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        let events = stage.events_after("first", after, 2).await;
        after = events.last().unwrap().sequence;
        deliveries.push(said(&events).join(", "));
    }
    assert_eq!(deliveries, ["create a", "create b, create c, create d", "create e"]);
}

/// As large as one may be in memory; the rest of the batch comes next.
pub async fn a_batch_that_is_too_large_is_split(stage: Stage) {
    notes_with_consumer(&stage).await;
    let count = MAX_EVENTS + 5;
    let create = |number| stage.create_step("notes", &format!(r#"{{"id": "r{number}"}}"#), server());
    stage.steps((0..count).map(create).collect()).await.unwrap();
    let first = stage.events_after("first", 0, 10).await;
    assert_eq!(first.len(), MAX_EVENTS);
    let rest = stage.events_after("first", first[MAX_EVENTS - 1].sequence, 10).await;
    assert_eq!((rest.len(), rest[0].batch), (5, first[0].batch));
}

pub async fn observers_know_the_newest_event(stage: Stage) {
    notes_with_consumer(&stage).await;
    stage.take_commits();
    stage.create("notes", r#"{"id": "a"}"#).await;
    let event = stage.events("first", 1).await.remove(0);
    let told = stage.take_commits();
    // Once at least, and nothing else: it may be told again when nothing can come before it any more.
    assert_eq!(told.first().map(|commit| commit.newest_event), Some(Some(event.sequence)));
    let again = |commit: &Commit| Commit { newest_event: None, ..commit.clone() } == Commit::default();
    assert!(told.iter().all(again), "{told:?}");
}
