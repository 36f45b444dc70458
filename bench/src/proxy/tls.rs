//! The certificate that all servers with TLS show, and the client that asks them before anything is timed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http1::{self, Connection};

use super::config;

/// Of one run: P-256, signed by itself.
pub(super) struct Certificate {
    pem: String,
    key_pem: String,
    /// Trusts it, and speaks TLS 1.3 alone.
    client: Arc<ClientConfig>,
}

impl Certificate {
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()])?.self_signed(&key)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone())?;
        let client = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { pem: certificate.pem(), key_pem: key.serialize_pem(), client: Arc::new(client) })
    }

    /// Puts the files there that configurations name.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join(config::CERTIFICATE), &self.pem)?;
        fs::write(folder.join(config::KEY), &self.key_pem)?;
        fs::write(folder.join(config::CERTIFICATE_AND_KEY), self.pem.clone() + &self.key_pem)?;
        Ok(())
    }

    /// A connection whose server has shown the certificate.
    pub(super) fn connect(&self, address: &str) -> Result<Connection> {
        let (stream, _) = self.shake(address)?;
        Ok(Connection::over(stream))
    }

    /// How the connection to a server is encrypted.
    pub(super) fn suite(&self, address: &str) -> Result<String> {
        let (_, suite) = self.shake(address)?;
        Ok(suite)
    }

    fn shake(&self, address: &str) -> Result<(impl http1::Stream + 'static, String)> {
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut client = ClientConnection::new(self.client.clone(), name)?;
        let mut socket = http1::connect(address)?;
        while client.is_handshaking() {
            client.complete_io(&mut socket).context("shake hands")?;
        }
        let suite = client.negotiated_cipher_suite().context("a handshake without a suite")?;
        Ok((StreamOwned::new(client, socket), format!("{:?}", suite.suite())))
    }
}
