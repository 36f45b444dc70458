//! For whom a stream speaks, and when it no longer does.

use axum::http::StatusCode;

use crate::node::{Node, local, read, said, subscription};

const ANN: &str = "ann000000000000";
const BOB: &str = "bob000000000000";
const OWNER_ONLY: &str = r#""listRule": "id = @request.auth.id", "viewRule": "id = @request.auth.id","#;

fn ann() -> String {
    format!("users/{ANN}")
}

const REFUSED: &str =
    r#"{"data":{},"message":"The current and the previous request authorization don't match.","status":403}"#;

#[tokio::test]
async fn a_guest_may_become_somebody_and_then_nobody_else() {
    let node = Node::start().await;
    node.users("", &[ANN, BOB]).await;
    let client = node.connect().await;
    node.subscribe(&client, "", &["marks"]).await;
    node.subscribe(&client, &ann(), &["marks"]).await;
    node.subscribe(&client, &ann(), &[]).await;
    for other in ["", &format!("users/{BOB}"), "root"] {
        let answer = node.try_subscribe(&client, other, &["marks"]).await;
        assert_eq!(answer, (StatusCode::FORBIDDEN, REFUSED.to_owned()), "{other}");
    }
}

#[tokio::test]
async fn nobody_is_told_of_his_own_new_password() {
    let node = Node::start().await;
    node.users(OWNER_ONLY, &[ANN]).await;
    let topic = ann();
    let mut client = node.follower(&ann(), &[&topic, "users"]).await;
    node.update("users", ANN, r#"{"team": "b"}"#).await;
    assert_eq!(node.told(&mut client).await.len(), 2);
    node.update("users", ANN, r#"{"password": "other12345", "passwordConfirm": "other12345"}"#).await;
    node.update("users", ANN, r#"{"team": "c"}"#).await;
    assert_eq!(said(&node.told(&mut client).await), [""; 0]);
    // The stream speaks for a guest now, so that it may speak for somebody again.
    node.subscribe(&client, &ann(), &["users", "marks"]).await;
    node.update("users", ANN, r#"{"team": "d"}"#).await;
    assert_eq!(node.told(&mut client).await.len(), 1);
}

#[tokio::test]
async fn who_is_deleted_is_nobody() {
    let node = Node::start().await;
    node.users(OWNER_ONLY, &[ANN, BOB]).await;
    let mut client = node.follower(&ann(), &["users"]).await;
    node.delete("users", ANN).await;
    assert_eq!(said(&node.told(&mut client).await), [""; 0]);
    node.subscribe(&client, &format!("users/{BOB}"), &["users"]).await;
}

/// Asked at once, before any event can have told of it.
#[tokio::test]
async fn a_stream_of_an_old_sign_in_may_be_taken_over_at_once() {
    let node = Node::start().await;
    node.users("", &[ANN, BOB]).await;
    for who in [ANN, BOB] {
        let client = node.connect().await;
        node.subscribe(&client, &format!("users/{who}"), &["users"]).await;
        node.update("users", who, r#"{"password": "other12345", "passwordConfirm": "other12345"}"#).await;
        node.subscribe(&client, "", &["users"]).await;
    }
}

#[tokio::test]
async fn a_new_secret_of_the_collection_ends_every_sign_in() {
    let node = Node::start().await;
    node.users(r#""listRule": "@request.auth.id != ''","#, &[ANN, BOB]).await;
    let mut client = node.follower(&ann(), &["users"]).await;
    node.update("users", BOB, r#"{"team": "b"}"#).await;
    assert_eq!(node.told(&mut client).await.len(), 1);
    let secret = format!(r#"{{"authToken": {{"secret": "{}", "duration": 1000}}}}"#, "x".repeat(50));
    node.must("root", "PATCH", "/api/collections/users", &secret).await;
    node.update("users", BOB, r#"{"team": "c"}"#).await;
    assert_eq!(said(&node.told(&mut client).await), [""; 0]);
}

#[tokio::test]
async fn rules_see_who_somebody_is_by_now() {
    let node = Node::start().await;
    node.users("", &[ANN]).await;
    node.collection(
        r#"{"name": "news", "listRule": "team = @request.auth.team", "fields": [{"name": "team", "type": "text"}]}"#,
    )
    .await;
    let mut client = node.follower(&ann(), &["news"]).await;
    node.create("news", r#"{"id": "news00000000001", "team": "a"}"#).await;
    // Judged before she changes: an event is judged by who somebody is when it is told.
    assert_eq!(said(&node.told(&mut client).await), ["create news00000000001"]);
    node.update("users", ANN, r#"{"team": "b"}"#).await;
    node.create("news", r#"{"id": "news00000000002", "team": "a"}"#).await;
    node.create("news", r#"{"id": "news00000000003", "team": "b"}"#).await;
    assert_eq!(said(&node.told(&mut client).await), ["create news00000000003"]);
}

/// What a request was verified by may be over by the time that it is worked on.
#[tokio::test]
async fn a_sign_in_that_ended_meanwhile_binds_nobody() {
    let node = Node::start().await;
    node.users(OWNER_ONLY, &[ANN]).await;
    let mut client = node.connect().await;
    let verified_before = node.caller(&ann()).await;
    node.update("users", ANN, r#"{"password": "other12345", "passwordConfirm": "other12345"}"#).await;
    let body = subscription(&client.id, &["users", "marks"]);
    let answer = node.send_as(verified_before, local(1), "POST", "/api/realtime", &body).await;
    assert_eq!(read(answer).await.0, StatusCode::NO_CONTENT);
    node.update("users", ANN, r#"{"team": "b"}"#).await;
    assert_eq!(said(&node.told(&mut client).await), [""; 0]);
}
