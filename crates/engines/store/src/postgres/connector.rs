//! Where the database is, and how it is connected to.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{Error, told};
use super::session::Session;

/// Connects to one database.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// Whether a pooler gives each transaction another connection.
    is_pooled: bool,
}

/// A URL that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

/// How the server's identity is checked, as libpq's `sslmode` says.
enum Verify {
    /// Not at all: `prefer` and `require` of libpq.
    Nothing,
    /// Its certificate, and its name: `verify-full`.
    Full(RootCertStore),
}

// === impl Connector ===

impl Connector {
    /// A connector for a URL such as `postgres://user:password@host:5432/database?sslmode=verify-full`.
    ///
    /// `sslmode` is `disable`, `prefer` (the default), `require` or `verify-full`, and `sslrootcert` the file of
    /// the authorities, as libpq has them; of libpq's parameters those are known that `tokio_postgres` knows.
    ///
    /// The server itself stops statements and transactions of clients that are gone or still: after `longest`.
    pub(super) fn new(
        url: &str,
        is_pooled: bool,
        connect_timeout: Duration,
        longest: Duration,
    ) -> Result<Connector, UrlError> {
        let (plain, tls) = split_tls(url)?;
        // The driver's words may hold a part of the URL, and so its password.
        let mut config = Config::from_str(&plain).map_err(|_| {
            UrlError("it is none like postgres://user:password@host:5432/database".to_owned())
        })?;
        if config.get_dbname().is_none() {
            return Err(UrlError("it names no database".to_owned()));
        }
        config.ssl_mode(tls.mode).connect_timeout(connect_timeout).application_name("groundswell");
        // Through a pooler nothing may be asked for at the start that it does not know.
        if !is_pooled {
            let longest = longest.as_millis();
            let given = config.get_options().map(|given| format!("{given} ")).unwrap_or_default();
            config.options(format!(
                "{given}-c client_min_messages=warning -c standard_conforming_strings=on -c statement_timeout={longest} \
                 -c idle_in_transaction_session_timeout={longest} -c client_connection_check_interval=5000"
            ));
        }
        let tls = match tls.verify {
            _ if tls.mode == SslMode::Disable => None,
            verify => Some(MakeRustlsConnect::new(client_config(verify)?)),
        };
        Ok(Connector { config, tls, is_pooled })
    }

    /// Whether a pooler gives each transaction another connection.
    pub(super) fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// The database's name.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// Connects. The connection lives on the runtime that this is called on.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Session, Error> {
        let (client, driver) = match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(Error::Postgres)?;
                (client, tokio::spawn(drive(connection)))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(Error::Postgres)?;
                (client, tokio::spawn(drive(connection)))
            }
        };
        Ok(Session::new(client, self.clone(), driver.abort_handle()))
    }

    /// Asks the server to stop what a connection is at.
    pub(super) async fn cancel(&self, token: CancelToken) {
        let cancelled = match &self.tls {
            None => token.cancel_query(NoTls).await,
            Some(tls) => token.cancel_query(tls.clone()).await,
        };
        if let Err(error) = cancelled {
            tracing::debug!(error = told(&error), "a statement could not be stopped");
        }
    }
}

/// Moves bytes until the client's end is dropped or the connection breaks. Whoever waits for an outcome then is
/// told by the client's end.
async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = told(&error), "a connection to the database ended");
    }
}

struct Tls {
    mode: SslMode,
    verify: Verify,
}

/// Takes the parameters of TLS out of a URL: the driver knows some of their values only.
fn split_tls(url: &str) -> Result<(String, Tls), UrlError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut root) = ("prefer", None);
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = value,
            Some(("sslrootcert", value)) => root = Some(value),
            _ => rest.push(pair),
        }
    }
    let (mode, verify) = match mode {
        "disable" => (SslMode::Disable, Verify::Nothing),
        "prefer" => (SslMode::Prefer, Verify::Nothing),
        "require" => (SslMode::Require, Verify::Nothing),
        "verify-full" => (SslMode::Require, Verify::Full(roots(root)?)),
        other => {
            let known = "disable, prefer, require and verify-full";
            return Err(UrlError(format!("its sslmode {other:?} is none of {known}")));
        }
    };
    let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((plain, Tls { mode, verify }))
}

fn roots(file: Option<&str>) -> Result<RootCertStore, UrlError> {
    let Some(file) = file else {
        return Err(UrlError(
            "with sslmode=verify-full it must name the file of the authorities as sslrootcert".to_owned(),
        ));
    };
    let refused = |error: String| UrlError(format!("its sslrootcert {file} cannot be used: {error}"));
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| refused(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn client_config(verify: Verify) -> Result<ClientConfig, UrlError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| UrlError(error.to_string()))?;
    let config = match verify {
        Verify::Full(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        Verify::Nothing => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            .with_no_client_auth(),
    };
    Ok(config)
}

/// Takes any certificate, as libpq does without `verify-full`: it keeps those out who only listen.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Connector::new(url, false, Duration::from_secs(1), Duration::from_secs(1))
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_url_that_cannot_be_used_says_why_without_its_password() {
        for (url, why) in [
            ("postgres://app:hidden@db/app?sslmode=perhaps", "its sslmode \"perhaps\" is none of"),
            ("postgres://app:hidden@db/app?sslmode=verify-full", "must name the file of the authorities"),
            (
                "postgres://app:hidden@db/app?sslmode=verify-full&sslrootcert=/nowhere",
                "/nowhere cannot be used",
            ),
            ("postgres://app:hidden@db/app?nonsense=1", "none like postgres://"),
            ("postgres://app:hidden@db:port/app", "none like postgres://"),
            ("postgres://app:hidden@db", "names no database"),
        ] {
            let refusal = refusal(url);
            assert!(refusal.contains(why) && !refusal.contains("hidden"), "{url}: {refusal}");
        }
        assert_eq!(
            refusal("postgres://app:hidden@db/app?sslmode=require&target_session_attrs=read-write"),
            ""
        );
    }
}
