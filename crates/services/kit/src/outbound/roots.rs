//! Whose certificates are trusted.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tracing::warn;

/// Why a text has no roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RootsProblem {
    /// Nothing in it begins as a certificate in PEM does.
    #[error("there is no certificate; write it as PEM, which begins with `-----BEGIN CERTIFICATE-----`")]
    Empty,
    /// A certificate that cannot be read.
    #[error("one of the certificates cannot be read; write each whole, as PEM")]
    Unreadable,
}

/// TLS 1.2 and 1.3 that trust the system's roots, Mozilla's where a system has none or old ones, and those
/// that are named.
pub(super) fn tls_connector(extra_pem: Option<&str>) -> Result<TlsConnector, RootsProblem> {
    let mut roots = system_roots();
    for certificate in certificates(extra_pem)? {
        roots.add(certificate).map_err(|_| RootsProblem::Unreadable)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring does what TLS 1.2 and 1.3 want")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The system's roots, and Mozilla's. Reading them takes some milliseconds, in which it blocks.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let native = rustls_native_certs::load_native_certs();
    if native.certs.is_empty() {
        warn!(
            errors = native.errors.len(),
            "the system has no roots for TLS, those that came along are used"
        );
    }
    roots.add_parsable_certificates(native.certs);
    roots
}

fn certificates(pem: Option<&str>) -> Result<Vec<CertificateDer<'static>>, RootsProblem> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| RootsProblem::Unreadable)?;
    if certificates.is_empty() { Err(RootsProblem::Empty) } else { Ok(certificates) }
}
