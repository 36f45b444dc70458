//! The reader threads: each has a connection of its own and takes reads from one bounded queue.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use contract::store::StoreError;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::connection::{self, Stop};

/// Reads that may wait; one more is refused as busy.
const QUEUE: usize = 1_024;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// Runs reads on threads of its own. Dropping it ends them after what they are doing.
pub(super) struct ReadPool {
    queue: Option<Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
    deadline: Duration,
}

impl ReadPool {
    /// Opens `threads` connections to the file.
    pub(super) fn open(path: &Path, threads: usize, deadline: Duration) -> rusqlite::Result<ReadPool> {
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE);
        let mut handles = Vec::with_capacity(threads);
        for index in 0..threads {
            let mut conn = connection::open_reader(path)?;
            let receiver = receiver.clone();
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{index}"))
                .spawn(move || serve(&mut conn, &receiver))
                .expect("the system starts a thread");
            handles.push(thread);
        }
        Ok(ReadPool { queue: Some(sender), threads: handles, deadline })
    }

    /// Runs one read. Dropping the future stops it.
    pub(super) async fn run<T, F>(&self, read: F) -> Result<T, StoreError>
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
        let guard = CancelOnDrop(cancelled);
        let result = answer.await.map_err(|_| StoreError::Internal("a read thread failed".to_owned()))?;
        drop(guard);
        result
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
        _ => StoreError::Internal(error.to_string()),
    }
}
