use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use axum::http::StatusCode;
use tokio::sync::Notify;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::layers::testing::text;
use crate::net::{Peer, Transport};

fn request() -> Request<Body> {
    let mut request = Request::get("/a?b").header("host", "x").body(Body::empty()).unwrap();
    request.extensions_mut().insert(Peer::new(SocketAddr::from(([192, 0, 2, 7], 80)), Transport::Tls));
    request
}

/// A service that says so, and answers when it is told to.
fn slow(asked: Arc<AtomicBool>, go: Arc<Notify>) -> impl Upstream {
    service_fn(move |_: Request<Body>| {
        let (asked, go) = (asked.clone(), go.clone());
        async move {
            asked.store(true, Ordering::SeqCst);
            go.notified().await;
            Ok(Response::new(Body::from("this one")))
        }
    })
}

#[tokio::test]
async fn whoever_is_in_is_waited_for_and_nobody_else_comes_in() {
    let (passage, asked, go) = (Passage::default(), Arc::<AtomicBool>::default(), Arc::<Notify>::default());
    let service = passage.layer().layer(slow(asked.clone(), go.clone()));
    let first = tokio::spawn(service.clone().oneshot(request()));
    while !asked.swap(false, Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    passage.close();
    assert!(!passage.until_quiet(Duration::from_millis(20)).await);
    go.notify_one();
    assert!(passage.until_quiet(Duration::from_secs(30)).await);
    assert_eq!(text(first.await.unwrap().unwrap()).await, "this one");

    let second = tokio::spawn(service.oneshot(request()));
    passage.lead_nowhere();
    assert_eq!(second.await.unwrap().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!asked.load(Ordering::SeqCst));
}

#[tokio::test]
async fn what_waits_is_handed_on_with_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("next");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let passage = Passage::default();
    passage.close();
    let service = passage.layer().layer(slow(Arc::default(), Arc::default()));
    let waiting = tokio::spawn(service.clone().oneshot(request()));
    passage.lead_to(socket);
    for answer in [waiting, tokio::spawn(service.oneshot(request()))] {
        let (mut stream, _) = listener.accept().await.unwrap();
        let peer = read_sender(&mut stream).await.unwrap();
        assert_eq!((peer.address.to_string().as_str(), peer.transport), ("192.0.2.7:80", Transport::Tls));
        let heads = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
            Ok::<_, Infallible>(Response::new(format!("the next: {} {}", request.method(), request.uri())))
        });
        let io = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, heads));
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.headers()["connection"], "close");
        assert_eq!(text(answer).await, "the next: GET /a?b");
    }
}

#[tokio::test]
async fn a_next_process_that_is_gone_is_503() {
    let folder = tempfile::tempdir().unwrap();
    let passage = Passage::default();
    passage.close();
    passage.lead_to(folder.path().join("nobody"));
    let service = passage.layer().layer(slow(Arc::default(), Arc::default()));
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}
