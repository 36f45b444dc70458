//! The front before small routers, over a connection in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, http};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::body::BodyLimit;
use super::{AllowFraming, Front, NoCompression, Origins};

const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The server's side of a fresh connection runs; the client's side is given back.
fn connect(router: Router) -> DuplexStream {
    let front = Arc::new(Front::new(router, Origins::new(&["*".to_owned()]), BODY_TIMEOUT));
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let (client, server) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(move |request| Arc::clone(&front).handle(request, peer));
        let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
    });
    client
}

async fn answer(router: Router, request: &str) -> String {
    let mut client = connect(router);
    client.write_all(request.as_bytes()).await.unwrap();
    read_to_end(client).await
}

async fn read_to_end(mut client: DuplexStream) -> String {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get_request(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")
}

fn post_request(length: u64, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A route that reads its body, and makes of any failure what a service might.
fn reader() -> Router {
    Router::new().route(
        "/",
        post(|body: Body| async {
            match axum::body::to_bytes(body, usize::MAX).await {
                Ok(bytes) => (StatusCode::OK, format!("read {} bytes", bytes.len())),
                Err(_) => (StatusCode::BAD_REQUEST, "something of the service".to_owned()),
            }
        }),
    )
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
            let nothing: Option<&'static str> = None;
            nothing.expect("a bug")
        }),
    );
    let answer = answer(router, &get_request("")).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    let body = r#"{"data":{},"message":"Something went wrong while processing your request.","status":500}"#;
    assert!(answer.ends_with(body), "{answer}");
    assert!(answer.contains("x-frame-options"), "{answer}");
}

#[tokio::test]
async fn a_body_within_its_limit_is_read() {
    let answer = answer(reader(), &post_request(5, "hello")).await;
    assert!(answer.ends_with("read 5 bytes"), "{answer}");
}

#[tokio::test]
async fn a_declared_body_past_the_limit_is_413_whatever_the_service_says() {
    let answer = answer(reader(), &post_request(33_554_433, "")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(
        answer.ends_with(r#"{"data":{},"message":"Request entity too large.","status":413}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_chunked_body_past_a_limit_of_the_service_is_413() {
    let router = Router::new().route(
        "/",
        post(|Extension(limit): Extension<BodyLimit>, body: Body| async move {
            limit.set(10);
            axum::body::to_bytes(body, usize::MAX).await.map_err(|_| StatusCode::BAD_REQUEST)
        }),
    );
    let head = "POST / HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let small = answer(router.clone(), &format!("{head}A\r\n0123456789\r\n0\r\n\r\n")).await;
    assert!(small.ends_with("0123456789"), "{small}");
    let large = answer(router, &format!("{head}8\r\n01234567\r\n3\r\n890\r\n0\r\n\r\n")).await;
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_is_cut_but_a_slow_one_is_not() {
    let mut client = connect(reader());
    client.write_all(post_request(4, "").as_bytes()).await.unwrap();
    for byte in *b"slow" {
        tokio::time::sleep(BODY_TIMEOUT - Duration::from_secs(1)).await;
        client.write_all(&[byte]).await.unwrap();
    }
    assert!(read_to_end(client).await.ends_with("read 4 bytes"));
    let silent = answer(reader(), &post_request(4, "sil")).await;
    assert!(silent.starts_with("HTTP/1.1 408 "), "{silent}");
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
