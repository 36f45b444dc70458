//! A proxy on the wire between a client and a server: it counts what passes, and can hold it or cut it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

/// Connections at once; what comes beyond is closed at once.
const MAX_CONNECTIONS: usize = 256;
/// Bytes that are held of a connection in each direction; what is beyond stays with the sender.
const BUFFER: usize = 64 * 1024;
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A proxy on a free loopback port before one server. It ends its connections and threads when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What has passed a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Connections that clients opened.
    pub connections: u64,
    /// Bytes from clients.
    pub to_server: u64,
    /// Bytes from the server.
    pub to_client: u64,
    /// How often a connection changed from bytes of the client to bytes of the server. With one connection in use it is
    /// the number of times that somebody waited for the network; what is sent in one piece without waiting is one.
    pub round_trips: u64,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    counted: Counted,
    open: Vec<Arc<Connection>>,
    threads: Vec<JoinHandle<()>>,
    is_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Pass,
    Hold,
    HoldAnswers,
    Refuse,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    is_cut: AtomicBool,
    /// Whether the last bytes that passed were the client's.
    client_spoke_last: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

// === impl Proxy ===

impl Proxy {
    /// Starts one that passes everything.
    pub fn before(server: SocketAddr) -> Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("a free port")?;
        let address = listener.local_addr()?;
        let state = State {
            flow: Flow::Pass,
            counted: Counted::default(),
            open: Vec::new(),
            threads: Vec::new(),
            is_over: false,
        };
        let shared = Arc::new(Shared { server, state: Mutex::new(state), changed: Condvar::new() });
        let acceptor = {
            let shared = shared.clone();
            thread::spawn(move || accept(&listener, &shared))
        };
        Ok(Proxy { address, shared, acceptor: Some(acceptor) })
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has passed so far. What a client has received is counted.
    pub fn counted(&self) -> Counted {
        self.shared.lock().counted
    }

    /// Lets everything pass, also what was held; new connections are taken.
    pub fn pass(&self) {
        self.shared.set(Flow::Pass);
    }

    /// Lets nothing pass: connections stay, and new ones are taken.
    pub fn hold(&self) {
        self.shared.set(Flow::Hold);
    }

    /// Lets the server hear its clients, and them hear nothing of it. A cut then leaves them without an answer to what
    /// was carried out.
    pub fn hold_answers(&self) {
        self.shared.set(Flow::HoldAnswers);
    }

    /// Ends the open connections, with what was held of them.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Ends the open connections, and new ones at once until [`Proxy::pass`].
    pub fn refuse(&self) {
        self.shared.set(Flow::Refuse);
        self.shared.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        // Wakes the acceptor, which looks whether it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.shared.cut();
        let threads = std::mem::take(&mut self.shared.lock().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

// === impl Counted ===

impl Counted {
    /// What passed between then and now.
    #[must_use]
    pub fn since(self, then: Counted) -> Counted {
        Counted {
            connections: self.connections - then.connections,
            to_server: self.to_server - then.to_server,
            to_client: self.to_client - then.to_client,
            round_trips: self.round_trips - then.round_trips,
        }
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, flow: Flow) {
        self.lock().flow = flow;
        self.changed.notify_all();
    }

    fn cut(&self) {
        for connection in self.lock().open.drain(..) {
            connection.cut();
        }
        self.changed.notify_all();
    }

    /// Waits until this direction may pass; none when the connection is cut.
    fn wait_to_pass(&self, connection: &Connection, direction: Direction) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while !connection.is_cut() && !state.flow.lets_pass(direction) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (!connection.is_cut()).then_some(state)
    }
}

// === impl State ===

impl State {
    fn count(&mut self, connection: &Connection, direction: Direction, bytes: usize) {
        let is_clients = direction == Direction::ToServer;
        let was_clients = connection.client_spoke_last.swap(is_clients, Ordering::SeqCst);
        let counted = &mut self.counted;
        *(if is_clients { &mut counted.to_server } else { &mut counted.to_client }) += bytes as u64;
        counted.round_trips += u64::from(was_clients && !is_clients);
    }
}

// === impl Flow ===

impl Flow {
    fn lets_pass(self, direction: Direction) -> bool {
        match self {
            Flow::Pass => true,
            Flow::Hold | Flow::Refuse => false,
            Flow::HoldAnswers => direction == Direction::ToServer,
        }
    }
}

// === impl Connection ===

impl Connection {
    fn open(client: TcpStream, server: SocketAddr) -> Result<Connection> {
        let server = TcpStream::connect_timeout(&server, CONNECT_DEADLINE)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (is_cut, client_spoke_last) = Default::default();
        Ok(Connection { client, server, is_cut, client_spoke_last })
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        // An end that is closed already needs no shutdown.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let mut state = shared.lock();
        if state.is_over {
            return;
        }
        state.threads.retain(|thread| !thread.is_finished());
        let Ok(client) = client else { continue };
        if state.flow == Flow::Refuse || state.open.len() >= MAX_CONNECTIONS {
            continue;
        }
        state.counted.connections += 1;
        drop(state);
        // A server that cannot be reached ends the client's connection.
        let Ok(connection) = Connection::open(client, shared.server) else { continue };
        let connection = Arc::new(connection);
        let mut state = shared.lock();
        // A cut or refusal that came meanwhile holds for this one too.
        if state.flow == Flow::Refuse {
            continue;
        }
        state.open.push(connection.clone());
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (connection, shared) = (connection.clone(), shared.clone());
            state.threads.push(thread::spawn(move || pump(&connection, direction, &shared)));
        }
    }
}

/// Passes bytes on until one side ends the direction or the connection is cut.
fn pump(connection: &Arc<Connection>, direction: Direction, shared: &Shared) {
    let (mut from, mut to) = match direction {
        Direction::ToServer => (&connection.client, &connection.server),
        Direction::ToClient => (&connection.server, &connection.client),
    };
    let mut buffer = vec![0; BUFFER];
    let is_ended_well = loop {
        match from.read(&mut buffer) {
            Ok(0) => break shared.wait_to_pass(connection, direction).is_some(),
            Ok(count) => {
                let Some(mut state) = shared.wait_to_pass(connection, direction) else { break false };
                state.count(connection, direction, count);
                drop(state);
                if to.write_all(&buffer[..count]).is_err() {
                    break false;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break false,
        }
    };
    // A client that says no more may still be answered; a server that says no more has ended it.
    if is_ended_well && direction == Direction::ToServer {
        let _ = to.shutdown(Shutdown::Write);
    } else {
        connection.cut();
        shared.lock().open.retain(|open| !Arc::ptr_eq(open, connection));
        shared.changed.notify_all();
    }
}
