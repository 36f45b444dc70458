//! What the writer changes and everyone reads, without locks where it is hot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use contract::store::StoreStatus;
use model::schema::Schema;
use model::settings::Settings;
use tokio::sync::Notify;

use super::Synchronous;
use super::consumers::Consumers;
use super::counts::Counts;
use super::text_lookup::TextLookup;
use super::view_guard::Secrets;

/// State shared by the writer thread, the reader threads and the callers.
pub(super) struct Shared {
    pub(super) schema: ArcSwap<Schema>,
    /// Odd while a commit that changes the schema is under way: from before COMMIT until the new schema
    /// is the current one.
    pub(super) schema_epoch: AtomicU64,
    /// Told when the epoch is even again.
    schema_settled: Notify,
    pub(super) settings: ArcSwap<Settings>,
    /// What views do not show.
    pub(super) secrets: Arc<Secrets>,
    pub(super) counts: Counts,
    pub(super) texts: TextLookup,
    pub(super) consumers: Consumers,
    /// Jobs that are not dead.
    pub(super) jobs: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) synchronous: Synchronous,
}

impl Shared {
    pub(super) fn new(
        schema: Arc<Schema>,
        settings: Arc<Settings>,
        consumers: Consumers,
        jobs: u64,
        synchronous: Synchronous,
    ) -> Shared {
        Shared {
            secrets: Arc::new(Secrets::of(&schema)),
            schema: ArcSwap::new(schema),
            schema_epoch: AtomicU64::new(0),
            schema_settled: Notify::new(),
            settings: ArcSwap::new(settings),
            counts: Counts::default(),
            texts: TextLookup::default(),
            consumers,
            jobs: AtomicU64::new(jobs),
            commits: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            synchronous,
        }
    }

    /// Before COMMIT of what changes the schema.
    pub(super) fn begin_schema_commit(&self) {
        self.schema_epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// After it, whether it went well or not.
    pub(super) fn end_schema_commit(&self) {
        self.schema_epoch.fetch_add(1, Ordering::AcqRel);
        self.schema_settled.notify_waiters();
    }

    /// The epoch while no commit that changes the schema is under way. Waits for the end of one that is:
    /// about a millisecond, or as long as the disk takes to sync.
    pub(super) async fn settled_schema_epoch(&self) -> u64 {
        let mut epoch = self.schema_epoch.load(Ordering::Acquire);
        while !epoch.is_multiple_of(2) {
            let settled = self.schema_settled.notified();
            epoch = self.schema_epoch.load(Ordering::Acquire);
            if !epoch.is_multiple_of(2) {
                settled.await;
                epoch = self.schema_epoch.load(Ordering::Acquire);
            }
        }
        epoch
    }

    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus {
            adapter: "sqlite",
            durability: self.synchronous.as_str().to_owned(),
            commits: self.commits.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
        }
    }
}
