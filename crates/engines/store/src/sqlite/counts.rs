//! How many rows each collection has, kept so that a total without a filter costs nothing. A count
//! is first taken by the writer, which then keeps it exact: it changes before a batch is acknowledged.

use std::collections::HashMap;
use std::sync::RwLock;

/// Row counts by collection id; only those that were asked for.
#[derive(Debug, Default)]
pub(super) struct Counts {
    known: RwLock<HashMap<String, u64>>,
}

impl Counts {
    pub(super) fn get(&self, collection: &str) -> Option<u64> {
        self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(collection).copied()
    }

    pub(super) fn set(&self, collection: &str, count: u64) {
        self.write().insert(collection.to_owned(), count);
    }

    /// Applies what a committed batch changed.
    pub(super) fn add(&self, changes: &HashMap<String, i64>) {
        if changes.is_empty() {
            return;
        }
        let mut known = self.write();
        for (collection, change) in changes {
            if let Some(count) = known.get_mut(collection) {
                *count = count.saturating_add_signed(*change);
            }
        }
    }

    /// Forgets all: the next total is counted.
    pub(super) fn clear(&self) {
        self.write().clear();
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, u64>> {
        self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
