//! Pools of servers that requests may go to, as all request loops share them: which server is to get a request, and
//! what is known of each. Connections are a loop's own ([`crate::proxy`]).

mod balance;
mod budget;
mod dial;
mod discovery;
mod health;
mod latency;
mod server;
mod server_tls;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::meters::PoolMeter;

pub(crate) use budget::RetryBudget;
pub(crate) use dial::{Wire, dial};
pub(crate) use discovery::follow;
pub(crate) use health::watch;
pub(crate) use server::{Outcome, Place, Server};
pub use server_tls::{ServerTls, ServerTlsFiles, ServerTlsProblem, SystemRoots};
pub use settings::{Balance, Discovery, HealthCheck, ServerUrl, ServiceName, UpstreamSettings};

/// A pool of servers. One for the process.
#[derive(Debug)]
pub(crate) struct Pool {
    name: Arc<str>,
    pub(crate) settings: UpstreamSettings,
    pub(crate) budget: RetryBudget,
    /// In the order of their priorities.
    servers: ArcSwap<Vec<Arc<Server>>>,
    /// Told when there are others; how often that was. Not before the first is known.
    changes: watch::Sender<u64>,
    turn: balance::Turn,
    started: Instant,
    pub(crate) meter: Arc<PoolMeter>,
}

/// Which server answered a request, or had it last, among the extensions of the response.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) upstream: Arc<str>,
    pub(crate) server: ServerUrl,
    /// How often it was tried in all.
    pub(crate) tries: usize,
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
    /// All servers are taken to be well until they prove otherwise. Those that a name stands for come later. What is
    /// counted of it goes on in `meter`.
    pub(crate) fn new(name: &str, settings: UpstreamSettings, meter: Arc<PoolMeter>) -> Self {
        let pool = Self {
            name: name.into(),
            servers: ArcSwap::default(),
            budget: RetryBudget::new(),
            changes: watch::Sender::new(0),
            turn: balance::Turn::default(),
            started: Instant::now(),
            meter,
            settings,
        };
        if !pool.settings.servers.is_empty() {
            let servers = pool.settings.servers.iter();
            pool.set_servers(servers.map(|url| (url.clone(), Place::default())).collect());
        }
        pool
    }

    /// The same pool with other settings. Where servers are found in the same way it has those that it had, until they are
    /// looked for again.
    pub(crate) fn with(&self, settings: UpstreamSettings) -> Self {
        let pool = Self::new(&self.name, settings, self.meter.clone());
        let known = self.places();
        if pool.settings.discovery.is_some()
            && pool.settings.discovery == self.settings.discovery
            && !known.is_empty()
        {
            pool.set_servers(known.into_iter().collect());
        }
        pool
    }

    /// The time by the pool's clock.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The servers as they are known now.
    pub(crate) fn servers(&self) -> Arc<Vec<Arc<Server>>> {
        self.servers.load_full()
    }

    /// Waits until it is known once which servers there are.
    pub(crate) async fn until_known(&self) {
        // The pool holds the other end.
        _ = self.changes.subscribe().wait_for(|changes| *changes > 0).await;
    }

    /// Has these servers from now on. What is known of those that stay is kept; those that leave finish what they have.
    fn set_servers(&self, mut found: Vec<(ServerUrl, Place)>) {
        found.sort_by_key(|(_, place)| place.priority);
        let before = self.servers();
        let server = |(url, place): &(ServerUrl, Place)| {
            let known = before.iter().find(|server| server.url == *url).cloned();
            let server = known
                .unwrap_or_else(|| Arc::new(Server::new(url.clone(), &self.settings, self.meter.clone())));
            server.set_place(*place, portion(*place, &found));
            server
        };
        self.servers.store(Arc::new(found.iter().map(server).collect()));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// The servers as they are known now, and where they stand.
    fn places(&self) -> BTreeMap<ServerUrl, Place> {
        self.servers.load().iter().map(|server| (server.url.clone(), server.place())).collect()
    }

    /// Begins a try at a server that is well and has room, if possible at none of `tried`. None when there is none.
    pub(crate) fn begin(self: &Arc<Self>, key: u64, tried: &[Arc<Server>]) -> Option<Try> {
        let now = self.now();
        let servers = self.servers.load();
        let server = self.choose(&servers, key, tried, now)?.clone();
        server.begin(now);
        Some(Try { pool: self.clone(), server, began: now, is_noted: false })
    }

    /// That a server had a request, with the last of so many tries.
    pub(crate) fn served(&self, server: &Server, tries: usize) -> Served {
        Served { upstream: self.name.clone(), server: server.url.clone(), tries }
    }

    /// What is known of a server from elsewhere than its answers.
    pub(crate) fn note_health(&self, url: &ServerUrl, is_well: bool) {
        if let Some(server) = self.servers.load().iter().find(|server| server.url == *url) {
            server.note_health(is_well, self.now());
        }
    }

    /// Whether a request may be tried again, which is counted then.
    pub(crate) fn may_retry(&self) -> bool {
        let may_retry = self.budget.take();
        if may_retry { &self.meter.retried } else { &self.meter.retries_refused }.add();
        may_retry
    }

    /// One that is well, then one that was not tried: what is known of those that are not well may be wrong, above all
    /// when checks fail everywhere.
    fn choose<'s>(
        &self,
        servers: &'s [Arc<Server>],
        key: u64,
        tried: &[Arc<Server>],
        now: Duration,
    ) -> Option<&'s Arc<Server>> {
        let has_room = |server: &Arc<Server>| server.in_flight() < self.settings.max_in_flight;
        let untried =
            |server: &Arc<Server>| has_room(server) && !tried.iter().any(|other| Arc::ptr_eq(server, other));
        let well = |server: &Arc<Server>| has_room(server) && server.is_well(now);
        self.pick(servers, key, now, |server| well(server) && untried(server))
            .or_else(|| self.pick(servers, key, now, untried))
            .or_else(|| self.pick(servers, key, now, well))
            .or_else(|| self.pick(servers, key, now, has_room))
    }

    /// One of the first priority that has candidates.
    fn pick<'s>(
        &self,
        servers: &'s [Arc<Server>],
        key: u64,
        now: Duration,
        is_candidate: impl Fn(&Arc<Server>) -> bool,
    ) -> Option<&'s Arc<Server>> {
        servers
            .chunk_by(|one, next| one.place().priority == next.place().priority)
            .find_map(|alike| self.pick_of(alike, key, now, &is_candidate))
    }

    fn pick_of<'s>(
        &self,
        servers: &'s [Arc<Server>],
        key: u64,
        now: Duration,
        is_candidate: impl Fn(&Arc<Server>) -> bool,
    ) -> Option<&'s Arc<Server>> {
        let slow_start = self.settings.slow_start;
        match self.settings.balance {
            Balance::P2c => {
                let cost = |server: &Server| server.cost(now, slow_start);
                let chosen = balance::better_of_two(servers, &is_candidate, cost)?;
                let share = chosen.share(now, slow_start);
                if share >= 1.0 || rand::random::<f64>() < share {
                    return Some(chosen);
                }
                // By its cost alone one that came back would get much while the others are slow for a moment.
                let is_other = |server: &Arc<Server>| is_candidate(server) && !Arc::ptr_eq(server, chosen);
                balance::better_of_two(servers, is_other, cost).or(Some(chosen))
            }
            Balance::RoundRobin => self
                .turn
                .next(servers, is_candidate, |server| server.share(now, slow_start) * server.portion()),
            Balance::Hash => balance::by_key(servers, is_candidate, key),
        }
    }
}

/// Its weight beside the greatest of its priority. One of weight 0 is to get a few requests all the same (RFC 2782).
fn portion(place: Place, all: &[(ServerUrl, Place)]) -> f32 {
    const LEAST: f32 = 0.01;
    let alike = all.iter().filter(|(_, other)| other.priority == place.priority);
    match alike.map(|(_, other)| other.weight).max() {
        None | Some(0) => 1.0,
        Some(greatest) => (f32::from(place.weight) / f32::from(greatest)).max(LEAST),
    }
}

// === impl Try ===

impl Try {
    /// That its server answered, with the last of so many tries.
    pub(crate) fn served(&self, tries: usize) -> Served {
        self.pool.served(&self.server, tries)
    }

    /// What came of it, once the head of the answer is there or will not come.
    pub(crate) fn note(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.is_noted, true) {
            return;
        }
        let now = self.pool.now();
        let took = now.saturating_sub(self.began);
        self.pool.meter.tried(outcome).add();
        if outcome != Outcome::Failed {
            self.pool.meter.tries.note(took);
        }
        self.server.note(outcome, took, now);
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
        Arc::new(Pool::new("p", settings, Arc::default()))
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
            let sick = pool.servers()[1].clone();
            while sick.is_well(pool.now()) {
                let others = [pool.servers()[0].clone(), pool.servers()[2].clone()];
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
        let both = [pool.servers()[0].clone(), pool.servers()[1].clone()];
        assert!(pool.begin(1, &both).is_some());
    }

    #[test]
    fn a_server_without_room_is_passed_over_and_a_full_pool_has_nobody() {
        let mut settings = pool(Balance::P2c, 2).settings.clone();
        settings.max_in_flight = 2;
        let pool = Arc::new(Pool::new("p", settings, Arc::default()));
        let held: Vec<_> = (0..4).map(|_| pool.begin(1, &[]).unwrap()).collect();
        assert!(pool.begin(1, &[]).is_none());
        drop(held);
        assert!(pool.begin(1, &[]).is_some());
    }

    #[test]
    fn when_none_is_well_all_are_asked() {
        let pool = pool(Balance::P2c, 2);
        pool.servers()[0].note_health(false, pool.now());
        for _ in 0..20 {
            assert_eq!(pool.begin(1, &[]).unwrap().server.url, pool.servers()[1].url);
        }
        pool.servers()[1].note_health(false, pool.now());
        let asked: Vec<_> = (0..50).map(|_| pool.begin(1, &[]).unwrap().server.url.clone()).collect();
        assert!(pool.servers().iter().all(|server| asked.contains(&server.url)));
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

    #[test]
    fn a_pool_that_is_changed_keeps_the_servers_that_were_found() {
        let url = |port: u16| ServerUrl::parse(&format!("http://a:{port}")).unwrap();
        let found = |name: u16| UpstreamSettings {
            discovery: Some(Discovery::Addresses(url(name))),
            ..UpstreamSettings::new(Vec::new())
        };
        let pool = Pool::new("p", found(80), Arc::default());
        pool.set_servers(vec![(url(1), Place::default())]);
        let other = UpstreamSettings { timeout: Duration::from_secs(9), ..found(80) };
        assert_eq!(pool.with(other).servers()[0].url, url(1));
        assert!(pool.with(found(81)).servers().is_empty());
        assert_eq!(pool.with(UpstreamSettings::new(vec![url(3)])).servers()[0].url, url(3));
    }

    #[test]
    fn servers_come_and_go_and_those_that_stay_are_known() {
        let pool = pool(Balance::P2c, 2);
        let url = |port: u16| ServerUrl::parse(&format!("http://a:{port}")).unwrap();
        let stays = pool.servers()[1].clone();
        let leaving = loop {
            let begun = pool.begin(0, &[]).unwrap();
            if begun.server.url == url(1) {
                break begun;
            }
        };
        pool.set_servers(vec![(url(2), Place::default()), (url(3), Place::default())]);
        assert!(Arc::ptr_eq(&pool.servers()[0], &stays));
        for _ in 0..50 {
            assert_ne!(pool.begin(0, &[]).unwrap().server.url, url(1));
        }
        drop(leaving);
        pool.set_servers(Vec::new());
        assert!(pool.begin(0, &[]).is_none());
    }
    fn with_places(balance: Balance, places: &[(u16, u16)]) -> Arc<Pool> {
        let pool = pool(balance, 0);
        let url = |position: usize| ServerUrl::parse(&format!("http://a:{}", position + 1)).unwrap();
        let places = places.iter().enumerate();
        pool.set_servers(
            places.map(|(i, &(priority, weight))| (url(i), Place { priority, weight })).collect(),
        );
        pool
    }

    #[test]
    fn weights_say_how_often_a_server_is_chosen() {
        for balance in [Balance::P2c, Balance::RoundRobin, Balance::Hash] {
            let pool = with_places(balance, &[(0, 30), (0, 10), (0, 0)]);
            let mut counts = BTreeMap::<_, usize>::new();
            for key in 0..4_000 {
                // Nothing is known of how long answers take.
                let server = pool.begin(key, &[]).unwrap().server.clone();
                *counts.entry(server.url.target().1).or_default() += 1;
            }
            let count = |port: u16| counts.get(&port).copied().unwrap_or_default();
            assert!((2_700..3_200).contains(&count(1)), "{balance:?}: {counts:?}");
            assert!((800..1_200).contains(&count(2)), "{balance:?}: {counts:?}");
            assert!((1..200).contains(&count(3)), "{balance:?}: {counts:?}");
        }
    }

    #[test]
    fn a_higher_priority_is_asked_where_nobody_of_a_lower_one_is_well_or_untried() {
        for balance in [Balance::P2c, Balance::RoundRobin, Balance::Hash] {
            let pool = with_places(balance, &[(20, 1), (10, 1), (10, 1)]);
            let asked = |tried: &[Arc<Server>]| {
                let ports = (0..100).map(|key| pool.begin(key, tried).unwrap().server.url.target().1);
                ports.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
            };
            assert_eq!(asked(&[]), [2, 3], "{balance:?}");
            let first = pool.servers()[..2].to_vec();
            assert_eq!(asked(&first), [1], "{balance:?}");
            first[0].note_health(false, pool.now());
            assert_eq!(asked(&[]), [3], "{balance:?}");
            first[1].note_health(false, pool.now());
            assert_eq!(asked(&[]), [1], "{balance:?}");
            pool.servers()[2].note_health(false, pool.now());
            assert_eq!(asked(&[]), [2, 3], "{balance:?}");
        }
    }

    #[test]
    fn a_server_whose_place_changes_is_still_the_same() {
        let pool = with_places(Balance::P2c, &[(1, 5), (2, 5)]);
        let before = pool.servers();
        let urls = [before[0].url.clone(), before[1].url.clone()];
        pool.set_servers(vec![
            (urls[0].clone(), Place { priority: 3, weight: 5 }),
            (urls[1].clone(), Place { priority: 2, weight: 5 }),
        ]);
        let after = pool.servers();
        assert!(Arc::ptr_eq(&before[0], &after[1]) && Arc::ptr_eq(&before[1], &after[0]));
        assert_eq!(pool.places()[&urls[0]], Place { priority: 3, weight: 5 });
    }
}
