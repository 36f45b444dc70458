//! What the configuration says of a pool of servers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::Scheme;

use super::server_tls::ServerTls;

/// A pool of servers that do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Where the servers are.
    pub servers: Vec<ServerUrl>,
    /// A name instead, each of whose addresses is a server.
    pub dns: Option<ServerUrl>,
    /// How one is chosen.
    pub balance: Balance,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one server may take until the head of its answer.
    pub try_timeout: Duration,
    /// How long all tries together may take until the head of an answer.
    pub timeout: Duration,
    /// Most requests that one server has at once, from this process; past it the server is passed over.
    pub max_in_flight: u32,
    /// How servers are asked whether they are well; none: only by how they answer.
    pub health: Option<HealthCheck>,
    /// For how long a server that came back gets less than its share.
    pub slow_start: Duration,
    /// Whether servers are spoken to by HTTP/2: those with TLS if they agree, others from the first byte on.
    pub http2: bool,
    /// Whom to trust where a server has TLS, which is needed then.
    pub tls: Option<ServerTls>,
}

/// `http://HOST:PORT`, or `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerUrl {
    /// Shared: each request notes where it went.
    host: Arc<str>,
    port: u16,
    has_tls: bool,
}

/// How a server is chosen among those that are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The better of two drawn at random, by what an answer would take there (power of two choices on a peak EWMA).
    P2c,
    /// One after the other.
    RoundRobin,
    /// Always the same for one client's address, as long as it is well.
    Hash,
}

/// A request that a server that is well answers with 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for.
    pub path: String,
    /// How often.
    pub every: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

// === impl UpstreamSettings ===

impl UpstreamSettings {
    /// With everything but the servers as it is by default.
    pub fn new(servers: Vec<ServerUrl>) -> Self {
        Self {
            servers,
            dns: None,
            balance: Balance::P2c,
            connect_timeout: Duration::from_secs(1),
            try_timeout: Duration::from_secs(15),
            timeout: Duration::from_secs(30),
            max_in_flight: 1_024,
            health: None,
            slow_start: Duration::from_secs(10),
            http2: false,
            tls: None,
        }
    }
}

// === impl ServerUrl ===

impl ServerUrl {
    /// Reads one. What is wrong is said in a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "write http://HOST:PORT or https://HOST:PORT";
        let uri: Uri = text.parse().map_err(|_| EXPECTED)?;
        let has_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let is_http = has_tls || uri.scheme() == Some(&Scheme::HTTP);
        if !is_http || uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(EXPECTED);
        }
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(EXPECTED)?;
        if authority.host().is_empty() {
            return Err(EXPECTED);
        }
        let port = authority.port_u16().unwrap_or(if has_tls { 443 } else { 80 });
        Ok(Self { host: authority.host().into(), port, has_tls })
    }

    /// As a `Host` header has it.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is spoken to by TLS.
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// A server of this address, to be spoken to as this name would be.
    pub(super) fn of_address(address: SocketAddr, name: &ServerUrl) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { host: host.into(), port: address.port(), has_tls: name.has_tls }
    }

    /// What a resolver takes: an address or a name, and the port.
    pub fn target(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.has_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

// === impl Balance ===

impl Balance {
    /// The configuration's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::P2c, Self::RoundRobin, Self::Hash].into_iter().find(|balance| balance.as_str() == text)
    }

    /// The same as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P2c => "p2c",
            Self::RoundRobin => "round_robin",
            Self::Hash => "hash",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port_and_nothing_else() {
        for (text, printed) in [
            ("http://a.example:3000", "http://a.example:3000"),
            ("http://10.0.0.1/", "http://10.0.0.1:80"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://a.example", "https://a.example:443"),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap().to_string(), printed);
        }
        assert_eq!(ServerUrl::parse("http://[::1]:1").unwrap().target(), ("::1", 1));
        for text in ["", "a:1", "ftp://a", "http://", "http://a/path", "http://a?b", "http://u:p@a", "/a"] {
            assert!(ServerUrl::parse(text).is_err(), "{text}");
        }
    }
}
