//! `[gateway]`: pools of other servers, and the routes to them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{Method, Uri};
use gateway::{
    Balance, Discovery, GatewayOptions, HealthCheck, HostPattern, Provider, Route, ServerUrl, ServiceName,
    SystemRoots, Target, TokenRules, Tracing, UpstreamSettings,
};
use kit::outbound::OutboundPolicy;

use super::checks::{self, CheckSettings};
use super::identity_providers;
use super::limits;
use super::reader::{Named, Section};
use super::route_auth::{self, WhoMayCall};
use super::server_tls;
use super::settings::{boolean, count, duration, time};
use super::tree::Origin;

/// `[gateway]`
#[derive(Debug, Clone, Default)]
pub(crate) struct GatewaySettings {
    pub(crate) upstreams: BTreeMap<String, UpstreamSettings>,
    pub(crate) routes: Vec<Route>,
    pub(crate) options: GatewayOptions,
    pub(crate) tokens: TokenSettings,
    pub(crate) checks: CheckSettings,
    pub(crate) providers: Vec<Arc<Provider>>,
    /// Where the services are, for a gateway node. A restart takes another.
    pub(crate) services: Option<UpstreamSettings>,
}

/// `[gateway.tokens]`: what servers are told of callers.
#[derive(Debug, Clone)]
pub(crate) struct TokenSettings {
    pub(crate) rules: TokenRules,
    pub(crate) rotate_every: Duration,
}

/// A header with a value, or with none.
type HeaderRule = (HeaderName, Option<HeaderValue>);

/// What rules for headers cannot touch: it says where a message ends.
const OF_THE_CONNECTION: [&str; 6] =
    ["connection", "content-length", "keep-alive", "te", "transfer-encoding", "upgrade"];

const URL: &str = "URLs such as http://10.0.0.1:3000";
const SERVICE: &str = "a name such as _http._tcp.shop.default.svc.cluster.local";
const HOST: &str = "a host such as app.example or *.app.example";
const PATH: &str = "the beginning of a path, such as /shop/";

impl GatewaySettings {
    pub(super) fn read(mut section: Section<'_>, outbound: &Arc<OutboundPolicy>) -> Self {
        let roots = SystemRoots::default();
        let upstreams: BTreeMap<String, UpstreamSettings> = section
            .sections("upstreams")
            .into_iter()
            .filter_map(|named| {
                let defaults = UpstreamSettings::new(Vec::new());
                Some((named.name.to_owned(), upstream(named, &roots, defaults)?))
            })
            .collect();
        let names: Vec<&str> = upstreams.keys().map(String::as_str).collect();
        let tokens = TokenSettings::read(section.section("tokens"));
        let providers = identity_providers::read(section.sections("identity_providers"), outbound);
        let who = WhoMayCall { tokens: &tokens.rules, providers: &providers };
        let items = section.items("routes").into_iter();
        let routes = items.filter_map(|item| route(item, &names, &who)).collect();
        let rules = section.items("rules");
        let checks = CheckSettings::read(section.section("checks"), rules);
        let limits = limits::common(section.section("limits"));
        let mut options = GatewayOptions { limits, ..GatewayOptions::default() };
        if let Some((trace, _)) = section.parsed("trace", "start, pass or off", Tracing::parse) {
            options.trace = trace;
        }
        options.name_servers = name_servers(&mut section);
        let services = services(&mut section, &roots);
        section.finish();
        Self { upstreams, routes, options, tokens, checks, providers, services }
    }
}

impl TokenSettings {
    fn read(mut section: Section<'_>) -> Self {
        let mut settings = Self::default();
        if let Some((issuer, _)) =
            section.parsed("issuer", "a name or a URL", |text| (!text.is_empty()).then(|| text.to_owned()))
        {
            settings.rules.issuer = issuer;
        }
        let whole = |text: &str| duration(text).filter(|time| time.as_secs() > 0);
        if let Some((lifetime, _)) = section.parsed("lifetime", "a time such as 60s", whole) {
            settings.rules.lifetime = lifetime;
        }
        if let Some((rotate_every, _)) = section.parsed("rotate_every", "a time such as 30d", whole) {
            settings.rotate_every = rotate_every;
        }
        section.finish();
        settings
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        let rotate_every = Duration::from_secs(30 * 24 * 3_600);
        Self { rules: TokenRules::default(), rotate_every }
    }
}

/// The nodes that run the services. They may take as long as in one process, and have as much at once: the streams of
/// realtime are among it.
fn services(section: &mut Section<'_>, roots: &SystemRoots) -> Option<UpstreamSettings> {
    const MOST_IN_FLIGHT: u32 = 60_000;
    const PATIENCE: Duration = Duration::from_secs(300);
    let origin = section.origin_of("services")?;
    let named = Named { name: "services", origin, section: section.section("services") };
    let defaults = UpstreamSettings {
        try_timeout: PATIENCE,
        timeout: PATIENCE,
        max_in_flight: MOST_IN_FLIGHT,
        slow_start: Duration::ZERO,
        ..UpstreamSettings::new(Vec::new())
    };
    let settings = upstream(named, roots, defaults)?;
    if settings.discovery.is_some() || settings.health.is_some() {
        let message =
            "takes neither dns, srv nor health: write the servers; their streams say whether they are well";
        section.refuse(origin, "services", message);
    }
    Some(settings)
}

fn upstream(
    Named { origin, mut section, .. }: Named<'_>,
    roots: &SystemRoots,
    defaults: UpstreamSettings,
) -> Option<UpstreamSettings> {
    let mut servers = Vec::new();
    let listed = section.list("servers");
    let discovery = discovery(&mut section);
    match &listed {
        Some((urls, origin)) => {
            servers.extend(urls.iter().filter_map(|url| server(&section, origin, "servers", url)));
            if urls.is_empty() {
                section.refuse(origin, "servers", format!("must name a server; write {URL}"));
            }
        }
        None if discovery.is_none() => {
            section.refuse(
                origin,
                "servers",
                format!("is missing; write {URL}, or dns or srv = a name with all servers"),
            );
        }
        None => {}
    }
    if let (Some((_, origin)), Some(_)) = (&listed, &discovery) {
        section.refuse(origin, "servers", "stands beside dns or srv; write one of them");
    }
    let mut settings = UpstreamSettings { discovery, servers, ..defaults };
    if let Some((balance, _)) = section.parsed("balance", "p2c, round_robin or hash", Balance::parse) {
        settings.balance = balance;
    }
    settings.connect_timeout = time(&mut section, "connect_timeout", settings.connect_timeout);
    settings.try_timeout = time(&mut section, "try_timeout", settings.try_timeout);
    settings.timeout = time(&mut section, "timeout", settings.timeout);
    if let Some((slow_start, _)) = section.parsed("slow_start", "a time such as 10s, or 0", time_or_none) {
        settings.slow_start = slow_start;
    }
    if let Some(most) = count(&mut section, "max_in_flight") {
        settings.max_in_flight = u32::try_from(most).unwrap_or(u32::MAX);
    }
    settings.health = health(section.section("health"));
    settings.http2 = section.parsed("http2", "true or false", boolean).is_some_and(|(value, _)| value);
    settings.tls = server_tls::read(section.section("tls"), &settings, roots, origin);
    section.finish();
    (!settings.servers.is_empty() || settings.discovery.is_some()).then_some(settings)
}

fn server(section: &Section<'_>, origin: &Origin, key: &str, url: &str) -> Option<ServerUrl> {
    let parsed = ServerUrl::parse(url);
    parsed.map_err(|expected| section.refuse(origin, key, format!("{url:?} is not right; {expected}"))).ok()
}

/// `dns`, or `srv` with its `scheme`.
fn discovery(section: &mut Section<'_>) -> Option<Discovery> {
    let dns = section.text("dns");
    let tls = |text: &str| match text {
        "http" => Some(false),
        "https" => Some(true),
        _ => None,
    };
    let scheme = section.parsed("scheme", "http or https", tls);
    let has_tls = scheme.as_ref().map(|(has_tls, _)| *has_tls);
    let srv = section.parsed("srv", SERVICE, |text| ServiceName::parse(text, has_tls));
    match (&srv, scheme) {
        (Some((_, origin)), _) if dns.is_some() => {
            section.refuse(origin, "srv", "stands beside dns; write one of them");
        }
        (None, Some((_, origin))) => {
            section.refuse(&origin, "scheme", "belongs to srv; elsewhere the URL says it")
        }
        _ => {}
    }
    let dns = dns.and_then(|text| server(section, &text.origin, "dns", &text.value));
    dns.map(Discovery::Addresses).or(srv.map(|(service, _)| Discovery::Service(service)))
}

/// `resolver`, one or several.
fn name_servers(section: &mut Section<'_>) -> Vec<SocketAddr> {
    let Some((texts, origin)) = section.list("resolver") else { return Vec::new() };
    let parsed = texts.iter().filter_map(|text| {
        let address = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)));
        if address.is_none() {
            let message =
                format!("{text:?} is not right; write an address such as 10.96.0.10 or 127.0.0.1:5353");
            section.refuse(&origin, "resolver", message);
        }
        address
    });
    parsed.collect()
}

fn health(mut section: Section<'_>) -> Option<HealthCheck> {
    let path = section.parsed("path", "a path such as /health", path);
    let check = path.map(|(path, _)| HealthCheck {
        path,
        every: time(&mut section, "every", Duration::from_millis(500)),
        timeout: time(&mut section, "timeout", Duration::from_millis(500)),
    });
    section.finish();
    check
}

fn route(
    Named { origin, mut section, .. }: Named<'_>,
    upstreams: &[&str],
    who: &WhoMayCall<'_>,
) -> Option<Route> {
    let path = section.parsed("path", PATH, path).map_or_else(|| "/".to_owned(), |(path, _)| path);
    let target = target(&mut section, origin, upstreams);
    let target = target?;
    let auth = route_auth::read(&mut section, &target, who);
    let mut route = Route { auth, ..Route::new(path, target) };
    route.name = section.text("name").map(|text| text.value).filter(|name| !name.is_empty());
    route.host = section.parsed("host", HOST, HostPattern::parse).map(|(host, _)| host);
    if let Some((methods, origin)) = section.list("methods") {
        for method in methods {
            match method.parse::<Method>() {
                Ok(method) => route.methods.push(method),
                Err(_) => section.refuse(
                    &origin,
                    "methods",
                    format!("{method:?} is no method; write GET or the like"),
                ),
            }
        }
    }
    route.limits = limits::of_route(&mut section);
    route.accepts = checks::of_route(&mut section);
    route.headers = header_rules(&mut section, "headers");
    route.rewrite = section.parsed("rewrite", PATH, self::path).map(|(path, _)| path);
    route.compress = section.parsed("compress", "true or false", boolean).is_some_and(|(value, _)| value);
    route.request_headers = header_rules(&mut section, "request_headers");
    route.response_headers = header_rules(&mut section, "response_headers");
    section.finish();
    Some(route)
}

/// Exactly one of `upstream`, `redirect` and `services`.
fn target(section: &mut Section<'_>, origin: &Origin, upstreams: &[&str]) -> Option<Target> {
    const EXPECTED: &str = "write one of upstream = \"NAME\", redirect = \"URL\" and services = true";
    let upstream = section.text("upstream");
    let redirect = section.parsed("redirect", "a URL, or a path", redirect);
    let services = section.parsed("services", "true", |text| (text == "true").then_some(()));
    match (upstream, redirect, services) {
        (Some(name), None, None) if upstreams.contains(&name.value.as_str()) => {
            Some(Target::Upstream(name.value))
        }
        (Some(name), None, None) => {
            let message = format!(
                "there is no upstream {:?}; write [gateway.upstreams.{}] and its servers",
                name.value, name.value
            );
            section.refuse(&name.origin, "upstream", message);
            None
        }
        (None, Some((url, _)), None) => Some(Target::Redirect(url)),
        (None, None, Some(_)) => Some(Target::Services),
        _ => {
            section.refuse(origin, "upstream", format!("must say where the route leads; {EXPECTED}"));
            None
        }
    }
}

/// A header without a value stands for any value where it is looked for, and is removed where it would be set.
fn header_rules(section: &mut Section<'_>, key: &'static str) -> Vec<HeaderRule> {
    let mut rules = Vec::new();
    for (name, text) in section.texts(key) {
        let value = (!text.value.is_empty()).then(|| HeaderValue::from_str(&text.value)).transpose();
        match (name.parse::<HeaderName>(), value) {
            (Ok(name), Ok(_)) if OF_THE_CONNECTION.contains(&name.as_str()) && key != "headers" => {
                section.refuse(
                    &text.origin,
                    key,
                    format!("{name} is the connection's own and cannot be set"),
                );
            }
            (Ok(name), Ok(value)) => rules.push((name, value)),
            _ => section.refuse(
                &text.origin,
                key,
                format!("{name:?} is no header, or its value cannot be sent"),
            ),
        }
    }
    rules
}

fn path(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    (text.starts_with('/') && uri.path() == text).then(|| text.to_owned())
}

fn redirect(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    (uri.query().is_none() && (text.starts_with('/') || uri.scheme().is_some())).then(|| text.to_owned())
}

fn time_or_none(text: &str) -> Option<Duration> {
    if text == "0" { Some(Duration::ZERO) } else { duration(text) }
}
