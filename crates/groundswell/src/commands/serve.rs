//! `serve`: from settings to a listening server, and from a signal to an orderly end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use gateway::{
    AccessLog, AccessLogWriter, Admission, Certificates, Challenges, ConnectionServer, Doors, Edge, Gateway,
    HttpsRules, Origins, Passage, RequestLoops, Tls, Transport,
};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::acme::CertificateKeeper;
use crate::app::App;
use crate::config::{Address, GatewaySettings, Role, Settings, TlsSettings};
use crate::control_socket::ControlSocket;
use crate::handover::{self, Leaving, Listeners, Predecessor, Released, Successor};
use crate::manage::{self, Management};
use crate::node::{Node, PerLoop};
use crate::readiness::Readiness;
use crate::reload::{self, Load, Stamp};
use crate::{certificates, control_socket, log_rotation, logs, output, runtimes, shutdown};

/// How long the requests that are in may take until their answers when another process takes over. Those that wait
/// meanwhile wait as long; those that are still in then cannot write any more.
const LONGEST_REQUEST: Duration = Duration::from_secs(2);

/// Where this process listens.
struct Addresses {
    /// Nowhere, for a node behind gateways.
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    internal: Option<SocketAddr>,
    management: SocketAddr,
}

/// What is told to end, and when.
struct Ends {
    /// Connections, with the requests that are in flight. All of the others end with them at the latest.
    draining: CancellationToken,
    /// Accepting them, and commands.
    accepting: CancellationToken,
    /// Streams without an end of their own.
    streams: CancellationToken,
    /// The management listener, which outlives all of it unless it is another process's.
    management: CancellationToken,
}

/// What goes on while the server serves, in the background runtime, until it is told to end.
struct Running {
    acceptors: Vec<JoinHandle<io::Result<()>>>,
    commands: Option<JoinHandle<()>>,
    keys: Option<JoinHandle<()>>,
    acme: Option<JoinHandle<()>>,
}

/// Serves until SIGTERM or SIGINT, or until another process takes this one's place. `load` reads the configuration anew,
/// from `file` where there is one; with `take_over` this process takes the place of the one that holds the data folder.
pub(super) fn run(
    settings: &Settings,
    certificates: Option<Arc<Certificates>>,
    file: (Option<PathBuf>, Stamp),
    load: Load,
    take_over: bool,
) -> anyhow::Result<()> {
    logs::start(&settings.log);
    let max_connections = gateway::raise_open_files(settings.server.max_connections);
    let metrics = manage::install_metrics()?;
    // A gateway node has no folder by which to find the other.
    let may_take_over = take_over && settings.server.role != Role::Gateway;
    let predecessor = may_take_over.then(|| Predecessor::ask(&settings.server.dir)).transpose()?;
    let mut predecessor = predecessor.flatten();
    let listeners = listen(settings, predecessor.as_mut())?;
    let addresses = Addresses::of(&listeners)?;
    let tls = certificates.clone().map(|certificates| Tls::new(certificates, settings.server.http2));
    let tls = tls.transpose().context("prepare TLS")?;
    let background = runtimes::background().context("start the background runtime")?;
    let ends = Ends::default();
    let readiness = Arc::new(Readiness::default());
    let passage = Passage::default();

    let _in_background = background.enter();
    let GatewaySettings { routes, upstreams, options, .. } = settings.gateway.clone();
    let gateway = Gateway::new(routes, upstreams, options)?;
    gateway.replace_rules(settings.gateway.checks.in_order());
    let released = match predecessor {
        Some(predecessor) => {
            // Before it gives way: until then it answers, and nobody waits.
            background.block_on(gateway.settle());
            Some(predecessor.until_released()?)
        }
        None => None,
    };
    let told = Management { readiness: Arc::clone(&readiness), metrics, gateway: gateway.clone() };
    background.spawn(manage::serve(listeners.management.try_clone()?, told, ends.management.clone())?);
    background.block_on(gateway.settle());
    let node =
        background.block_on(Node::open(settings, ends.streams.clone())).context("open the application")?;
    if let Node::Gateway { nodes, .. } = &node {
        gateway.tell_of(nodes.clone());
    }
    let keys = node.app().map(|app| Arc::new(app.key_keeper()));
    let mut keeping_keys = None;
    if let Some(keys) = &keys {
        background.block_on(keys.prepare(settings))?;
        keeping_keys = Some(background.spawn(keys.clone().run(ends.accepting.clone())));
    }
    let (challenges, acme) = background.block_on(open_acme(settings, &node, certificates.as_ref()))?;
    let reloading =
        reload::follow(file, load, settings.clone(), (gateway.clone(), keys), ends.draining.clone());
    let reloading = background.spawn(reloading);
    let (log, log_writer) = open_access_log(settings)?.unzip();
    let rotation = background.spawn(log_rotation::follow(log.clone(), ends.draining.clone())?);
    let loops = Arc::new(
        start_loops(
            settings,
            &node,
            (&gateway, &passage, &challenges, log),
            &addresses,
            tls.as_ref(),
            &ends.draining,
        )
        .context("start the request loops")?,
    );
    let (successors, asking) = mpsc::channel(1);
    let mut running = Running {
        commands: node
            .app()
            .and_then(|app| serve_commands(settings, app, successors.clone(), &ends.accepting)),
        acceptors: accept(&listeners, &loops, max_connections, &ends.accepting)?,
        keys: keeping_keys,
        acme: None,
    };
    // An authority looks for its proofs at once.
    running.acme = acme.map(|acme| background.spawn(acme.run(ends.accepting.clone())));
    // It may be gone by now: then there is nobody who hands anything on, and this process serves all the same.
    let arrivals = released.and_then(|released| match follow(released, &loops) {
        Ok(arrivals) => Some(arrivals),
        Err(error) => {
            warn!(error = format!("{error:#}"), "the other server has ended early");
            None
        }
    });
    let watch = certificates.map(|certificates| certificates::watch(certificates, ends.draining.clone()));
    let watch = watch.transpose().context("watch the certificates")?;
    readiness.set_ready(node.depends_on());
    announce(settings, &addresses, &node);

    let leaving = background.block_on(until_left(asking, &listeners)).context("wait for signals")?;
    readiness.set_draining();
    // A socket that is held in any process goes on to take connections.
    drop(listeners);
    let replaced = match (leaving, node.app()) {
        (Leaving::Stop, _) | (_, None) => None,
        (Leaving::Replaced(successor), Some(app)) => {
            let giving = give_way(settings, app, &loops, &passage, &ends, &mut running, successor);
            Some(background.block_on(giving))
        }
    };
    ends.draining.cancel();
    background.block_on(running.end())?;
    if let Some(arrivals) = arrivals {
        arrivals.abort();
        _ = background.block_on(arrivals);
    }
    if let Some(watch) = watch {
        background.block_on(watch).context("end the watch of the certificates")?;
    }
    // It holds the access log, which ends with its last holder.
    background.block_on(rotation).context("end the watch of the access log")?;
    if let Ok(loops) = Arc::try_unwrap(loops) {
        loops.join();
        // It ends when no loop can write any more.
        if let Some(writer) = log_writer {
            writer.join();
        }
    }
    if let Err(error) = background.block_on(reloading).context("end the watch of the configuration")? {
        warn!(%error, "changes of the configuration were not followed");
    }
    gateway.stop();
    // Whoever took over has the folder already.
    let closed =
        replaced.unwrap_or_else(|| background.block_on(node.close()).context("close the application"));
    info!("stopped");
    closed
}

/// Waits until this process is told to stop, or another is ready to take its place.
async fn until_left(mut asking: mpsc::Receiver<Successor>, listeners: &Listeners) -> io::Result<Leaving> {
    let mut stop = pin!(shutdown::requested());
    loop {
        let mut successor = tokio::select! {
            asked = stop.as_mut() => return asked.map(|()| Leaving::Stop),
            Some(successor) = asking.recv() => successor,
        };
        let prepared = tokio::select! {
            asked = stop.as_mut() => return asked.map(|()| Leaving::Stop),
            prepared = successor.prepare(listeners) => prepared,
        };
        match prepared {
            Ok(()) => return Ok(Leaving::Replaced(successor)),
            Err(error) => {
                warn!(error = format!("{error:#}"), "another process wanted to take over, and failed")
            }
        }
    }
}

/// Gives the folder to a process that is ready to take it, and hands on to it what still comes.
async fn give_way(
    settings: &Settings,
    app: &App,
    loops: &RequestLoops,
    passage: &Passage,
    ends: &Ends,
    running: &mut Running,
    mut successor: Successor,
) -> anyhow::Result<()> {
    info!("another process takes over");
    app.rest().await;
    ends.accepting.cancel();
    ends.management.cancel();
    // While these end, kept connections are served as before.
    let ended = running.end().await;
    let closed = Instant::now();
    passage.close();
    if !passage.until_quiet(LONGEST_REQUEST).await {
        warn!("requests that have no answer yet cannot write any more");
    }
    ends.streams.cancel();
    let given = match app.close().await {
        Ok(()) => successor.release().await,
        Err(error) => Err(error),
    };
    if given.is_err() {
        passage.lead_nowhere();
        return given;
    }
    passage.lead_to(handover::passage(&settings.server.dir));
    info!(waited_ms = closed.elapsed().as_millis(), "another process has taken over");
    // What is idle may speak once more. Then its connection ends, with an answer and not before it.
    let idle = async {
        let mut ticks = interval(Duration::from_millis(20));
        while loops.open_connections() > 0 {
            ticks.tick().await;
        }
    };
    _ = timeout(settings.server.drain_timeout, idle).await;
    ended
}

/// Takes what the process before hands on, until that has ended.
fn follow(released: Released, loops: &Arc<RequestLoops>) -> anyhow::Result<JoinHandle<()>> {
    let (arrivals, stream) = released.serving().context("tell the other server that this one serves")?;
    let mut stream = tokio::net::UnixStream::from_std(stream)?;
    let loops = loops.clone();
    Ok(tokio::spawn(async move {
        let gone = CancellationToken::new();
        let taking = gateway::arrivals(arrivals, &loops, gone.clone());
        // It has nothing to say any more.
        let until_gone = async {
            _ = stream.read_u8().await;
            gone.cancel();
        };
        if let (Err(error), ()) = tokio::join!(taking, until_gone) {
            warn!(%error, "requests of the process before are not taken");
        }
    }))
}

/// Accepts on each socket, until `accepting` is cancelled.
fn accept(
    listeners: &Listeners,
    loops: &Arc<RequestLoops>,
    max_connections: usize,
    accepting: &CancellationToken,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
    let accept = |listener: &TcpListener, transport| {
        let (listener, loops, accepting) = (listener.try_clone()?, Arc::clone(loops), accepting.clone());
        Ok(tokio::spawn(async move {
            gateway::accept(listener, transport, &loops, max_connections, accepting).await
        }))
    };
    let all = [
        (&listeners.http, Transport::Plain),
        (&listeners.https, Transport::Tls),
        (&listeners.internal, Transport::Internal),
    ];
    let open = all.into_iter().filter_map(|(listener, transport)| Some((listener.as_ref()?, transport)));
    open.map(|(listener, transport)| accept(listener, transport)).collect()
}

// === impl Ends ===

impl Default for Ends {
    fn default() -> Self {
        let draining = CancellationToken::new();
        Self {
            accepting: draining.child_token(),
            streams: draining.child_token(),
            management: CancellationToken::new(),
            draining,
        }
    }
}

// === impl Running ===

impl Running {
    /// Waits for the end of what has been told to end.
    async fn end(&mut self) -> anyhow::Result<()> {
        for acceptor in self.acceptors.drain(..) {
            if let Err(error) = acceptor.await.context("end an acceptor")? {
                warn!(%error, "an acceptor failed");
            }
        }
        if let Some(commands) = self.commands.take() {
            commands.await.context("end the control socket")?;
        }
        if let Some(keys) = self.keys.take() {
            keys.await.context("end the watch of the keys")?;
        }
        if let Some(acme) = self.acme.take() {
            acme.await.context("end the care for certificates")?;
        }
        Ok(())
    }
}

// === impl Addresses ===

impl Addresses {
    fn of(listeners: &Listeners) -> io::Result<Self> {
        Ok(Self {
            http: listeners.http.as_ref().map(TcpListener::local_addr).transpose()?,
            https: listeners.https.as_ref().map(TcpListener::local_addr).transpose()?,
            internal: listeners.internal.as_ref().map(TcpListener::local_addr).transpose()?,
            management: listeners.management.local_addr()?,
        })
    }
}

/// Answers commands beside the server, from before it is announced. Without them it serves all the same.
fn serve_commands(
    settings: &Settings,
    app: &App,
    successors: mpsc::Sender<Successor>,
    accepting: &CancellationToken,
) -> Option<JoinHandle<()>> {
    match ControlSocket::bind(&settings.server.dir) {
        Ok(socket) => {
            let store = app.store().clone();
            Some(tokio::spawn(control_socket::serve(socket, store, successors, accepting.clone())))
        }
        Err(error) => {
            warn!(error = format!("{error:#}"), "commands beside the server are not answered");
            None
        }
    }
}

fn start_loops(
    settings: &Settings,
    node: &Node,
    (gateway, passage, challenges, log): (&Gateway, &Passage, &Challenges, Option<AccessLog>),
    addresses: &Addresses,
    tls: Option<&Tls>,
    draining: &CancellationToken,
) -> io::Result<RequestLoops> {
    let server = &settings.server;
    let origins = Origins::new(&server.origins);
    let https = https_rules(&settings.tls, addresses);
    let admission = Admission::new(server.connections.clone());
    let connections = Arc::new(server.connections.clone());
    RequestLoops::start(server.request_loops, draining, server.drain_timeout, tls, &admission, || {
        let PerLoop { callers, limit, foot, internal } = node.for_loop(passage);
        let edge = Edge {
            passage: passage.clone(),
            connections: connections.clone(),
            challenges: challenges.clone(),
            https: https.clone(),
            origins: origins.clone(),
            callers,
            limit,
            gateway: gateway.clone(),
            log: log.clone(),
        };
        let stack = gateway::stack(edge, foot);
        ConnectionServer::new(Doors::new(stack, internal), server.head_timeout)
            .with_plain_http2(server.http2_plain)
    })
}

/// What is answered to an authority, and who asks it for certificates, if somebody is to.
async fn open_acme(
    settings: &Settings,
    node: &Node,
    certificates: Option<&Arc<Certificates>>,
) -> anyhow::Result<(Challenges, Option<CertificateKeeper>)> {
    let (Some(acme), Some(certificates)) = (&settings.tls.acme, certificates) else {
        return Ok((Challenges::default(), None));
    };
    let app =
        node.app().context("a gateway node has no store to keep certificates in; leave out [tls.acme]")?;
    let (challenges, secrets) = (Challenges::answered(), app.secrets().clone());
    let opened = CertificateKeeper::open(acme.clone(), secrets, certificates.clone(), challenges.clone());
    Ok((challenges, Some(opened.await.context("prepare the certificates of tls.acme")?)))
}

fn https_rules(tls: &TlsSettings, addresses: &Addresses) -> HttpsRules {
    let own_port = addresses.https.map(|address| address.port());
    HttpsRules {
        redirect_to: tls.redirect_port.or(own_port).filter(|_| tls.redirect_http),
        hsts: tls.hsts.clone(),
    }
}

fn open_access_log(settings: &Settings) -> anyhow::Result<Option<(AccessLog, AccessLogWriter)>> {
    let Some(path) = &settings.log.access else { return Ok(None) };
    AccessLog::open(path.clone())
        .map(Some)
        .with_context(|| format!("open the access log {} (log.access)", path.display()))
}

/// The sockets to listen on: the other server's where they are the same.
fn listen(settings: &Settings, mut predecessor: Option<&mut Predecessor>) -> anyhow::Result<Listeners> {
    let server = &settings.server;
    let mut its = |find: &mut dyn FnMut(&mut Predecessor) -> Option<TcpListener>| {
        predecessor.as_deref_mut().and_then(find)
    };
    let for_clients = (server.role != Role::Services).then_some(server.http.socket);
    let http = for_clients.and_then(|address| its(&mut |other| other.http(address)));
    let internal = server.internal.and_then(|address| its(&mut |other| other.internal(address)));
    let https = server.https.and_then(|address| its(&mut |other| other.https(address)));
    let Address { socket, is_explicit } = server.manage;
    let management = its(&mut |other| other.management(socket, is_explicit));
    Ok(Listeners {
        http: http.map(Ok).or_else(|| for_clients.map(bind)).transpose()?,
        internal: internal.map(Ok).or_else(|| server.internal.map(bind)).transpose()?,
        https: https.map(Ok).or_else(|| server.https.map(bind)).transpose()?,
        management: management.map_or_else(|| bind_management(server.manage), Ok)?,
    })
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    gateway::bind(address).with_context(|| format!("listen on {address}"))
}

/// A default that is taken, as by a second server on one machine, gives way to a free port.
fn bind_management(address: Address) -> anyhow::Result<TcpListener> {
    match gateway::bind(address.socket) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !address.is_explicit => {
            let any_port = SocketAddr::new(address.socket.ip(), 0);
            gateway::bind(any_port).with_context(|| format!("listen on {any_port} for management"))
        }
        bound => bound.with_context(|| format!("listen on {} for management", address.socket)),
    }
}

/// Tells the person where everything is. The first line only once the port is open: scripts wait for it.
fn announce(settings: &Settings, addresses: &Addresses, node: &Node) {
    let Addresses { http, https, internal, management } = addresses;
    match (http, internal) {
        (Some(http), _) => {
            output::line(output::dated(format_args!("Server started at http://{http}")));
            output::line(format_args!("├─ REST API:   http://{http}/api/"));
        }
        (None, Some(internal)) => {
            output::line(output::dated(format_args!("Services started at http://{internal}")));
        }
        (None, None) => {}
    }
    if let Some(https) = https {
        output::line(format_args!("├─ HTTPS:      https://{https}/api/"));
    }
    if let Some(internal) = internal {
        output::line(format_args!("├─ Internal:   http://{internal}, for gateways"));
    }
    output::line(format_args!("├─ Management: http://{management}/readyz"));
    let Some(app) = node.app() else {
        let servers = settings.gateway.services.iter().flat_map(|services| &services.servers);
        let servers: Vec<String> = servers.map(ToString::to_string).collect();
        return output::line(format_args!("└─ Services:   {}", servers.join(", ")));
    };
    output::line(format_args!("└─ Data:       {}", settings.server.dir.display()));
    if !app.has_superuser() {
        output::line(format_args!(
            "\n(!) There is no superuser yet. Create the first one by running: {} superuser upsert EMAIL PASS --dir {}",
            command_as_typed(),
            settings.server.dir.display()
        ));
    }
}

/// How this program was called, so that a line with it can be typed again.
fn command_as_typed() -> String {
    std::env::args_os()
        .next()
        .map_or_else(|| "groundswell".into(), |path| path.to_string_lossy().into_owned())
}
