//! Rules of writes, judged in the transaction of the write.

use futures_util::future::join;
use model::step::Why;

use super::Stage;
use super::stage::{field_errors, guest, signed_in};

pub async fn a_create_rule_denies_what_it_does_not_allow(stage: Stage) {
    stage.collection("people", r#"{"type": "auth", "fields": []}"#).await;
    let notes = r#"{
        "createRule": "owner = @request.auth.id && @request.body.title != 'no'",
        "fields": [
            {"name": "title", "type": "text"},
            {"name": "owner", "type": "relation", "collectionId": "people"}
        ]
    }"#;
    stage.collection("notes", notes).await;
    let ann = stage.create_user("people", "ann").await;
    let own = r#"{"id": "a", "title": "yes", "owner": "ann"}"#;
    stage.step(stage.create_step("notes", own, signed_in(&ann))).await.unwrap();
    for (body, access) in [
        (r#"{"title": "no", "owner": "ann"}"#, signed_in(&ann)),
        (r#"{"title": "yes"}"#, signed_in(&ann)),
        (r#"{"title": "yes", "owner": "ann"}"#, guest()),
    ] {
        assert_eq!(stage.step(stage.create_step("notes", body, access)).await.unwrap_err(), Why::RuleDenied);
    }
    assert_eq!(stage.ids(stage.all("notes")).await, "a");
}

/// The record is judged before it is stored.
pub async fn a_create_rule_may_ask_for_other_records(stage: Stage) {
    stage.collection("people", r#"{"type": "auth", "fields": []}"#).await;
    let teams = r#"{"fields": [
        {"name": "members", "type": "relation", "collectionId": "people", "maxSelect": 9},
        {"name": "size", "type": "number"}
    ]}"#;
    stage.collection("teams", teams).await;
    let notes = r#"{
        "createRule": "team.members.id ?= @request.auth.id && priority < team.size",
        "fields": [
            {"name": "team", "type": "relation", "collectionId": "teams"},
            {"name": "priority", "type": "number"}
        ]
    }"#;
    stage.collection("notes", notes).await;
    let (ann, bob) = (stage.create_user("people", "ann").await, stage.create_user("people", "bob").await);
    stage.create("teams", r#"{"id": "blue", "members": ["bob", "ann"], "size": 2}"#).await;
    stage.create("teams", r#"{"id": "red", "members": ["bob"], "size": 2}"#).await;
    let create = |body: &str, access| stage.step(stage.create_step("notes", body, access));
    create(r#"{"id": "a", "team": "blue", "priority": 1}"#, signed_in(&ann)).await.unwrap();
    create(r#"{"id": "b", "team": "red", "priority": 1}"#, signed_in(&bob)).await.unwrap();
    for body in [r#"{"team": "red", "priority": 1}"#, r#"{"team": "blue", "priority": 2}"#, "{}"] {
        assert_eq!(create(body, signed_in(&ann)).await.unwrap_err(), Why::RuleDenied, "{body}");
    }
    assert_eq!(stage.ids(stage.all("notes")).await, "a b");
}

pub async fn an_update_rule_judges_the_stored_record(stage: Stage) {
    stage.collection("folders", r#"{"fields": [{"name": "open", "type": "bool"}]}"#).await;
    let notes = r#"{
        "updateRule": "folder.open = true",
        "fields": [
            {"name": "title", "type": "text"},
            {"name": "folder", "type": "relation", "collectionId": "folders"}
        ]
    }"#;
    stage.collection("notes", notes).await;
    stage.create("folders", r#"{"id": "inner", "open": true}"#).await;
    stage.create("folders", r#"{"id": "outer", "open": false}"#).await;
    stage.create("notes", r#"{"id": "a", "folder": "inner"}"#).await;
    stage.create("notes", r#"{"id": "b", "folder": "outer"}"#).await;
    let change = |id: &str| stage.step(stage.patch_step("notes", id, r#"{"folder": "inner"}"#, guest()));
    change("a").await.unwrap();
    assert_eq!(change("b").await.unwrap_err(), Why::RuleDenied);
    assert_eq!(stage.get("notes", "b").await.unwrap().get("folder").as_str(), "outer");
}

/// Two doctors leave at the same time, each allowed to while another is there.
pub async fn a_rule_holds_against_writes_at_the_same_time(stage: Stage) {
    stage.collection("doctors", r#"{"fields": [{"name": "here", "type": "bool"}]}"#).await;
    let rule = r#"{"updateRule": "@collection.doctors.id ?!= id && @collection.doctors.here ?= true"}"#;
    stage.write(stage.change_collection("doctors", rule)).await.unwrap();
    stage.create("doctors", r#"{"id": "ann"}"#).await;
    stage.create("doctors", r#"{"id": "bob"}"#).await;
    let leave = |id: &str| stage.step(stage.patch_step("doctors", id, r#"{"here": false}"#, guest()));
    for _ in 0..10 {
        stage.patch("doctors", "ann", r#"{"here": true}"#).await;
        stage.patch("doctors", "bob", r#"{"here": true}"#).await;
        let (ann, bob) = join(leave("ann"), leave("bob")).await;
        let refused: Vec<Why> = [ann, bob].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused, [Why::RuleDenied], "one has to stay");
    }
}

pub async fn a_delete_rule_may_ask_for_records_that_point_back(stage: Stage) {
    let folders = r#"{"fields": []}"#;
    stage.collection("folders", folders).await;
    let notes = r#"{"fields": [
        {"name": "locked", "type": "bool"},
        {"name": "folder", "type": "relation", "collectionId": "folders"}
    ]}"#;
    stage.collection("notes", notes).await;
    let rule = r#"{"deleteRule": "notes_via_folder.locked = false"}"#;
    stage.write(stage.change_collection("folders", rule)).await.unwrap();
    stage.create("folders", r#"{"id": "a"}"#).await;
    stage.create("folders", r#"{"id": "b"}"#).await;
    stage.create("notes", r#"{"id": "one", "folder": "a"}"#).await;
    stage.create("notes", r#"{"id": "two", "folder": "b"}"#).await;
    stage.create("notes", r#"{"id": "three", "folder": "b", "locked": true}"#).await;
    let delete = |id: &str| stage.step(stage.delete_step("folders", id, guest()));
    delete("a").await.unwrap();
    assert_eq!(delete("b").await.unwrap_err(), Why::RuleDenied);
    assert_eq!(stage.ids(stage.all("folders")).await, "b");
}

pub async fn a_rule_that_is_denied_says_nothing_of_the_values(stage: Stage) {
    let notes = r#"{
        "createRule": "title != 'no'",
        "fields": [{"name": "title", "type": "text"}, {"name": "text", "type": "text", "required": true}]
    }"#;
    stage.collection("notes", notes).await;
    let denied = stage.step(stage.create_step("notes", r#"{"title": "no"}"#, guest())).await;
    assert_eq!(denied.unwrap_err(), Why::RuleDenied);
    let wrong = stage.step(stage.create_step("notes", r#"{"title": "yes"}"#, guest())).await;
    assert_eq!(field_errors(wrong), "text: validation_required");
}
