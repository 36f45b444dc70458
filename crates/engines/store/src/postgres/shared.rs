//! What a node knows of the database, and what everyone reads without locks.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use contract::event::Interest;
use contract::store::{Commit, CommitObserver, StoreStatus};
use model::schema::Schema;
use model::settings::Settings;

use crate::interest::Wanted;

/// State that is shared by all who use a store.
pub(super) struct Shared {
    pub(super) known: ArcSwap<Known>,
    /// One who brings what is known up to date keeps others from doing the same.
    pub(super) refreshing: tokio::sync::Mutex<()>,
    /// Collections whose rules judge rows that cannot be locked: writes to them begin serializable.
    serializable: Mutex<HashSet<String>>,
    pub(super) observers: Vec<Arc<dyn CommitObserver>>,
    /// Jobs that are not dead, as far as is known.
    pub(super) jobs: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) batches: AtomicU64,
    /// The server's `synchronous_commit`.
    pub(super) durability: String,
}

/// What was read of the database together, and counts while its versions do.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) versions: Versions,
    pub(super) schema: Arc<Schema>,
    pub(super) settings: Arc<Settings>,
    pub(super) consumers: Arc<BTreeMap<String, Arc<Interest>>>,
    pub(super) wanted: Arc<Wanted>,
}

/// The row of `_gs_versions`. Each number grows with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) schema: i64,
    pub(super) settings: i64,
    pub(super) consumers: i64,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(
        known: Known,
        observers: Vec<Arc<dyn CommitObserver>>,
        jobs: u64,
        durability: String,
    ) -> Shared {
        Shared {
            known: ArcSwap::from_pointee(known),
            refreshing: tokio::sync::Mutex::new(()),
            serializable: Mutex::default(),
            observers,
            jobs: AtomicU64::new(jobs),
            commits: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            durability,
        }
    }

    /// Puts what was read in the place of what was known, as far as it is newer.
    pub(super) fn learn(&self, read: &Known) {
        self.known.rcu(|known| {
            let mut newer = known.with_schema(read.versions.schema, &read.schema);
            newer = newer.with_settings(read.versions.settings, &read.settings);
            if read.versions.consumers > known.versions.consumers {
                newer.versions.consumers = read.versions.consumers;
                newer.consumers = read.consumers.clone();
                newer.wanted = read.wanted.clone();
            }
            newer
        });
    }

    /// Puts a schema that this node has made in the place of an older one.
    pub(super) fn learn_schema(&self, version: i64, schema: Arc<Schema>) {
        self.known.rcu(|known| known.with_schema(version, &schema));
    }

    /// The same for settings.
    pub(super) fn learn_settings(&self, version: i64, settings: Arc<Settings>) {
        self.known.rcu(|known| known.with_settings(version, &settings));
    }

    pub(super) fn tell(&self, commit: &Commit) {
        if *commit != Commit::default() {
            for observer in &self.observers {
                observer.committed(commit);
            }
        }
    }

    pub(super) fn is_serializable(&self, collection: &str) -> bool {
        self.serializable.lock().unwrap_or_else(PoisonError::into_inner).contains(collection)
    }

    /// Notes that writes to these collections are to begin serializable. Bounded by the collections.
    pub(super) fn note_serializable(&self, collections: impl Iterator<Item = String>) {
        self.serializable.lock().unwrap_or_else(PoisonError::into_inner).extend(collections);
    }

    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus {
            adapter: "postgres",
            durability: self.durability.clone(),
            commits: self.commits.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
        }
    }
}

// === impl Known ===

impl Known {
    fn with_schema(&self, version: i64, schema: &Arc<Schema>) -> Known {
        let mut known = self.clone();
        if version > known.versions.schema {
            known.versions.schema = version;
            known.schema = schema.clone();
        }
        known
    }

    fn with_settings(&self, version: i64, settings: &Arc<Settings>) -> Known {
        let mut known = self.clone();
        if version > known.versions.settings {
            known.versions.settings = version;
            known.settings = settings.clone();
        }
        known
    }
}

// === impl Versions ===

impl Versions {
    /// `schema, settings, consumers` of a row.
    pub(super) fn of_row(row: &tokio_postgres::Row) -> Result<Versions, super::error::Error> {
        Ok(Versions { schema: row.try_get(0)?, settings: row.try_get(1)?, consumers: row.try_get(2)? })
    }
}
