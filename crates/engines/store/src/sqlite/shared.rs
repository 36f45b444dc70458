//! What the writer changes and everyone reads, without locks where it is hot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use contract::store::StoreStatus;
use model::schema::Schema;
use model::settings::Settings;

use super::Synchronous;
use super::counts::Counts;
use super::text_lookup::TextLookup;

/// State shared by the writer thread, the reader threads and the callers.
pub(super) struct Shared {
    pub(super) schema: ArcSwap<Schema>,
    /// Odd while a commit that changes the schema is under way: from before COMMIT until the new schema
    /// is the current one.
    pub(super) schema_epoch: AtomicU64,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) counts: Counts,
    pub(super) texts: TextLookup,
    pub(super) commits: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) synchronous: Synchronous,
}

impl Shared {
    pub(super) fn new(schema: Arc<Schema>, settings: Arc<Settings>, synchronous: Synchronous) -> Shared {
        Shared {
            schema: ArcSwap::new(schema),
            schema_epoch: AtomicU64::new(0),
            settings: ArcSwap::new(settings),
            counts: Counts::default(),
            texts: TextLookup::default(),
            commits: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            synchronous,
        }
    }

    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus {
            adapter: "sqlite",
            synchronous: self.synchronous.as_str().to_owned(),
            commits: self.commits.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
        }
    }
}
