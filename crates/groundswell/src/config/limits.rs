//! What of `[server]` and of routes says who may connect, and how much is taken of whom.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use gateway::{
    CommonLimits, ConnectionRules, InFlight, MaxInFlight, Most, Networks, RateBy, RateRule, RouteLimits,
    TokenBuckets,
};

use super::reader::Section;
use super::settings::{WHOLE_NUMBER, count, time};

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
    RouteLimits {
        allow: networks(section, "allow_ips"),
        deny: networks(section, "deny_ips"),
        rate: rate_limit(section),
        in_flight: in_flight(section),
    }
}

/// `[gateway.limits]`
pub(super) fn common(mut section: Section<'_>) -> CommonLimits {
    let min_body_rate =
        section.parsed("min_body_rate", "bytes a second, or 0 for any", |text| text.parse().ok());
    let limits = CommonLimits {
        rate: rate_limit(&mut section),
        in_flight: in_flight(&mut section),
        min_body_rate: min_body_rate
            .map_or(Some(CommonLimits::MIN_BODY_RATE), |(rate, _): (u32, _)| NonZeroU32::new(rate)),
    };
    section.finish();
    limits
}

fn in_flight(section: &mut Section<'_>) -> Option<Arc<InFlight>> {
    const QUEUE: &str = "queue";
    let expected = "a whole number of at least 1, or \"adaptive\"";
    let most = section.parsed("max_in_flight", expected, |text| match text {
        "adaptive" => Some(Most::Adaptive),
        number => number.parse().ok().map(Most::Fixed),
    });
    let of_queue = [section.origin_of(QUEUE), section.origin_of("queue_timeout")];
    let queue = count(section, QUEUE).unwrap_or(0);
    let queue_timeout = time(section, "queue_timeout", Duration::from_secs(1));
    if most.is_none()
        && let Some(origin) = of_queue.into_iter().flatten().next()
    {
        section.refuse(origin, QUEUE, "nobody waits without a bound; write max_in_flight, too");
    }
    let (most, _) = most?;
    Some(Arc::new(InFlight::new(MaxInFlight { most, queue, queue_timeout })))
}

fn rate_limit(section: &mut Section<'_>) -> Option<Arc<TokenBuckets>> {
    const KEY: &str = "rate_limit";
    let origin = section.origin_of(KEY);
    let mut rule = section.section(KEY);
    let origin = origin?;
    let by = rule.parsed("by", "ip, caller, header:NAME or route", RateBy::parse);
    let requests = rule.parsed("requests", WHOLE_NUMBER, |text| text.parse::<NonZeroU32>().ok());
    let per = time(&mut rule, "per", Duration::from_secs(1));
    let burst = rule.parsed("burst", WHOLE_NUMBER, |text| text.parse::<NonZeroU32>().ok());
    let is_whole = rule.origin_of("by").is_some() && rule.origin_of("requests").is_some();
    rule.finish();
    if !is_whole {
        let expected = "needs both; write { by = \"ip\", requests = 100, per = \"1s\" }";
        section.refuse(origin, KEY, expected);
    }
    let (by, requests) = (by?.0, requests?.0);
    let burst = burst.map_or(requests, |(burst, _)| burst);
    let buckets = TokenBuckets::new(RateRule { by, requests, per, burst });
    if buckets.is_none() {
        section.refuse(
            origin,
            KEY,
            "would take more than a year for a burst; write a shorter time or a smaller burst",
        );
    }
    buckets.map(Arc::new)
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
