//! The resolved configuration as TOML that could be read again, with secrets masked.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use gateway::{
    CommonLimits, ConnectionRules, Discovery, InFlight, KeySource, MaxInFlight, Most, Networks, Provider,
    ProviderSettings, RateRule, Route, RouteAuth, RouteLimits, ServerTlsFiles, Target, TokenBuckets,
    UpstreamSettings,
};
use hooks::Hook;

use super::acme::AcmeSettings;
use super::checks;
use super::gateway::{GatewaySettings, TokenSettings};
use super::settings::Settings;
use super::tls::TlsSettings;

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, tls, store, blobs, hooks, outbound, gateway, nodes, log } = self;
        writeln!(f, "[server]")?;
        writeln!(f, "http = {}", quoted(server.http.socket))?;
        if let Some(https) = server.https {
            writeln!(f, "https = {}", quoted(https))?;
        }
        writeln!(f, "http2 = {}", server.http2)?;
        writeln!(f, "http2_plain = {}", server.http2_plain)?;
        writeln!(f, "dir = {}", quoted(server.dir.display()))?;
        writeln!(f, "public_dir = {}", quoted(server.public_dir.display()))?;
        writeln!(f, "index_fallback = {}", server.index_fallback)?;
        writeln!(f, "origins = {}", list(&server.origins))?;
        writeln!(f, "manage = {}", quoted(server.manage.socket))?;
        writeln!(f, "roles = [{}]", quoted(server.role.as_str()))?;
        if let Some(internal) = server.internal {
            writeln!(f, "internal = {}", quoted(internal))?;
        }
        writeln!(f, "query_timeout = {}", quoted(seconds(server.query_timeout)))?;
        writeln!(f, "head_timeout = {}", quoted(seconds(server.head_timeout)))?;
        writeln!(f, "drain_timeout = {}", quoted(seconds(server.drain_timeout)))?;
        writeln!(f, "request_loops = {}", server.request_loops)?;
        writeln!(f, "max_connections = {}", server.max_connections)?;
        print_connections(&server.connections, f)?;
        if server.https.is_some() {
            print_tls(tls, f)?;
        }
        writeln!(f, "\n[store]")?;
        writeln!(f, "url = {}", quoted(&store.url))?;
        if let Some(url) = &store.direct_url {
            writeln!(f, "direct_url = {}", quoted(url))?;
        }
        writeln!(f, "pool = {}", store.pool)?;
        writeln!(f, "synchronous = {}", quoted(store.synchronous))?;
        writeln!(f, "readers = {}", store.readers)?;
        writeln!(f, "\n[blobs]")?;
        writeln!(f, "url = {}", quoted(&blobs.url))?;
        if blobs.encryption_keys.is_some() {
            writeln!(f, "# encryption_keys = [\"***\"]")?;
        }
        writeln!(f, "max_waiting_mib = {}", blobs.max_waiting_bytes >> 20)?;
        writeln!(f, "max_waiting_mib_per_address = {}", blobs.max_waiting_bytes_per_address >> 20)?;
        for hook in hooks {
            print_hook(hook, f)?;
        }
        writeln!(f, "\n[outbound]")?;
        writeln!(f, "allow = {}", list(&outbound.allow))?;
        if nodes.keys.is_some() {
            writeln!(f, "\n[nodes]\n# keys = [\"***\"]")?;
        }
        print_gateway(gateway, f)?;
        writeln!(f, "\n[log]")?;
        writeln!(f, "format = {}", quoted(log.format))?;
        if let Some(access) = &log.access {
            writeln!(f, "access = {}", quoted(access.display()))?;
        }
        write!(f, "level = {}", quoted(&log.level))
    }
}

fn print_connections(rules: &ConnectionRules, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ConnectionRules { proxy_protocol, trusted_proxies, allow, deny, max_per_address } = rules;
    print_networks("proxy_protocol", proxy_protocol, f)?;
    print_networks("trusted_proxies", trusted_proxies, f)?;
    print_networks("allow_ips", allow, f)?;
    print_networks("deny_ips", deny, f)?;
    max_per_address.iter().try_for_each(|most| writeln!(f, "max_connections_per_ip = {most}"))
}

fn print_limits(limits: &RouteLimits, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let RouteLimits { allow, deny, rate, in_flight } = limits;
    print_networks("allow_ips", allow, f)?;
    print_networks("deny_ips", deny, f)?;
    print_rate(rate.as_deref(), f)?;
    print_in_flight(in_flight.as_deref(), f)
}

fn print_in_flight(in_flight: Option<&InFlight>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(MaxInFlight { most, queue, queue_timeout }) = in_flight.map(InFlight::rule) else {
        return Ok(());
    };
    match most {
        Most::Fixed(most) => writeln!(f, "max_in_flight = {most}")?,
        Most::Adaptive => writeln!(f, "max_in_flight = \"adaptive\"")?,
    }
    if *queue > 0 {
        writeln!(f, "queue = {queue}\nqueue_timeout = {}", quoted(seconds(*queue_timeout)))?;
    }
    Ok(())
}

fn print_rate(buckets: Option<&TokenBuckets>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(RateRule { by, requests, per, burst }) = buckets.map(TokenBuckets::rule) else { return Ok(()) };
    let (by, per) = (quoted(by), quoted(seconds(*per)));
    writeln!(f, "rate_limit = {{ by = {by}, requests = {requests}, per = {per}, burst = {burst} }}")
}

fn print_networks(key: &str, networks: &Networks, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if networks.is_empty() {
        return Ok(());
    }
    writeln!(f, "{key} = {}", list(&networks.iter().collect::<Vec<_>>()))
}

fn print_tls(tls: &TlsSettings, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\n[tls]")?;
    writeln!(f, "redirect_http = {}", tls.redirect_http)?;
    if let Some(port) = tls.redirect_port {
        writeln!(f, "redirect_port = {port}")?;
    }
    if let Some(hsts) = &tls.hsts {
        writeln!(f, "hsts = {}", quoted(hsts.to_str().unwrap_or_default()))?;
    }
    if let Some(acme) = &tls.acme {
        print_acme(acme, f)?;
    }
    for files in &tls.certificates {
        writeln!(f, "\n[[tls.certificates]]")?;
        writeln!(f, "certificate = {}", quoted(files.certificate.display()))?;
        writeln!(f, "key = {}", quoted(files.key.display()))?;
    }
    Ok(())
}

fn print_acme(acme: &AcmeSettings, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\n[tls.acme]")?;
    writeln!(f, "hosts = {}", list(&acme.hosts))?;
    if let Some(email) = &acme.email {
        writeln!(f, "email = {}", quoted(email))?;
    }
    writeln!(f, "directory = {}", quoted(&acme.directory))?;
    if let Some(ca) = &acme.directory_ca {
        writeln!(f, "directory_ca = {}", quoted(ca.path.display()))?;
    }
    if let Some(binding) = &acme.binding {
        writeln!(f, "# eab_kid = {}", quoted(&binding.id))?;
        writeln!(f, "# eab_key = \"***\"")?;
    }
    if let Some(before) = acme.renew_before {
        writeln!(f, "renew_before = {}", quoted(seconds(before)))?;
    }
    writeln!(f, "terms_agreed = true")
}

/// Behind `#`, because its secrets are not shown and its URL only without the path, which often is one.
fn print_hook(hook: &Hook, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\n# [hooks.{}]", hook.name)?;
    writeln!(f, "# url = {}", quoted(format_args!("{:?}", hook.url)))?;
    let events: Vec<_> = hook.on.iter().map(|event| event.as_str()).collect();
    writeln!(f, "# on = {}", list(&events))?;
    if let Some(collections) = &hook.collections {
        writeln!(f, "# collections = {}", list(collections))?;
    }
    writeln!(f, "# secrets = [\"***\"]")?;
    writeln!(f, "# timeout = {}", quoted(seconds(hook.timeout)))?;
    writeln!(f, "# on_failure = {}", quoted(hook.on_failure.as_str()))?;
    writeln!(f, "# enabled = {}", hook.is_enabled)
}

fn print_gateway(gateway: &GatewaySettings, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\n[gateway]")?;
    writeln!(f, "trace = {}", quoted(gateway.options.trace.as_str()))?;
    if !gateway.options.name_servers.is_empty() {
        writeln!(f, "resolver = {}", list(&gateway.options.name_servers))?;
    }
    if let Some(services) = &gateway.services {
        writeln!(f, "\n[gateway.services]")?;
        print_upstream(services, f)?;
    }
    for (name, upstream) in &gateway.upstreams {
        writeln!(f, "\n[gateway.upstreams.{}]", quoted(name))?;
        print_upstream(upstream, f)?;
    }
    gateway.providers.iter().try_for_each(|provider| print_provider(provider, f))?;
    let TokenSettings { rules, rotate_every } = &gateway.tokens;
    if gateway.routes.iter().any(|route| route.auth.is_some()) {
        writeln!(f, "\n[gateway.tokens]")?;
        writeln!(f, "issuer = {}", quoted(&rules.issuer))?;
        writeln!(f, "lifetime = {}", quoted(seconds(rules.lifetime)))?;
        writeln!(f, "rotate_every = {}", quoted(seconds(*rotate_every)))?;
    }
    let CommonLimits { rate, in_flight, min_body_rate } = &gateway.options.limits;
    if gateway.options.limits != CommonLimits::default() {
        writeln!(f, "\n[gateway.limits]")?;
        writeln!(f, "min_body_rate = {}", min_body_rate.map_or(0, NonZeroU32::get))?;
        print_rate(rate.as_deref(), f)?;
        print_in_flight(in_flight.as_deref(), f)?;
    }
    gateway.checks.print(f)?;
    gateway.routes.iter().try_for_each(|route| print_route(route, f))
}

fn print_server_tls(files: &ServerTlsFiles, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("{key} = {}", quoted(value)));
    if let Some(ca) = &files.ca {
        line("ca", ca.display().to_string());
    }
    if let Some((certificate, key)) = &files.client {
        line("client_cert", certificate.display().to_string());
        line("client_key", key.display().to_string());
    }
    if let Some(name) = &files.name {
        line("server_name", name.clone());
    }
    if lines.is_empty() { Ok(()) } else { writeln!(f, "tls = {{ {} }}", lines.join(", ")) }
}

fn print_upstream(upstream: &UpstreamSettings, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match &upstream.discovery {
        Some(Discovery::Addresses(name)) => writeln!(f, "dns = {}", quoted(name))?,
        Some(Discovery::Service(service)) => {
            writeln!(f, "srv = {}", quoted(service.name()))?;
            writeln!(f, "scheme = {}", quoted(if service.has_tls() { "https" } else { "http" }))?;
        }
        None => writeln!(f, "servers = {}", list(&upstream.servers))?,
    }
    writeln!(f, "balance = {}", quoted(upstream.balance.as_str()))?;
    writeln!(f, "connect_timeout = {}", quoted(seconds(upstream.connect_timeout)))?;
    writeln!(f, "try_timeout = {}", quoted(seconds(upstream.try_timeout)))?;
    writeln!(f, "timeout = {}", quoted(seconds(upstream.timeout)))?;
    let slow_start = upstream.slow_start;
    let slow_start = if slow_start.is_zero() { "0".to_owned() } else { seconds(slow_start) };
    writeln!(f, "slow_start = {}", quoted(slow_start))?;
    writeln!(f, "max_in_flight = {}", upstream.max_in_flight)?;
    if let Some(health) = &upstream.health {
        let (path, every, timeout) =
            (quoted(&health.path), quoted(seconds(health.every)), quoted(seconds(health.timeout)));
        writeln!(f, "health = {{ path = {path}, every = {every}, timeout = {timeout} }}")?;
    }
    writeln!(f, "http2 = {}", upstream.http2)?;
    if let Some(tls) = &upstream.tls {
        print_server_tls(tls.files(), f)?;
    }
    Ok(())
}

fn print_route(route: &Route, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\n[[gateway.routes]]")?;
    if let Some(name) = &route.name {
        writeln!(f, "name = {}", quoted(name))?;
    }
    if let Some(host) = &route.host {
        writeln!(f, "host = {}", quoted(host))?;
    }
    writeln!(f, "path = {}", quoted(&route.path))?;
    if !route.methods.is_empty() {
        writeln!(f, "methods = {}", list(&route.methods))?;
    }
    match &route.target {
        Target::Services => writeln!(f, "services = true")?,
        Target::Upstream(name) => writeln!(f, "upstream = {}", quoted(name))?,
        Target::Redirect(url) => writeln!(f, "redirect = {}", quoted(url))?,
    }
    if route.compress {
        writeln!(f, "compress = true")?;
    }
    print_limits(&route.limits, f)?;
    checks::print_accepts(&route.accepts, f)?;
    if let Some(rewrite) = &route.rewrite {
        writeln!(f, "rewrite = {}", quoted(rewrite))?;
    }
    if let Some(auth) = &route.auth {
        print_auth(auth, f)?;
    }
    for (key, rules) in [
        ("headers", &route.headers),
        ("request_headers", &route.request_headers),
        ("response_headers", &route.response_headers),
    ] {
        if rules.is_empty() {
            continue;
        }
        // Headers may hold secrets.
        let names: Vec<String> =
            rules.iter().map(|(name, _)| format!("{} = \"***\"", quoted(name))).collect();
        writeln!(f, "# {key} = {{ {} }}", names.join(", "))?;
    }
    Ok(())
}

fn print_provider(provider: &Provider, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ProviderSettings { policy, keys } = provider.settings();
    writeln!(f, "\n[gateway.identity_providers.{}]", quoted(provider.name()))?;
    writeln!(f, "issuer = {}", quoted(&policy.issuer))?;
    writeln!(f, "audience = {}", list(&policy.audiences))?;
    match keys {
        KeySource::Url(url, _) => writeln!(f, "jwks = {}", quoted(url))?,
        KeySource::File(path) => writeln!(f, "jwks_file = {}", quoted(path.display()))?,
    }
    writeln!(f, "clock_skew = \"{}s\"", policy.clock_skew)?;
    let algorithms: Vec<_> = policy.algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
    writeln!(f, "algorithms = {}", list(&algorithms))
}

fn print_auth(auth: &RouteAuth, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "auth = {}", quoted(if auth.is_required { "required" } else { "optional" }))?;
    if !auth.collections.is_empty() {
        writeln!(f, "collections = {}", list(&auth.collections))?;
    }
    if let Some(provider) = &auth.provider {
        writeln!(f, "identity = {}", quoted(provider.name()))?;
        writeln!(f, "forward = {}", quoted(if auth.forwards_original { "original" } else { "token" }))?;
    }
    if let Some(cookie) = &auth.cookie {
        writeln!(f, "auth_cookie = {}", quoted(cookie))?;
    }
    if !auth.fields.is_empty() {
        writeln!(f, "token_fields = {}", list(&auth.fields))?;
    }
    Ok(())
}

/// A TOML array of strings.
pub(super) fn list(texts: &[impl fmt::Display]) -> String {
    format!("[{}]", texts.iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// A TOML string.
pub(super) fn quoted(text: impl fmt::Display) -> String {
    let mut quoted = String::from("\"");
    for character in text.to_string().chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

pub(super) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}
