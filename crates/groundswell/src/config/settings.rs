//! The resolved configuration.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::hooks::Hook;
use blobs::MasterKeys;
use gateway::ConnectionRules;
use kit::spool::SpoolBounds;
use store::postgres::PoolOptions;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::engine_url::EngineUrl;
use super::gateway::GatewaySettings;
use super::hooks::{self, OutboundSettings};
use super::limits;
use super::nodes::{NodeSettings, Places, Role};
use super::problem::Problems;
use super::reader::{Noted, Section};
use super::tls::TlsSettings;
use super::tree::Tree;

/// Everything that this process was told, in its final form.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) server: ServerSettings,
    pub(crate) tls: TlsSettings,
    pub(crate) store: StoreSettings,
    pub(crate) blobs: BlobSettings,
    /// `[hooks.NAME]`
    pub(crate) hooks: Vec<Hook>,
    pub(crate) outbound: OutboundSettings,
    pub(crate) gateway: GatewaySettings,
    pub(crate) nodes: NodeSettings,
    pub(crate) log: LogSettings,
}

/// `[server]`
#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    pub(crate) http: Address,
    /// Beside `http`, if anywhere.
    pub(crate) https: Option<SocketAddr>,
    /// Whether clients with TLS may choose HTTP/2.
    pub(crate) http2: bool,
    /// Whether others may begin with it at once.
    pub(crate) http2_plain: bool,
    /// For gateways on other nodes, if anywhere.
    pub(crate) internal: Option<SocketAddr>,
    pub(crate) role: Role,
    pub(crate) dir: PathBuf,
    pub(crate) public_dir: PathBuf,
    pub(crate) index_fallback: bool,
    pub(crate) origins: Vec<String>,
    pub(crate) manage: Address,
    pub(crate) query_timeout: Duration,
    pub(crate) head_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) request_loops: usize,
    pub(crate) max_connections: usize,
    /// Who may connect, and whose word about clients is taken.
    pub(crate) connections: ConnectionRules,
}

/// `[store]`
#[derive(Debug, Clone)]
pub(crate) struct StoreSettings {
    pub(crate) url: StoreUrl,
    /// Where the same database is without a pooler in between.
    pub(crate) direct_url: Option<EngineUrl>,
    /// Connections of each thread to a database.
    pub(crate) pool: usize,
    pub(crate) synchronous: Synchronous,
    pub(crate) readers: usize,
}

/// Where the data are, by the adapter for it.
#[derive(Debug, Clone)]
pub(crate) enum StoreUrl {
    /// In the data folder.
    Sqlite(EngineUrl),
    /// In a database of PostgreSQL.
    Postgres(EngineUrl),
}

/// `[blobs]`
#[derive(Debug, Clone)]
pub(crate) struct BlobSettings {
    pub(crate) url: EngineUrl,
    /// With none, files are stored as they are.
    pub(crate) encryption_keys: Option<Arc<MasterKeys>>,
    /// Bytes of all uploads that wait for the end of their request.
    pub(crate) max_waiting_bytes: u64,
    /// The same of one address.
    pub(crate) max_waiting_bytes_per_address: u64,
}

/// `[log]`
#[derive(Debug, Clone)]
pub(crate) struct LogSettings {
    pub(crate) format: LogFormat,
    pub(crate) level: Targets,
    /// The file of the access log, if there is one.
    pub(crate) access: Option<PathBuf>,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    /// Whether somebody chose it. Nobody is surprised when a default moves out of the way.
    pub(crate) is_explicit: bool,
}

/// When SQLite's commits reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synchronous {
    Full,
    Normal,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Human,
    Json,
    /// Human on a terminal, JSON otherwise.
    Auto,
}

const DEFAULT_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8090);
const DEFAULT_MANAGE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8091);

// Both are the real server's.
const DEFAULT_QUERY_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Orchestrators kill 30 s after they ask.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// As many as the 65,536 open files that we ask for allow, with room for everything else.
const DEFAULT_MAX_CONNECTIONS: usize = 60_000;

const ADDRESS: &str = "HOST:PORT, such as 127.0.0.1:8090";
pub(super) const WHOLE_NUMBER: &str = "a whole number of at least 1";

impl Settings {
    /// Reads the merged sources, or says all that is wrong with them.
    pub(crate) fn resolve(tree: &Tree) -> Result<Self, Problems> {
        let problems = Noted::default();
        let mut root = Section::root(&tree.0, &problems);
        let server = root.section("server");
        let https = server.origin_of("https");
        let outbound = OutboundSettings::read(root.section("outbound"));
        let (gateway, nodes) = (root.section("gateway"), root.section("nodes"));
        let places = Places {
            roles: server.origin_of("roles"),
            http: server.origin_of("http"),
            https,
            internal: server.origin_of("internal"),
            services: gateway.origin_of("services"),
            keys: nodes.origin_of("keys"),
        };
        let settings = Self {
            server: ServerSettings::read(server),
            tls: TlsSettings::read(root.section("tls"), https),
            store: StoreSettings::read(root.section("store")),
            blobs: BlobSettings::read(root.section("blobs")),
            hooks: hooks::read(root.sections("hooks")),
            gateway: GatewaySettings::read(gateway, &outbound.policy),
            nodes: NodeSettings::read(nodes),
            outbound,
            log: LogSettings::read(root.section("log")),
        };
        super::nodes::check(&root, &settings, &places);
        root.finish();
        Problems::check(problems.into_inner())?;
        Ok(settings)
    }
}

impl ServerSettings {
    fn read(mut section: Section<'_>) -> Self {
        let http = address(&mut section, "http", DEFAULT_HTTP);
        let dir = section.text("dir").map_or_else(|| PathBuf::from("gs_data"), |text| text.value.into());
        let public_dir = section.text("public_dir");
        let settings = Self {
            http,
            https: section.parsed("https", ADDRESS, socket_address).map(|(socket, _)| socket),
            http2: section.parsed("http2", "true or false", boolean).is_none_or(|(value, _)| value),
            http2_plain: section
                .parsed("http2_plain", "true or false", boolean)
                .is_some_and(|(value, _)| value),
            internal: section.parsed("internal", ADDRESS, socket_address).map(|(socket, _)| socket),
            role: Role::read(&mut section),
            public_dir: public_dir.map_or_else(|| beside(&dir, "gs_public"), |text| text.value.into()),
            dir,
            index_fallback: section
                .parsed("index_fallback", "true or false", boolean)
                .is_none_or(|(value, _)| value),
            origins: section.list("origins").map_or_else(|| vec!["*".to_owned()], |(origins, _)| origins),
            manage: manage(&mut section, http),
            query_timeout: time(&mut section, "query_timeout", DEFAULT_QUERY_TIMEOUT),
            head_timeout: time(&mut section, "head_timeout", DEFAULT_HEAD_TIMEOUT),
            drain_timeout: time(&mut section, "drain_timeout", DEFAULT_DRAIN_TIMEOUT),
            request_loops: count(&mut section, "request_loops").unwrap_or_else(cores),
            max_connections: count(&mut section, "max_connections").unwrap_or(DEFAULT_MAX_CONNECTIONS),
            connections: limits::connections(&mut section),
        };
        section.finish();
        settings
    }
}

/// A database's URL as it is written.
const POSTGRES_URL: &str = "\"postgres://user:password@host:5432/database\"";
/// The same, or the embedded store's.
const STORE_URL: &str = "\"sqlite:\" or \"postgres://user:password@host:5432/database\"";

impl StoreSettings {
    fn read(mut section: Section<'_>) -> Self {
        let settings = Self {
            url: StoreUrl::read(&mut section),
            direct_url: postgres_url(&mut section, "direct_url"),
            pool: count(&mut section, "pool").unwrap_or(PoolOptions::default().size),
            synchronous: section
                .parsed("synchronous", "FULL or NORMAL", Synchronous::parse)
                .map_or(Synchronous::Full, |(value, _)| value),
            readers: count(&mut section, "readers").unwrap_or_else(|| cores().max(2)),
        };
        section.finish();
        settings
    }
}

impl StoreUrl {
    fn read(section: &mut Section<'_>) -> Self {
        let embedded = Self::Sqlite(EngineUrl::parse("sqlite:").expect("a scheme is a URL here"));
        let Some(text) = section.text("url") else { return embedded };
        match EngineUrl::parse(&text.value) {
            Some(url) if url.scheme() == "sqlite" => return Self::Sqlite(url),
            Some(url) if is_postgres(&url) => return Self::Postgres(url),
            Some(url) => section.refuse(
                &text.origin,
                "url",
                format!("the kind {:?} is not available; write {STORE_URL}", url.scheme()),
            ),
            None => section.refuse(&text.origin, "url", format!("is not a URL; write {STORE_URL}")),
        }
        embedded
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Sqlite(url) | Self::Postgres(url)) = self;
        url.fmt(f)
    }
}

fn is_postgres(url: &EngineUrl) -> bool {
    matches!(url.scheme(), "postgres" | "postgresql")
}

fn postgres_url(section: &mut Section<'_>, key: &'static str) -> Option<EngineUrl> {
    let text = section.text(key)?;
    let url = EngineUrl::parse(&text.value).filter(is_postgres);
    if url.is_none() {
        section.refuse(&text.origin, key, format!("is no such URL; write {POSTGRES_URL}"));
    }
    url
}

impl BlobSettings {
    fn read(mut section: Section<'_>) -> Self {
        let bounds = SpoolBounds::default();
        let mebibytes = |section: &mut Section<'_>, key, default| {
            count(section, key).map_or(default, |count| (count as u64).saturating_mul(1 << 20))
        };
        let settings = Self {
            url: embedded_url(&mut section, "file:"),
            encryption_keys: encryption_keys(&mut section),
            max_waiting_bytes: mebibytes(&mut section, "max_waiting_mib", bounds.max_bytes),
            max_waiting_bytes_per_address: mebibytes(
                &mut section,
                "max_waiting_mib_per_address",
                bounds.max_bytes_per_address,
            ),
        };
        section.finish();
        settings
    }
}

impl LogSettings {
    fn read(mut section: Section<'_>) -> Self {
        let settings = Self {
            format: section
                .parsed("format", "human, json or auto", LogFormat::parse)
                .map_or(LogFormat::Auto, |(value, _)| value),
            level: section
                .parsed("level", "a level such as info, or targets such as \"info,groundswell=debug\"", level)
                .map_or_else(|| Targets::new().with_default(LevelFilter::INFO), |(value, _)| value),
            access: section.text("access").map(|text| text.value.into()),
        };
        section.finish();
        settings
    }
}

/// The management address. Beside an application on a port of the system's choice, so is its default.
fn manage(section: &mut Section<'_>, http: Address) -> Address {
    let mut default = DEFAULT_MANAGE;
    if http.socket.port() == 0 {
        default.set_port(0);
    }
    address(section, "manage", default)
}

fn address(section: &mut Section<'_>, key: &'static str, default: SocketAddr) -> Address {
    match section.parsed(key, ADDRESS, socket_address) {
        Some((socket, _)) => Address { socket, is_explicit: true },
        None => Address { socket: default, is_explicit: false },
    }
}

/// The URL of an engine of which only the embedded adapter is there.
fn embedded_url(section: &mut Section<'_>, only: &'static str) -> EngineUrl {
    let embedded = EngineUrl::parse(only).expect("a scheme is a URL here");
    let Some(text) = section.text("url") else {
        return embedded;
    };
    // The text is not shown: it may hold a password.
    match EngineUrl::parse(&text.value) {
        Some(url) if url.scheme() == embedded.scheme() => return url,
        Some(url) => section.refuse(
            &text.origin,
            "url",
            format!("the kind {:?} is not available; write {only:?}", url.scheme()),
        ),
        None => section.refuse(&text.origin, "url", format!("is not a URL; write {only:?}")),
    }
    embedded
}

/// The first key encrypts, all decrypt. None of them is shown.
fn encryption_keys(section: &mut Section<'_>) -> Option<Arc<MasterKeys>> {
    let (texts, origin) = section.list("encryption_keys")?;
    match MasterKeys::parse(texts.iter().map(String::as_str)) {
        Ok(keys) => Some(Arc::new(keys)),
        Err(error) => {
            section.refuse(&origin, "encryption_keys", error.to_string());
            None
        }
    }
}

pub(super) fn time(section: &mut Section<'_>, key: &'static str, default: Duration) -> Duration {
    section.parsed(key, "a time such as 30s, 500ms or 2m", duration).map_or(default, |(value, _)| value)
}

pub(super) fn count(section: &mut Section<'_>, key: &'static str) -> Option<usize> {
    section.parsed(key, WHOLE_NUMBER, |text| text.parse().ok().map(NonZeroUsize::get)).map(|(value, _)| value)
}

fn socket_address(text: &str) -> Option<SocketAddr> {
    // `:8090` is every address, as in Go.
    let text = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    text.to_socket_addrs().ok()?.next()
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A number with a unit, or seconds without one.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let duration = match &text[digits..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        "d" => Duration::from_secs(number.checked_mul(24 * 3600)?),
        _ => return None,
    };
    (!duration.is_zero()).then_some(duration)
}

fn level(text: &str) -> Option<Targets> {
    text.parse().ok()
}

fn beside(dir: &Path, name: &str) -> PathBuf {
    dir.parent().unwrap_or(Path::new("")).join(name)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

// === impl Synchronous ===

impl Synchronous {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "FULL" => Some(Self::Full),
            "NORMAL" => Some(Self::Normal),
            _ => None,
        }
    }
}

impl fmt::Display for Synchronous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        })
    }
}

// === impl LogFormat ===

impl LogFormat {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            "auto" => Some(Self::Auto),
            _ => None,
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
            Self::Auto => "auto",
        })
    }
}
