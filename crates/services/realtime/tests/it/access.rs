//! Who is told.

use crate::node::{Node, filtered, said, with_query};

const ANN: &str = "ann000000000000";
const BOB: &str = "bob000000000000";

/// A collection with these rules.
async fn notes(node: &Node, list: &str, view: &str) {
    node.collection(&format!(
        r#"{{"name": "notes", "listRule": {list}, "viewRule": {view}, "fields": [
            {{"name": "owner", "type": "text"}}, {{"name": "n", "type": "number"}},
            {{"name": "secret", "type": "text", "hidden": true}}]}}"#
    ))
    .await;
}

#[tokio::test]
async fn a_list_follows_the_list_rule_and_a_record_the_view_rule() {
    let node = Node::start().await;
    notes(&node, r#""n > 5""#, r#""n < 5""#).await;
    let mut list = node.follower("", &["notes/*"]).await;
    let mut record = node.follower("", &["notes/note00000000001"]).await;
    node.create("notes", r#"{"id": "note00000000001", "n": 9}"#).await;
    node.update("notes", "note00000000001", r#"{"n": 1}"#).await;
    assert_eq!(said(&node.told(&mut list).await), ["create note00000000001"]);
    assert_eq!(said(&node.told(&mut record).await), ["update note00000000001"]);
}

#[tokio::test]
async fn a_locked_collection_is_told_to_superusers_with_what_is_hidden() {
    let node = Node::start().await;
    notes(&node, "null", r#""""#).await;
    let mut guest = node.follower("", &["notes/*"]).await;
    let mut root = node.follower("root", &["notes/*"]).await;
    let mut record = node.follower("", &["notes/note00000000001"]).await;
    node.create("notes", r#"{"id": "note00000000001", "secret": "s"}"#).await;
    assert_eq!(node.told(&mut guest).await, []);
    assert!(node.told(&mut root).await[0].data.contains(r#""secret":"s""#));
    assert!(!node.told(&mut record).await[0].data.contains("secret"));
}

#[tokio::test]
async fn each_caller_is_judged_for_itself() {
    let node = Node::start().await;
    node.users("", &[ANN, BOB]).await;
    notes(&node, r#""owner = @request.auth.id && owner != ''""#, "null").await;
    let mut ann = node.follower(&format!("users/{ANN}"), &["notes"]).await;
    let mut ann_too = node.follower(&format!("users/{ANN}"), &["notes"]).await;
    let mut bob = node.follower(&format!("users/{BOB}"), &["notes"]).await;
    let mut guest = node.follower("", &["notes"]).await;
    node.create("notes", &format!(r#"{{"id": "note00000000001", "owner": "{ANN}"}}"#)).await;
    node.create("notes", r#"{"id": "note00000000002", "owner": ""}"#).await;
    node.update("notes", "note00000000001", &format!(r#"{{"owner": "{BOB}"}}"#)).await;
    node.delete("notes", "note00000000001").await;
    assert_eq!(said(&node.told(&mut ann).await), ["create note00000000001"]);
    assert_eq!(said(&node.told(&mut ann_too).await), ["create note00000000001"]);
    assert_eq!(said(&node.told(&mut bob).await), ["update note00000000001", "delete note00000000001"]);
    assert_eq!(said(&node.told(&mut guest).await), [""; 0]);
}

/// The rule asks for another record, so that only the store can tell; of the deleted row, too.
#[tokio::test]
async fn rules_that_ask_for_other_records_are_asked_of_the_store() {
    let node = Node::start().await;
    let boards = r#"{"name": "boards", "fields": [{"name": "open", "type": "bool"}]}"#;
    let board = node.collection(boards).await.get("id").unwrap().as_str().unwrap().to_owned();
    node.collection(&format!(
        r#"{{"name": "cards", "listRule": "board.open = true && n >= 0", "fields": [{{"name": "n", "type": "number"}},
            {{"name": "board", "type": "relation", "collectionId": "{board}"}}]}}"#
    ))
    .await;
    node.create("boards", r#"{"id": "board0000000001", "open": true}"#).await;
    node.create("boards", r#"{"id": "board0000000002", "open": false}"#).await;
    let mut client = node.follower("", &["cards"]).await;
    node.create("cards", r#"{"id": "card00000000001", "board": "board0000000001"}"#).await;
    node.create("cards", r#"{"id": "card00000000002", "board": "board0000000002"}"#).await;
    node.update("cards", "card00000000001", r#"{"n": 1}"#).await;
    node.delete("cards", "card00000000001").await;
    node.delete("cards", "card00000000002").await;
    let told = said(&node.told(&mut client).await);
    assert_eq!(told, ["create card00000000001", "update card00000000001", "delete card00000000001"]);
}

#[tokio::test]
async fn a_filter_of_a_client_names_no_more_than_one_of_a_list() {
    let node = Node::start().await;
    notes(&node, r#""""#, "null").await;
    let topics = [
        filtered("notes", "@request.method = 'GET'"),
        filtered("notes", "@collection.notes.id ?!= ''"),
        filtered("notes", "secret = 's'"),
        filtered("notes", "nope = 1"),
        filtered("notes", "n ="),
        with_query("notes", &[("filter", "n > 0"), ("sort", "@request.auth.id")]),
    ];
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut guest = node.follower("", &topics).await;
    let mut root = node.follower("root", &topics).await;
    node.create("notes", r#"{"id": "note00000000001", "n": 1, "secret": "s"}"#).await;
    assert_eq!(node.told(&mut guest).await, []);
    let mut told: Vec<String> = node.told(&mut root).await.into_iter().map(|told| told.event).collect();
    let mut expected = [topics[0], topics[1], topics[5]];
    told.sort();
    expected.sort_unstable();
    assert_eq!(told, expected, "a superuser may name the request and other collections, not what is hidden");
}

#[tokio::test]
async fn rules_see_the_subscriptions_query_and_headers() {
    let node = Node::start().await;
    let rule =
        r#""@request.query.key = 'k' && @request.headers.x_token = 't' && @request.context = 'realtime'""#;
    notes(&node, rule, "null").await;
    let topic = |query: &str, headers: &str| {
        format!(r#"notes?options={{"query":{{"key":"{query}"}},"headers":{{"X-Token":"{headers}"}}}}"#)
    };
    let (right, wrong) = (topic("k", "t"), topic("k", "u"));
    let mut client = node.follower("", &[&right, &wrong, &topic("x", "t"), "notes"]).await;
    node.create("notes", r#"{"id": "note00000000001"}"#).await;
    let told: Vec<String> = node.told(&mut client).await.into_iter().map(|told| told.event).collect();
    assert_eq!(told, [right]);
}

#[tokio::test]
async fn an_email_is_seen_by_its_owner_by_managers_and_where_it_is_public() {
    let node = Node::start().await;
    let rules = r#""listRule": "", "manageRule": "@request.auth.team = 'boss'","#;
    node.users(rules, &[ANN, BOB, "eve000000000000"]).await;
    node.update("users", BOB, r#"{"team": "boss"}"#).await;
    let mut clients = [
        node.follower(&format!("users/{ANN}"), &["users"]).await,
        node.follower(&format!("users/{BOB}"), &["users"]).await,
        node.follower("users/eve000000000000", &["users"]).await,
        node.follower("", &["users"]).await,
        node.follower("root", &["users"]).await,
    ];
    node.update("users", ANN, r#"{"team": "b"}"#).await;
    let sees = |told: &Vec<Vec<crate::node::Message>>| -> Vec<bool> {
        told.iter().map(|told| told.len() == 1 && told[0].data.contains("ann@example.com")).collect()
    };
    assert_eq!(sees(&node.all_told(&mut clients).await), [true, true, false, false, true]);
    node.update("users", ANN, r#"{"emailVisibility": true}"#).await;
    assert_eq!(sees(&node.all_told(&mut clients).await), [true; 5]);
}

#[tokio::test]
async fn expanded_records_are_those_that_the_subscriber_may_view() {
    let node = Node::start().await;
    node.users("", &[ANN]).await;
    let boards = r#"{"name": "boards", "viewRule": "@request.auth.id != ''", "fields": []}"#;
    let board = node.collection(boards).await.get("id").unwrap().as_str().unwrap().to_owned();
    node.collection(&format!(
        r#"{{"name": "cards", "listRule": "", "fields": [
            {{"name": "board", "type": "relation", "collectionId": "{board}"}}]}}"#
    ))
    .await;
    node.create("boards", r#"{"id": "board0000000001"}"#).await;
    let topic = with_query("cards", &[("expand", "board")]);
    let mut ann = node.follower(&format!("users/{ANN}"), &[&topic]).await;
    let mut guest = node.follower("", &[&topic]).await;
    node.create("cards", r#"{"id": "card00000000001", "board": "board0000000001"}"#).await;
    assert!(node.told(&mut ann).await[0].data.contains(r#""expand":{"board":{"#));
    assert!(!node.told(&mut guest).await[0].data.contains(r#""board":{"#));
}

/// Where the project is gone too, `!= true` holds for what is not there.
#[tokio::test]
async fn a_delete_that_takes_others_along_tells_nobody_who_could_not_have_read() {
    let node = Node::start().await;
    let projects = r#"{"name": "projects", "listRule": "", "fields": [{"name": "private", "type": "bool"}]}"#;
    let id = node.collection(projects).await.get("id").unwrap().as_str().unwrap().to_owned();
    node.collection(&format!(
        r#"{{"name": "tasks", "listRule": "project.private != true", "fields": [
            {{"name": "project", "type": "relation", "collectionId": "{id}", "cascadeDelete": true}}]}}"#
    ))
    .await;
    let mut guest = node.follower("", &["tasks"]).await;
    let mut root = node.follower("root", &["tasks"]).await;
    node.create("projects", r#"{"id": "secret000000000", "private": true}"#).await;
    node.create("projects", r#"{"id": "open00000000000"}"#).await;
    node.create("tasks", r#"{"id": "task00000000001", "project": "secret000000000"}"#).await;
    node.create("tasks", r#"{"id": "task00000000002", "project": "open00000000000"}"#).await;
    node.delete("projects", "secret000000000").await;
    node.delete("tasks", "task00000000002").await;
    assert_eq!(said(&node.told(&mut guest).await), ["create task00000000002", "delete task00000000002"]);
    let deleted = ["delete task00000000001", "delete task00000000002"];
    assert_eq!(said(&node.told(&mut root).await)[2..], deleted);
}
