//! Streams from their first message to their end, and what is refused.

use std::time::Duration;

use axum::http::{StatusCode, header};
use realtime::{Limits, Options, Times};

use crate::node::{Node, local, read, subscription};

fn options(limits: Limits, times: Times) -> Options {
    Options { node_code: "n0de".to_owned(), limits, times }
}

#[tokio::test]
async fn a_stream_is_a_stream_that_nothing_on_the_way_keeps() {
    let node = Node::start().await;
    let response = node.send("", local(1), "GET", "/api/realtime", "").await;
    let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-accel-buffering"), "no");
    assert!(response.headers().get(header::CONTENT_LENGTH).is_none());
}

#[tokio::test]
async fn a_bad_body_is_refused_with_the_contracts_words() {
    let node = Node::start().await;
    let client = node.connect().await;
    let post = async |body: &str| node.call("", "POST", "/api/realtime", body).await;
    let wrong = |data: &str| {
        format!(
            r#"{{"data":{data},"message":"Something went wrong while processing your request.","status":400}}"#
        )
    };
    for body in ["x", "[]", r#"{"clientId": 1}"#, r#"{"clientId": "x", "subscriptions": "a"}"#] {
        assert_eq!(post(body).await, (StatusCode::BAD_REQUEST, wrong("{}")), "{body}");
    }
    let required = r#"{"clientId":{"code":"validation_required","message":"Cannot be blank."}}"#;
    assert_eq!(post("{}").await.1, wrong(required));
    let (status, body) = post(&format!(r#"{{"clientId": "{}"}}"#, "x".repeat(256))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("validation_length_out_of_range"), "{body}");
    let too_long = r#"{"subscriptions":{"1":{"code":"validation_length_too_long","message":"The length must be no more than 2500.","params":{"max":2500,"min":0}}}}"#;
    let (_, body) = post(&subscription(&client.id, &["a", &"é".repeat(1251)])).await;
    assert_eq!(body, wrong(too_long));
    for id in ["x", &"a".repeat(40), &"-".repeat(40)] {
        let unknown = r#"{"data":{},"message":"Missing or invalid client id.","status":404}"#;
        assert_eq!(post(&subscription(id, &[])).await, (StatusCode::NOT_FOUND, unknown.to_owned()));
    }
}

#[tokio::test]
async fn ten_thousand_topics_are_refused_and_a_thousand_are_not() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let topics: Vec<String> = (0..10_000).map(|number| format!("marks?x={number}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let (status, body) = node.try_subscribe(&client, "", &topics).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains(r#""max":1000"#), "{body}");
    node.subscribe(&client, "", &topics[..1000]).await;
    node.create("marks", "{}").await;
    for _ in 0..1000 {
        client.next().await.unwrap();
    }
}

#[tokio::test]
async fn another_address_may_not_set_the_topics() {
    let node = Node::start().await;
    let client = node.connect_from(local(3)).await;
    let (status, body) = node.call("", "POST", "/api/realtime", &subscription(&client.id, &[])).await;
    let expected = r#"{"data":{},"message":"Invalid realtime client.","status":400}"#;
    assert_eq!((status, body.as_str()), (StatusCode::BAD_REQUEST, expected));
}

#[tokio::test]
async fn streams_are_bounded_in_all_and_for_each_address() {
    let limits = Limits { clients: 3, clients_per_address: 2, ..Limits::default() };
    let node = Node::with(options(limits, Times::default())).await;
    let connect = async |last| node.send("", local(last), "GET", "/api/realtime", "").await;
    let first = connect(1).await;
    let _second = connect(1).await;
    let refused = connect(1).await;
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(read(refused).await.0, StatusCode::TOO_MANY_REQUESTS);
    let _third = connect(2).await;
    let refused = connect(3).await;
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(read(refused).await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    assert_eq!(connect(3).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn topics_are_bounded_for_the_node() {
    let limits = Limits { topics: 3, ..Limits::default() };
    let node = Node::with(options(limits, Times::default())).await;
    let (one, other) = (node.connect().await, node.connect().await);
    node.subscribe(&one, "", &["a", "b"]).await;
    assert_eq!(node.try_subscribe(&other, "", &["a", "c"]).await.0, StatusCode::SERVICE_UNAVAILABLE);
    node.subscribe(&one, "", &["a"]).await;
    node.subscribe(&other, "", &["a", "c"]).await;
    drop(one);
    node.subscribe(&other, "", &["a", "c", "d"]).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_the_others_are_told() {
    let limits = Limits { waiting_messages: 20, ..Limits::default() };
    let node = Node::with(options(limits, Times::default())).await;
    let mut slow = node.follower("", &[]).await;
    let mut quick = node.follower("", &[]).await;
    for _ in 0..30 {
        node.told(&mut quick).await;
    }
    assert!(slow.ends().await);
    assert_eq!(node.try_subscribe(&slow, "", &["marks"]).await.0, StatusCode::NO_CONTENT);
    let id = slow.id.clone();
    drop(slow);
    assert_eq!(
        node.call("", "POST", "/api/realtime", &subscription(&id, &[])).await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_too_and_one_large_message_passes() {
    let limits = Limits { waiting_bytes: 10_000, ..Limits::default() };
    let node = Node::with(options(limits, Times::default())).await;
    node.collection(
        r#"{"name": "texts", "listRule": "", "fields": [{"name": "t", "type": "text", "max": 100000}]}"#,
    )
    .await;
    let mut client = node.follower("", &["texts"]).await;
    let large = format!(r#"{{"t": "{}"}}"#, "x".repeat(20_000));
    node.create("texts", &large).await;
    assert!(client.next().await.unwrap().data.len() > 20_000);
    let mut other = node.follower("", &[]).await;
    node.create("texts", &large).await;
    node.create("texts", &large).await;
    node.told(&mut other).await;
    assert!(client.ends().await);
}

#[tokio::test]
async fn a_stream_without_messages_ends_and_one_with_messages_goes_on() {
    let times = Times { idle: Duration::from_millis(400), ..Times::default() };
    let node = Node::with(options(Limits::default(), times)).await;
    let mut silent = node.connect().await;
    let mut busy = node.follower("", &[]).await;
    let ends = silent.ends();
    tokio::pin!(ends);
    loop {
        tokio::select! {
            has_ended = &mut ends => break assert!(has_ended),
            _ = node.told(&mut busy) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    node.told(&mut busy).await;
}

#[tokio::test]
async fn a_stream_ends_in_the_end() {
    let times = Times { lifetime: Duration::from_millis(300), ..Times::default() };
    let node = Node::with(options(Limits::default(), times)).await;
    let mut client = node.follower("", &[]).await;
    while client.next_text().await.is_some() {
        node.create("marks", "{}").await;
    }
}

#[tokio::test]
async fn a_node_that_drains_ends_its_streams_and_its_task() {
    let node = Node::start().await;
    let mut follower = node.follower("", &[]).await;
    let mut other = node.connect_from(local(2)).await;
    node.draining.cancel();
    assert!(follower.ends().await && other.ends().await);
    let refused = node.send("", local(1), "GET", "/api/realtime", "").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    node.realtime.close().await;
}

/// Nothing is kept for a node that nobody listens to.
#[tokio::test]
async fn events_are_followed_while_somebody_wants_them() {
    let times = Times { linger: Duration::from_millis(50), ..Times::default() };
    let node = Node::with(options(Limits::default(), times)).await;
    let is_known = async || node.store.events("realtime".to_owned(), 0, 1).await.is_ok();
    let until = async |wanted: bool| {
        while is_known().await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for _ in 0..3 {
        let mut client = node.follower("", &[]).await;
        assert!(is_known().await);
        node.told(&mut client).await;
        node.subscribe(&client, "", &["@oauth2"]).await;
        until(false).await;
        node.subscribe(&client, "", &["marks"]).await;
        node.told(&mut client).await;
        drop(client);
        until(false).await;
    }
}
