//! From a URL to a connection: the name is looked up once, its addresses are judged, and one of those that
//! passed is connected to. Nothing looks the name up again in between.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::Bounds;
use super::error::ConnectProblem;
use super::host::{Host, Target};
use super::policy::OutboundPolicy;
use super::stream::{OutboundStream, Transport};

/// Makes the connections of one client.
#[derive(Clone)]
pub(super) struct Connector {
    policy: Arc<OutboundPolicy>,
    tls: TlsConnector,
    bounds: Bounds,
    /// A place for each connection, open or being made. Who finds none waits, within his deadline.
    connections: Arc<Semaphore>,
    /// A place for each look-up.
    lookups: Arc<Semaphore>,
}

/// Look-ups at once, each a thread of the runtime's blocking pool. The next wait for a place, within their
/// deadlines: servers of names that do not answer must not take the threads that files are read on.
const MAX_LOOKUPS: usize = 16;
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;
/// How long an address may be silent before the next one is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

// === impl Connector ===

impl Connector {
    pub(super) fn new(policy: Arc<OutboundPolicy>, tls: TlsConnector, bounds: Bounds) -> Connector {
        Connector {
            policy,
            tls,
            bounds,
            connections: Arc::new(Semaphore::new(bounds.max_connections)),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<OutboundStream>, ConnectProblem> {
        // The pool finishes a connection that a request no longer waits for, so the deadline of the request
        // is not enough.
        let connecting = timeout(self.bounds.connect, self.open(&uri));
        connecting.await.unwrap_or(Err(ConnectProblem::Unreachable("it does not take connections")))
    }

    async fn open(&self, uri: &Uri) -> Result<TokioIo<OutboundStream>, ConnectProblem> {
        let target = Target::of(uri).map_err(|_| ConnectProblem::Unresolvable)?;
        let permit = self.connections.clone().acquire_owned().await.expect("nobody closes the semaphore");
        let addresses = self.allowed_addresses(&target).await?;
        let stream = connect_first(addresses).await.map_err(|error| ConnectProblem::of_connecting(&error))?;
        // A request is written at once; what it costs not to wait for more is nothing.
        let _ = stream.set_nodelay(true);
        let transport = if uri.scheme() == Some(&Scheme::HTTPS) {
            let stream = self.tls.connect(server_name(&target.host)?, stream).await;
            Transport::Tls(Box::new(stream.map_err(|error| ConnectProblem::of_handshake(&error))?))
        } else {
            Transport::Plain(stream)
        };
        Ok(TokioIo::new(OutboundStream::new(transport, self.bounds.patience, permit)))
    }

    /// The addresses of a target that may be connected to, at least one.
    pub(super) async fn allowed_addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectProblem> {
        let mut addresses = match &target.host {
            Host::Address(address) => vec![SocketAddr::new(*address, target.port)],
            Host::Name(name) => self.look_up(name.clone(), target.port).await?,
        };
        if addresses.is_empty() {
            return Err(ConnectProblem::Unresolvable);
        }
        addresses.retain(|address| self.policy.allows(&target.host, *address));
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() { Err(ConnectProblem::Forbidden) } else { Ok(addresses) }
    }

    async fn look_up(&self, name: String, port: u16) -> Result<Vec<SocketAddr>, ConnectProblem> {
        let permit = self.lookups.clone().acquire_owned().await.expect("nobody closes the semaphore");
        // As `tokio::net::lookup_host` does it, but that the place is given back when the thread is done, not
        // when nobody waits for it any more.
        let looking = tokio::task::spawn_blocking(move || {
            let addresses = (name.as_str(), port).to_socket_addrs();
            drop(permit);
            addresses.map(Vec::from_iter)
        });
        match looking.await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(_)) | Err(_) => Err(ConnectProblem::Unresolvable),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<OutboundStream>;
    type Error = ConnectProblem;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// The first connection that is made; each address has a head start before the next.
async fn connect_first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match waiting.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(last_error),
            None => (),
        }
        let ended = if waiting.len() == 0 {
            attempts.next().await
        } else {
            timeout(HEAD_START, attempts.next()).await.unwrap_or_default()
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last_error = error,
            None => (),
        }
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, ConnectProblem> {
    match host {
        Host::Address(address) => Ok(ServerName::from(*address)),
        Host::Name(name) => ServerName::try_from(name.clone())
            .map_err(|_| ConnectProblem::Tls("no certificate can be for such a name")),
    }
}
