//! The application: the services of this process as one router, and what they stand on.
//!
//! This is where services are wired to engines, in plain sight.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use broker::{EmbeddedBroker, Wakeup};
use contract::broker::Broker;
use contract::store::{CommitObserver, Store};
use identity::Identity;
use rand::distr::{Alphanumeric, SampleString};
use realtime::Realtime;
use store::sqlite::{self, SqliteStore};
use tokio_util::sync::CancellationToken;

use crate::config::{Settings, Synchronous};
use crate::http::{StaticFolder, unmatched};
use crate::readiness::has_superuser;

/// What the services of this process stand on. One for the process, shared by its request loops.
pub(crate) struct App {
    store: Arc<dyn Store>,
    identity: Arc<Identity>,
    realtime: Realtime,
    static_folder: Arc<StaticFolder>,
    has_superuser: bool,
}

/// Letters of a node's code: enough that the nodes of one application differ.
const NODE_CODE_LETTERS: usize = 4;

impl App {
    /// Opens the engines. `draining` is cancelled when the process is asked to stop: streams without an end of
    /// their own must end then.
    pub(crate) async fn open(settings: &Settings, draining: CancellationToken) -> anyhow::Result<Self> {
        let identity = Arc::new(Identity::start().context("start the password hash pool")?);
        let wakeup = Arc::new(Wakeup::default());
        let store = open_store(settings, vec![identity.clone(), wakeup.clone()])?;
        let broker = Arc::new(EmbeddedBroker::new(store.clone(), wakeup));
        let has_superuser = has_superuser(&*store).await.context("look for a superuser")?;
        let static_folder =
            StaticFolder::new(settings.server.public_dir.clone(), settings.server.index_fallback);
        let realtime = start_realtime(kit::app::App::new(store.clone(), identity.clone()), broker, draining);
        Ok(Self { store, identity, realtime, static_folder: Arc::new(static_folder), has_superuser })
    }

    /// The data.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What the services of one request loop share: what they remember is the loop's own, so that no core waits
    /// for another's cache line.
    pub(crate) fn services(&self) -> Arc<kit::app::App> {
        Arc::new(kit::app::App::new(self.store.clone(), self.identity.clone()))
    }

    /// Whether anybody can sign in as a superuser yet.
    pub(crate) fn has_superuser(&self) -> bool {
        self.has_superuser
    }

    /// Brings the store to rest, once no request runs.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.realtime.close().await;
        self.store.close().await.context("close the store")
    }
}

/// The routes of every service. Called once for each request loop, so that loops share nothing of a router.
pub(crate) fn router(app: &App, services: Arc<kit::app::App>) -> Router {
    let routes = Router::new()
        .merge(records::router())
        .merge(auth::router())
        .merge(admin::router())
        .merge(app.realtime.router());
    unmatched(routes.with_state(services), Arc::clone(&app.static_folder))
}

/// Starts what sends changes to clients, on the runtime that this is called on.
fn start_realtime(app: kit::app::App, broker: Arc<dyn Broker>, draining: CancellationToken) -> Realtime {
    let node_code = Alphanumeric.sample_string(&mut rand::rng(), NODE_CODE_LETTERS);
    Realtime::start(app, broker, realtime::Options { node_code, ..Default::default() }, draining)
}

/// The store of the data folder. Fails with a sentence when the folder cannot be used.
pub(crate) fn open_store(
    settings: &Settings,
    observers: Vec<Arc<dyn CommitObserver>>,
) -> Result<Arc<dyn Store>, sqlite::OpenError> {
    let mut options = sqlite::Options::new(settings.server.dir.clone());
    options.synchronous = match settings.store.synchronous {
        Synchronous::Full => sqlite::Synchronous::Full,
        Synchronous::Normal => sqlite::Synchronous::Normal,
    };
    options.readers = settings.store.readers;
    options.read_deadline = settings.server.query_timeout;
    options.observers = observers;
    Ok(Arc::new(SqliteStore::open(options)?))
}
