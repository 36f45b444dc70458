//! `serve`: from settings to a listening server, and from a signal to an orderly end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use gateway::{
    AccessLog, AccessLogWriter, Admission, Callers, Certificates, ConnectionServer, Edge, Gateway,
    HttpsRules, Origins, RateLimit, RequestLoops, Tls, Transport,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::{self, App};
use crate::config::{Address, GatewaySettings, Settings, TlsSettings};
use crate::control_socket::ControlSocket;
use crate::manage::{self, Management};
use crate::readiness::Readiness;
use crate::reload::{self, Load, Stamp};
use crate::{certificates, control_socket, log_rotation, logs, output, runtimes, shutdown};

/// Where this process listens.
struct Addresses {
    http: SocketAddr,
    https: Option<SocketAddr>,
    management: SocketAddr,
}

/// Serves until SIGTERM or SIGINT. `load` reads the configuration anew, from `file` where there is one.
pub(super) fn run(
    settings: &Settings,
    certificates: Option<Arc<Certificates>>,
    file: (Option<PathBuf>, Stamp),
    load: Load,
) -> anyhow::Result<()> {
    logs::start(&settings.log);
    let max_connections = gateway::raise_open_files(settings.server.max_connections);
    let metrics = manage::install_metrics()?;
    let http = bind(settings.server.http.socket)?;
    let https = settings.server.https.map(bind).transpose()?;
    let management = bind_management(settings.server.manage)?;
    let addresses = Addresses {
        http: http.local_addr()?,
        https: https.as_ref().map(TcpListener::local_addr).transpose()?,
        management: management.local_addr()?,
    };
    let tls = certificates.clone().map(|certificates| Tls::new(certificates, settings.server.http2));
    let tls = tls.transpose().context("prepare TLS")?;
    let background = runtimes::background().context("start the background runtime")?;
    let draining = CancellationToken::new();
    let readiness = Arc::new(Readiness::default());

    let _in_background = background.enter();
    let GatewaySettings { routes, upstreams, options, .. } = settings.gateway.clone();
    let gateway = Gateway::new(routes, upstreams, options)?;
    gateway.replace_rules(settings.gateway.checks.in_order());
    let told = Management { readiness: Arc::clone(&readiness), metrics, gateway: gateway.clone() };
    background.spawn(manage::serve(management, told)?);
    background.block_on(gateway.settle());
    let app = background.block_on(App::open(settings, draining.clone())).context("open the application")?;
    let keys = Arc::new(app.key_keeper());
    background.block_on(keys.prepare(&settings.gateway))?;
    let keeping_keys = background.spawn(keys.clone().run(draining.clone()));
    let reloading = reload::follow(file, load, settings.clone(), (gateway.clone(), keys), draining.clone());
    let reloading = background.spawn(reloading);
    let (log, log_writer) = open_access_log(settings)?.unzip();
    let rotation = background.spawn(log_rotation::follow(log.clone(), draining.clone())?);
    let loops = Arc::new(
        start_loops(settings, &app, &gateway, log, &addresses, tls.as_ref(), &draining)
            .context("start the request loops")?,
    );
    let commands = serve_commands(settings, &app, &draining);
    let accept = |listener, transport| {
        let (loops, draining) = (Arc::clone(&loops), draining.clone());
        background.spawn(async move {
            gateway::accept(listener, transport, &loops, max_connections, draining).await
        })
    };
    let mut acceptors = vec![accept(http, Transport::Plain)];
    acceptors.extend(https.map(|https| accept(https, Transport::Tls)));
    let watch = certificates.map(|certificates| certificates::watch(certificates, draining.clone()));
    let watch = watch.transpose().context("watch the certificates")?;
    readiness.set_ready(app.store().clone());
    announce(settings, &addresses, app.has_superuser());

    background.block_on(shutdown::requested()).context("wait for signals")?;
    readiness.set_draining();
    draining.cancel();
    for acceptor in acceptors {
        if let Err(error) = background.block_on(acceptor).context("end an acceptor")? {
            warn!(%error, "an acceptor failed");
        }
    }
    if let Some(watch) = watch {
        background.block_on(watch).context("end the watch of the certificates")?;
    }
    if let Some(commands) = commands {
        background.block_on(commands).context("end the control socket")?;
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
    background.block_on(keeping_keys).context("end the watch of the keys")?;
    gateway.stop();
    background.block_on(app.close()).context("close the application")?;
    info!("stopped");
    Ok(())
}

/// Answers commands beside the server, from before it is announced. Without them it serves all the same.
fn serve_commands(settings: &Settings, app: &App, draining: &CancellationToken) -> Option<JoinHandle<()>> {
    match ControlSocket::bind(&settings.server.dir) {
        Ok(socket) => {
            let store = app.store().clone();
            Some(tokio::spawn(control_socket::serve(socket, store, draining.clone())))
        }
        Err(error) => {
            warn!(error = format!("{error:#}"), "commands beside the server are not answered");
            None
        }
    }
}

fn start_loops(
    settings: &Settings,
    app: &App,
    gateway: &Gateway,
    log: Option<AccessLog>,
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
        let services = app.services();
        let edge = Edge {
            connections: connections.clone(),
            https: https.clone(),
            origins: origins.clone(),
            callers: Callers::new(services.store.clone(), services.identity.clone()),
            limit: RateLimit::new(services.store.clone(), services.rate_limits.clone()),
            gateway: gateway.clone(),
            log: log.clone(),
        };
        let stack = gateway::stack(edge, app::router(app, services));
        ConnectionServer::new(stack, server.head_timeout).with_plain_http2(server.http2_plain)
    })
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
fn announce(settings: &Settings, addresses: &Addresses, has_superuser: bool) {
    let Addresses { http, https, management } = addresses;
    output::line(output::dated(format_args!("Server started at http://{http}")));
    output::line(format_args!("├─ REST API:   http://{http}/api/"));
    if let Some(https) = https {
        output::line(format_args!("├─ HTTPS:      https://{https}/api/"));
    }
    output::line(format_args!("├─ Management: http://{management}/readyz"));
    output::line(format_args!("└─ Data:       {}", settings.server.dir.display()));
    if !has_superuser {
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
