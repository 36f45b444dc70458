//! Which connections may come in, and whose they are. Asked on the request loop, before TLS.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, counter};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tracing::debug;

use super::acceptor::Transport;
use super::proxy_protocol;
use crate::networks::Networks;

/// How many maps share the addresses, so that loops seldom wait for each other.
const SHARDS: usize = 16;

/// What a client reads whose address has too many connections already.
const TOO_MANY_OF_ONE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
    Retry-After: 1\r\nConnection: close\r\n\r\n\
    {\"data\":{},\"message\":\"There are too many connections from your address.\",\"status\":503}";

/// Rules for connections. By default everybody may connect, and is who he is.
#[derive(Debug, Clone, Default)]
pub struct ConnectionRules {
    /// Who hands connections on, and says in the PROXY protocol whose they are.
    pub proxy_protocol: Networks,
    /// Proxies whose word about clients is taken, in the headers of each request. Their connections are not the
    /// clients', and are not judged by the rest.
    pub trusted_proxies: Networks,
    /// Who alone may connect, unless it is empty.
    pub allow: Networks,
    /// Who may not.
    pub deny: Networks,
    /// How many connections one address may have open. A network of 64 bits is one address of IPv6.
    pub max_per_address: Option<NonZeroUsize>,
}

/// Applies them, for all request loops. A clone shares everything.
#[derive(Clone)]
pub struct Admission(Arc<Door>);

struct Door {
    rules: ConnectionRules,
    open: OpenConnections,
    bad_headers: Counter,
    denied: Counter,
    too_many: Counter,
}

/// The addresses that have connections, with how many. There are never more than connections.
struct OpenConnections {
    shards: [Mutex<HashMap<u64, usize>>; SHARDS],
    /// Keyed anew in each process, so that nobody can aim at a map.
    hasher: RandomState,
}

/// A connection that was let in. What it holds is given back when it is dropped.
pub(crate) struct Admitted {
    pub(crate) address: SocketAddr,
    /// Whether it is a trusted proxy's, which speaks for many.
    pub(crate) is_trusted: bool,
    _place: Option<Place>,
}

/// One of the connections of an address.
struct Place {
    door: Arc<Door>,
    key: u64,
}

// === impl Admission ===

impl Admission {
    /// With these rules.
    pub fn new(rules: ConnectionRules) -> Self {
        let refused = |why| counter!("groundswell_connections_denied_total", "why" => why);
        Self(Arc::new(Door {
            rules,
            open: OpenConnections { shards: Default::default(), hasher: RandomState::new() },
            bad_headers: refused("proxy_header"),
            denied: refused("address"),
            too_many: refused("too_many"),
        }))
    }

    /// Finds out whose a new connection is, and whether it may stay. One that may not is to be closed; its client has
    /// been told what can be told.
    pub(crate) async fn admit(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        peer: SocketAddr,
        transport: Transport,
    ) -> Option<Admitted> {
        let Door { rules, bad_headers, denied, too_many, .. } = &*self.0;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let address = match self.whose(stream, peer).await {
            Ok(address) => address,
            Err(error) => {
                bad_headers.increment(1);
                debug!(%peer, %error, "closed a connection of a proxy that does not say whose it is");
                return None;
            }
        };
        if rules.trusted_proxies.contain(address.ip()) {
            return Some(Admitted { address, is_trusted: true, _place: None });
        }
        if !rules.let_in(address.ip()) {
            denied.increment(1);
            debug!(peer = %address, "closed a connection: its address is not let in");
            return None;
        }
        match self.place(address.ip()) {
            Ok(place) => Some(Admitted { address, is_trusted: false, _place: place }),
            Err(TooMany) => {
                too_many.increment(1);
                debug!(peer = %address, "refused a connection: its address has too many");
                // It fits the empty send buffer of a new socket. Under TLS nothing can be said without a handshake.
                if transport == Transport::Plain {
                    let _ = stream.write(TOO_MANY_OF_ONE).await;
                }
                None
            }
        }
    }

    async fn whose(&self, stream: &mut (impl AsyncRead + Unpin), peer: SocketAddr) -> io::Result<SocketAddr> {
        if !self.0.rules.proxy_protocol.contain(peer.ip()) {
            return Ok(peer);
        }
        let named = proxy_protocol::read(stream).await?.unwrap_or(peer);
        Ok(SocketAddr::new(named.ip().to_canonical(), named.port()))
    }

    fn place(&self, address: IpAddr) -> Result<Option<Place>, TooMany> {
        let Some(most) = self.0.rules.max_per_address else { return Ok(None) };
        let open = &self.0.open;
        let key = open.hasher.hash_one(of_one_host(address));
        let mut shard = open.shard(key);
        let count = shard.entry(key).or_default();
        if *count >= most.get() {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(Place { door: self.0.clone(), key }))
    }
}

/// An address has as many connections as it may.
struct TooMany;

/// The address of a host: of IPv6 its network, in which it can take addresses as it likes.
pub(crate) fn of_one_host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

// === impl ConnectionRules ===

impl ConnectionRules {
    /// Whether a client of this address may come in.
    pub(crate) fn let_in(&self, address: IpAddr) -> bool {
        (self.allow.is_empty() || self.allow.contain(address)) && !self.deny.contain(address)
    }
}

// === impl OpenConnections ===

impl OpenConnections {
    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, usize>> {
        let shard = &self.shards[key as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.door.open.shard(self.key);
        if let Some(count) = shard.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::parse(texts.iter().copied()).unwrap()
    }

    /// The address of a connection from there that begins so, if it is let in.
    async fn admit(admission: &Admission, peer: &str, bytes: &[u8]) -> Option<Admitted> {
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        admission.admit(&mut server, SocketAddr::new(peer.parse().unwrap(), 9), Transport::Plain).await
    }

    async fn is_admitted(admission: &Admission, peer: &str) -> bool {
        admit(admission, peer, b"").await.is_some()
    }

    #[tokio::test]
    async fn an_address_that_is_denied_or_not_allowed_does_not_come_in() {
        let admission = Admission::new(ConnectionRules {
            allow: networks(&["10.0.0.0/8"]),
            deny: networks(&["10.1.0.0/16"]),
            ..ConnectionRules::default()
        });
        assert!(is_admitted(&admission, "10.0.0.1").await);
        assert!(is_admitted(&admission, "::ffff:10.0.0.1").await);
        assert!(!is_admitted(&admission, "10.1.0.1").await);
        assert!(!is_admitted(&admission, "192.0.2.1").await);
    }

    #[tokio::test]
    async fn a_proxy_is_asked_whose_a_connection_is_and_judged_by_that() {
        let admission = Admission::new(ConnectionRules {
            proxy_protocol: networks(&["10.0.0.0/8"]),
            deny: networks(&["192.0.2.1", "10.0.0.2"]),
            ..ConnectionRules::default()
        });
        let header = |source: &str| format!("PROXY TCP4 {source} 10.0.0.1 1234 80\r\n");
        let admitted = admit(&admission, "10.0.0.1", header("192.0.2.2").as_bytes()).await.unwrap();
        assert_eq!(admitted.address.to_string(), "192.0.2.2:1234");
        assert!(admit(&admission, "10.0.0.1", header("192.0.2.1").as_bytes()).await.is_none());
        assert!(admit(&admission, "10.0.0.1", b"GET / HTTP/1.1\r\n\r\n").await.is_none());
        // Who is no proxy is not asked: what he says is for HTTP to refuse.
        let admitted = admit(&admission, "192.0.2.3", header("192.0.2.1").as_bytes()).await.unwrap();
        assert_eq!(admitted.address.ip().to_string(), "192.0.2.3");
    }

    #[tokio::test]
    async fn an_address_has_so_many_connections_and_others_have_theirs() {
        let admission = Admission::new(ConnectionRules {
            max_per_address: NonZeroUsize::new(2),
            trusted_proxies: networks(&["10.0.0.1"]),
            ..ConnectionRules::default()
        });
        let first = admit(&admission, "2001:db8::1", b"").await;
        let _second = admit(&admission, "2001:db8::ffff", b"").await;
        let (mut client, mut server) = tokio::io::duplex(1024);
        let peer = SocketAddr::new("2001:db8::1".parse().unwrap(), 1);
        assert!(admission.admit(&mut server, peer, Transport::Plain).await.is_none());
        drop(server);
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
        assert!(is_admitted(&admission, "2001:db8:0:1::1").await);
        drop(first);
        assert!(is_admitted(&admission, "2001:db8::1").await);
        let mut of_proxy = Vec::new();
        for _ in 0..5 {
            of_proxy.push(admit(&admission, "10.0.0.1", b"").await.unwrap());
        }
        drop((_second, of_proxy));
        assert!(admission.0.open.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
