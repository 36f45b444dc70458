//! Request loops: runtimes of one thread each, where a connection and its requests stay on one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use metrics::Gauge;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::net::{Accepted, Admission, ConnectionServer, Peer, Protocol, Socket, StallingStream, Transport};
use crate::passage;
use crate::tls::{self, Handshakes, Tls};
use crate::upstream::Upstream;

/// The request loops, with how many connections each has open.
pub struct RequestLoops {
    loops: Vec<RequestLoop>,
}

struct RequestLoop {
    // Unbounded in type, bounded in fact: the acceptor counts a connection before it sends it, and stops at
    // `server.max_connections`.
    accepted: mpsc::UnboundedSender<Accepted>,
    open_connections: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// What a connection meets on a loop. A clone, for one of them, shares everything.
#[derive(Clone)]
struct Entrance<S> {
    server: ConnectionServer<S>,
    admission: Admission,
    handshakes: Option<Handshakes>,
}

// === impl RequestLoops ===

impl RequestLoops {
    /// Starts `count` loops, with `tls` for connections that are to speak it, and `admission` for all. `server` is called once for each, so that what a loop touches on every request
    /// (the router, its counters) is its own and no core waits for another's cache line.
    pub fn start<S: Upstream>(
        count: usize,
        draining: &CancellationToken,
        drain_limit: Duration,
        tls: Option<&Tls>,
        admission: &Admission,
        mut server: impl FnMut() -> ConnectionServer<S>,
    ) -> io::Result<Self> {
        let loops = (0..count)
            .map(|index| {
                let admission = admission.clone();
                let entrance = Entrance { server: server(), admission, handshakes: tls.map(Tls::handshakes) };
                RequestLoop::start(index, draining.clone(), drain_limit, entrance)
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { loops })
    }

    /// Connections open now, on all loops.
    pub fn open_connections(&self) -> usize {
        self.loops.iter().map(RequestLoop::open_connections).sum()
    }

    /// Hands a connection to the loop that has the fewest.
    pub(crate) fn hand_over(&self, accepted: Accepted) {
        let Some(idlest) = self.loops.iter().min_by_key(|candidate| candidate.open_connections()) else {
            return;
        };
        idlest.open_connections.fetch_add(1, Ordering::Relaxed);
        if idlest.accepted.send(accepted).is_err() {
            idlest.open_connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits until every loop has ended: at once when all its connections are, at the latest after the drain
    /// limit.
    pub fn join(self) {
        for request_loop in self.loops {
            drop(request_loop.accepted);
            if request_loop.thread.join().is_err() {
                warn!("a request loop ended in a panic");
            }
        }
    }
}

// === impl RequestLoop ===

impl RequestLoop {
    fn start<S: Upstream>(
        index: usize,
        draining: CancellationToken,
        drain_limit: Duration,
        entrance: Entrance<S>,
    ) -> io::Result<Self> {
        let (accepted, receiver) = mpsc::unbounded_channel();
        let open_connections = Arc::new(AtomicUsize::new(0));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let open = Arc::clone(&open_connections);
        let thread = thread::Builder::new().name(format!("loop-{index}")).spawn(move || {
            runtime.block_on(serve_connections(receiver, open, entrance, draining, drain_limit))
        })?;
        Ok(Self { accepted, open_connections, thread })
    }

    fn open_connections(&self) -> usize {
        self.open_connections.load(Ordering::Relaxed)
    }
}

/// One loop's life: connections until the acceptor is gone, then their end or the limit.
async fn serve_connections<S: Upstream>(
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    open_connections: Arc<AtomicUsize>,
    entrance: Entrance<S>,
    draining: CancellationToken,
    drain_limit: Duration,
) {
    let connections = TaskTracker::new();
    let gauge = metrics::gauge!("groundswell_connections_open");
    while let Some(connection) = accepted.recv().await {
        let counted = CountedConnection::new(&open_connections, &gauge);
        let served = serve(entrance.clone(), connection, draining.clone());
        connections.spawn(async move {
            let _counted = counted;
            served.await;
        });
    }
    connections.close();
    if tokio::time::timeout(drain_limit, connections.wait()).await.is_err() {
        warn!(connections = connections.len(), "cut connections that did not end in time");
    }
}

/// One connection. What lies between the socket and HTTP is put in here.
async fn serve<S: Upstream>(entrance: Entrance<S>, accepted: Accepted, draining: CancellationToken) {
    let Accepted { socket, peer: address, transport } = accepted;
    let stream = match socket {
        Socket::Tcp(stream) => stream,
        Socket::Passed(stream) => return serve_passed(entrance.server, stream, draining).await,
    };
    let mut stream = match TcpStream::from_std(stream) {
        // Beneath TLS, where it is seen what a client takes.
        Ok(stream) => StallingStream::of_client(stream),
        Err(error) => return debug!(peer = %address, %error, "could not watch a connection"),
    };
    let Entrance { server, admission, handshakes } = entrance;
    // Whether a gateway may come in its signature says, and it speaks for many clients.
    let admitted = if transport == Transport::Internal {
        None
    } else {
        let admitted = tokio::select! {
            admitted = admission.admit(&mut stream, address, transport) => admitted,
            () = draining.cancelled() => return,
        };
        let Some(admitted) = admitted else { return };
        Some(admitted)
    };
    let peer = Peer::new(admitted.as_ref().map_or(address, |admitted| admitted.address), transport);
    match (transport, handshakes) {
        (Transport::Plain | Transport::Internal, _) => {
            server.serve(stream, peer, Protocol::Http1, draining).await
        }
        (Transport::Tls, Some(handshakes)) => {
            let judged = admitted.as_ref().filter(|admitted| !admitted.is_trusted);
            let Some(place) = handshakes.place(judged.map(|admitted| admitted.address.ip())) else {
                return debug!(peer = %peer.address, "refused a connection: too many TLS handshakes are under way");
            };
            let shaken = tokio::select! {
                shaken = handshakes.shake(stream, place) => shaken,
                () = draining.cancelled() => return,
            };
            match shaken {
                Ok(stream) => {
                    let protocol = tls::agreed(&stream);
                    server.serve(stream, peer, protocol, draining).await;
                }
                Err(error) => {
                    metrics::counter!("groundswell_tls_handshakes_failed_total").increment(1);
                    debug!(peer = %peer.address, %error, "a TLS handshake failed");
                }
            }
        }
        (Transport::Tls, None) => warn!(peer = %address, "closed a connection: there are no certificates"),
    }
}

/// One request that the process before hands on. That one has admitted its client.
async fn serve_passed<S: Upstream>(
    server: ConnectionServer<S>,
    stream: std::os::unix::net::UnixStream,
    draining: CancellationToken,
) {
    let mut stream = match UnixStream::from_std(stream) {
        Ok(stream) => StallingStream::of_client(stream),
        Err(error) => return debug!(%error, "could not watch a connection"),
    };
    match passage::read_sender(&mut stream).await {
        Ok(peer) => server.serve(stream, peer, Protocol::Http1, draining).await,
        Err(error) => debug!(%error, "a request was not handed on as it should be"),
    }
}

/// Takes its connection off the count when it ends, however it ends.
struct CountedConnection {
    open: Arc<AtomicUsize>,
    gauge: Gauge,
}

// === impl CountedConnection ===

impl CountedConnection {
    /// The acceptor has counted it in `open`.
    fn new(open: &Arc<AtomicUsize>, gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self { open: Arc::clone(open), gauge: gauge.clone() }
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.gauge.decrement(1);
    }
}
