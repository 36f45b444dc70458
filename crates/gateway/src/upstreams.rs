//! Pools of servers that requests may go to, as all request loops share them: which server is to get a request, and
//! what is known of each. Connections are a loop's own ([`crate::proxy`]).

mod balance;
mod budget;
mod health;
mod latency;
mod server;
mod settings;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use budget::RetryBudget;
pub(crate) use health::watch;
pub(crate) use server::{Outcome, Server};
pub use settings::{Balance, HealthCheck, ServerUrl, UpstreamSettings};

/// A pool of servers. One for the process.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) settings: UpstreamSettings,
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) budget: RetryBudget,
    turn: balance::Turn,
    started: Instant,
}

/// A request that a server has, until this is dropped.
#[derive(Debug)]
pub(crate) struct Try {
    pool: Arc<Pool>,
    pub(crate) server: Arc<Server>,
    began: Duration,
    is_noted: bool,
}

// === impl Pool ===

impl Pool {
    /// All servers are taken to be well until they prove otherwise.
    pub(crate) fn new(settings: UpstreamSettings) -> Self {
        let servers = settings.servers.iter().cloned().map(|url| Arc::new(Server::new(url))).collect();
        Self {
            settings,
            servers,
            budget: RetryBudget::new(),
            turn: balance::Turn::default(),
            started: Instant::now(),
        }
    }

    /// The time by the pool's clock.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Begins a try at a server that is well and has room, if possible at none of `tried`. None when there is none.
    pub(crate) fn begin(self: &Arc<Self>, key: u64, tried: &[Arc<Server>]) -> Option<Try> {
        let now = self.now();
        let server = self.choose(key, tried, now)?.clone();
        server.begin(now);
        Some(Try { pool: self.clone(), server, began: now, is_noted: false })
    }

    /// One that is well, then one that was not tried: what is known of those that are not well may be wrong, above all
    /// when checks fail everywhere.
    fn choose(&self, key: u64, tried: &[Arc<Server>], now: Duration) -> Option<&Arc<Server>> {
        let has_room = |server: &&Arc<Server>| server.in_flight() < self.settings.max_in_flight;
        let untried =
            |server: &&Arc<Server>| has_room(server) && !tried.iter().any(|other| Arc::ptr_eq(server, other));
        let well = |server: &&Arc<Server>| has_room(server) && server.is_well(now);
        self.pick(key, now, |server| well(server) && untried(server))
            .or_else(|| self.pick(key, now, untried))
            .or_else(|| self.pick(key, now, well))
            .or_else(|| self.pick(key, now, has_room))
    }

    fn pick(
        &self,
        key: u64,
        now: Duration,
        is_candidate: impl Fn(&&Arc<Server>) -> bool,
    ) -> Option<&Arc<Server>> {
        let slow_start = self.settings.slow_start;
        match self.settings.balance {
            Balance::P2c => {
                balance::better_of_two(&self.servers, is_candidate, |server| server.cost(now, slow_start))
            }
            Balance::RoundRobin => {
                self.turn.next(&self.servers, is_candidate, |server| server.share(now, slow_start))
            }
            Balance::Hash => balance::by_key(&self.servers, is_candidate, key),
        }
    }
}

// === impl Try ===

impl Try {
    /// What came of it, once the head of the answer is there or will not come.
    pub(crate) fn note(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.is_noted, true) {
            return;
        }
        let now = self.pool.now();
        self.server.note(outcome, now.saturating_sub(self.began), now);
    }
}

/// Without a word before, nothing is known of the server: the client went away, or a kept connection was closed.
impl Drop for Try {
    fn drop(&mut self) {
        self.server.end(self.is_noted);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pool(balance: Balance, count: u16) -> Arc<Pool> {
        let servers = (1..=count).map(|port| ServerUrl::parse(&format!("http://a:{port}")).unwrap());
        let settings = UpstreamSettings { balance, ..UpstreamSettings::new(servers.collect()) };
        Arc::new(Pool::new(settings))
    }

    /// How often each server is chosen for these keys, when each answers at once.
    fn shares(pool: &Arc<Pool>, keys: impl IntoIterator<Item = u64>) -> BTreeMap<ServerUrl, usize> {
        let mut shares = BTreeMap::new();
        for key in keys {
            let mut begun = pool.begin(key, &[]).unwrap();
            *shares.entry(begun.server.url.clone()).or_default() += 1;
            begun.note(Outcome::Answered);
        }
        shares
    }

    #[test]
    fn a_server_that_fails_gets_nothing_while_others_are_well() {
        for balance in [Balance::P2c, Balance::RoundRobin, Balance::Hash] {
            let pool = pool(balance, 3);
            let sick = pool.servers[1].clone();
            while sick.is_well(pool.now()) {
                let others = [pool.servers[0].clone(), pool.servers[2].clone()];
                pool.begin(1, &others).unwrap().note(Outcome::Failed);
            }
            let shares = shares(&pool, 0..100);
            assert!(!shares.contains_key(&sick.url) && shares.len() == 2, "{balance:?}: {shares:?}");
            for _ in 0..100 {
                pool.begin(1, &[]).unwrap().note(Outcome::Failed);
            }
            assert!(pool.begin(1, &[]).is_some(), "{balance:?}: one that fails is better than none");
        }
    }

    #[test]
    fn what_was_tried_is_not_tried_again_while_there_are_others() {
        let pool = pool(Balance::P2c, 2);
        let first = pool.begin(1, &[]).unwrap();
        for _ in 0..20 {
            let second = pool.begin(1, std::slice::from_ref(&first.server)).unwrap();
            assert_ne!(second.server.url, first.server.url);
        }
        let both = [pool.servers[0].clone(), pool.servers[1].clone()];
        assert!(pool.begin(1, &both).is_some());
    }

    #[test]
    fn a_server_without_room_is_passed_over_and_a_full_pool_has_nobody() {
        let mut settings = pool(Balance::P2c, 2).settings.clone();
        settings.max_in_flight = 2;
        let pool = Arc::new(Pool::new(settings));
        let held: Vec<_> = (0..4).map(|_| pool.begin(1, &[]).unwrap()).collect();
        assert!(pool.begin(1, &[]).is_none());
        drop(held);
        assert!(pool.begin(1, &[]).is_some());
    }

    #[test]
    fn when_none_is_well_all_are_asked() {
        let pool = pool(Balance::P2c, 2);
        pool.servers[0].note_health(false, pool.now());
        for _ in 0..20 {
            assert_eq!(pool.begin(1, &[]).unwrap().server.url, pool.servers[1].url);
        }
        pool.servers[1].note_health(false, pool.now());
        let asked: Vec<_> = (0..50).map(|_| pool.begin(1, &[]).unwrap().server.url.clone()).collect();
        assert!(pool.servers.iter().all(|server| asked.contains(&server.url)));
    }

    #[test]
    fn turns_are_equal_and_keys_are_faithful() {
        let equal = shares(&pool(Balance::RoundRobin, 3), 0..30);
        assert_eq!(equal.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
        let pool = pool(Balance::Hash, 3);
        assert_eq!(shares(&pool, [7; 30]).len(), 1);
        let spread = shares(&pool, 0..3_000);
        assert!(spread.values().all(|share| (800..1_200).contains(share)), "{spread:?}");
    }
}
