//! Choosing one of several servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::Server;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicUsize);

/// The cheaper of two candidates drawn at random: almost as good as the cheapest of all, and no herd runs to one
/// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). Where weights differ they say how often one is
/// drawn, also twice.
pub(super) fn better_of_two(
    servers: &[Arc<Server>],
    is_candidate: impl Fn(&Arc<Server>) -> bool,
    cost: impl Fn(&Server) -> f64,
) -> Option<&Arc<Server>> {
    let all = || servers.iter().filter(|server| is_candidate(server));
    let nth = |position| all().nth(position);
    let (candidates, portions) =
        all().fold((0, 0.0), |(count, portions), server| (count + 1, portions + server.portion()));
    if candidates < 2 {
        return nth(0);
    }
    if portions < candidates as f64 {
        let drawn = || {
            let mut left = rand::random::<f64>() * portions;
            all().find(|server| {
                left -= server.portion();
                left < 0.0
            })
        };
        let (Some(first), Some(second)) = (drawn(), drawn()) else { return nth(0) };
        return Some(if cost(second) < cost(first) { second } else { first });
    }
    let first = rand::random_range(0..candidates);
    let second = (first + rand::random_range(1..candidates)) % candidates;
    // Another loop may have changed how a server is meanwhile.
    let (Some(first), Some(second)) = (nth(first), nth(second)) else { return nth(0) };
    Some(if cost(second) < cost(first) { second } else { first })
}

/// The candidate that ranks highest for a key (rendezvous hashing): when a server goes, only its own keys move. By the
/// logarithm a server has as many keys as its weight says.
pub(super) fn by_key(
    servers: &[Arc<Server>],
    is_candidate: impl Fn(&Arc<Server>) -> bool,
    key: u64,
) -> Option<&Arc<Server>> {
    let rank = |server: &Server| server.portion() / -rank(&server.url, key).ln();
    let candidates = servers.iter().filter(|server| is_candidate(server));
    candidates
        .map(|server| (rank(server), server))
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|it| it.1)
}

/// Between 0 and 1.
fn rank(url: &super::ServerUrl, key: u64) -> f64 {
    let (host, port) = url.target();
    let bytes = host.bytes().chain(port.to_be_bytes());
    // FNV-1a, and the last steps of MurmurHash3 so that near keys differ.
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut mixed: u64 = hash ^ key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 33;
    mixed = mixed.wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^= mixed >> 33;
    mixed = mixed.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^= mixed >> 33;
    // As many bits as a number has, and a half so that it is neither end.
    ((mixed >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

// === impl Turn ===

impl Turn {
    /// The next candidate. One whose share is below 1 is passed over as often as that, and then it is the turn of the one
    /// behind it.
    pub(super) fn next<'s>(
        &self,
        servers: &'s [Arc<Server>],
        is_candidate: impl Fn(&Arc<Server>) -> bool,
        share: impl Fn(&Server) -> f64,
    ) -> Option<&'s Arc<Server>> {
        let start = self.0.fetch_add(1, Ordering::Relaxed);
        let mut last = None;
        for step in 0..servers.len() {
            let server = &servers[start.wrapping_add(step) % servers.len()];
            if is_candidate(server) {
                let share = share(server);
                if share >= 1.0 || rand::random::<f64>() < share {
                    self.0.fetch_add(step, Ordering::Relaxed);
                    return Some(server);
                }
                last = last.or(Some(server));
            }
        }
        if last.is_none() {
            // Nobody had a turn.
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
        last
    }
}
