//! TLS towards servers: whom to trust, and who this process is to them.

use std::cell::OnceCell;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// Where it is written what a pool goes by. Files are PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The authorities that alone are trusted; none: those of the system.
    pub ca: Option<PathBuf>,
    /// A certificate, with those that lead to its authority, and its key: for servers that ask who connects.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name that a server's certificate must have; none: that of its URL.
    pub name: Option<String>,
}

/// The system's roots, which are read when the first asks for them.
#[derive(Default)]
pub struct SystemRoots(OnceCell<Arc<RootCertStore>>);

/// What a pool goes by. A clone shares everything. Equal are those of equal files and names.
#[derive(Clone)]
pub struct ServerTls {
    files: Arc<ServerTlsFiles>,
    http1: TlsConnector,
    http2: TlsConnector,
    name: Option<ServerName<'static>>,
    /// Tells one content of the files from another.
    content: u64,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsProblem {
    /// A file that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Nothing in it is a certificate.
    #[error("{} holds no certificate; write it as PEM", .0.display())]
    NoCertificate(PathBuf),
    /// Nothing in it is a key.
    #[error("{} holds no private key; write it as PEM, without a password", .0.display())]
    NoKey(PathBuf),
    /// They cannot be used together.
    #[error("the client certificate in {} and its key cannot be used: {error}", path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// A name that no certificate could have.
    #[error("{0:?} is no name of a server")]
    NoName(String),
}

// === impl ServerTls ===

impl ServerTls {
    /// Reads the files.
    pub fn load(files: ServerTlsFiles, system_roots: &SystemRoots) -> Result<Self, ServerTlsProblem> {
        let mut content = DefaultHasher::new();
        let roots = match &files.ca {
            Some(path) => Arc::new(authorities(path, &mut content)?),
            None => system_roots.0.get_or_init(|| Arc::new(kit::outbound::system_roots())).clone(),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring does what TLS 1.2 and 1.3 want")
            .with_root_certificates(roots);
        let config = match &files.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, &mut content)?;
                let key = private_key(key, &mut content)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| ServerTlsProblem::Unusable { path: certificate.clone(), error })?
            }
        };
        let name = files.name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| ServerTlsProblem::NoName(name.clone()))
        });
        Ok(Self {
            http1: connector(&config, &[b"http/1.1"]),
            http2: connector(&config, &[b"h2", b"http/1.1"]),
            name: name.transpose()?,
            content: content.finish(),
            files: Arc::new(files),
        })
    }

    /// Where it is written.
    pub fn files(&self) -> &ServerTlsFiles {
        &self.files
    }

    /// Offers HTTP/2 beside HTTP/1.1, or not.
    pub(super) fn connector(&self, offers_http2: bool) -> &TlsConnector {
        if offers_http2 { &self.http2 } else { &self.http1 }
    }

    pub(super) fn name(&self) -> Option<&ServerName<'static>> {
        self.name.as_ref()
    }
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content && self.files == other.files
    }
}

impl Eq for ServerTls {}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Sessions are resumed, whatever is offered.
fn connector(config: &ClientConfig, protocols: &[&[u8]]) -> TlsConnector {
    let mut config = config.clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn authorities(path: &Path, content: &mut DefaultHasher) -> Result<RootCertStore, ServerTlsProblem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, content)? {
        roots.add(certificate).map_err(|_| ServerTlsProblem::NoCertificate(path.to_owned()))?;
    }
    Ok(roots)
}

fn certificates(
    path: &Path,
    content: &mut DefaultHasher,
) -> Result<Vec<CertificateDer<'static>>, ServerTlsProblem> {
    let pem = read(path, content)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(ServerTlsProblem::NoCertificate(path.to_owned())),
    }
}

fn private_key(path: &Path, content: &mut DefaultHasher) -> Result<PrivateKeyDer<'static>, ServerTlsProblem> {
    PrivateKeyDer::from_pem_slice(&read(path, content)?).map_err(|_| ServerTlsProblem::NoKey(path.to_owned()))
}

fn read(path: &Path, content: &mut DefaultHasher) -> Result<Zeroizing<Vec<u8>>, ServerTlsProblem> {
    let bytes =
        std::fs::read(path).map_err(|error| ServerTlsProblem::Unreadable { path: path.to_owned(), error })?;
    bytes.hash(content);
    Ok(Zeroizing::new(bytes))
}
