//! Versions of the rows of collections that somebody keeps a copy of. A version is odd while a commit that
//! touches the collection is under way, and another even number afterwards: whoever reads rows between two
//! looks that find the same even number has read that state and no other.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// By collection id; only those that are followed.
#[derive(Debug, Default)]
pub(super) struct RowVersions {
    followed: RwLock<HashMap<String, AtomicU64>>,
    /// How often a collection began to be followed.
    begun: AtomicU64,
}

/// So far apart begin the versions of a collection that is followed anew, so that none comes twice.
const SPAN: u64 = 1 << 40;

impl RowVersions {
    /// Begins to follow a collection. Only between two transactions.
    pub(super) fn follow(&self, collection: &str) {
        let first = || AtomicU64::new(self.begun.fetch_add(1, Ordering::Relaxed) * SPAN);
        self.write().entry(collection.to_owned()).or_insert_with(first);
    }

    pub(super) fn is_followed(&self, collection: &str) -> bool {
        self.read().contains_key(collection)
    }

    /// The version of the rows; none while a commit that touches them is under way, or when nobody follows.
    pub(super) fn get(&self, collection: &str) -> Option<u64> {
        let version = self.read().get(collection)?.load(Ordering::Acquire);
        version.is_multiple_of(2).then_some(version)
    }

    /// A commit that touches these begins, or has ended, whichever way.
    pub(super) fn step(&self, collections: &[String]) {
        if collections.is_empty() {
            return;
        }
        let followed = self.read();
        for collection in collections {
            if let Some(version) = followed.get(collection) {
                version.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Forgets all, when the schema was changed.
    pub(super) fn clear(&self) {
        self.write().clear();
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, AtomicU64>> {
        self.followed.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, AtomicU64>> {
        self.followed.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
