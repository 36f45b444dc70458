//! `[gateway.identity_providers.NAME]`: others who vouch for callers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway::{KeySource, Provider, ProviderSettings};
use identity::external::{Algorithm, TokenPolicy};
use kit::outbound::{OutboundPolicy, OutboundUrl};

use super::reader::{Named, Section};
use super::settings::duration;

const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(60);
/// More than any two clocks should differ.
const MOST_CLOCK_SKEW: Duration = Duration::from_secs(600);

/// All of them that are right.
pub(super) fn read(sections: Vec<Named<'_>>, outbound: &Arc<OutboundPolicy>) -> Vec<Arc<Provider>> {
    sections.into_iter().filter_map(|named| provider(named, outbound)).collect()
}

fn provider(
    Named { name, origin, mut section }: Named<'_>,
    outbound: &Arc<OutboundPolicy>,
) -> Option<Arc<Provider>> {
    let issuer = section.text("issuer").map(|text| text.value).filter(|issuer| !issuer.is_empty());
    if issuer.is_none() {
        section.refuse(origin, "issuer", "is missing; write what stands in iss, such as https://id.example");
    }
    let audiences = section.list("audience").map(|(audiences, _)| audiences).unwrap_or_default();
    if audiences.is_empty() {
        let message = "is missing; write what stands in aud: a token for somebody else must not count here";
        section.refuse(origin, "audience", message);
    }
    let url = key_url(&mut section);
    let file = section.text("jwks_file").map(|text| PathBuf::from(text.value));
    let keys = match (url, file) {
        (Some(url), None) => Some(KeySource::Url(url, outbound.clone())),
        (None, Some(file)) => Some(KeySource::File(file)),
        _ => {
            let message = "write one of jwks = \"https://…\" and jwks_file = \"PATH\"";
            section.refuse(origin, "jwks", message);
            None
        }
    };
    let skew = section.parsed("clock_skew", "a time such as 60s, ten minutes at most, or 0", clock_skew);
    let algorithms = algorithms(&mut section);
    section.finish();
    let policy = TokenPolicy {
        issuer: issuer?,
        audiences,
        clock_skew: skew.map_or(DEFAULT_CLOCK_SKEW, |(skew, _)| skew).as_secs() as i64,
        algorithms,
    };
    Some(Arc::new(Provider::new(name.to_owned(), ProviderSettings { policy, keys: keys? })))
}

fn key_url(section: &mut Section<'_>) -> Option<OutboundUrl> {
    let text = section.text("jwks")?;
    match OutboundUrl::parse(&text.value) {
        Ok(url) => Some(url),
        Err(problem) => {
            section.refuse(&text.origin, "jwks", problem.to_string());
            None
        }
    }
}

fn algorithms(section: &mut Section<'_>) -> Vec<Algorithm> {
    let Some((names, origin)) = section.list("algorithms") else {
        return ProviderSettings::ALGORITHMS.to_vec();
    };
    let mut algorithms = Vec::new();
    for name in &names {
        match Algorithm::parse(name) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let all = Algorithm::ALL.map(Algorithm::as_str).join(", ");
                section.refuse(&origin, "algorithms", format!("{name:?} is not right; write some of {all}"));
            }
        }
    }
    if names.is_empty() {
        section.refuse(&origin, "algorithms", "must name one, such as RS256");
    }
    algorithms
}

fn clock_skew(text: &str) -> Option<Duration> {
    let skew = if text == "0" { Some(Duration::ZERO) } else { duration(text) };
    skew.filter(|skew| *skew <= MOST_CLOCK_SKEW)
}
