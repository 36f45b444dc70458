//! Real sockets on loopback, which the policy of most clients here allows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::connector::Connector;
use super::error::ConnectProblem;
use super::host::Host;
use super::*;

mod failing;
mod guard;
mod keeping;
mod sending;
mod tls;

const LONG: Limits = Limits { deadline: Duration::from_secs(20), max_answer_bytes: 64 << 10 };
const SHORT: Limits = Limits { deadline: Duration::from_millis(200), max_answer_bytes: 64 << 10 };
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn policy(exceptions: &[&str]) -> Arc<OutboundPolicy> {
    Arc::new(OutboundPolicy::parse(exceptions).unwrap())
}

/// A client that may reach 127.0.0.1.
fn client() -> Outbound {
    Outbound::new(policy(&["127.0.0.1"]))
}

fn bounded_client(bounds: Bounds) -> Outbound {
    Outbound::build(policy(&["127.0.0.1"]), roots::tls_connector(None).unwrap(), bounds)
}

/// What no error may show stands in path, query and headers.
fn url(scheme: &str, host: &str, port: u16) -> OutboundUrl {
    OutboundUrl::parse(&format!("{scheme}://{host}:{port}/SECRET?key=SECRET")).unwrap()
}

fn post(url: &OutboundUrl, body: Bytes) -> OutboundRequest<'_> {
    let mut headers = HeaderMap::new();
    headers.insert("x-key", HeaderValue::from_static("SECRET"));
    OutboundRequest { method: Method::POST, url, headers, body }
}

async fn send(client: &Outbound, url: &OutboundUrl, limits: Limits) -> Result<OutboundAnswer, OutboundError> {
    client.send(post(url, Bytes::from_static(b"SECRET")), limits).await
}

/// The error of a request, which shows nothing that is secret.
async fn failure(client: &Outbound, url: &OutboundUrl, limits: Limits) -> OutboundError {
    let error = send(client, url, limits).await.unwrap_err();
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!shown.contains("SECRET") && shown.contains(&url.port().to_string()), "{shown}");
    }
    error
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A server of one connection: it gets the stream when the head of a request has been read.
async fn serve_one<F>(script: impl FnOnce(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        script(stream).await;
    });
    port
}

/// A server that gives every request the same bytes and then closes.
async fn serve_bytes(answer: impl Into<Vec<u8>>) -> u16 {
    let answer = answer.into();
    serve_one(|mut stream| async move {
        // The client may have seen enough before the end.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        read_to_end(&mut stream).await;
    })
    .await
}

/// Reads a head; `None` at the end of the connection.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?.into());
    }
    Some(text)
}

/// Reads a head and the body that its Content-Length tells of.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let text = read_head(stream).await?;
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(text + &String::from_utf8(body).unwrap())
}

/// Waits until the peer has closed, one way or the other.
async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

/// Whether nobody but the test has connected to a listener.
async fn is_untouched(listener: TcpListener) -> bool {
    let own = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    peer == own.local_addr().unwrap()
}
