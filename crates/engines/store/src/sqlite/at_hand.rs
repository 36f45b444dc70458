//! Reads on the thread that asks, on connections kept for that. Each keeps its snapshot of the data open
//! from one read to the next, as long as nothing was committed: to open and to close one takes several
//! system calls, as much as the read of a record itself.
//!
//! A snapshot keeps the write-ahead log from beginning anew, so whoever wants that ends them first:
//! [`AtHand::end_stale`], [`AtHand::hold`].

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use rusqlite::Connection;

use super::connection;
use super::shared::Shared;
use super::view_guard;

/// Virtual machine steps of one read: about 0.2 ms. A list of 30 by an index takes some 1,100.
const BUDGET_STEPS: i32 = 8_000;

/// One connection for each core: a request loop finds its own free.
pub(super) struct AtHand {
    seats: Vec<Mutex<Seat>>,
    shared: Arc<Shared>,
}

struct Seat {
    conn: Connection,
    /// The number of commits that the open snapshot holds at least; none when no snapshot is open.
    snapshot: Option<u64>,
    /// Whether the read that runs has not been asked yet whether it should go on.
    is_fresh: Arc<AtomicBool>,
}

/// All connections, without snapshots and out of use.
pub(super) struct Held<'a> {
    _seats: Vec<MutexGuard<'a, Seat>>,
}

// === impl AtHand ===

impl AtHand {
    pub(super) fn open(path: &Path, shared: Arc<Shared>) -> rusqlite::Result<AtHand> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let seats = (0..cores).map(|_| Seat::open(path, &shared).map(Mutex::new));
        Ok(AtHand { seats: seats.collect::<rusqlite::Result<_>>()?, shared })
    }

    /// Runs a read now, within the budget, on data that holds every commit that was acknowledged before.
    /// None when the thread's connection is in use.
    pub(super) fn run<T>(
        &self,
        read: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Option<rusqlite::Result<T>> {
        let mut seat = match self.seats[thread_number() % self.seats.len()].try_lock() {
            Ok(seat) => seat,
            // A read panicked: its statement is gone, and the connection is as good as before.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(seat.read(self.commits(), read))
    }

    /// Ends the snapshots that lack a commit.
    pub(super) fn end_stale(&self) {
        for seat in &self.seats {
            let mut seat = seat.lock().unwrap_or_else(PoisonError::into_inner);
            if seat.snapshot.is_some_and(|commits| commits != self.commits()) {
                seat.end_snapshot();
            }
        }
    }

    /// Ends all snapshots and keeps new ones from being opened. Waits for reads that run: fractions of a
    /// millisecond.
    pub(super) fn hold(&self) -> Held<'_> {
        let seats = self.seats.iter().map(|seat| {
            let mut seat = seat.lock().unwrap_or_else(PoisonError::into_inner);
            seat.end_snapshot();
            seat
        });
        Held { _seats: seats.collect() }
    }

    fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Acquire)
    }
}

// === impl Seat ===

impl Seat {
    fn open(path: &Path, shared: &Shared) -> rusqlite::Result<Seat> {
        let mut conn = connection::open_at_hand(path)?;
        view_guard::install(&mut conn, &shared.secrets)?;
        let is_fresh = Arc::new(AtomicBool::new(true));
        // SQLite counts the steps of a prepared statement over all its runs, so the first call may come at
        // any step of a read: it is the second that ends it, after one to two budgets.
        let asked = is_fresh.clone();
        conn.progress_handler(BUDGET_STEPS, Some(move || !asked.swap(false, Ordering::Relaxed)))?;
        Ok(Seat { conn, snapshot: None, is_fresh })
    }

    /// Reads from the snapshot of at least so many commits.
    fn read<T>(
        &mut self,
        commits: u64,
        read: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.snapshot != Some(commits) {
            self.end_snapshot();
            self.conn.prepare_cached("BEGIN")?.execute([])?;
            self.snapshot = Some(commits);
        }
        self.is_fresh.store(true, Ordering::Relaxed);
        let result = read(&self.conn);
        if result.is_err() {
            self.end_snapshot();
        }
        result
    }

    fn end_snapshot(&mut self) {
        self.snapshot = None;
        if self.conn.is_autocommit() {
            return;
        }
        // It would otherwise be interrupted for what an earlier read used up.
        self.is_fresh.store(true, Ordering::Relaxed);
        let ended = self.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        if let Err(error) = ended {
            tracing::warn!(%error, "a snapshot could not be ended");
        }
    }
}

/// A small number of this thread's own, for choosing a connection.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
