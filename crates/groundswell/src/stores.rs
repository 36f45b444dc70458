//! Opens the store that the configuration names.

use std::sync::Arc;

use contract::hooks::HookStore;
use contract::jobs::JobStore;
use contract::secrets::SecretStore;
use contract::store::{CommitObserver, Store};
use store::postgres::{self, PostgresStore};
use store::sqlite::{self, FolderLock, SqliteStore};

use crate::config::{EngineUrl, Settings, StoreUrl, Synchronous};

/// One store, by each of the contracts that it keeps.
pub(crate) struct Stores {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) jobs: Arc<dyn JobStore>,
    pub(crate) hooks: Arc<dyn HookStore>,
    pub(crate) secrets: Arc<dyn SecretStore>,
    /// The data folder, where the store does not hold it itself.
    pub(crate) folder: Option<FolderLock>,
}

/// Why there is no store: a sentence for the person who started the process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
}

impl OpenError {
    /// Whether the configuration is to be changed, or what it names.
    pub(crate) fn is_of_configuration(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

/// Opens it, on the runtime that this is called on.
pub(crate) async fn open(
    settings: &Settings,
    observers: Vec<Arc<dyn CommitObserver>>,
) -> Result<Stores, OpenError> {
    match &settings.store.url {
        StoreUrl::Sqlite(_) => Ok(Stores::of(Arc::new(open_sqlite(settings, observers)?), None)),
        StoreUrl::Postgres(url) => {
            // Files and the control socket are in it.
            let folder = sqlite::hold(&settings.server.dir)?;
            let options = postgres::Options { observers, ..postgres_options(settings, url) };
            Ok(Stores::of(Arc::new(PostgresStore::open(options).await?), Some(folder)))
        }
    }
}

/// How the database of a URL is opened.
pub(crate) fn postgres_options(settings: &Settings, url: &EngineUrl) -> postgres::Options {
    let store = &settings.store;
    postgres::Options {
        direct_url: store.direct_url.as_ref().map(|url| url.with_secrets().to_owned()),
        pool: postgres::PoolOptions { size: store.pool, ..postgres::PoolOptions::default() },
        read_deadline: settings.server.query_timeout,
        ..postgres::Options::new(url.with_secrets())
    }
}

fn open_sqlite(
    settings: &Settings,
    observers: Vec<Arc<dyn CommitObserver>>,
) -> Result<SqliteStore, sqlite::OpenError> {
    let mut options = sqlite::Options::new(settings.server.dir.clone());
    options.synchronous = match settings.store.synchronous {
        Synchronous::Full => sqlite::Synchronous::Full,
        Synchronous::Normal => sqlite::Synchronous::Normal,
    };
    options.readers = settings.store.readers;
    options.read_deadline = settings.server.query_timeout;
    options.observers = observers;
    SqliteStore::open(options)
}

// === impl Stores ===

impl Stores {
    fn of<S: Store + JobStore + HookStore + SecretStore>(store: Arc<S>, folder: Option<FolderLock>) -> Self {
        Self { store: store.clone(), jobs: store.clone(), hooks: store.clone(), secrets: store, folder }
    }
}
