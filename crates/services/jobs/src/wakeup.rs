//! From commits to workers that wait for jobs.

use contract::store::{Commit, CommitObserver};
use tokio::sync::watch;

/// Tells of commits that left jobs. The store is opened with it, and workers are started with it and the
/// store.
#[derive(Debug)]
pub struct Wakeup {
    jobs: watch::Sender<()>,
}

// === impl Wakeup ===

impl Wakeup {
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.jobs.subscribe()
    }
}

impl Default for Wakeup {
    fn default() -> Wakeup {
        Wakeup { jobs: watch::Sender::new(()) }
    }
}

impl CommitObserver for Wakeup {
    fn committed(&self, commit: &Commit) {
        if commit.has_jobs {
            self.jobs.send_replace(());
        }
    }
}
