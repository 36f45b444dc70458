//! One request, sent to the next process over a connection of its own.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONNECTION, HOST, UPGRADE};
use axum::http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::debug;

use super::arrivals::sender_line;
use super::unavailable;
use crate::net::Peer;
use crate::proxy::Link;

/// How long the next process may take until the head of its answer. It is as long as any request may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// The body of an answer, and what it is read with.
struct HandedOnBody {
    body: Incoming,
    link: Link,
}

/// Sends a request to who listens on a socket, and gives the answer.
pub(super) async fn hand_on(request: Request<Body>, socket: &Path) -> Response<Body> {
    // Its connection would go on with another protocol here, and this process is about to end.
    if request.headers().contains_key(UPGRADE) {
        return unavailable();
    }
    let is_last = request.version() < Version::HTTP_2;
    let mut response = match timeout(DEADLINE, try_to_hand_on(request, socket)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            debug!(%error, "a request could not be handed on to the next process");
            unavailable()
        }
        Err(_) => unavailable(),
    };
    *response.version_mut() = Version::HTTP_11;
    response.headers_mut().remove(CONNECTION);
    if is_last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn try_to_hand_on(mut request: Request<Body>, socket: &Path) -> io::Result<Response<Body>> {
    let peer = request.extensions_mut().remove::<Peer>().ok_or(io::ErrorKind::InvalidInput)?;
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(sender_line(&peer).as_bytes()).await?;
    let mut link = Link::uncounted(stream).await.map_err(io::Error::other)?;
    speak_http1(&mut request);
    let response = link.send(request).await.map_err(|_| io::ErrorKind::ConnectionReset)?;
    Ok(response.map(|body| Body::new(HandedOnBody { body, link })))
}

/// As a client of HTTP/1.1 says it: the host in a header, and of the target the path and the query. One of HTTP/1.0, who
/// may name none, stays one.
fn speak_http1(request: &mut Request<Body>) {
    if request.version() < Version::HTTP_2 {
        return;
    }
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
        let target = request.uri().path_and_query().cloned().map(Uri::from);
        *request.uri_mut() = target.unwrap_or_default();
    }
}

impl HttpBody for HandedOnBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, link } = &mut *self;
        link.poll_frame(body, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
