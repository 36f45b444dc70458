//! TLS of the public listener: what is offered, and the handshake of a connection, which runs on its request loop.

mod certificates;
mod handshakes;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::net::Protocol;

pub(crate) use handshakes::Handshakes;

pub use certificates::{CertificateFiles, CertificateProblem, Certificates, Validity};

/// The protocols that a client may choose from, the preferred first. One that offers others alone is refused.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
const HTTP2: &[u8] = b"h2";

/// What is offered to clients. A clone shares everything.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

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

    /// Those of one more request loop.
    pub(crate) fn handshakes(&self) -> Handshakes {
        Handshakes::new(TlsAcceptor::from(Arc::clone(&self.0)))
    }
}

/// What both sides agreed to speak. A client that says nothing speaks HTTP/1.1.
pub(crate) fn agreed<S>(stream: &TlsStream<S>) -> Protocol {
    match stream.get_ref().1.alpn_protocol() {
        Some(HTTP2) => Protocol::Http2,
        _ => Protocol::Http1,
    }
}

#[cfg(test)]
mod tests;
