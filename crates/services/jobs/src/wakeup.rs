//! From commits to workers that wait for jobs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use contract::store::{Commit, CommitObserver};
use tokio::sync::watch;

/// Tells of commits that left jobs, each queue's workers of its own. The store is opened with it, and workers
/// are started with it and the store.
#[derive(Debug, Default)]
pub struct Wakeup {
    /// Only queues that somebody subscribed to; those that everybody left go when the next one comes.
    queues: Mutex<HashMap<String, watch::Sender<()>>>,
}

// === impl Wakeup ===

impl Wakeup {
    pub(crate) fn subscribe(&self, queue: &str) -> watch::Receiver<()> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, jobs| jobs.receiver_count() > 0);
        queues.entry(queue.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }
}

impl CommitObserver for Wakeup {
    fn committed(&self, commit: &Commit) {
        if commit.job_queues.is_empty() {
            return;
        }
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for jobs in commit.job_queues.iter().filter_map(|queue| queues.get(queue)) {
            jobs.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn commit(queues: &[&str]) -> Commit {
        let job_queues: BTreeSet<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
        Commit { job_queues, ..Commit::default() }
    }

    #[test]
    fn only_those_of_a_queue_are_woken() {
        let wakeup = Wakeup::default();
        let (mut one, two, three) =
            (wakeup.subscribe("one"), wakeup.subscribe("one"), wakeup.subscribe("three"));
        wakeup.committed(&commit(&["one", "nobody"]));
        let woken = [&one, &two, &three].map(|receiver| receiver.has_changed().unwrap());
        assert_eq!(woken, [true, true, false]);
        one.mark_unchanged();
        wakeup.committed(&commit(&[]));
        assert!(!one.has_changed().unwrap());
    }

    #[test]
    fn queues_that_everybody_left_are_forgotten() {
        let wakeup = Wakeup::default();
        let stays = wakeup.subscribe("stays");
        for name in 0..100 {
            drop(wakeup.subscribe(&name.to_string()));
        }
        assert!(wakeup.queues.lock().unwrap().len() <= 2);
        wakeup.committed(&commit(&["stays"]));
        assert!(stays.has_changed().unwrap());
    }
}
