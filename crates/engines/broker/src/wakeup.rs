//! From commits to those who wait for events.

use contract::store::{Commit, CommitObserver};
use tokio::sync::watch;

/// Tells of commits that left events. The store is opened with it, and the broker made of it and the store.
#[derive(Debug)]
pub struct Wakeup {
    newest: watch::Sender<u64>,
}

// === impl Wakeup ===

impl Wakeup {
    /// The newest event of the commits that are told from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

impl Default for Wakeup {
    fn default() -> Wakeup {
        Wakeup { newest: watch::Sender::new(0) }
    }
}

impl CommitObserver for Wakeup {
    fn committed(&self, commit: &Commit) {
        if let Some(newest) = commit.newest_event {
            self.newest.send_replace(newest);
        }
    }
}
