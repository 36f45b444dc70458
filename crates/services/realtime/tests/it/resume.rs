//! What a client gets that connects again and asks for what it missed.

use std::time::Duration;

use model::json::Json;
use realtime::{Options, Times};

use crate::node::{Client, Node, local, read, said, subscription};

async fn notes(node: &Node) {
    node.collection(
        r#"{"name": "notes", "listRule": "n < 100", "fields": [{"name": "n", "type": "number"}]}"#,
    )
    .await;
}

/// Connects, sets topics, and reads up to the word on where the stream stands.
async fn resume(node: &Node, since: Option<&str>) -> (Client, Vec<String>, String, String) {
    let mut client = node.connect_to("/api/realtime?gs_resume=1", local(1)).await;
    let mut body = subscription(&client.id, &["notes", "marks"]);
    if let Some(since) = since {
        body.insert_str(1, &format!(r#""seq": "{since}","#));
    }
    let answer = node.send("", local(1), "POST", "/api/realtime", &body).await;
    assert_eq!(read(answer).await.0, 204);
    let mut missed = Vec::new();
    loop {
        let message = client.next().await.unwrap();
        if message.event.starts_with("GS_") {
            let seq = message.json().get("seq").and_then(Json::as_str).unwrap().to_owned();
            return (client, missed, message.event, seq);
        }
        if message.event == "notes" {
            missed.extend(said(&[message]));
        }
    }
}

async fn note(node: &Node, number: u32, n: u32) {
    node.create("notes", &format!(r#"{{"id": "note{number:011}", "n": {n}}}"#)).await;
}

#[tokio::test]
async fn what_was_missed_is_told_once_and_judged() {
    let node = Node::start().await;
    notes(&node).await;
    let (mut client, missed, answer, _) = resume(&node, None).await;
    assert_eq!((missed.len(), answer.as_str()), (0, "GS_RESUMED"));
    note(&node, 1, 1).await;
    let first = client.next().await.unwrap();
    let seq = first.json().get("seq").and_then(Json::as_str).unwrap().to_owned();
    assert!(first.data.ends_with(&format!(r#","action":"create","seq":"{seq}"}}"#)), "{first:?}");
    drop(client);
    note(&node, 2, 2).await;
    note(&node, 3, 200).await;
    node.delete("notes", "note00000000001").await;
    let (mut client, missed, answer, _) = resume(&node, Some(&seq)).await;
    assert_eq!(answer, "GS_RESUMED");
    note(&node, 4, 4).await;
    // What was on its way comes as to everybody.
    let all = [missed, said(&node.told(&mut client).await)].concat();
    assert_eq!(all, ["create note00000000002", "delete note00000000001", "create note00000000004"]);
}

#[tokio::test]
async fn what_is_not_known_any_more_is_to_be_read_anew() {
    let times = Times { linger: Duration::from_millis(20), ..Times::default() };
    let node = Node::with(Options { times, ..Options::default() }).await;
    notes(&node).await;
    let (client, _, _, seq) = resume(&node, None).await;
    assert_eq!(resume(&node, Some("x.1")).await.2, "GS_RESYNC");
    drop(client);
    while node.store.events("realtime".to_owned(), 0, 1).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (_, missed, answer, _) = resume(&node, Some(&seq)).await;
    assert_eq!((missed.len(), answer.as_str()), (0, "GS_RESYNC"));
}

#[tokio::test]
async fn who_does_not_ask_sees_nothing_of_it() {
    let node = Node::start().await;
    notes(&node).await;
    let (_other, ..) = resume(&node, None).await;
    let mut client = node.follower("", &["notes"]).await;
    note(&node, 1, 1).await;
    let told = node.told(&mut client).await;
    assert!(told.len() == 1 && told[0].data.ends_with(r#","action":"create"}"#), "{told:?}");
}
