//! Deletes, and what goes with a record.

use model::step::{Step, Why, WriteBatch};

use super::Stage;

pub async fn a_delete_takes_along_what_must_go_with_it(stage: Stage) {
    forum(&stage).await;
    stage.delete("boards", "a").await.unwrap();
    assert_eq!(stage.ids(stage.all("boards")).await, "b");
    assert_eq!(stage.ids(stage.all("topics")).await, "b1");
    assert_eq!(stage.ids(stage.all("posts")).await, "b1x");
}

pub async fn an_emptied_collection_takes_along_what_must_go_with_it(stage: Stage) {
    forum(&stage).await;
    let version = stage.store().schema().version();
    let truncate = Step::Truncate(stage.find("boards"));
    stage
        .write(WriteBatch { steps: vec![truncate], schema_version: Some(version), ..WriteBatch::default() })
        .await
        .unwrap();
    for collection in ["boards", "topics", "posts"] {
        assert_eq!(stage.ids(stage.all(collection)).await, "", "{collection}");
    }
}

/// Boards hold topics, topics hold posts, and a topic may be about itself.
async fn forum(stage: &Stage) {
    stage.collection("boards", r#"{"fields": []}"#).await;
    let board = r#"{"name": "board", "type": "relation", "collectionId": "boards", "cascadeDelete": true}"#;
    let about = r#"{"name": "about", "type": "relation", "collectionId": "topics", "cascadeDelete": true, "maxSelect": 9}"#;
    stage.collection("topics", &format!(r#"{{"fields": [{board}]}}"#)).await;
    let with_circles = format!(r#"{{"fields": [{board}, {about}]}}"#);
    stage.write(stage.change_collection("topics", &with_circles)).await.unwrap();
    let posts = r#"{"fields": [
        {"name": "topic", "type": "relation", "collectionId": "topics", "cascadeDelete": true, "required": true}
    ]}"#;
    stage.collection("posts", posts).await;
    for board in ["a", "b"] {
        stage.create("boards", &format!(r#"{{"id": "{board}"}}"#)).await;
    }
    for topic in ["a1", "a2", "b1"] {
        let board = &topic[..1];
        stage.create("topics", &format!(r#"{{"id": "{topic}", "board": "{board}"}}"#)).await;
        stage.create("posts", &format!(r#"{{"id": "{topic}x", "topic": "{topic}"}}"#)).await;
    }
    stage.patch("topics", "a1", r#"{"about": ["a1", "a2"]}"#).await;
}

pub async fn a_delete_empties_relations_that_may_be_empty(stage: Stage) {
    stage.collection("tags", r#"{"fields": []}"#).await;
    let notes = r#"{"fields": [
        {"name": "one", "type": "relation", "collectionId": "tags"},
        {"name": "many", "type": "relation", "collectionId": "tags", "maxSelect": 9}
    ]}"#;
    stage.collection("notes", notes).await;
    for tag in ["red", "blue", "green"] {
        stage.create("tags", &format!(r#"{{"id": "{tag}"}}"#)).await;
    }
    stage.create("notes", r#"{"id": "a", "one": "blue", "many": ["green", "blue", "red"]}"#).await;
    stage.delete("tags", "blue").await.unwrap();
    let note = stage.get("notes", "a").await.unwrap();
    assert_eq!((note.get("one").as_str(), note.get("many").as_str()), ("", r#"["green","red"]"#));
}

/// The refusal comes after others have been released: nothing of that stays.
pub async fn a_delete_is_refused_where_a_relation_must_not_be_empty(stage: Stage) {
    stage.collection("people", r#"{"fields": []}"#).await;
    let notes = r#"{"fields": [{"name": "owner", "type": "relation", "collectionId": "people"}]}"#;
    stage.collection("notes", notes).await;
    let orders = r#"{"fields": [
        {"name": "buyers", "type": "relation", "collectionId": "people", "required": true, "maxSelect": 9}
    ]}"#;
    stage.collection("orders", orders).await;
    stage.create("people", r#"{"id": "ann"}"#).await;
    stage.create("people", r#"{"id": "bob"}"#).await;
    stage.create("notes", r#"{"id": "a", "owner": "ann"}"#).await;
    stage.create("orders", r#"{"id": "x", "buyers": ["ann", "bob"]}"#).await;
    stage.delete("people", "bob").await.unwrap();
    let refused = stage.delete("people", "ann").await.unwrap_err();
    let why = Why::RestrictedBy { collection: "orders".to_owned(), field: "buyers".to_owned() };
    assert_eq!(refused, why);
    assert_eq!(stage.ids(stage.all("people")).await, "ann");
    assert_eq!(stage.get("notes", "a").await.unwrap().get("owner").as_str(), "ann");
}

pub async fn the_last_superuser_stays(stage: Stage) {
    stage.create_user("_superusers", "firstsuperuser1").await;
    stage.create_user("_superusers", "secondsuperuser").await;
    stage.delete("_superusers", "firstsuperuser1").await.unwrap();
    assert_eq!(stage.delete("_superusers", "secondsuperuser").await.unwrap_err(), Why::LastSuperuser);
    assert_eq!(stage.ids(stage.all("_superusers")).await, "secondsuperuser");
}
