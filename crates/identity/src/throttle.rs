//! What keeps guessing slow: sign-ins that failed are counted for each name and address, and for each
//! address. Only failures count; who signs in at last has his own count cleared.
//!
//! Attempts that run at the same time are all let in before the first of them has failed. There are not
//! many of those: each passes through the bounded [`crate::hash_pool`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How many failures are borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Counts are kept this long from the first failure.
    pub window: Duration,
    /// Failures with one name from one address.
    pub failures_per_identity: u32,
    /// Failures from one address, whatever the names.
    pub failures_per_address: u32,
    /// Counts that are kept at most. When they are full, one is given up for each new one.
    pub capacity: usize,
}

/// Counts failed sign-ins.
#[derive(Debug)]
pub struct SignInThrottle {
    limits: ThrottleLimits,
    /// Keyed anew in each process, so that nobody can aim at another's count.
    hasher: RandomState,
    counts: Mutex<Counts>,
}

/// Too many failures: come again after that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed sign-ins, again in {retry_after:?}")]
pub struct Throttled {
    /// Until the count is over.
    pub retry_after: Duration,
}

#[derive(Debug)]
struct Counts {
    by_key: HashMap<Key, Count>,
    next_sweep: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    /// A hash of the collection and the name; `None` for the address alone.
    identity: Option<u64>,
    address: u128,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    ends: Instant,
}

impl Default for ThrottleLimits {
    /// Ten failures a minute with one name, a hundred from one address (which an office may share).
    fn default() -> ThrottleLimits {
        ThrottleLimits {
            window: Duration::from_secs(60),
            failures_per_identity: 10,
            failures_per_address: 100,
            capacity: 65_536,
        }
    }
}

// === impl SignInThrottle ===

impl SignInThrottle {
    /// Nothing counted yet.
    pub fn new(limits: ThrottleLimits) -> SignInThrottle {
        let counts = Counts { by_key: HashMap::new(), next_sweep: None };
        SignInThrottle { limits, hasher: RandomState::new(), counts: Mutex::new(counts) }
    }

    /// Whether a sign-in may be tried now.
    pub fn check(
        &self,
        collection_id: &str,
        identity: &str,
        ip: IpAddr,
        now: Instant,
    ) -> Result<(), Throttled> {
        let [pair, address] = self.keys(collection_id, identity, ip);
        let counts = self.counts();
        counts.check(pair, self.limits.failures_per_identity, now)?;
        counts.check(address, self.limits.failures_per_address, now)
    }

    /// Counts a sign-in that failed.
    pub fn failed(&self, collection_id: &str, identity: &str, ip: IpAddr, now: Instant) {
        let mut counts = self.counts();
        for key in self.keys(collection_id, identity, ip) {
            counts.add(key, &self.limits, now);
        }
    }

    /// Clears the count of this name from this address. That of the address stays, or one good account
    /// would do to go on guessing at others.
    pub fn succeeded(&self, collection_id: &str, identity: &str, ip: IpAddr) {
        let [pair, _] = self.keys(collection_id, identity, ip);
        self.counts().by_key.remove(&pair);
    }

    fn keys(&self, collection_id: &str, identity: &str, ip: IpAddr) -> [Key; 2] {
        let address = address_key(ip);
        let identity = self.hasher.hash_one((collection_id, identity.to_lowercase()));
        [Key { identity: Some(identity), address }, Key { identity: None, address }]
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Counts {
    fn check(&self, key: Key, limit: u32, now: Instant) -> Result<(), Throttled> {
        match self.by_key.get(&key) {
            Some(count) if count.failures >= limit && now < count.ends => {
                Err(Throttled { retry_after: count.ends - now })
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, key: Key, limits: &ThrottleLimits, now: Instant) {
        self.sweep(limits, now);
        if self.by_key.len() >= limits.capacity
            && !self.by_key.contains_key(&key)
            && let Some(other) = self.by_key.keys().next().copied()
        {
            self.by_key.remove(&other);
        }
        let count = self.by_key.entry(key).or_insert(Count { failures: 0, ends: now + limits.window });
        if now >= count.ends {
            *count = Count { failures: 0, ends: now + limits.window };
        }
        count.failures = count.failures.saturating_add(1);
    }

    /// Drops the counts that are over, a few times a window.
    fn sweep(&mut self, limits: &ThrottleLimits, now: Instant) {
        if self.next_sweep.is_none_or(|at| now >= at) {
            self.by_key.retain(|_, count| now < count.ends);
            self.next_sweep = Some(now + limits.window / 4);
        }
    }
}

/// An address, or of IPv6 the network that one customer usually has (/64).
fn address_key(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(failures_per_identity: u32, failures_per_address: u32, capacity: usize) -> SignInThrottle {
        let limits =
            ThrottleLimits { failures_per_identity, failures_per_address, capacity, ..Default::default() };
        SignInThrottle::new(limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn failures_refuse_until_the_window_ends() {
        let (throttle, start) = (throttle(2, 100, 100), Instant::now());
        let check = |identity, seconds| {
            throttle.check("c", identity, ip("1.1.1.1"), start + Duration::from_secs(seconds))
        };
        throttle.failed("c", "a", ip("1.1.1.1"), start);
        assert_eq!(check("a", 1), Ok(()));
        throttle.failed("c", "A", ip("1.1.1.1"), start);
        assert_eq!(check("a", 20), Err(Throttled { retry_after: Duration::from_secs(40) }));
        assert_eq!(check("b", 20), Ok(()));
        assert_eq!(throttle.check("c", "a", ip("1.1.1.2"), start), Ok(()));
        assert_eq!(throttle.check("d", "a", ip("1.1.1.1"), start), Ok(()));
        assert_eq!(check("a", 60), Ok(()));
    }

    #[test]
    fn success_clears_the_name_but_not_the_address() {
        let (throttle, now) = (throttle(2, 3, 100), Instant::now());
        for _ in 0..2 {
            throttle.failed("c", "a", ip("1.1.1.1"), now);
        }
        throttle.succeeded("c", "a", ip("1.1.1.1"));
        assert_eq!(throttle.check("c", "a", ip("1.1.1.1"), now), Ok(()));
        throttle.failed("c", "b", ip("1.1.1.1"), now);
        assert!(throttle.check("c", "other", ip("1.1.1.1"), now).is_err());
    }

    #[test]
    fn one_network_is_one_address() {
        let (throttle, now) = (throttle(100, 1, 100), Instant::now());
        throttle.failed("c", "a", ip("2001:db8::1"), now);
        assert!(throttle.check("c", "b", ip("2001:db8::2"), now).is_err());
        assert!(throttle.check("c", "b", ip("2001:db8:0:1::2"), now).is_ok());
    }

    #[test]
    fn the_table_is_bounded_and_swept() {
        let (throttle, start) = (throttle(10, 10, 50), Instant::now());
        for number in 0..1000 {
            throttle.failed("c", &number.to_string(), ip("1.1.1.1"), start);
        }
        assert!(throttle.counts().by_key.len() <= 50);
        throttle.failed("c", "a", ip("1.1.1.2"), start + Duration::from_secs(61));
        assert_eq!(throttle.counts().by_key.len(), 2);
    }
}
