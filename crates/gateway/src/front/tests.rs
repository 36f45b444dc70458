//! The front before small routers, over a connection in memory.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, http};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use identity::Identity;
use kit::respond::NoCompression;
use store::sqlite::{self, SqliteStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use blobs::FolderBlobs;
use kit::files::Files;
use kit::respond::AllowFraming;
use kit::spool::{Spool, SpoolBounds};

use super::Front;
use crate::layers::Origins;

/// What a client reads that sends `request` to a front of `router`.
async fn answer(router: Router, request: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let identity = Arc::new(Identity::start().unwrap());
    let store = Arc::new(SqliteStore::open(sqlite::Options::new(folder.path().to_owned())).unwrap());
    let files = Arc::new(Files {
        blobs: Arc::new(FolderBlobs::open(blobs::Options::new(folder.path().join("storage"))).unwrap()),
        spool: Arc::new(Spool::new(folder.path().to_owned(), SpoolBounds::default())),
    });
    let services = Arc::new(kit::app::App::new(store, identity, files));
    let front = Arc::new(Front::new(services, router, Origins::new(&["*".to_owned()])));
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(move |request| Arc::clone(&front).handle(request, peer));
        let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
    });
    client.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get_request(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")
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
