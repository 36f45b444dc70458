//! Which requests go first when not all can be taken. It is told by the head alone, without a look anywhere.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, Method, Request};

use crate::net::{Peer, of_one_host};

const PRIORITY: HeaderName = HeaderName::from_static("priority");

/// How long an address that came with a token that did not count is taken for a guest's, whatever it sends.
const SUSPICION: Duration = Duration::from_secs(60);

/// Addresses that are suspected share so many places. Who shares one with a forger is a guest while there is too much
/// to do, and nothing worse.
const PLACES: usize = 4096;

/// The classes of requests, the first to be refused first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// What its client says can wait (RFC 9218: `Priority: u=7`).
    Background,
    GuestRead,
    GuestWrite,
    SignedInRead,
    SignedInWrite,
}

/// Addresses from which tokens came that did not count, for all request loops.
pub(super) struct Suspects {
    since: Instant,
    /// When it was last so, in seconds after the beginning, from one on.
    seen: Box<[AtomicU64]>,
    /// Keyed anew, so that nobody can aim at another's place.
    hasher: RandomState,
}

// === impl Priority ===

impl Priority {
    /// How many there are.
    pub(super) const COUNT: usize = 5;

    /// The class of a request; a token counts as a caller until it is known not to be one's.
    /// Without suspects nobody looks at tokens, and all are guests.
    pub(super) fn of(request: &Request<Body>, suspects: Option<&Suspects>) -> Self {
        let headers = request.headers();
        if headers.get(PRIORITY).is_some_and(|value| has_lowest_urgency(value.as_bytes())) {
            return Priority::Background;
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let is_signed_in = headers.contains_key(AUTHORIZATION)
            && suspects.is_some_and(|suspects| {
                request.extensions().get().is_some_and(|peer: &Peer| !suspects.contain(peer.client))
            });
        match (is_signed_in, is_read) {
            (true, false) => Priority::SignedInWrite,
            (true, true) => Priority::SignedInRead,
            (false, false) => Priority::GuestWrite,
            (false, true) => Priority::GuestRead,
        }
    }

    /// Whether it is so because of a token that nobody has looked at.
    pub(super) fn is_claimed(self) -> bool {
        matches!(self, Priority::SignedInRead | Priority::SignedInWrite)
    }

    /// How much of a limit is for this class and those below it. At least one of any class has a place, or a small limit
    /// would be none for most.
    pub(super) fn share_of(self, limit: usize) -> usize {
        let tenths = match self {
            Priority::Background => 5,
            Priority::GuestRead => 7,
            Priority::GuestWrite => 8,
            Priority::SignedInRead => 9,
            Priority::SignedInWrite => 10,
        };
        (limit * tenths).div_ceil(10)
    }
}

/// Whether `u=7` is among the members of a dictionary.
fn has_lowest_urgency(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|member| member.trim_ascii() == b"u=7")
}

// === impl Suspects ===

impl Suspects {
    pub(super) fn new() -> Self {
        let seen = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Self { since: Instant::now(), seen, hasher: RandomState::new() }
    }

    /// Notes that a token from there did not count.
    pub(super) fn note(&self, address: IpAddr) {
        self.place(address).store(self.now(), Ordering::Relaxed);
    }

    fn contain(&self, address: IpAddr) -> bool {
        let seen = self.place(address).load(Ordering::Relaxed);
        seen != 0 && self.now() - seen.min(self.now()) < SUSPICION.as_secs()
    }

    fn place(&self, address: IpAddr) -> &AtomicU64 {
        &self.seen[self.hasher.hash_one(of_one_host(address)) as usize % PLACES]
    }

    fn now(&self) -> u64 {
        self.since.elapsed().as_secs() + 1
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::Transport;

    fn of(method: Method, path: &str, headers: &[(&str, &str)], suspects: &Suspects) -> Priority {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let address = SocketAddr::from(([192, 0, 2, 7], 1));
        request.extensions_mut().insert(Peer::new(address, Transport::Plain));
        Priority::of(&request, Some(suspects))
    }

    #[test]
    fn what_is_refused_last_is_what_signed_in_callers_write() {
        let suspects = Suspects::new();
        let token = ("authorization", "a");
        let of = |method, path, headers: &[_]| of(method, path, headers, &suspects);
        let ranked = [
            of(Method::POST, "/", &[token, ("priority", "i, u=7")]),
            of(Method::GET, "/", &[("priority", "u=6")]),
            of(Method::POST, "/", &[]),
            of(Method::GET, "/", &[token]),
            of(Method::PATCH, "/", &[token]),
        ];
        assert!(ranked.is_sorted() && ranked.windows(2).all(|pair| pair[0] != pair[1]), "{ranked:?}");
    }

    #[test]
    fn a_token_that_did_not_count_wins_nothing_more() {
        let suspects = Suspects::new();
        let headers = [("authorization", "forged")];
        assert_eq!(of(Method::POST, "/", &headers, &suspects), Priority::SignedInWrite);
        suspects.note(IpAddr::from([192, 0, 2, 7]));
        assert_eq!(of(Method::POST, "/", &headers, &suspects), Priority::GuestWrite);
    }
}
