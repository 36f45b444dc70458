//! Token buckets: each key may make so many requests in a time, and some at once.
//!
//! The arithmetic is `governor`'s (GCRA, the cell rate algorithm of ATM networks). What it remembers of a key is one time;
//! where those are kept, how many of them, and which are forgotten first is decided here.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

/// How many maps share the keys, so that loops seldom wait for each other.
const SHARDS: usize = 16;
/// Keys of a map at most: 65,536 in all, some 3 MiB. When there are more, those that have asked for least are forgotten:
/// what is forgotten is a full bucket.
const MAX_KEYS_OF_SHARD: usize = 4096;
/// Fewer are not worth looking through.
const FEW_KEYS: usize = 64;

/// The longest time in which a bucket may fill: what is reckoned with has to fit.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Who may make how many requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRule {
    /// What has a bucket of its own.
    pub by: RateBy,
    /// The requests that a bucket gets anew…
    pub requests: NonZeroU32,
    /// …in this time, evenly.
    pub per: Duration,
    /// How many a full bucket holds.
    pub burst: NonZeroU32,
}

/// What has a bucket of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateBy {
    /// Each client's address; of IPv6 each network of 64 bits.
    Ip,
    /// Each caller; each address of guests.
    Caller,
    /// Each value of this header; each address of requests without it.
    Header(HeaderName),
    /// Nothing: all that comes by the route shares one.
    Route,
}

/// The buckets of one rule, shared by all request loops.
pub struct TokenBuckets<C: Clock = MonotonicClock> {
    rule: RateRule,
    limiter: RateLimiter<u64, Times, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    /// Keyed anew for each rule: nobody can aim at another's bucket, and no value of a header is kept.
    hasher: RandomState,
    policy: HeaderValue,
}

/// When the bucket of each key will be full again, since the beginning.
struct Times {
    shards: [Mutex<Shard>; SHARDS],
    /// In what time a bucket gets one request.
    one: u64,
}

struct Shard {
    full_at: HashMap<u64, u64>,
    /// With so many keys, those are looked for whose bucket is full.
    sweeps_at: usize,
}

// === impl TokenBuckets ===

impl TokenBuckets {
    /// Full buckets. None where one would take more than a year to fill.
    pub fn new(rule: RateRule) -> Option<Self> {
        Self::with_clock(rule, MonotonicClock)
    }
}

impl<C: Clock + Clone> TokenBuckets<C> {
    fn with_clock(rule: RateRule, clock: C) -> Option<Self> {
        let one = (rule.per / rule.requests.get()).max(Duration::from_nanos(1));
        one.checked_mul(rule.burst.get()).filter(|time| *time <= LONGEST)?;
        let quota = Quota::with_period(one)?.allow_burst(rule.burst);
        let policy = policy(&rule);
        Some(Self {
            limiter: RateLimiter::new(quota, Times::new(one), clock.clone()),
            clock,
            rule,
            hasher: RandomState::new(),
            policy,
        })
    }

    /// The rule.
    pub fn rule(&self) -> &RateRule {
        &self.rule
    }

    /// What clients are told of the rule.
    pub(super) fn policy(&self) -> &HeaderValue {
        &self.policy
    }

    /// Takes a request out of the bucket of this key. An empty one says when there will be another.
    pub(super) fn take(&self, key: impl Hash) -> Result<(), Duration> {
        let taken = self.limiter.check_key(&self.hasher.hash_one(key));
        taken.map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// Of the draft of an RFC (draft-ietf-httpapi-ratelimit-headers-10): the quota of a window of whole seconds.
fn policy(rule: &RateRule) -> HeaderValue {
    let window = rule.per.as_secs().max(1);
    let in_window = f64::from(rule.requests.get()) * window as f64 / rule.per.as_secs_f64();
    let text = format!("\"{}\";q={};w={window}", rule.by.as_str(), in_window as u64);
    HeaderValue::from_str(&text).expect("names and numbers are a header value")
}

impl<C: Clock> fmt::Debug for TokenBuckets<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)
    }
}

/// By their rule: what was taken out of them is no part of the configuration.
impl<C: Clock> PartialEq for TokenBuckets<C> {
    fn eq(&self, other: &Self) -> bool {
        self.rule == other.rule
    }
}

impl<C: Clock> Eq for TokenBuckets<C> {}

// === impl RateBy ===

impl RateBy {
    /// The name of the kind.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            RateBy::Ip => "ip",
            RateBy::Caller => "caller",
            RateBy::Header(_) => "header",
            RateBy::Route => "route",
        }
    }

    /// Reads `ip`, `caller`, `header:NAME` or `route`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ip" => Some(RateBy::Ip),
            "caller" => Some(RateBy::Caller),
            "route" => Some(RateBy::Route),
            _ => text.strip_prefix("header:")?.parse().ok().map(RateBy::Header),
        }
    }
}

impl fmt::Display for RateBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RateBy::Header(name) => write!(f, "header:{name}"),
            other => f.write_str(other.as_str()),
        }
    }
}

// === impl Times ===

impl Times {
    fn new(one: Duration) -> Self {
        let one = u64::try_from(one.as_nanos()).unwrap_or(u64::MAX);
        let shard = || Mutex::new(Shard { full_at: HashMap::new(), sweeps_at: FEW_KEYS });
        Self { shards: std::array::from_fn(|_| shard()), one }
    }
}

impl StateStore for Times {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let shard = &self.shards[*key as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = shard.full_at.get_mut(key) {
            let (taken, next) = measure(Some(Nanos::from(*full_at)))?;
            *full_at = next.as_u64();
            return Ok(taken);
        }
        let (taken, next) = measure(None)?;
        // What a first request takes is got again in this time: it says what time it is.
        let now = next.as_u64().saturating_sub(self.one);
        shard.make_room(now);
        shard.full_at.insert(*key, next.as_u64());
        Ok(taken)
    }
}

// === impl Shard ===

impl Shard {
    /// Forgets full buckets when there are twice as many as at the last look; and where that leaves too many, those that
    /// will be full first, a quarter of them at once, so that it is not done for each key.
    fn make_room(&mut self, now: u64) {
        const ENOUGH: usize = MAX_KEYS_OF_SHARD / 4 * 3;
        if self.full_at.len() < self.sweeps_at {
            return;
        }
        self.full_at.retain(|_, full_at| *full_at > now);
        if let Some(surplus) = self.full_at.len().checked_sub(ENOUGH).filter(|surplus| *surplus > 0) {
            let mut times: Vec<u64> = self.full_at.values().copied().collect();
            let (_, last, _) = times.select_nth_unstable(surplus - 1);
            let last = *last;
            self.full_at.retain(|_, full_at| *full_at > last);
        }
        self.full_at.shrink_to(2 * self.full_at.len());
        self.sweeps_at = (2 * self.full_at.len()).clamp(FEW_KEYS, MAX_KEYS_OF_SHARD);
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets(
        requests: u32,
        per: Duration,
        burst: u32,
    ) -> (TokenBuckets<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let (requests, burst) = (NonZeroU32::new(requests).unwrap(), NonZeroU32::new(burst).unwrap());
        let rule = RateRule { by: RateBy::Ip, requests, per, burst };
        (TokenBuckets::with_clock(rule, clock.clone()).unwrap(), clock)
    }

    fn keys(buckets: TokenBuckets<FakeRelativeClock>) -> usize {
        let times = buckets.limiter.into_state_store();
        times.shards.iter().map(|shard| shard.lock().unwrap().full_at.len()).sum()
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_what_it_gets() {
        let (buckets, clock) = buckets(2, Duration::from_secs(1), 3);
        assert_eq!([(); 4].map(|()| buckets.take("a").is_ok()), [true, true, true, false]);
        assert_eq!(buckets.take("a"), Err(Duration::from_millis(500)));
        assert!(buckets.take("b").is_ok());
        clock.advance(Duration::from_millis(499));
        assert!(buckets.take("a").is_err());
        clock.advance(Duration::from_millis(1));
        assert_eq!([(); 2].map(|()| buckets.take("a").is_ok()), [true, false]);
        clock.advance(Duration::from_secs(100));
        assert_eq!([(); 4].map(|()| buckets.take("a").is_ok()), [true, true, true, false]);
    }

    #[test]
    fn keys_are_bounded_and_who_has_used_up_his_bucket_is_the_last_to_be_forgotten() {
        let (buckets, _clock) = buckets(1, Duration::from_secs(60), 3);
        for _ in 0..3 {
            buckets.take("greedy").unwrap();
        }
        for other in 0..300_000 {
            buckets.take(other).unwrap();
        }
        assert!(buckets.take("greedy").is_err());
        assert!(keys(buckets) <= SHARDS * MAX_KEYS_OF_SHARD);
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let (buckets, clock) = buckets(1, Duration::from_secs(1), 1);
        for round in 0..100 {
            for key in 0..500 {
                buckets.take((round, key)).unwrap();
            }
            clock.advance(Duration::from_secs(2));
        }
        let keys = keys(buckets);
        assert!(keys < 3_000, "{keys} keys");
    }

    #[test]
    fn what_would_take_years_is_no_rule() {
        let rule = |per: Duration, burst: u32| RateRule {
            by: RateBy::Route,
            requests: NonZeroU32::MIN,
            per,
            burst: NonZeroU32::new(burst).unwrap(),
        };
        assert!(TokenBuckets::new(rule(Duration::from_secs(3600), 1_000)).is_some());
        assert!(TokenBuckets::new(rule(Duration::from_secs(3600), u32::MAX)).is_none());
        assert!(TokenBuckets::new(rule(Duration::MAX, 2)).is_none());
    }

    #[test]
    fn a_policy_is_told_in_whole_seconds() {
        let policy =
            |requests: u32, per: Duration| buckets(requests, per, 1).0.policy.to_str().unwrap().to_owned();
        assert_eq!(policy(100, Duration::from_secs(60)), "\"ip\";q=100;w=60");
        assert_eq!(policy(10, Duration::from_millis(500)), "\"ip\";q=20;w=1");
    }

    #[test]
    fn kinds_are_read_as_they_are_told() {
        for text in ["ip", "caller", "route", "header:x-api-key"] {
            assert_eq!(RateBy::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "IP", "header:", "header:a b", "key"] {
            assert_eq!(RateBy::parse(text), None, "{text}");
        }
    }
}
