//! One connection: requests from a stream of bytes to the stack, until either side ends it. Here are those of HTTP/1.1;
//! `http2.rs` has the others.

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::UPGRADE;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::acceptor::Transport;
use super::http2;
use super::lingering::LingeringStream;
use super::preface::{self, First};
use super::request_target::RewritingStream;
use crate::layers::head_size::MAX_HEAD_BYTES;
use crate::refusal::{Cause, Refusals};
use crate::upstream::Upstream;

/// How many headers a request may have. Clients behind chains of proxies send dozens; the contract asks for 200.
pub(super) const MAX_HEADERS: usize = 256;

/// How much of a body waits for its reader; a head that is much larger is not read to its end.
const MAX_BUFFER_BYTES: usize = MAX_HEAD_BYTES;

/// A request's extension: who asks, and how he came. It is for the stack alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Who connected, or whose connection it is by the word of the PROXY protocol.
    pub(crate) address: SocketAddr,
    /// How the client came: to this server, or to the trusted proxy before it.
    pub(crate) transport: Transport,
    /// The client: who connected, or whom a trusted proxy names.
    pub(crate) client: IpAddr,
    /// Whether it is a trusted proxy that connected, so that its word stands in the headers.
    pub(crate) is_trusted: bool,
}

/// A request's extension, where the request asks to go on with another protocol: what is done with the connection
/// once that is agreed. It is a part of the connection's life: counted, and ended with it.
#[derive(Clone, Default)]
pub(crate) struct Then(Arc<Mutex<Option<Deed>>>);

type Deed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 and 1.0.
    Http1,
    Http2,
}

/// Serves the connections of one request loop. A clone, for one of them, shares everything.
#[derive(Clone)]
pub struct ConnectionServer<S> {
    http: http1::Builder,
    stack: S,
    refusals: Arc<Refusals>,
    head_timeout: Duration,
    has_plain_http2: bool,
}

impl<S: Upstream> ConnectionServer<S> {
    /// A server that answers with `stack`. A request's head may take `head_timeout` to arrive, and a kept
    /// connection may be silent as long.
    pub fn new(stack: S, head_timeout: Duration) -> Self {
        let mut http = http1::Builder::new();
        // Without `pipeline_flush`: with it, a refusal of a head is not flushed while bytes after the head wait.
        http.timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .keep_alive(true)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES);
        let refusals = Arc::new(Refusals::new());
        Self { http, stack, refusals, head_timeout, has_plain_http2: false }
    }

    /// Whether clients without TLS may begin with HTTP/2 at once, as those do that were told of it.
    #[must_use]
    pub fn with_plain_http2(self, has_plain_http2: bool) -> Self {
        Self { has_plain_http2, ..self }
    }

    /// Serves one connection to its end. Once `draining`, it ends with the requests in flight.
    pub(crate) async fn serve(
        self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        protocol: Protocol,
        draining: CancellationToken,
    ) {
        let mut first = First::default();
        let mut protocol = protocol;
        if self.has_plain_http2 && peer.transport == Transport::Plain {
            let looked = tokio::select! {
                looked = preface::look(&mut stream, self.head_timeout) => looked,
                () = draining.cancelled() => return,
            };
            match looked {
                Ok(looked) => (first, protocol) = looked,
                Err(error) => return debug!(peer = %peer.address, %error, "connection ended"),
            }
        }
        let ended = match protocol {
            Protocol::Http1 => self.serve_http1(first, stream, peer, draining).await,
            Protocol::Http2 => {
                let patience = self.head_timeout;
                http2::serve(self.stack, first, stream, peer, patience, draining).await
            }
        };
        if let Err(error) = ended {
            debug!(peer = %peer.address, %error, "connection ended");
        }
    }

    async fn serve_http1(
        self,
        first: First,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        draining: CancellationToken,
    ) -> hyper::Result<()> {
        let stream = TokioIo::new(LingeringStream::new(RewritingStream::after(first.bytes(), stream)));
        // hyper calls a shared service; only this connection has the clone, and no call is within another.
        let stack = RefCell::new(self.stack);
        let then = Then::default();
        let for_requests = then.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            if request.headers().contains_key(UPGRADE) {
                request.extensions_mut().insert(for_requests.clone());
            }
            stack.borrow_mut().call(request)
        });
        let mut connection = pin!(self.http.serve_connection(stream, service).with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                None
            }
        };
        let ended = match ended {
            Some(ended) => ended,
            None => connection.await,
        };
        if let Err(error) = &ended
            && let Some(cause) = refused_head(error)
        {
            self.refusals.count(cause);
        }
        ended?;
        // What has no end of its own ends when the process is asked to: clients connect again, elsewhere.
        if let Some(then) = then.take() {
            tokio::select! {
                () = then => {}
                () = draining.cancelled() => {}
            }
        }
        Ok(())
    }
}

/// Why hyper has refused a head itself: no layer has seen it, and the connection ends with it.
fn refused_head(error: &hyper::Error) -> Option<Cause> {
    let cause = if error.is_parse_too_large() { Cause::HeadSize } else { Cause::BadHead };
    error.is_parse().then_some(cause)
}

// === impl Peer ===

impl Peer {
    /// One who is who connected.
    pub(crate) const fn new(address: SocketAddr, transport: Transport) -> Self {
        Self { address, transport, client: address.ip(), is_trusted: false }
    }
}

// === impl Then ===

impl Then {
    pub(crate) fn set(&self, then: Deed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(then);
    }

    fn take(&self) -> Option<Deed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
