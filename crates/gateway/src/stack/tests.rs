//! The stack before small routers, over a connection in memory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, http};
use kit::respond::{AllowFraming, NoCompression};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::{Edge, stack};
use crate::Gateway;
use crate::layers::challenges::Challenges;
use crate::layers::cors::Origins;
use crate::layers::https::HttpsRules;
use crate::layers::testing::callers_and_limit;
use crate::net::{ConnectionServer, Peer, Protocol, Transport};
use crate::passage::Passage;

const PEER: Peer = Peer::new(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1), Transport::Plain);

/// The rules of a stack that has nothing configured.
fn edge(folder: &Path) -> Edge {
    let (callers, limit) = callers_and_limit(folder);
    let origins = Origins::new(&["*".to_owned()]);
    Edge {
        passage: Passage::default(),
        connections: Arc::default(),
        challenges: Challenges::default(),
        https: HttpsRules::default(),
        origins,
        callers,
        limit,
        gateway: Gateway::default(),
        log: None,
    }
}

/// What a client reads that sends `request` to a stack over `router`.
async fn answer(router: Router, request: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let stack = stack(edge(folder.path()), router);
    let server = ConnectionServer::new(stack, Duration::from_secs(60));
    let (mut client, stream) = tokio::io::duplex(64 * 1024);
    tokio::spawn(server.serve(stream, PEER, Protocol::Http1, CancellationToken::new()));
    client.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get_request(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
}

fn page(response: impl IntoResponse + Clone + Send + Sync + 'static) -> Router {
    Router::new().route("/", get(|| async { response }))
}

fn large_json() -> (http::HeaderMap, Vec<u8>) {
    let mut headers = http::HeaderMap::new();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    (headers, vec![b' '; 2048])
}

#[tokio::test]
async fn a_panic_is_answered_500_in_the_contracts_shape() {
    let router = Router::new().route(
        "/",
        get(|| async {
            let no_digits: u8 = "a bug".parse().unwrap();
            no_digits.to_string()
        }),
    );
    let answer = answer(router, &get_request("")).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    let body = r#"{"data":{},"message":"Something went wrong while processing your request.","status":500}"#;
    assert!(answer.ends_with(body), "{answer}");
    assert!(answer.contains("x-frame-options"), "{answer}");
}

#[tokio::test]
async fn an_answer_with_a_token_is_never_compressed() {
    let asked = get_request("Accept-Encoding: gzip, br\r\n");
    let compressed = answer(page(large_json()), &asked).await;
    assert!(compressed.contains("content-encoding: br"), "{compressed}");
    let plain = answer(page((Extension(NoCompression), large_json())), &asked).await;
    assert!(!plain.contains("content-encoding"), "{plain}");
    let tiny = answer(page(Bytes::from_static(b"{}")), &asked).await;
    assert!(!tiny.contains("content-encoding"), "{tiny}");
}

#[tokio::test]
async fn a_service_may_allow_framing() {
    let framed = answer(page(Extension(AllowFraming)), &get_request("")).await;
    assert!(!framed.contains("x-frame-options"), "{framed}");
}

#[tokio::test]
async fn a_stream_is_neither_compressed_nor_held_back() {
    let router = Router::new().route(
        "/",
        get(|| async {
            let events = futures_util::stream::iter([Ok::<_, std::io::Error>("data: x\n\n".repeat(500))]);
            Response::builder()
                .header(CONTENT_TYPE, "text/event-stream")
                .body(Body::from_stream(events))
                .expect("a valid response")
        }),
    );
    let answer = answer(router, &get_request("Accept-Encoding: gzip\r\n")).await;
    assert!(!answer.contains("content-encoding"), "{answer}");
}

#[tokio::test]
async fn headers_stand_in_the_order_of_the_layers() {
    let asked = get_request("Accept-Encoding: br\r\nOrigin: https://a.de\r\nX-Request-Id: r1\r\n");
    let answer = answer(page(large_json()), &asked).await;
    let head = answer.split("\r\n\r\n").next().unwrap();
    let names =
        head.lines().skip(1).map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>().join(" ");
    assert_eq!(
        names,
        "content-type content-encoding vary vary x-xss-protection x-content-type-options x-frame-options \
         cross-origin-opener-policy access-control-allow-origin x-request-id connection transfer-encoding date"
    );
}

#[tokio::test]
async fn what_the_head_decides_has_no_headers_of_a_routed_response() {
    for request in ["GET //a HTTP/1.1\r\n", "OPTIONS /a HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n"] {
        let answer = answer(page("x"), &format!("{request}Host: x\r\nConnection: close\r\n\r\n")).await;
        assert!(!answer.contains("x-request-id") && !answer.contains("x-frame-options"), "{answer}");
    }
}

#[tokio::test]
async fn every_answer_is_counted_also_what_the_head_alone_decides() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::default();
    let mut edge = edge(folder.path());
    edge.gateway = gateway.clone();
    edge.https.redirect_to = Some(443);
    let mut stack = stack(edge, page("x"));
    let tls = Peer { transport: Transport::Tls, ..PEER };
    let large = "a".repeat(crate::layers::head_size::MAX_HEAD_BYTES);
    for (peer, method, path, header, status) in [
        (tls, "GET", "/", "x", 200),
        (tls, "OPTIONS", "/", "x", 204),
        (PEER, "GET", "/", "x", 308),
        (PEER, "GET", "/", "", 400),
        (tls, "GET", "//a", "x", 307),
        (tls, "GET", "/", &large, 431),
    ] {
        let mut request = Request::builder().method(method).uri(path).header("x-large", header);
        if !header.is_empty() {
            request = request.header("host", "a");
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(peer);
        let Ok(response) = tower::Service::call(&mut stack, request).await;
        assert_eq!(response.status(), status, "{method} {path}");
    }
    let text = gateway.metrics();
    for (class, count) in [("2xx", 2), ("3xx", 2), ("4xx", 2), ("5xx", 0)] {
        let line = format!("groundswell_requests_total{{route=\"services\",status=\"{class}\"}} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(text.contains("groundswell_request_duration_seconds_count{route=\"services\"} 6\n"), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::default();
    let mut edge = edge(folder.path());
    edge.gateway = gateway.clone();
    let mut stack = stack(edge, Router::new().route("/", get(std::future::pending::<()>)));
    let mut request = Request::get("/").header("host", "a").body(Body::empty()).unwrap();
    request.extensions_mut().insert(PEER);
    let answer = tower::Service::call(&mut stack, request);
    assert!(gateway.metrics().contains("groundswell_requests_in_flight{route=\"services\"} 1\n"));
    drop(answer);
    let text = gateway.metrics();
    assert!(text.contains("groundswell_requests_in_flight{route=\"services\"} 0\n"), "{text}");
    assert!(text.contains("groundswell_requests_abandoned_total{route=\"services\"} 1\n"), "{text}");
}

/// hyper keeps one for each connection and moves each into it: what a layer adds here is paid on every request.
#[tokio::test]
async fn the_future_of_a_request_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = stack(edge(folder.path()), page("x"));
    let future = tower::Service::call(&mut stack, Request::new(Body::empty()));
    let bytes = std::mem::size_of_val(&future);
    assert!(bytes <= 1024, "{bytes} bytes");
}
