//! What of `[server]` and of routes says who may connect, and how much is taken of whom.

use std::num::NonZeroUsize;

use gateway::{ConnectionRules, Networks, RouteLimits};

use super::reader::Section;
use super::settings::count;

pub(super) fn connections(section: &mut Section<'_>) -> ConnectionRules {
    ConnectionRules {
        proxy_protocol: networks(section, "proxy_protocol"),
        trusted_proxies: networks(section, "trusted_proxies"),
        allow: networks(section, "allow_ips"),
        deny: networks(section, "deny_ips"),
        max_per_address: count(section, "max_connections_per_ip").and_then(NonZeroUsize::new),
    }
}

pub(super) fn of_route(section: &mut Section<'_>) -> RouteLimits {
    RouteLimits { allow: networks(section, "allow_ips"), deny: networks(section, "deny_ips") }
}

fn networks(section: &mut Section<'_>, key: &'static str) -> Networks {
    let Some((texts, origin)) = section.list(key) else { return Networks::default() };
    let parsed = Networks::parse(texts.iter().map(String::as_str));
    parsed.unwrap_or_else(|text| {
        let message = format!("{text:?} is not right; write addresses and networks such as 10.0.0.0/8");
        section.refuse(&origin, key, message);
        Networks::default()
    })
}
