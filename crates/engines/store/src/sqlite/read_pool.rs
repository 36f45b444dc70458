//! Where reads run. A light one runs at once on the thread that asks ([`AtHand`]), within a budget of steps;
//! what is over the budget, or was last time, goes to reader threads of its own through one bounded queue.
//!
//! A read of a page in the cache takes some ten microseconds, less than handing it to another thread
//! and back. The budget keeps a request loop from its other connections for a fraction of a
//! millisecond at most.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use contract::store::StoreError;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use model::collection::Collection;
use model::condition::Condition;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::at_hand::AtHand;
use super::connection::{self, Stop};
use super::view_guard::{self, Secrets};

/// Reads that may wait; one more is refused as busy.
const QUEUE: usize = 1_024;
/// Heavy reads that are remembered; one more takes the place of another.
const REMEMBERED: usize = 256;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// What is known of a read before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Always within the budget.
    Light,
    /// To be tried, unless a read of this kind was over the budget.
    Unknown(u64),
    /// For the reader threads.
    Heavy,
}

/// Runs reads. Dropping it ends its threads after what they are doing.
pub(super) struct ReadPool {
    queue: Option<Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
    at_hand: Arc<AtHand>,
    heavy: Vec<AtomicU64>,
    deadline: Duration,
}

// === impl Weight ===

impl Weight {
    /// The kind of a read: what it looks at, under which conditions, and how.
    pub(super) fn of(collection: &Collection, conditions: &[Condition], how: &impl Hash) -> Weight {
        let mut hasher = DefaultHasher::new();
        collection.id.hash(&mut hasher);
        how.hash(&mut hasher);
        for condition in conditions {
            condition.filter.identity().hash(&mut hasher);
        }
        Weight::Unknown(hasher.finish())
    }
}

// === impl ReadPool ===

impl ReadPool {
    /// Opens `threads` connections to the file for threads of its own.
    pub(super) fn open(
        path: &Path,
        at_hand: Arc<AtHand>,
        secrets: &Arc<Secrets>,
        threads: usize,
        deadline: Duration,
    ) -> rusqlite::Result<ReadPool> {
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE);
        let mut handles = Vec::with_capacity(threads);
        for index in 0..threads {
            let mut conn = connection::open_reader(path)?;
            view_guard::install(&mut conn, secrets)?;
            let receiver = receiver.clone();
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{index}"))
                .spawn(move || serve(&mut conn, &receiver))
                .expect("the system starts a thread");
            handles.push(thread);
        }
        Ok(ReadPool {
            queue: Some(sender),
            threads: handles,
            at_hand,
            heavy: (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect(),
            deadline,
        })
    }

    /// Runs one read. Dropping the future stops it.
    pub(super) async fn run<T, F>(&self, weight: Weight, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        match self.run_at_hand(weight, &read) {
            Some(result) => result,
            None => self.run_on_thread(read).await,
        }
    }

    /// Runs a read on this thread; none when it is for the reader threads.
    fn run_at_hand<T>(
        &self,
        weight: Weight,
        read: &impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Option<Result<T, StoreError>> {
        if self.is_for_threads(weight) {
            return None;
        }
        // A lock on the file is not waited for here: see `open_at_hand`.
        match self.at_hand.run(read)? {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                if let Weight::Unknown(kind) = weight {
                    self.heavy[slot(kind)].store(kind, Ordering::Relaxed);
                }
                None
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => None,
            result => Some(result.map_err(|error| read_error(error, self.deadline))),
        }
    }

    /// Whether a read is for the reader threads.
    pub(super) fn is_for_threads(&self, weight: Weight) -> bool {
        match weight {
            Weight::Light => false,
            Weight::Unknown(kind) => self.heavy[slot(kind)].load(Ordering::Relaxed) == kind,
            Weight::Heavy => true,
        }
    }

    async fn run_on_thread<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let cancelled = Arc::new(AtomicBool::new(false));
        let stop = Stop { at: Instant::now() + self.deadline, cancelled: cancelled.clone() };
        let deadline = self.deadline;
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |conn| {
            if reply.is_closed() {
                return;
            }
            let result = connection::with_stop(conn, &stop, read);
            let _ = reply.send(result.map_err(|error| read_error(error, deadline)));
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        let _guard = CancelOnDrop(cancelled);
        answer.await.map_err(|_| StoreError::Internal("a read thread failed".to_owned()))?
    }
}

impl Drop for ReadPool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn slot(kind: u64) -> usize {
    kind as usize % REMEMBERED
}

fn serve(conn: &mut Connection, queue: &Receiver<Work>) {
    while let Ok(work) = queue.recv() {
        // A panic in one read must not take the thread from the others.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(conn)));
        if outcome.is_err() {
            tracing::error!("a read panicked");
        }
    }
}

fn read_error(error: rusqlite::Error, deadline: Duration) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => StoreError::Deadline(deadline),
        Some(ErrorCode::DatabaseBusy) => StoreError::Busy,
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
            StoreError::Unavailable(error.to_string())
        }
        // Of the server's own tables nothing is missing; of those that views name something may be.
        Some(ErrorCode::Unknown) if error.to_string().contains("no such ") => {
            StoreError::BrokenView(error.to_string())
        }
        _ => StoreError::Internal(error.to_string()),
    }
}
