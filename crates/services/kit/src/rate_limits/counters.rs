//! Windows of time, and how many requests were let in within each.
//!
//! They lie in shards, each behind a lock that is held for a look-up. A shard forgets windows that are over about once
//! a minute. One that is full forgets those first, and then an eighth of the rest: those that are not used up, the
//! oldest first. So a flood of addresses frees nobody who has used up his window, and refuses nobody who has not;
//! only where more windows are used up than there is room for, the oldest of those are let in early.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use model::settings::RateLimitRule;

/// How many requests were let in.
pub(super) struct Counters {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// A hash of the rule, or of the action.
    pub(super) counted_with: u64,
    pub(super) client_ip: IpAddr,
}

struct Shard {
    most: usize,
    windows: HashMap<Key, Window>,
    next_sweep: i64,
}

/// It keeps the bounds with which it began: actions are counted together also where rules differ, such as two that
/// name a path each.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: i64,
    seconds: i64,
    left: i64,
    most: i64,
}

/// Enough that loops seldom meet.
const SHARDS: usize = 16;

const SECONDS_BETWEEN_SWEEPS: i64 = 60;

// === impl Counters ===

impl Counters {
    /// No more than about so many windows.
    pub(super) fn new(most: usize) -> Counters {
        let shard = || Shard { most: most.div_ceil(SHARDS), windows: HashMap::new(), next_sweep: 0 };
        Counters { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect() }
    }

    /// Whether a request in this second is let in.
    pub(super) fn count(&self, key: Key, rule: &RateLimitRule, now: i64) -> bool {
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner).count(key, rule, now)
    }
}

// === impl Shard ===

impl Shard {
    fn count(&mut self, key: Key, rule: &RateLimitRule, now: i64) -> bool {
        if now >= self.next_sweep {
            self.sweep(now);
            self.next_sweep = now.saturating_add(SECONDS_BETWEEN_SWEEPS);
        }
        if self.windows.len() >= self.most && !self.windows.contains_key(&key) {
            self.make_room(now);
        }
        let window = match self.windows.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Window::new(rule, now)),
        };
        window.count(now)
    }

    fn sweep(&mut self, now: i64) {
        self.windows.retain(|_, window| !window.is_over(now));
        // What a flood has left is given back.
        self.windows.shrink_to(self.windows.len() * 2);
    }

    fn make_room(&mut self, now: i64) {
        self.windows.retain(|_, window| !window.is_over(now));
        if self.windows.len() < self.most {
            return;
        }
        // Many at once, so that not every request of a flood looks at all of them.
        let mut ranks: Vec<_> = self.windows.iter().map(|(key, window)| (window.rank(), *key)).collect();
        let last = (self.most / 8).min(ranks.len().saturating_sub(1));
        ranks.select_nth_unstable_by_key(last, |(rank, _)| *rank);
        for (_, key) in &ranks[..=last] {
            self.windows.remove(key);
        }
    }
}

// === impl Window ===

impl Window {
    fn new(rule: &RateLimitRule, now: i64) -> Window {
        Window { began: now, seconds: rule.duration, left: rule.max_requests, most: rule.max_requests }
    }

    /// Over after so many of the clock's seconds, counted whole; or when the clock was put back.
    fn is_over(&self, now: i64) -> bool {
        now < self.began || now - self.began >= self.seconds
    }

    fn count(&mut self, now: i64) -> bool {
        if self.is_over(now) {
            (self.began, self.left) = (now, self.most);
        }
        let is_let_in = self.left > 0;
        self.left -= i64::from(is_let_in);
        is_let_in
    }

    /// What is forgotten first has the least.
    fn rank(&self) -> (bool, i64) {
        (self.left <= 0, self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(max_requests: i64, duration: i64) -> RateLimitRule {
        RateLimitRule { label: "/".to_owned(), audience: String::new(), duration, max_requests }
    }

    fn key(address: u32) -> Key {
        Key { counted_with: 1, client_ip: IpAddr::V4(address.into()) }
    }

    fn kept(counters: &Counters) -> usize {
        counters.shards.iter().map(|shard| shard.lock().unwrap().windows.len()).sum()
    }

    #[test]
    fn a_window_begins_with_the_first_request_and_ends_after_its_seconds() {
        let counters = Counters::new(100);
        let rule = rule(2, 3);
        let answers = [10, 12, 12, 13, 13, 13, 15, 16].map(|now| counters.count(key(1), &rule, now));
        assert_eq!(answers, [true, true, false, true, true, false, false, true]);
    }

    #[test]
    fn refusals_do_not_make_a_window_longer() {
        let counters = Counters::new(100);
        let rule = rule(1, 2);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|now| counters.count(key(1), &rule, now)),
            [true, false, true, false, true]
        );
    }

    #[test]
    fn a_clock_that_is_put_back_locks_nobody_out() {
        let counters = Counters::new(100);
        assert!(counters.count(key(1), &rule(1, 60), 1_000));
        assert!(counters.count(key(1), &rule(1, 60), 10));
    }

    #[test]
    fn a_counter_keeps_the_bounds_with_which_it_began() {
        let counters = Counters::new(100);
        assert!(counters.count(key(1), &rule(1, 60), 0));
        assert!(!counters.count(key(1), &rule(3, 60), 0));
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_room_and_frees_nobody_who_is_refused() {
        let counters = Counters::new(1_600);
        let rule = rule(2, 60);
        assert_eq!([(); 3].map(|()| counters.count(key(0), &rule, 0)), [true, true, false]);
        for address in 1..20_000 {
            assert!(counters.count(key(address), &rule, 1), "{address} is refused");
        }
        assert!(kept(&counters) <= 1_600);
        assert!(!counters.count(key(0), &rule, 2));
    }

    #[test]
    fn where_all_windows_are_used_up_the_oldest_go() {
        let counters = Counters::new(1_600);
        let rule = rule(1, 60);
        for address in 0..20_000 {
            assert!(counters.count(key(address), &rule, i64::from(address / 1_000)));
        }
        assert!(kept(&counters) <= 1_600);
        assert!(counters.count(key(0), &rule, 20) && !counters.count(key(19_999), &rule, 20));
    }

    #[test]
    fn windows_that_are_over_are_forgotten() {
        let counters = Counters::new(1_600);
        for address in 0..1_000 {
            counters.count(key(address), &rule(1, 5), 0);
        }
        for address in 0..1_000 {
            counters.count(key(5_000 + address % 200), &rule(1, 5), SECONDS_BETWEEN_SWEEPS);
        }
        assert_eq!(kept(&counters), 200);
    }
}
