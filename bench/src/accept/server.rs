//! The same HTTP server on the same loops, reached in two ways.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future;
use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

/// As in `gateway`.
const BACKLOG: i32 = 4096;

/// About 50 µs of a core, somewhat more than a list costs.
const STEPS_OF_WORK: u64 = 100_000;

/// How a connection gets to a loop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One listening socket, whose thread hands each connection to the loop with the fewest: as in `gateway`,
    /// `net/acceptor.rs` and `loops.rs`.
    Acceptor,
    /// A listening socket for each loop by `SO_REUSEPORT`: the kernel chooses by a hash of the addresses.
    SocketPerLoop,
}

/// A running server. Dropping it ends its threads.
pub(super) struct Server {
    pub(super) way: Way,
    pub(super) address: SocketAddr,
    loops: Vec<Arc<Connections>>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

/// The connections of one loop.
#[derive(Default)]
struct Connections {
    open: AtomicUsize,
    /// Those that had a request since the last reading. wrk opens one without, to see that somebody listens.
    served: AtomicUsize,
}

// === impl Way ===

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::Acceptor, Self::SocketPerLoop];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Acceptor => "acceptor",
            Self::SocketPerLoop => "SO_REUSEPORT",
        })
    }
}

// === impl Server ===

impl Server {
    pub(super) fn start(way: Way, loop_count: usize) -> io::Result<Self> {
        let first = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), way)?;
        let address = first.local_addr()?;
        let loops = (0..loop_count).map(|_| Arc::default()).collect();
        let mut server = Self { way, address, loops, stop: CancellationToken::new(), threads: Vec::new() };
        match way {
            Way::Acceptor => server.start_acceptor(first)?,
            Way::SocketPerLoop => server.start_sockets(first)?,
        }
        Ok(server)
    }

    /// Connections served by each loop since the last call.
    pub(super) fn take_served(&self) -> Vec<usize> {
        self.loops.iter().map(|connections| connections.served.swap(0, Ordering::Relaxed)).collect()
    }

    fn start_acceptor(&mut self, listener: StdListener) -> io::Result<()> {
        let mut hand_overs = Vec::new();
        for connections in self.loops.clone() {
            let (accepted, receiver) = mpsc::unbounded_channel();
            hand_overs.push((accepted, Arc::clone(&connections)));
            self.spawn(serve_accepted(receiver, connections))?;
        }
        self.spawn(accept_for_all(listener, hand_overs))
    }

    fn start_sockets(&mut self, first: StdListener) -> io::Result<()> {
        // All are bound before one accepts, so that none gets what would have been another's.
        let mut listeners = vec![first];
        for _ in 1..self.loops.len() {
            listeners.push(bind(self.address, self.way)?);
        }
        for (listener, connections) in listeners.into_iter().zip(self.loops.clone()) {
            self.spawn(accept_for_itself(listener, connections))?;
        }
        Ok(())
    }

    /// Runs the task on a thread and a runtime of its own until the server stops.
    fn spawn(&mut self, task: impl Future<Output = io::Result<()>> + Send + 'static) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (way, stop) = (self.way, self.stop.clone());
        self.threads.push(thread::Builder::new().spawn(move || {
            // Its sockets close with it, so that the round fails, too.
            if let Some(Err(error)) = runtime.block_on(stop.run_until_cancelled(task)) {
                println!("{way}: a thread ended: {error}");
            }
        })?);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr, way: Way) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(way == Way::SocketPerLoop)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn accept_for_all(
    listener: StdListener,
    loops: Vec<(UnboundedSender<StdStream>, Arc<Connections>)>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let fewest = loops.iter().min_by_key(|(_, connections)| connections.open.load(Ordering::Relaxed));
        let (accepted, connections) = fewest.expect("a machine has a core");
        connections.open.fetch_add(1, Ordering::Relaxed);
        // It fails when the loop has ended. The connection closes then, which wrk counts as an error.
        let _ = accepted.send(stream.into_std()?);
    }
}

async fn serve_accepted(
    mut accepted: UnboundedReceiver<StdStream>,
    connections: Arc<Connections>,
) -> io::Result<()> {
    while let Some(stream) = accepted.recv().await {
        let stream = TcpStream::from_std(stream)?;
        let connections = Arc::clone(&connections);
        tokio::spawn(async move {
            serve(stream, &connections).await;
            connections.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

async fn accept_for_itself(listener: StdListener, connections: Arc<Connections>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connections = Arc::clone(&connections);
        tokio::spawn(async move { serve(stream, &connections).await });
    }
}

async fn serve(stream: TcpStream, connections: &Connections) {
    let has_served = Cell::new(false);
    let service = service_fn(move |request| {
        if !has_served.replace(true) {
            connections.served.fetch_add(1, Ordering::Relaxed);
        }
        future::ready(answer(&request))
    });
    // A caller that goes away is no news here: wrk tells what it missed.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/work" {
        black_box((0..STEPS_OF_WORK).fold(0, |sum: u64, step| black_box(sum.rotate_left(5) ^ step)));
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}
