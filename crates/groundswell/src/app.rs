//! The application: the services of this process as one router, and what they stand on.
//!
//! This is where services are wired to engines, in plain sight.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use contract::store::{CommitObserver, ListRecords, Store};
use identity::Identity;
use model::collection::Collection;
use store::sqlite::{self, SqliteStore};
use tokio_util::sync::CancellationToken;

use crate::config::{Settings, Synchronous};
use crate::http::{StaticFolder, unmatched};

/// What the services of this process stand on. One for the process, shared by its request loops.
pub(crate) struct App {
    services: Arc<kit::app::App>,
    static_folder: Arc<StaticFolder>,
    has_superuser: bool,
}

impl App {
    /// Opens the engines. `draining` is cancelled when the process is asked to stop: streams without an end of
    /// their own must end then.
    pub(crate) async fn open(settings: &Settings, draining: CancellationToken) -> anyhow::Result<Self> {
        // No service has such streams yet.
        drop(draining);
        let identity = Arc::new(Identity::start().context("start the password hash pool")?);
        let store = open_store(settings, vec![identity.clone()])?;
        let has_superuser = has_superuser(&*store).await?;
        let static_folder =
            StaticFolder::new(settings.server.public_dir.clone(), settings.server.index_fallback);
        Ok(Self {
            services: Arc::new(kit::app::App::new(store, identity)),
            static_folder: Arc::new(static_folder),
            has_superuser,
        })
    }

    /// What the services of this process share.
    pub(crate) fn services(&self) -> &Arc<kit::app::App> {
        &self.services
    }

    /// Whether anybody can sign in as a superuser yet.
    pub(crate) fn has_superuser(&self) -> bool {
        self.has_superuser
    }

    /// Brings the store to rest, once no request runs.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.services.store.close().await.context("close the store")
    }
}

/// The routes of every service. Called once for each request loop, so that loops share nothing of a router.
pub(crate) fn router(app: &App) -> Router {
    let services = Router::new().merge(records::router()).merge(auth::router()).merge(admin::router());
    unmatched(services.with_state(Arc::clone(&app.services)), Arc::clone(&app.static_folder))
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

async fn has_superuser(store: &dyn Store) -> anyhow::Result<bool> {
    let schema = store.schema();
    let Some(collection) = schema.by_name(Collection::SUPERUSERS) else { return Ok(false) };
    let query = ListRecords {
        schema_version: schema.version(),
        collection: collection.clone(),
        conditions: Vec::new(),
        sort: None,
        offset: 0,
        limit: 1,
        with_total: false,
    };
    let page = store.list(query).await.context("look for a superuser")?;
    Ok(!page.records.is_empty())
}
