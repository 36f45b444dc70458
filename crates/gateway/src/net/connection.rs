//! One connection: HTTP/1.1 requests from a socket to the front, until either side ends it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::acceptor::Accepted;
use super::lingering::LingeringStream;
use super::request_target::RewritingStream;
use super::stalling::StallingStream;
use crate::front::{Front, MAX_HEAD_BYTES};

/// How many headers a request may have. Clients behind chains of proxies send dozens; the contract asks for 200.
const MAX_HEADERS: usize = 256;

/// How much of a body waits for its reader; a head that is much larger is not read to its end.
const MAX_BUFFER_BYTES: usize = MAX_HEAD_BYTES;

/// How long a client may take nothing of what is written to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// Serves the connections of one request loop.
pub struct ConnectionServer {
    http: http1::Builder,
    front: Arc<Front>,
}

impl ConnectionServer {
    /// A server that answers with `front`. A request's head may take `head_timeout` to arrive, and a kept
    /// connection may be silent as long.
    pub fn new(front: Front, head_timeout: Duration) -> Self {
        let mut http = http1::Builder::new();
        // Without `pipeline_flush`: with it, a refusal of a head is not flushed while bytes after the head wait.
        http.timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .keep_alive(true)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES);
        Self { http, front: Arc::new(front) }
    }

    /// Serves one connection to its end. Once `draining`, it ends with the request in flight.
    pub(crate) async fn serve(self: Arc<Self>, accepted: Accepted, draining: CancellationToken) {
        let Accepted { stream, peer } = accepted;
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return debug!(%peer, %error, "could not watch a connection"),
        };
        if let Err(error) = self.serve_requests(stream, peer, draining).await {
            debug!(%peer, %error, "connection ended");
        }
    }

    async fn serve_requests(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        draining: CancellationToken,
    ) -> hyper::Result<()> {
        let stream = StallingStream::new(stream, WRITE_PATIENCE);
        let stream = TokioIo::new(LingeringStream::new(RewritingStream::new(stream)));
        let service = service_fn(move |request| Arc::clone(&self.front).handle(request, peer));
        let mut connection = pin!(self.http.serve_connection(stream, service));
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = draining.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}
