//! Limits of requests (CONTRACT §1.13): which rule of the settings a request falls under, and whether it is one too
//! many. The gateway asks for each request, a batch for each request within it.
//!
//! Counters are for exact addresses, as the contract has it, IPv6 too: who holds a network of them holds as many
//! counters. Saving the settings, changed or not, begins all of them anew.

mod counters;
mod rules;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use contract::store::{Commit, CommitObserver};
use identity::address;
use model::collection::Collection;
use model::context::Caller;
use model::settings::{RateLimitRule, Settings};
use model::time::Timestamp;
use percent_encoding::percent_decode_str;

use counters::{Counters, Key};
use rules::Labels;

/// The limits of an application. One for the process, shared by its request loops.
#[derive(Default)]
pub struct RateLimits {
    /// Whether there are any: all that a request pays for when there are none.
    are_on: AtomicBool,
    current: ArcSwapOption<Limits>,
}

/// A request, as limits see it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, percent-encoded.
    pub path: &'a str,
    /// What it does to a collection, unless it is an ordinary request.
    pub action: Option<Action<'a>>,
    /// Who asks.
    pub caller: &'a Caller,
    /// From where.
    pub client_ip: IpAddr,
}

/// What a request does to a collection: it has counters of its own.
#[derive(Debug, Clone, Copy)]
pub struct Action<'a> {
    /// The collection.
    pub collection: &'a Collection,
    /// The names by which rules call it; the first belongs to no other action.
    pub names: &'a [&'a str],
    /// Whether the request stands in a batch: those are counted apart from those that come alone.
    pub is_in_batch: bool,
}

/// The limits of one state of the settings, and what was counted since.
struct Limits {
    rules: Vec<RateLimitRule>,
    excluded_ips: Vec<String>,
    counters: Counters,
    /// Keyed anew each time, so that nobody can aim at another's counter.
    hasher: RandomState,
}

// === impl RateLimits ===

impl RateLimits {
    /// Counters that are kept at most, a few MiB.
    pub const MOST_COUNTERS: usize = 100_000;

    /// Takes the limits of these settings, with nothing counted yet.
    pub fn take(&self, settings: &Settings) {
        let limits = settings.rate_limits.enabled.then(|| Limits::new(settings));
        self.are_on.store(limits.is_some(), Ordering::Release);
        self.current.store(limits.map(Arc::new));
    }

    /// Whether any request has to be counted.
    pub fn are_on(&self) -> bool {
        self.are_on.load(Ordering::Acquire)
    }

    /// Counts a request, and tells whether it may go on.
    pub fn allow(&self, asked: &Asked<'_>, now: Timestamp) -> bool {
        if !self.are_on() || asked.caller.is_superuser() {
            return true;
        }
        self.current.load().as_ref().is_none_or(|limits| limits.allow(asked, now.0.div_euclid(1_000)))
    }
}

impl CommitObserver for RateLimits {
    fn committed(&self, commit: &Commit) {
        if let Some(settings) = &commit.settings {
            self.take(settings);
        }
    }
}

// === impl Limits ===

impl Limits {
    fn new(settings: &Settings) -> Limits {
        let limits = &settings.rate_limits;
        Limits {
            rules: limits.rules.clone(),
            excluded_ips: limits.excluded_ips.clone(),
            counters: Counters::new(RateLimits::MOST_COUNTERS),
            hasher: RandomState::new(),
        }
    }

    fn allow(&self, asked: &Asked<'_>, now: i64) -> bool {
        if address::is_listed(&self.excluded_ips, asked.client_ip) {
            return true;
        }
        let path = percent_decode_str(asked.path).decode_utf8_lossy();
        let action = asked.action.map(|action| (action.collection.name.as_str(), action.names));
        let labels = Labels { method: asked.method, path: &path, action };
        let is_guest = matches!(asked.caller, Caller::Guest);
        let Some(position) = rules::find(&self.rules, labels, is_guest) else { return true };
        let rule = &self.rules[position];
        let counted_with = match &asked.action {
            Some(action) => {
                let name = action.names.first();
                self.hasher.hash_one((&action.collection.id, name, action.is_in_batch, &rule.audience))
            }
            None => self.hasher.hash_one(position),
        };
        self.counters.count(Key { counted_with, client_ip: asked.client_ip }, rule, now)
    }
}

#[cfg(test)]
mod tests {
    use model::collection::{CollectionKind, Rules};

    use super::*;

    struct Case {
        limits: RateLimits,
        cats: Collection,
    }

    fn rule(label: &str, max_requests: i64) -> RateLimitRule {
        RateLimitRule { label: label.to_owned(), audience: String::new(), duration: 60, max_requests }
    }

    fn settings(rules: Vec<RateLimitRule>) -> Settings {
        let mut settings = Settings::default();
        settings.rate_limits.rules = rules;
        settings.rate_limits.enabled = true;
        settings
    }

    impl Case {
        fn new(rules: Vec<RateLimitRule>) -> Case {
            let limits = RateLimits::default();
            limits.take(&settings(rules));
            let cats = Collection {
                id: "pbc_1".to_owned(),
                name: "cats".to_owned(),
                system: false,
                rules: Rules::default(),
                fields: Vec::new(),
                indexes: Vec::new(),
                created: String::new(),
                updated: String::new(),
                kind: CollectionKind::Base,
            };
            Case { limits, cats }
        }

        fn asked<'a>(&'a self, path: &'a str, names: &'a [&'a str]) -> Asked<'a> {
            let of = |names| Action { collection: &self.cats, names, is_in_batch: false };
            let action = Some(names).filter(|names| !names.is_empty()).map(of);
            let client_ip = IpAddr::from([10, 0, 0, 1]);
            Asked { method: "GET", path, action, caller: &Caller::Guest, client_ip }
        }

        fn allow(&self, path: &str, names: &[&str]) -> bool {
            self.limits.allow(&self.asked(path, names), Timestamp(0))
        }
    }

    #[test]
    fn ordinary_requests_share_the_counter_of_their_rule() {
        let case = Case::new(vec![rule("/api/", 2)]);
        assert!(case.allow("/api/health", &[]) && case.allow("/api/nope", &[]));
        assert!(!case.allow("/api/settings", &[]));
        assert!(case.allow("/elsewhere", &[]));
    }

    #[test]
    fn every_action_of_a_collection_has_a_counter_of_its_own() {
        let case = Case::new(vec![rule("/api/", 1)]);
        let path = "/api/collections/cats/records";
        assert!(
            case.allow("/api/health", &[]) && case.allow(path, &["list"]) && case.allow(path, &["create"])
        );
        assert!(!case.allow(path, &["list"]));
        let mut in_batch = case.asked(path, &["create"]);
        in_batch.action = in_batch.action.map(|action| Action { is_in_batch: true, ..action });
        assert!(case.limits.allow(&in_batch, Timestamp(0)));
        assert!(!case.limits.allow(&in_batch, Timestamp(0)));
    }

    #[test]
    fn every_address_has_a_counter_of_its_own_and_excluded_ones_have_none() {
        let case = Case::new(vec![rule("/api/", 1)]);
        let from = |address: &str| {
            let asked = Asked { client_ip: address.parse().unwrap(), ..case.asked("/api/health", &[]) };
            case.limits.allow(&asked, Timestamp(0))
        };
        assert!(from("2001:db8::1") && from("2001:db8::2") && !from("2001:db8::1"));
        let mut excluded = settings(vec![rule("/api/", 1)]);
        excluded.rate_limits.excluded_ips = vec!["2001:db8::/64".to_owned()];
        case.limits.take(&excluded);
        assert!(from("2001:db8::1") && from("2001:db8::1"));
        assert!(from("10.0.0.1") && !from("10.0.0.1"));
    }

    #[test]
    fn paths_are_compared_without_their_escapes() {
        let case = Case::new(vec![rule("/a b", 1)]);
        assert!(case.allow("/a%20b", &[]) && !case.allow("/a%20b", &[]));
    }

    #[test]
    fn saved_settings_begin_all_counters_anew_and_may_end_them() {
        let case = Case::new(vec![rule("/api/", 1)]);
        assert!(case.allow("/api/x", &[]) && !case.allow("/api/x", &[]));
        let saved = |settings: Settings| {
            case.limits.committed(&Commit { settings: Some(Arc::new(settings)), ..Commit::default() });
        };
        case.limits.committed(&Commit { schema_changed: true, ..Commit::default() });
        assert!(!case.allow("/api/x", &[]));
        saved(settings(vec![rule("/api/", 1)]));
        assert!(case.allow("/api/x", &[]) && !case.allow("/api/x", &[]));
        saved(Settings::default());
        assert!(!case.limits.are_on() && case.allow("/api/x", &[]));
    }
}
