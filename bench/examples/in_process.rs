//! The services of a process with and without the edge, for `bench --edge`: the same router over the same store, on the
//! same kind of loops, in one of three ways.
//!
//! - `bare`: hyper calls the router. It has no bound and no deadline.
//! - `connections`: the gateway's connections and loops call the router, without the stack.
//! - `gateway`: all of it, as in the server.
//!
//! `in_process WAY ADDRESS FOLDER LOOPS`, until it is killed.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request};
use blobs::{FolderBlobs, PlainBlobs};
use gateway::{
    Admission, Callers, ConnectionRules, ConnectionServer, Edge, Gateway, HttpsRules, Origins, Passage,
    RateLimit, RequestLoops, Transport, Upstream,
};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use identity::Identity;
use kit::app::App;
use kit::files::Files;
use kit::request::{CallInfo, RequestId};
use kit::spool::{Spool, SpoolBounds};
use model::context::Caller;
use store::sqlite::{self, SqliteStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_CONNECTIONS: usize = 60_000;

/// What all loops stand on.
struct Engines {
    store: Arc<SqliteStore>,
    identity: Arc<Identity>,
    files: Arc<Files>,
}

/// A loop of the bare way, as its acceptor sees it.
struct BareLoop {
    accepted: UnboundedSender<std::net::TcpStream>,
    open: Arc<AtomicUsize>,
}

fn main() -> Result<()> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    let [way, address, folder, loops] = &given[..] else { bail!("in_process WAY ADDRESS FOLDER LOOPS") };
    let (address, loops) = (address.parse()?, loops.parse()?);
    let engines = Engines::open(Path::new(folder))?;
    let accepting = runtime::Builder::new_current_thread().enable_all().build()?;
    accepting.block_on(async {
        match way.as_str() {
            "bare" => serve_bare(&engines, address, loops).await,
            "connections" => {
                let server = || ConnectionServer::new(engines.called_directly(), HEAD_TIMEOUT);
                serve(server, address, loops).await
            }
            "gateway" => {
                let gateway = Gateway::default();
                let server = || ConnectionServer::new(engines.behind(&gateway), HEAD_TIMEOUT);
                serve(server, address, loops).await
            }
            other => bail!("no way {other}: bare, connections or gateway"),
        }
    })
}

/// By the gateway's acceptor and loops.
async fn serve<S: Upstream>(
    server: impl FnMut() -> ConnectionServer<S>,
    address: SocketAddr,
    count: usize,
) -> Result<()> {
    let (draining, admission) = (CancellationToken::new(), Admission::new(ConnectionRules::default()));
    let loops = RequestLoops::start(count, &draining, Duration::ZERO, None, &admission, server)?;
    gateway::accept(gateway::bind(address)?, Transport::Plain, &loops, MAX_CONNECTIONS, draining).await?;
    Ok(())
}

/// One acceptor here, too, which hands each connection to the loop with the fewest.
async fn serve_bare(engines: &Engines, address: SocketAddr, count: usize) -> Result<()> {
    let listener = TcpListener::from_std(gateway::bind(address)?)?;
    let loops = (0..count).map(|_| BareLoop::start(engines.called_directly())).collect::<Result<Vec<_>>>()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let idlest = loops.iter().min_by_key(|candidate| candidate.open.load(Ordering::Relaxed));
        let idlest = idlest.context("no loops")?;
        idlest.open.fetch_add(1, Ordering::Relaxed);
        idlest.accepted.send(stream.into_std()?)?;
    }
}

async fn serve_accepted(
    mut accepted: UnboundedReceiver<std::net::TcpStream>,
    open: Arc<AtomicUsize>,
    services: impl Upstream,
) -> io::Result<()> {
    while let Some(stream) = accepted.recv().await {
        let stream = TcpStream::from_std(stream)?;
        let (open, services) = (Arc::clone(&open), RefCell::new(services.clone()));
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                services.borrow_mut().call(request.map(Body::new))
            });
            // Whoever goes away is missed by the load.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

// === impl BareLoop ===

impl BareLoop {
    fn start(services: impl Upstream) -> Result<Self> {
        let (accepted, receiver) = mpsc::unbounded_channel();
        let open = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&open);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        // Its end closes the channel, and the acceptor fails at the next connection.
        thread::spawn(move || runtime.block_on(serve_accepted(receiver, counted, services)));
        Ok(Self { accepted, open })
    }
}

// === impl Engines ===

impl Engines {
    fn open(folder: &Path) -> Result<Self> {
        let folder: PathBuf = folder.to_owned();
        let store = Arc::new(SqliteStore::open(sqlite::Options::new(folder.clone()))?);
        let blobs = FolderBlobs::open(blobs::Options::new(folder.join("storage")))?;
        let files = Files {
            blobs: Arc::new(PlainBlobs::new(Arc::new(blobs))),
            spool: Arc::new(Spool::new(folder, SpoolBounds::default())),
        };
        Ok(Self { store, identity: Arc::new(Identity::start()?), files: Arc::new(files) })
    }

    /// The services of one loop, which remember what is its own.
    fn services(&self) -> Router {
        let app = App::new(self.store.clone(), self.identity.clone(), self.files.clone());
        Router::new().merge(records::router()).merge(admin::router()).with_state(Arc::new(app))
    }

    /// Without a stack, but with what it says of every request: that a guest asks, from here.
    fn called_directly(&self) -> impl Upstream + use<> {
        let info = CallInfo {
            client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            request_id: RequestId(HeaderValue::from_static("-")),
            caller: Caller::Guest,
        };
        self.services().map_request(move |mut request: Request<Body>| {
            request.extensions_mut().insert(info.clone());
            request
        })
    }

    fn behind(&self, gateway: &Gateway) -> impl Upstream + use<> {
        let edge = Edge {
            challenges: Default::default(),
            passage: Passage::default(),
            connections: Arc::default(),
            https: HttpsRules::default(),
            origins: Origins::new(&["*".to_owned()]),
            callers: Callers::new(self.store.clone(), self.identity.clone()),
            limit: RateLimit::new(self.store.clone(), Arc::default()),
            gateway: gateway.clone(),
            log: None,
        };
        gateway::stack(edge, self.services())
    }
}
