//! What the configuration says of a pool of servers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::Scheme;
use hickory_resolver::proto::rr::Name;

use super::server_tls::ServerTls;

/// A pool of servers that do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Where the servers are.
    pub servers: Vec<ServerUrl>,
    /// Where others tell instead which there are.
    pub discovery: Option<Discovery>,
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

/// Where it is told which servers there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// A name, each of whose addresses is a server.
    Addresses(ServerUrl),
    /// A name whose SRV records are one each.
    Service(ServiceName),
}

/// `_SERVICE._tcp.DOMAIN`, and whether its servers are spoken to by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    name: Arc<str>,
    has_tls: bool,
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
            discovery: None,
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

// === impl Discovery ===

impl Discovery {
    /// Whether the servers are spoken to by TLS.
    pub fn has_tls(&self) -> bool {
        match self {
            Self::Addresses(name) => name.has_tls,
            Self::Service(service) => service.has_tls,
        }
    }

    /// What a server's certificate must say, whatever it was found as: who answers for DNS is not known.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Addresses(name) => name.target().0,
            Self::Service(service) => service.domain(),
        }
    }
}

impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(name) => name.fmt(f),
            Self::Service(service) => f.write_str(service.name()),
        }
    }
}

// === impl ServiceName ===

impl ServiceName {
    /// Reads one. Without a word on TLS it has it if it is called `_https`.
    pub fn parse(text: &str, has_tls: Option<bool>) -> Option<Self> {
        let (service, rest) = text.split_once('.')?;
        let (protocol, domain) = rest.split_once('.')?;
        let is_service =
            service.len() > 1 && service.starts_with('_') && protocol.eq_ignore_ascii_case("_tcp");
        if !is_service || domain.trim_end_matches('.').is_empty() || Name::from_ascii(text).is_err() {
            return None;
        }
        let has_tls = has_tls.unwrap_or_else(|| service.eq_ignore_ascii_case("_https"));
        Some(Self { name: text.into(), has_tls })
    }

    /// As it is written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its servers are spoken to by TLS.
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    fn domain(&self) -> &str {
        self.name.splitn(3, '.').nth(2).unwrap_or_default().trim_end_matches('.')
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

    /// A server of this address.
    pub(super) fn of_address(address: IpAddr, port: u16, has_tls: bool) -> Self {
        let host = match address {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { host: host.into(), port, has_tls }
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
    #[test]
    fn a_service_is_named_by_what_it_is_its_protocol_and_its_domain() {
        for (text, domain, has_tls) in [
            ("_http._tcp.shop.default.svc.cluster.local", "shop.default.svc.cluster.local", false),
            ("_https._TCP.shop.example.", "shop.example", true),
            ("_web._tcp.shop", "shop", false),
        ] {
            let service = ServiceName::parse(text, None).unwrap();
            assert_eq!((service.name(), service.domain(), service.has_tls()), (text, domain, has_tls));
        }
        assert!(ServiceName::parse("_web._tcp.shop", Some(true)).unwrap().has_tls());
        let long = format!("_web._tcp.{}", "a".repeat(64));
        let texts =
            ["", "shop", "_http._tcp", "_http._tcp.", "_http._udp.shop", "http._tcp.shop", "_._tcp.shop"];
        for text in
            texts.into_iter().chain(["_http._tcp.a..b", "_http._tcp.a b", "http://_http._tcp.a", &long])
        {
            assert_eq!(ServiceName::parse(text, None), None, "{text}");
        }
    }
}
