//! TLS of the public listener: what is offered, and the handshake of a connection, which runs on its request loop.

mod certificates;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::net::Protocol;

pub use certificates::{CertificateFiles, CertificateProblem, Certificates, Validity};

/// How long a client may take from its connection to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once on one loop. Each may hold 64 KiB that a client has sent, and thus all of a loop 64 MiB; at a
/// tenth of a second each they are far more than a core can finish.
const MAX_HANDSHAKES: usize = 1024;

/// The protocols that a client may choose from, the preferred first. One that offers others alone is refused.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
const HTTP2: &[u8] = b"h2";

/// What is offered to clients. A clone shares everything.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// The handshakes of one request loop.
#[derive(Clone)]
pub(crate) struct Handshakes {
    acceptor: TlsAcceptor,
    at_once: Arc<AtomicUsize>,
}

/// Takes its handshake off the count, however it ends.
struct Counted<'c>(&'c AtomicUsize);

impl Tls {
    /// TLS 1.2 and 1.3 with these certificates, as they are at the time of each handshake. Sessions are resumed by
    /// tickets, whose keys change every six hours. HTTP/2 is offered if it is to be.
    pub fn new(certificates: Arc<Certificates>, has_http2: bool) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        let offered = PROTOCOLS.iter().filter(|protocol| has_http2 || **protocol != HTTP2);
        config.alpn_protocols = offered.map(|protocol| protocol.to_vec()).collect();
        config.ticketer = ring::Ticketer::new()?;
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn handshakes(&self) -> Handshakes {
        Handshakes { acceptor: TlsAcceptor::from(Arc::clone(&self.0)), at_once: Arc::default() }
    }
}

impl Handshakes {
    /// Agrees with a client on keys. One too many at once is an error at once: what waits would only wait longer.
    pub(crate) async fn shake<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.at_once);
        if at_once >= MAX_HANDSHAKES {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many TLS handshakes at once"));
        }
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await {
            Ok(shaken) => shaken,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
        }
    }
}

/// What both sides agreed to speak. A client that says nothing speaks HTTP/1.1.
pub(crate) fn agreed<S>(stream: &TlsStream<S>) -> Protocol {
    match stream.get_ref().1.alpn_protocol() {
        Some(HTTP2) => Protocol::Http2,
        _ => Protocol::Http1,
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
