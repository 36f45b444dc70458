//! The writer thread: takes batches from one bounded queue and commits many in one transaction.
//!
//! Each batch runs in a savepoint of its own, so that a refused one leaves the others alone. When
//! the transaction itself is lost (a full disk, an I/O error, a failed COMMIT) its batches run again
//! one by one, and each is answered only by its own outcome. A batch that changes the schema is a
//! transaction of its own.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use contract::event::Interest;
use contract::jobs::MAX_JOBS;
use contract::store::{Commit, CommitObserver, StoreError};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use model::collection::Collection;
use model::step::{Refused, StepResult, WriteBatch};
use model::time::Timestamp;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::batch::{self, Effects, Failure};
use crate::interest::Wanted;

use super::checkpoint::{Checkpoints, LogEnd};
use super::consumers::Positions;
use super::outbox::{self, Removal};
use super::shared::Shared;
use super::transaction::{BatchTransaction, at_once};
use super::views::{self, Tried};
use super::{Options, OutboxBounds};

/// Requests that may wait; one more is refused as busy.
const QUEUE: usize = 4_096;
/// Batches in one transaction: enough to share an fsync, few enough that the first does not wait long.
const GROUP: usize = 64;

/// The outbox is tidied at most so often while others write: each time costs some pages.
const TIDY: Duration = Duration::from_millis(200);
/// A consumer that is stuck loses events all the time; it is said this often.
const TELL_CUTS_EVERY: Duration = Duration::from_secs(60);

/// Without a request for this long, the writer is idle.
const IDLE: Duration = Duration::from_secs(1);

type BatchResult = Result<Result<Vec<StepResult>, Refused>, StoreError>;

enum Request {
    Write {
        batch: WriteBatch,
        reply: oneshot::Sender<BatchResult>,
    },
    Register {
        consumer: String,
        interest: Interest,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Unregister {
        consumer: String,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// A consumer is ahead of what the table says of it.
    Acknowledged,
    Alone(Alone),
    Count {
        collection: Arc<Collection>,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    },
    TryView {
        schema_version: u64,
        query: String,
        reply: oneshot::Sender<Result<Tried, StoreError>>,
    },
    Follow {
        collection: String,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Close {
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
}

/// Something small that is a transaction of its own.
type Alone = Box<dyn FnOnce(&mut WriterThread) + Send>;

struct Job {
    batch: WriteBatch,
    reply: oneshot::Sender<BatchResult>,
}

/// What something small did that others are to know.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) commit: Commit,
    /// Jobs more or fewer.
    pub(super) jobs: i64,
}

/// The caller's end. Dropping it ends the thread after what was accepted.
pub(super) struct Writer {
    queue: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Change ===

impl Change {
    /// So many jobs more, and something to do in a queue.
    pub(super) fn of_queue(queue: &str, jobs: i64) -> Change {
        let job_queues = BTreeSet::from([queue.to_owned()]);
        Change { commit: Commit { job_queues, ..Commit::default() }, jobs }
    }
}

// === impl Writer ===

impl Writer {
    pub(super) fn start(
        conn: Connection,
        checkpoints: Checkpoints,
        shared: Arc<Shared>,
        options: &Options,
    ) -> Writer {
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE);
        let wanted = Arc::new(shared.consumers.wanted());
        let mut thread = WriterThread {
            conn,
            checkpoints,
            shared,
            bounds: options.outbox,
            observers: options.observers.clone(),
            wanted,
            tidied: None,
            cut_told: None,
        };
        let thread = std::thread::Builder::new()
            .name("store-write".to_owned())
            .spawn(move || thread.run(&receiver))
            .expect("the system starts a thread");
        Writer { queue: Some(sender), thread: Some(thread) }
    }

    pub(super) async fn write(&self, batch: WriteBatch) -> BatchResult {
        self.ask(|reply| Request::Write { batch, reply }).await
    }

    pub(super) async fn register_consumer(
        &self,
        consumer: String,
        interest: Interest,
    ) -> Result<(), StoreError> {
        self.ask(|reply| Request::Register { consumer, interest, reply }).await
    }

    pub(super) async fn unregister_consumer(&self, consumer: String) -> Result<(), StoreError> {
        self.ask(|reply| Request::Unregister { consumer, reply }).await
    }

    /// A consumer is ahead of what the table says of it. A writer with a full queue sees it by itself.
    pub(super) fn acknowledged(&self) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Request::Acknowledged);
        }
    }

    /// Runs something small in a transaction of its own, and tells observers what it returns.
    pub(super) async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, Timestamp) -> rusqlite::Result<(T, Change)> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(|reply| {
            Request::Alone(Box::new(move |thread| {
                let _ = reply.send(thread.run_small(work).map_err(|error| store_error(&error)));
            }))
        })
        .await
    }

    pub(super) async fn count(&self, collection: Arc<Collection>) -> Result<u64, StoreError> {
        self.ask(|reply| Request::Count { collection, reply }).await
    }

    /// Tries a view's query, of which nothing is kept.
    pub(super) async fn try_view(&self, schema_version: u64, query: String) -> Result<Tried, StoreError> {
        self.ask(|reply| Request::TryView { schema_version, query, reply }).await
    }

    /// From now on the versions of the collection's rows are told.
    pub(super) async fn follow(&self, collection: String) -> Result<(), StoreError> {
        self.ask(|reply| Request::Follow { collection, reply }).await
    }

    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::Close { reply }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.try_send(request(reply)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct WriterThread {
    conn: Connection,
    checkpoints: Checkpoints,
    shared: Arc<Shared>,
    bounds: OutboxBounds,
    observers: Vec<Arc<dyn CommitObserver>>,
    /// Whose changes leave events.
    wanted: Arc<Wanted>,
    /// When the outbox was last tidied; none when it is to be tidied at once.
    tidied: Option<Instant>,
    /// When it was last told that a consumer lost events.
    cut_told: Option<Instant>,
}

/// What a transaction did to the outbox beside its events: noted once it is committed.
struct Tidied {
    positions: Positions,
    is_more_left: bool,
    cut_through: Option<i64>,
}

// === impl WriterThread ===

impl WriterThread {
    fn run(&mut self, queue: &Receiver<Request>) {
        let mut left_over = None;
        while let Some(request) = left_over.take().or_else(|| self.next(queue)) {
            match request {
                Request::Write { batch, reply } => {
                    let mut group = vec![Job { batch, reply }];
                    left_over = collect_group(queue, &mut group);
                    self.commit(group);
                    self.checkpoints.after_commit(&self.conn);
                }
                Request::Close { reply } => {
                    self.tidy_alone();
                    self.checkpoints.finish(&self.conn, LogEnd::Truncate);
                    let _ = reply.send(Ok(()));
                    // What still comes is dropped with its reply, which its caller sees as closed. Left in
                    // a queue that nobody reads, it would wait for ever.
                    while queue.recv().is_ok() {}
                    return;
                }
                // A panic in it must not take the thread from the others.
                other => {
                    let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve_other(other)));
                    if served.is_err() {
                        tracing::error!("the writer's work for one caller panicked");
                        self.roll_back();
                    }
                }
            }
        }
        self.tidy_alone();
        self.checkpoints.finish(&self.conn, LogEnd::Truncate);
    }

    /// The next request. The first moment without one is for the outbox, and for bringing the log into the
    /// data file.
    fn next(&mut self, queue: &Receiver<Request>) -> Option<Request> {
        if self.checkpoints.is_due_when_idle() || self.shared.consumers.are_ahead() {
            match queue.recv_timeout(IDLE) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    while self.tidy_alone() && queue.is_empty() {}
                    self.checkpoints.finish(&self.conn, LogEnd::Truncate);
                }
            }
        }
        queue.recv().ok()
    }

    fn serve_other(&mut self, request: Request) {
        match request {
            Request::Register { consumer, interest, reply } => {
                let result = self.shared.consumers.register(&self.conn, &consumer, interest);
                self.wanted = Arc::new(self.shared.consumers.wanted());
                let _ = reply.send(result.map_err(|e| store_error(&e)));
            }
            Request::Unregister { consumer, reply } => {
                let result = self.shared.consumers.unregister(&self.conn, &consumer);
                self.wanted = Arc::new(self.shared.consumers.wanted());
                self.tidy_alone();
                let _ = reply.send(result.map_err(|e| store_error(&e)));
            }
            // What is next is done when nobody writes, or by the next who does.
            Request::Acknowledged => {}
            Request::Alone(work) => work(self),
            Request::Count { collection, reply } => {
                let _ = reply.send(self.count(&collection).map_err(|e| store_error(&e)));
            }
            Request::TryView { schema_version, query, reply } => {
                let _ = reply.send(self.try_view(schema_version, &query));
            }
            Request::Follow { collection, reply } => {
                self.shared.texts.versions.follow(&collection);
                let _ = reply.send(Ok(()));
            }
            Request::Write { .. } | Request::Close { .. } => {}
        }
    }

    /// Commits batches in as few transactions as their kinds allow.
    fn commit(&mut self, jobs: Vec<Job>) {
        let mut group = Vec::with_capacity(jobs.len());
        for job in jobs {
            if job.batch.changes_schema() {
                self.commit_group(std::mem::take(&mut group));
                self.commit_group(vec![job]);
            } else {
                group.push(job);
            }
        }
        self.commit_group(group);
    }

    fn commit_group(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let batches: Vec<&WriteBatch> = jobs.iter().map(|job| &job.batch).collect();
        let results = match self.run_transaction(&batches) {
            Ok(results) => results,
            // The whole group may be lost for one member's sake: each gets its own outcome.
            Err(_) if batches.len() > 1 => batches.iter().map(|batch| self.run_alone(batch)).collect(),
            Err(error) => vec![Err(store_error(&error))],
        };
        for (job, result) in jobs.into_iter().zip(results) {
            // A caller that went away does not undo its write.
            let _ = job.reply.send(result);
        }
    }

    fn run_alone(&mut self, batch: &WriteBatch) -> BatchResult {
        match self.run_transaction(&[batch]) {
            Ok(mut results) => results.pop().unwrap_or(Err(StoreError::Closed)),
            Err(error) => Err(store_error(&error)),
        }
    }

    /// One transaction. An error means that nothing of it was kept.
    fn run_transaction(&mut self, batches: &[&WriteBatch]) -> rusqlite::Result<Vec<BatchResult>> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let (schema, settings) = (self.shared.schema.load_full(), self.shared.settings.load_full());
        let jobs_room = MAX_JOBS.saturating_sub(self.shared.jobs.load(Ordering::Relaxed));
        let mut effects = Effects::new(schema, settings, clock(), self.wanted.clone(), jobs_room);
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            match self.run_batch(batch, &mut effects) {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.roll_back();
                    return Err(error);
                }
            }
        }
        let changes_schema = effects.commit.schema_changed;
        if changes_schema {
            self.shared.begin_schema_commit();
            self.shared.secrets.add(&effects.schema);
        }
        let touched = std::mem::take(&mut effects.touched);
        self.shared.texts.versions.step(&touched);
        let finished = self.finish(&effects);
        match finished {
            Ok(()) => self.publish(effects, batches.len()),
            Err(_) => self.roll_back(),
        }
        self.shared.texts.versions.step(&touched);
        if changes_schema {
            self.shared.secrets.set(&self.shared.schema.load());
            self.shared.end_schema_commit();
        }
        finished.map(|()| results)
    }

    /// One batch in its savepoint. An error means that the whole transaction must go.
    fn run_batch(&mut self, batch: &WriteBatch, effects: &mut Effects) -> rusqlite::Result<BatchResult> {
        self.conn.prepare_cached("SAVEPOINT batch")?.execute([])?;
        let mut own = effects.for_batch();
        let mut transaction = BatchTransaction::new(&self.conn);
        let carried_out = std::panic::catch_unwind(AssertUnwindSafe(|| {
            at_once(batch::carry_out(&mut transaction, batch, &mut own))
        }));
        own.commit.newest_event = transaction.newest_event();
        let result = match carried_out {
            Ok(Ok(results)) => Ok(Ok(results)),
            Ok(Err(Failure::Refused(refused))) => Ok(Err(refused)),
            Ok(Err(Failure::TooManyJobs)) => {
                self.undo_batch()?;
                return Ok(Err(StoreError::Busy));
            }
            Ok(Err(Failure::Engine(error))) => Err(error),
            Err(_) => {
                tracing::error!("a write panicked");
                self.undo_batch()?;
                return Ok(Err(StoreError::Internal("a write failed".to_owned())));
            }
        };
        match result {
            Ok(Ok(results)) => {
                self.conn.prepare_cached("RELEASE batch")?.execute([])?;
                effects.merge(own);
                Ok(Ok(Ok(results)))
            }
            Ok(Err(refused)) => {
                self.undo_batch()?;
                Ok(Ok(Err(refused)))
            }
            Err(error) if self.conn.is_autocommit() || is_environment(&error) => Err(error),
            Err(error) => {
                self.undo_batch()?;
                Ok(Err(store_error(&error)))
            }
        }
    }

    fn undo_batch(&self) -> rusqlite::Result<()> {
        self.conn.prepare_cached("ROLLBACK TO batch")?.execute([])?;
        self.conn.prepare_cached("RELEASE batch")?.execute([])?;
        Ok(())
    }

    fn finish(&mut self, effects: &Effects) -> rusqlite::Result<()> {
        let is_due = self.tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY);
        let has_work = effects.commit.newest_event.is_some() || self.shared.consumers.are_ahead();
        let tidied = if is_due && has_work { Some(self.tidy(effects.now)?) } else { None };
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        if let Some(tidied) = tidied {
            self.note(tidied);
        }
        Ok(())
    }

    /// Tidies the outbox in a transaction of its own. Whether more is left to do.
    fn tidy_alone(&mut self) -> bool {
        let tidy = || -> rusqlite::Result<Tidied> {
            self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let tidied = self.tidy(clock())?;
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(tidied)
        };
        match tidy() {
            Ok(tidied) => self.note(tidied),
            Err(error) => {
                self.roll_back();
                tracing::warn!(%error, "the outbox could not be tidied");
                false
            }
        }
    }

    fn tidy(&self, now: Timestamp) -> rusqlite::Result<Tidied> {
        let positions = self.shared.consumers.positions();
        let Removal { is_more_left, cut_through } = outbox::tidy(&self.conn, &positions, self.bounds, now)?;
        Ok(Tidied { positions, is_more_left, cut_through })
    }

    /// What was tidied is committed.
    fn note(&mut self, tidied: Tidied) -> bool {
        self.shared.consumers.stored(tidied.positions);
        self.tidied = (!tidied.is_more_left).then(Instant::now);
        if let Some(through) = tidied.cut_through
            && self.cut_told.is_none_or(|told| told.elapsed() >= TELL_CUTS_EVERY)
        {
            tracing::warn!(through, "events were cut off that a consumer had not seen");
            self.cut_told = Some(Instant::now());
        }
        tidied.is_more_left
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a rollback failed");
        }
    }

    /// Makes a committed transaction visible before any of it is acknowledged.
    fn publish(&self, mut effects: Effects, batches: usize) {
        // A read that sees the number sees the commit: it then opens a snapshot of its own.
        self.shared.commits.fetch_add(1, Ordering::Release);
        self.shared.batches.fetch_add(batches as u64, Ordering::Relaxed);
        self.shared.counts.add(&effects.row_changes);
        if effects.settings_changed {
            self.shared.settings.store(effects.settings.clone());
            effects.commit.settings = Some(effects.settings);
        }
        if effects.commit.schema_changed {
            self.shared.counts.clear();
            self.shared.texts.clear();
            self.shared.schema.store(effects.schema);
        }
        self.shared.jobs.fetch_add(effects.jobs_left, Ordering::Relaxed);
        self.tell(&effects.commit);
    }

    fn tell(&self, commit: &Commit) {
        if *commit != Commit::default() {
            for observer in &self.observers {
                observer.committed(commit);
            }
        }
    }

    fn run_small<T>(
        &mut self,
        work: impl FnOnce(&Connection, Timestamp) -> rusqlite::Result<(T, Change)>,
    ) -> rusqlite::Result<T> {
        let changes = self.conn.total_changes();
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let done = work(&self.conn, clock()).and_then(|done| {
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(done)
        });
        match done {
            Ok((answer, change)) => {
                if self.conn.total_changes() > changes {
                    self.shared.commits.fetch_add(1, Ordering::Release);
                }
                // A negative number wraps around, and takes away.
                self.shared.jobs.fetch_add(change.jobs.cast_unsigned(), Ordering::Relaxed);
                self.tell(&change.commit);
                self.checkpoints.after_commit(&self.conn);
                Ok(answer)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    fn try_view(&self, schema_version: u64, query: &str) -> Result<Tried, StoreError> {
        let schema = self.shared.schema.load();
        if schema.version() != schema_version {
            return Err(StoreError::SchemaChanged);
        }
        let begun = self.conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([]));
        let tried = begun.and_then(|_| views::try_query(&self.conn, &schema, query));
        self.roll_back();
        tried.map_err(|error| store_error(&error))
    }

    fn count(&self, collection: &Collection) -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", super::layout::quoted(&collection.name));
        let count = self.conn.query_row(&sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
        self.shared.counts.set(&collection.id, count);
        Ok(count)
    }
}

/// Takes further writes that already wait, up to the size of a group. What is not a write ends the
/// group and is returned.
///
/// When the queue runs dry, others get the processor once: on a busy machine the request loops use it
/// to queue what they have just read, and a group grows instead of each write paying for a commit. On
/// an idle one it costs a microsecond.
fn collect_group(queue: &Receiver<Request>, group: &mut Vec<Job>) -> Option<Request> {
    let mut has_yielded = false;
    while group.len() < GROUP {
        match queue.try_recv() {
            Ok(Request::Write { batch, reply }) => group.push(Job { batch, reply }),
            Ok(Request::Acknowledged) => {}
            Ok(other) => return Some(other),
            Err(_) if has_yielded => return None,
            Err(_) => {
                std::thread::yield_now();
                has_yielded = true;
            }
        }
    }
    None
}

/// Whether the surroundings failed rather than the batch.
fn is_environment(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
        )
    )
}

/// The time of day.
pub(super) fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn store_error(error: &rusqlite::Error) -> StoreError {
    if is_environment(error) {
        tracing::error!(%error, "the data file cannot be written");
        StoreError::Unavailable(error.to_string())
    } else {
        tracing::error!(%error, "a write failed");
        StoreError::Internal(error.to_string())
    }
}
