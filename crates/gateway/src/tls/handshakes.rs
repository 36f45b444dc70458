//! The handshakes of one request loop, and how many of them a client's address may have under way.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, counter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::net::of_one_host;

/// How long a client may take from its connection to the end of the handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once on one loop. Each may hold 64 KiB that a client has sent, and thus all of a loop 64 MiB; at a
/// tenth of a second each they are far more than a core can finish. Once half of the places are taken an address gets
/// none beside 64: one machine cannot shut out the others, and at a quiet time a big network may have all of a half.
const PLACES: Places = Places { all: 1024, of_one: 64 };

/// A clone, for a connection, shares everything.
#[derive(Clone)]
pub(crate) struct Handshakes {
    acceptor: TlsAcceptor,
    under_way: Arc<UnderWay>,
}

/// How many there may be.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) all: usize,
    /// Of one address, once half are taken.
    pub(super) of_one: usize,
}

/// A place for one handshake, given back when it is dropped.
pub(crate) struct Place {
    under_way: Arc<UnderWay>,
    /// None of who is not judged by his address.
    host: Option<IpAddr>,
}

struct UnderWay {
    places: Places,
    // Only its loop asks for it, so that nobody waits.
    taken: Mutex<Taken>,
    refused: Counter,
}

/// There are never more hosts than handshakes.
#[derive(Default)]
struct Taken {
    all: usize,
    by_host: HashMap<IpAddr, usize>,
}

// === impl Handshakes ===

impl Handshakes {
    pub(super) fn new(acceptor: TlsAcceptor) -> Self {
        Self::with_places(acceptor, PLACES)
    }

    pub(super) fn with_places(acceptor: TlsAcceptor, places: Places) -> Self {
        let refused = counter!("groundswell_connections_denied_total", "why" => "handshakes");
        let taken = Mutex::default();
        Self { acceptor, under_way: Arc::new(UnderWay { places, taken, refused }) }
    }

    /// A place for a client of this address; none for an address that speaks for many. What finds no place is to be
    /// closed at once, and is counted: what waits would only wait longer.
    pub(crate) fn place(&self, address: Option<IpAddr>) -> Option<Place> {
        let host = address.map(of_one_host);
        let UnderWay { places, refused, .. } = &*self.under_way;
        let mut taken = self.under_way.taken();
        let of_host = host.and_then(|host| taken.by_host.get(&host)).copied().unwrap_or(0);
        let has_its_share = of_host >= places.of_one && taken.all >= places.all / 2;
        if taken.all >= places.all || has_its_share {
            refused.increment(1);
            return None;
        }
        taken.all += 1;
        if let Some(host) = host {
            taken.by_host.insert(host, of_host + 1);
        }
        Some(Place { under_way: self.under_way.clone(), host })
    }

    /// Agrees with a client on keys.
    pub(crate) async fn shake<S>(&self, stream: S, _place: Place) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await {
            Ok(shaken) => shaken,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
        }
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, usize) {
        let taken = self.under_way.taken();
        (taken.all, taken.by_host.len())
    }
}

// === impl UnderWay ===

impl UnderWay {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.under_way.taken();
        taken.all -= 1;
        let Some(host) = self.host else { return };
        if let Some(count) = taken.by_host.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                taken.by_host.remove(&host);
            }
        }
    }
}
