//! What is sent, in which form and order.

use model::step::WriteBatch;

use crate::node::{Node, filtered, said, with_query};

const NOTES: &str = r#"{"name": "notes", "listRule": "", "viewRule": "", "fields": [
    {"name": "title", "type": "text"}, {"name": "secret", "type": "text", "hidden": true}, {"name": "n", "type": "number"},
    {"name": "tags", "type": "select", "maxSelect": 3, "values": ["a", "b", "c"]}, {"name": "done", "type": "bool"},
    {"name": "at", "type": "geoPoint"}, {"name": "data", "type": "json"}
]}"#;

#[tokio::test]
async fn a_message_has_the_contracts_form() {
    let node = Node::start().await;
    let id = node.collection(NOTES).await.get("id").unwrap().as_str().unwrap().to_owned();
    let mut client = node.connect().await;
    assert!(client.id.starts_with("n0de") && client.id.len() == 40);
    node.subscribe(&client, "", &["notes/*"]).await;
    let body = r#"{"id": "note00000000001", "title": "a \"b\" <c>\n", "n": 1.5, "tags": ["a", "c"], "done": true,
        "secret": "s", "data": {"b": [1, null], "a": "x"}}"#;
    node.create("notes", body).await;
    let expected = format!(
        "id:{}\nevent:notes/*\ndata:{{\"record\":{{\"at\":{{\"lon\":0,\"lat\":0}},\"collectionId\":\"{id}\",\
         \"collectionName\":\"notes\",\"data\":{{\"a\":\"x\",\"b\":[1,null]}},\"done\":true,\
         \"id\":\"note00000000001\",\"n\":1.5,\"tags\":[\"a\",\"c\"],\"title\":\"a \\\"b\\\" <c>\\n\"}},\
         \"action\":\"create\"}}\n\n",
        client.id
    );
    assert_eq!(client.next_text().await.unwrap(), expected);
}

#[tokio::test]
async fn changes_come_in_the_order_of_the_writes() {
    let node = Node::start().await;
    node.collection(NOTES).await;
    let mut client = node.follower("", &["notes"]).await;
    for n in 0..50 {
        if n == 0 {
            node.create("notes", r#"{"id": "note00000000001", "n": 0}"#).await;
        } else {
            node.update("notes", "note00000000001", &format!(r#"{{"n": {n}}}"#)).await;
        }
    }
    node.delete("notes", "note00000000001").await;
    let told = node.told(&mut client).await;
    let number =
        |index: usize| told[index].json().get("record").unwrap().get("n").unwrap().as_number().unwrap();
    assert_eq!(told.len(), 51);
    assert!((0..50).all(|index| number(index) == index as f64) && number(50) == 49.0);
    assert_eq!(told[0].said(), "create note00000000001");
    assert_eq!(told[50].said(), "delete note00000000001");
}

#[tokio::test]
async fn every_form_of_a_topic_is_told_under_its_own_name() {
    let node = Node::start().await;
    let id = node.collection(NOTES).await.get("id").unwrap().as_str().unwrap().to_owned();
    let wanted = [
        "notes".to_owned(),
        "notes/*".to_owned(),
        "notes/note00000000001".to_owned(),
        id.clone(),
        format!("{id}/*"),
        format!("{id}/note00000000001"),
        "notes/*?x=1".to_owned(),
    ];
    let not_wanted =
        ["notes/note00000000002", "Notes", "notes/", "nope", "@oauth2", "", " notes", "notes/*/x", "notes*"];
    let topics: Vec<&str> = wanted.iter().map(String::as_str).chain(not_wanted).collect();
    let mut client = node.follower("", &topics).await;
    node.create("notes", r#"{"id": "note00000000001"}"#).await;
    let mut names: Vec<String> = node.told(&mut client).await.into_iter().map(|told| told.event).collect();
    let mut expected = wanted.to_vec();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_set_of_topics_replaces_the_one_before() {
    let node = Node::start().await;
    node.collection(NOTES).await;
    let mut client = node.follower("", &["notes"]).await;
    node.create("notes", r#"{"id": "note00000000001"}"#).await;
    assert_eq!(said(&node.told(&mut client).await), ["create note00000000001"]);
    node.subscribe(&client, "", &["marks"]).await;
    node.create("notes", r#"{"id": "note00000000002"}"#).await;
    assert_eq!(said(&node.told(&mut client).await), [""; 0]);
}

#[tokio::test]
async fn what_was_deleted_or_cleared_along_with_a_record_is_told_too() {
    let node = Node::start().await;
    let id = node.collection(NOTES).await.get("id").unwrap().as_str().unwrap().to_owned();
    let comments = format!(
        r#"{{"name": "comments", "listRule": "", "fields": [
            {{"name": "note", "type": "relation", "collectionId": "{id}", "cascadeDelete": true}},
            {{"name": "others", "type": "relation", "collectionId": "{id}", "maxSelect": 9}}]}}"#
    );
    node.collection(&comments).await;
    node.create("notes", r#"{"id": "note00000000001"}"#).await;
    node.create("comments", r#"{"id": "comment00000001", "note": "note00000000001"}"#).await;
    node.create("comments", r#"{"id": "comment00000002", "others": ["note00000000001"]}"#).await;
    let mut client = node.follower("", &["comments", "notes"]).await;
    node.delete("notes", "note00000000001").await;
    let mut told = said(&node.told(&mut client).await);
    told.sort();
    assert_eq!(told, ["delete comment00000001", "delete note00000000001", "update comment00000002"]);
}

#[tokio::test]
async fn a_refused_write_says_nothing() {
    let node = Node::start().await;
    node.collection(
        r#"{"name": "tight", "listRule": "", "fields": [{"name": "n", "type": "number", "max": 5}]}"#,
    )
    .await;
    let mut client = node.follower("", &["tight"]).await;
    let (status, _) = node.call("root", "POST", "/api/collections/tight/records", r#"{"n": 9}"#).await;
    assert_eq!(status, 400);
    assert_eq!(said(&node.told(&mut client).await), [""; 0]);
}

#[tokio::test]
async fn a_batch_is_told_whole_and_a_refused_one_not_at_all() {
    let node = Node::start().await;
    node.collection(NOTES).await;
    let mut client = node.follower("", &["notes"]).await;
    let create = |id: u32| node.create_step("notes", &format!(r#"{{"id": "note{id:011}"}}"#));
    let write = async |steps| node.store.write(WriteBatch { steps, ..WriteBatch::default() }).await.unwrap();
    write(vec![create(1), create(2), create(1)]).await.unwrap_err();
    write(vec![create(3), create(4)]).await.unwrap();
    let told = said(&node.told(&mut client).await);
    assert_eq!(told, ["create note00000000003", "create note00000000004"]);
}

#[tokio::test]
async fn fields_and_expand_shape_the_record_alone() {
    let node = Node::start().await;
    let id = node.collection(NOTES).await.get("id").unwrap().as_str().unwrap().to_owned();
    node.collection(&format!(
        r#"{{"name": "comments", "listRule": "", "fields": [
            {{"name": "note", "type": "relation", "collectionId": "{id}"}}, {{"name": "text", "type": "text"}}]}}"#
    ))
    .await;
    node.create("notes", r#"{"id": "note00000000001", "title": "T"}"#).await;
    let topic = with_query("comments/*", &[("fields", "text,expand.note.title"), ("expand", "note")]);
    let bad = with_query("comments/*", &[("fields", "text:foo(1)")]);
    let mut client = node.follower("", &[&topic]).await;
    let mut other = node.follower("", &[&bad]).await;
    node.create("comments", r#"{"id": "comment00000001", "note": "note00000000001", "text": "x"}"#).await;
    let told = node.told(&mut client).await;
    assert_eq!(told[0].event, topic);
    assert_eq!(told[0].data, r#"{"record":{"expand":{"note":{"title":"T"}},"text":"x"},"action":"create"}"#);
    let whole = other.next().await.unwrap();
    assert!(whole.json().get("record").unwrap().get("collectionName").is_some(), "{whole:?}");
}

#[tokio::test]
async fn a_filter_lets_through_what_it_fits() {
    let node = Node::start().await;
    node.collection(NOTES).await;
    let topic = filtered("notes/*", "n > 5 && title ~ 'x'");
    let mut client = node.follower("", &[&topic]).await;
    node.create("notes", r#"{"id": "note00000000001", "n": 6, "title": "axb"}"#).await;
    node.create("notes", r#"{"id": "note00000000002", "n": 5, "title": "axb"}"#).await;
    node.update("notes", "note00000000001", r#"{"n": 1}"#).await;
    node.update("notes", "note00000000002", r#"{"n": 7}"#).await;
    node.delete("notes", "note00000000001").await;
    node.delete("notes", "note00000000002").await;
    let told = said(&node.told(&mut client).await);
    assert_eq!(told, ["create note00000000001", "update note00000000002", "delete note00000000002"]);
}

#[tokio::test]
async fn a_renamed_collection_is_followed_by_its_new_name_and_its_id() {
    let node = Node::start().await;
    let id = node.collection(NOTES).await.get("id").unwrap().as_str().unwrap().to_owned();
    let mut client = node.follower("", &["notes", "papers", &id]).await;
    node.must("root", "PATCH", "/api/collections/notes", r#"{"name": "papers"}"#).await;
    node.create("papers", r#"{"id": "note00000000001"}"#).await;
    let mut names: Vec<String> = node.told(&mut client).await.into_iter().map(|told| told.event).collect();
    names.sort();
    assert_eq!(names, ["papers".to_owned(), id]);
}
