//! Batches: whole or not at all, in order, and refusals as values.

use std::sync::Arc;

use contract::store::Commit;
use futures_util::future::join_all;
use model::json::Json;
use model::settings::Settings;
use model::step::{Guard, PatchRecord, Step, UpsertRecord, Why, WriteBatch};
use model::value::Value;

use super::Stage;
use super::stage::{field_errors, object, server};

const COUNTERS: &str = r#"{"fields": [{"name": "n", "type": "number"}]}"#;

pub async fn a_batch_happens_whole_or_not_at_all(stage: Stage) {
    stage.collection("counters", COUNTERS).await;
    stage.create("counters", r#"{"id": "old", "n": 1}"#).await;
    let steps = vec![
        stage.create_step("counters", r#"{"id": "new"}"#, server()),
        stage.patch_step("counters", "old", r#"{"n": 2}"#, server()),
        stage.delete_step("counters", "missing", server()),
        stage.create_step("counters", r#"{"id": "never"}"#, server()),
    ];
    let refused = stage.steps(steps).await.unwrap_err();
    assert_eq!((refused.step, refused.why), (2, Why::NotFound));
    assert_eq!(stage.ids(stage.all("counters")).await, "old");
    assert_eq!(*stage.get("counters", "old").await.unwrap().get("n"), Value::Number(1.0));
}

pub async fn a_step_sees_what_those_before_it_wrote(stage: Stage) {
    stage.collection("counters", COUNTERS).await;
    let steps = vec![
        stage.create_step("counters", r#"{"id": "a", "n": 1}"#, server()),
        stage.patch_step("counters", "a", r#"{"n+": 2}"#, server()),
        stage.create_step("counters", r#"{"id": "b", "n": 9}"#, server()),
        stage.delete_step("counters", "b", server()),
        stage.patch_step("counters", "a", r#"{"n+": 3}"#, server()),
    ];
    stage.steps(steps).await.unwrap();
    assert_eq!(stage.ids(stage.all("counters")).await, "a");
    assert_eq!(*stage.get("counters", "a").await.unwrap().get("n"), Value::Number(6.0));
}

pub async fn concurrent_modifiers_all_count(stage: Stage) {
    stage.collection("counters", COUNTERS).await;
    stage.create("counters", r#"{"id": "a"}"#).await;
    let more = || stage.step(stage.patch_step("counters", "a", r#"{"n+": 1}"#, server()));
    for result in join_all((0..50).map(|_| more())).await {
        result.unwrap();
    }
    assert_eq!(*stage.get("counters", "a").await.unwrap().get("n"), Value::Number(50.0));
}

pub async fn a_value_taken_twice_is_an_error_of_every_field_of_the_index(stage: Stage) {
    let body = r#"{
        "fields": [{"name": "day", "type": "text"}, {"name": "room", "type": "text"}],
        "indexes": ["CREATE UNIQUE INDEX `once` ON `bookings` (`day`, `room`)"]
    }"#;
    stage.collection("bookings", body).await;
    stage.create("bookings", r#"{"day": "mon", "room": "1"}"#).await;
    stage.create("bookings", r#"{"id": "b", "day": "mon", "room": "2"}"#).await;
    let created = stage.step(stage.create_step("bookings", r#"{"day": "mon", "room": "1"}"#, server())).await;
    let changed = stage.step(stage.patch_step("bookings", "b", r#"{"room": "1"}"#, server())).await;
    for result in [created, changed] {
        assert_eq!(field_errors(result), "day: validation_not_unique, room: validation_not_unique");
    }
    let same_id = stage.step(stage.create_step("bookings", r#"{"id": "b", "day": "tue"}"#, server())).await;
    assert_eq!(field_errors(same_id), "id: validation_not_unique");
}

pub async fn a_relation_to_a_missing_record_is_an_error_of_its_field(stage: Stage) {
    stage.collection("tags", r#"{"fields": []}"#).await;
    let notes =
        r#"{"fields": [{"name": "tags", "type": "relation", "collectionId": "tags", "maxSelect": 9}]}"#;
    stage.collection("notes", notes).await;
    stage.create("tags", r#"{"id": "red"}"#).await;
    let refused = stage.step(stage.create_step("notes", r#"{"tags": ["red", "blue"]}"#, server())).await;
    assert_eq!(field_errors(refused), "tags: validation_missing_rel_records");
    assert_eq!(stage.ids(stage.all("notes")).await, "");
}

pub async fn a_change_for_an_old_password_that_is_no_longer_the_password_is_refused(stage: Stage) {
    let people = stage.collection("people", r#"{"type": "auth", "fields": []}"#).await;
    stage.create_user("people", "ann").await;
    let change = |hash: &str| {
        Step::Patch(PatchRecord {
            set_by_hooks: Default::default(),
            collection: people.id.clone(),
            id: "ann".to_owned(),
            body: object(r#"{"verified": true}"#),
            password_hashes: Default::default(),
            old_password_for: Some(hash.to_owned()),
            uploads: Default::default(),
            access: server(),
        })
    };
    assert_eq!(stage.step(change("another")).await.unwrap_err(), Why::Guard(Guard::PasswordHash));
    assert!(!stage.get("people", "ann").await.unwrap().get("verified").as_bool());
    assert!(stage.step(change("hash")).await.unwrap().unwrap().get("verified").as_bool());
}

pub async fn a_password_hash_is_replaced_only_while_it_is_the_one_that_was_verified(stage: Stage) {
    let people = stage.collection("people", r#"{"type": "auth", "fields": []}"#).await;
    stage.create_user("people", "ann").await;
    let replace = |from: &str, to: &str| Step::ReplacePasswordHash {
        collection: people.id.clone(),
        id: "ann".to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    stage.step(replace("hash", "better")).await.unwrap();
    stage.step(replace("hash", "late")).await.unwrap();
    assert_eq!(stage.get("people", "ann").await.unwrap().get("password").as_str(), "better");
}

/// Two changes that were worked out on the same settings: the second would undo the first.
pub async fn a_change_of_settings_that_are_no_longer_current_is_refused(stage: Stage) {
    let change = |body: &str| {
        let before = stage.store().settings();
        let after = merged(&before, body);
        Step::SaveSettings { before, after }
    };
    let first = change(r#"{"meta":{"appName":"first"}}"#);
    let second = change(r#"{"batch":{"maxRequests":7}}"#);
    stage.step(first).await.unwrap();
    assert_eq!(stage.step(second).await.unwrap_err(), Why::Guard(Guard::Settings));
    stage.step(change(r#"{"batch":{"maxRequests":7}}"#)).await.unwrap();
    let settings = stage.store().settings();
    assert_eq!((settings.meta.app_name.as_str(), settings.batch.max_requests), ("first", 7));
}

pub async fn a_batch_may_change_the_settings_more_than_once(stage: Stage) {
    let before = stage.store().settings();
    let between = merged(&before, r#"{"meta":{"appName":"between"}}"#);
    let after = merged(&between, r#"{"meta":{"appName":"after"}}"#);
    let steps = vec![
        Step::SaveSettings { before, after: between.clone() },
        Step::SaveSettings { before: between, after },
    ];
    stage.steps(steps).await.unwrap();
    assert_eq!(stage.store().settings().meta.app_name, "after");
}

pub async fn observers_know_of_a_changed_sign_in_before_it_is_acknowledged(stage: Stage) {
    let users = stage.collection("people", r#"{"type": "auth", "fields": []}"#).await;
    let made = Commit { schema_changed: true, ..Commit::default() };
    assert_eq!(stage.take_commits(), [made]);
    stage.create_user("people", "ann").await;
    assert_eq!(stage.take_commits(), [], "nobody can have signed in as a new record");
    let batch = WriteBatch::one(stage.patch_step("people", "ann", r#"{"verified": true}"#, server()));
    stage.write(batch).await.unwrap();
    let changed = Commit { auth_records: vec![(users.id.clone(), "ann".to_owned())], ..Commit::default() };
    assert_eq!(stage.take_commits(), std::slice::from_ref(&changed));
    stage.delete("people", "ann").await.unwrap();
    assert_eq!(stage.take_commits(), [changed]);
}

fn merged(settings: &Settings, body: &str) -> Arc<Settings> {
    Arc::new(settings.merge(&Json::parse_whole(body).unwrap()).unwrap())
}

fn upsert(stage: &Stage, id: &str, body: &str) -> Step {
    let body = format!(r#"{{"id": "{id}", {body}}}"#);
    match (stage.create_step("notes", &body, server()), stage.patch_step("notes", id, &body, server())) {
        (Step::Create(create), Step::Patch(patch)) => Step::Upsert(UpsertRecord { create, patch }),
        _ => unreachable!("the steps are what they are called"),
    }
}

pub async fn an_upsert_changes_what_is_there_and_makes_what_is_not(stage: Stage) {
    stage.collection("notes", r#"{"fields": [{"name": "n", "type": "number"}]}"#).await;
    let steps = vec![
        upsert(&stage, "a", r#""n": 1"#),
        upsert(&stage, "a", r#""n+": 5"#),
        upsert(&stage, "b", r#""n": 2"#),
    ];
    stage.steps(steps).await.unwrap();
    assert_eq!(*stage.get("notes", "a").await.unwrap().get("n"), Value::Number(6.0));
    assert_eq!(*stage.get("notes", "b").await.unwrap().get("n"), Value::Number(2.0));
}

pub async fn a_batch_past_its_deadline_is_not_carried_out(stage: Stage) {
    stage.collection("notes", r#"{"fields": []}"#).await;
    let steps = vec![stage.create_step("notes", r#"{"id": "a"}"#, server())];
    let batch = WriteBatch { steps, deadline: Some(std::time::Instant::now()), ..WriteBatch::default() };
    assert_eq!(stage.write(batch).await.unwrap_err().why, Why::Deadline);
    assert!(stage.get("notes", "a").await.is_none());
}
