//! The store on SQLite: one data file, one writer thread that commits batches in groups, a pool of
//! reader threads.

mod at_hand;
mod attempts;
mod checkpoint;
mod connection;
mod consumers;
mod counts;
pub mod filter_sql;
mod folder;
mod hooks;
mod jobs;
mod layout;
mod migrate;
mod open;
mod outbox;
mod questions;
mod read_pool;
mod reads;
mod row_versions;
mod rows;
mod schema_rows;
mod schema_steps;
mod secrets;
mod shared;
mod text_columns;
mod text_lookup;
mod transaction;
mod uploads;
mod view_guard;
mod views;
mod writer;

use std::hash::Hash;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::event::{EventPage, Interest};
use contract::hooks::{HookStore, Saved, StoredHook};
use contract::jobs::{
    AttemptEnd, AttemptId, AttemptLog, AttemptPage, Claimed, DeadJobs, JobStore, QueueStatus,
};
use contract::secrets::{Secret, SecretStore};
use contract::store::{
    Answer, CommitObserver, FindByField, GetRecord, GetRecords, JudgeRow, ListRecords, RecordPage,
    ReferringRecords, Store, StoreError, StoreStatus, TriedView, TryView,
};
use model::collection::view::Fault;
use model::collection::{Collection, CollectionKind};
use model::json::Json;
use model::record::Record;
use model::schema::Schema;
use model::settings::Settings;
use model::step::{Refused, StepResult, WriteBatch};
use model::time::Timestamp;

use rusqlite::Connection;

pub use folder::FolderLock;
pub use layout::FORMAT;
pub use migrate::MigrateError;
pub use open::{Inspection, OpenError, hold, inspect};

use jobs::Kept;
use read_pool::{ReadPool, Weight};
use shared::Shared;
use views::Tried;
use writer::{Change, Writer, clock};

/// How the store is opened.
#[derive(Clone)]
pub struct Options {
    /// The data folder; made when missing.
    pub dir: PathBuf,
    /// When an acknowledged write is on the disk.
    pub synchronous: Synchronous,
    /// Reader threads.
    pub readers: usize,
    /// How long a read may run.
    pub read_deadline: Duration,
    /// Bounds of the outbox.
    pub outbox: OutboxBounds,
    /// Who is told of commits.
    pub observers: Vec<Arc<dyn CommitObserver>>,
}

/// SQLite's `synchronous`, of which two make sense with a write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// An acknowledged write outlives a power cut: the log is synced at every commit.
    Full,
    /// It outlives the process; a power cut may take the last moments. The file stays sound.
    Normal,
}

/// What the outbox may hold for consumers that are behind; past it the oldest events go and those
/// consumers are told to resync.
#[derive(Debug, Clone, Copy)]
pub struct OutboxBounds {
    /// Oldest event.
    pub max_age: Duration,
    /// Rough bytes of all events.
    pub max_bytes: u64,
}

/// The store on SQLite.
pub struct SqliteStore {
    shared: Arc<Shared>,
    reads: ReadPool,
    writer: Writer,
    /// None once the writer has ended: then the folder may be another process's, and only reads go on here.
    folder: Mutex<Option<folder::FolderLock>>,
}

// === impl Options ===

impl Options {
    /// The defaults for a folder.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            synchronous: Synchronous::Full,
            readers: 4,
            read_deadline: Duration::from_secs(30),
            outbox: OutboxBounds::default(),
            observers: Vec::new(),
        }
    }
}

// === impl Synchronous ===

impl Synchronous {
    /// SQLite's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        }
    }
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens the folder, makes what is missing, and starts the threads. Blocks: milliseconds on an
    /// existing folder.
    pub fn open(options: Options) -> Result<SqliteStore, OpenError> {
        open::open(options)
    }
}

impl Store for SqliteStore {
    fn schema(&self) -> Arc<Schema> {
        self.shared.schema.load_full()
    }

    fn settings(&self) -> Arc<Settings> {
        self.shared.settings.load_full()
    }

    fn write(&self, batch: WriteBatch) -> Answer<'_, Result<Vec<StepResult>, Refused>> {
        Box::pin(self.writer.write(batch))
    }

    fn get(&self, query: GetRecord) -> Answer<'_, Option<Record>> {
        let is_view = query.collection.is_view();
        let read = self.read(query.schema_version, Weight::Light, move |conn| reads::get(conn, &query));
        Box::pin(async move { read.await.map_err(|error| of_collection(error, is_view)) })
    }

    fn list(&self, query: ListRecords) -> Answer<'_, RecordPage> {
        let is_view = query.collection.is_view();
        let read = self.list_page(query);
        Box::pin(async move { read.await.map_err(|error| of_collection(error, is_view)) })
    }

    fn get_many(&self, query: GetRecords) -> Answer<'_, Vec<Record>> {
        if query.ids.len() > GetRecords::MAX_IDS {
            let error = StoreError::Internal(format!("{} ids in one call", query.ids.len()));
            return Box::pin(async { Err(error) });
        }
        let weight = Weight::of(&query.collection, &query.conditions, &"many");
        Box::pin(self.read(query.schema_version, weight, move |conn| reads::get_many(conn, &query)))
    }

    fn referring(&self, query: ReferringRecords) -> Answer<'_, Vec<Record>> {
        let weight = Weight::of(&query.collection, &query.conditions, &query.field);
        Box::pin(self.read(query.schema_version, weight, move |conn| reads::referring(conn, &query)))
    }

    fn judge(&self, query: JudgeRow) -> Answer<'_, Vec<bool>> {
        if query.questions.len() > JudgeRow::MAX_QUESTIONS {
            let error = StoreError::Internal(format!("{} questions in one call", query.questions.len()));
            return Box::pin(async { Err(error) });
        }
        Box::pin(self.read(query.schema_version, Weight::Heavy, move |conn| reads::judge(conn, &query)))
    }

    fn find_by_field(&self, query: FindByField) -> Answer<'_, Option<Record>> {
        let weight = Weight::of(&query.collection, &[], &query.field);
        Box::pin(self.read(query.schema_version, weight, move |conn| reads::find_by_field(conn, &query)))
    }

    fn try_view(&self, query: TryView) -> Answer<'_, TriedView> {
        Box::pin(self.try_view(query))
    }

    fn register_consumer(&self, name: String, interest: Interest) -> Answer<'_, ()> {
        Box::pin(self.writer.register_consumer(name, interest))
    }

    fn unregister_consumer(&self, name: String) -> Answer<'_, ()> {
        Box::pin(self.writer.unregister_consumer(name))
    }

    fn events(&self, consumer: String, after: u64, limit: usize) -> Answer<'_, EventPage> {
        Box::pin(self.next_events(consumer, after, limit))
    }

    fn acknowledge(&self, consumer: String, sequence: u64) -> Answer<'_, ()> {
        let moved = self.shared.consumers.acknowledge(&consumer, sequence);
        if moved == Some(true) {
            self.writer.acknowledged();
        }
        Box::pin(std::future::ready(moved.map(drop).ok_or_else(|| unknown_consumer(&consumer))))
    }

    fn optimize(&self) -> Answer<'_, ()> {
        Box::pin(self.writer.alone(|conn, _| Ok((conn.execute_batch("PRAGMA optimize")?, Change::default()))))
    }

    fn stale_uploads(&self, before: Timestamp, limit: usize) -> Answer<'_, Vec<String>> {
        Box::pin(self.reads.run(Weight::Heavy, move |conn| uploads::stale(conn, before, limit)))
    }

    fn status(&self) -> Answer<'_, StoreStatus> {
        Box::pin(async { Ok(self.shared.status()) })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.writer.close().await?;
            self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(())
        })
    }
}

impl JobStore for SqliteStore {
    fn claim(&self, queue: String, limit: usize, lease: Duration) -> Answer<'_, Claimed> {
        Box::pin(
            self.writer.alone(move |conn, now| {
                Ok((jobs::claim(conn, &queue, limit, lease, now)?, Change::default()))
            }),
        )
    }

    fn end(&self, attempt: AttemptId, end: AttemptEnd, log: Option<AttemptLog>) -> Answer<'_, bool> {
        Box::pin(self.writer.alone(move |conn, now| {
            let queue = jobs::end(conn, attempt, &end, log.as_ref(), now)?;
            let change = match (&queue, &end) {
                (None, _) => Change::default(),
                (Some(queue), AttemptEnd::Again { .. }) => Change::of_queue(queue, 0),
                (Some(_), AttemptEnd::Done | AttemptEnd::Dead { .. }) => {
                    Change { jobs: -1, ..Change::default() }
                }
            };
            Ok((queue.is_some(), change))
        }))
    }

    fn queues(&self) -> Answer<'_, Vec<QueueStatus>> {
        Box::pin(self.reads.run(Weight::Heavy, |conn| jobs::queues(conn, clock())))
    }

    fn attempts(&self, queue: String, offset: u64, limit: u64) -> Answer<'_, AttemptPage> {
        Box::pin(self.reads.run(Weight::Heavy, move |conn| attempts::page(conn, &queue, offset, limit)))
    }

    fn dead_jobs(&self, queue: Option<String>, offset: u64, limit: u64) -> Answer<'_, DeadJobs> {
        let read = move |conn: &Connection| jobs::dead_jobs(conn, queue.as_deref(), offset, limit);
        Box::pin(self.reads.run(Weight::Heavy, read))
    }

    fn replay(&self, id: u64) -> Answer<'_, bool> {
        Box::pin(self.writer.alone(move |conn, now| {
            let queue = jobs::replay(conn, id, now)?;
            let change = queue.as_deref().map(|queue| Change::of_queue(queue, 1)).unwrap_or_default();
            Ok((queue.is_some(), change))
        }))
    }

    fn replay_all(&self, queue: String) -> Answer<'_, u64> {
        Box::pin(self.replay_all(queue))
    }

    fn clear(&self, queue: String) -> Answer<'_, u64> {
        Box::pin(self.clear(queue))
    }

    fn discard(&self, id: u64) -> Answer<'_, bool> {
        Box::pin(self.writer.alone(move |conn, _| Ok((jobs::discard(conn, id)?, Change::default()))))
    }
}

impl HookStore for SqliteStore {
    fn hooks(&self) -> Answer<'_, Vec<StoredHook>> {
        Box::pin(self.reads.run(Weight::Heavy, hooks::all))
    }

    fn save_hook(&self, hook: StoredHook, before: Option<Json>) -> Answer<'_, Saved> {
        Box::pin(
            self.writer
                .alone(move |conn, _| Ok((hooks::save(conn, &hook, before.as_ref())?, Change::default()))),
        )
    }

    fn remove_hook(&self, name: String) -> Answer<'_, bool> {
        Box::pin(self.writer.alone(move |conn, _| Ok((hooks::remove(conn, &name)?, Change::default()))))
    }
}

impl SecretStore for SqliteStore {
    fn secret(&self, name: String) -> Answer<'_, Option<Secret>> {
        Box::pin(self.reads.run(Weight::Heavy, move |conn| secrets::get(conn, &name)))
    }

    fn save_secret(&self, name: String, secret: Secret, before: Option<Secret>) -> Answer<'_, bool> {
        Box::pin(self.writer.alone(move |conn, _| {
            Ok((secrets::save(conn, &name, &secret, before.as_ref())?, Change::default()))
        }))
    }
}

impl SqliteStore {
    /// A transaction for each part, so that others' writes come between. What dies again meanwhile is newer
    /// than `through`, and is left alone.
    async fn replay_all(&self, queue: String) -> Result<u64, StoreError> {
        let through = self.newest(Kept::Dead).await?;
        let mut replayed = 0;
        loop {
            let queue = queue.clone();
            let part = self.writer.alone(move |conn, now| {
                let part = jobs::replay_part(conn, &queue, through, now)?;
                let change = if part > 0 { Change::of_queue(&queue, part as i64) } else { Change::default() };
                Ok((part, change))
            });
            let part = part.await?;
            replayed += part as u64;
            if part < jobs::PART {
                return Ok(replayed);
            }
        }
    }

    /// A transaction for each part, so that others' writes come between. The dead come after those that may
    /// die meanwhile.
    async fn clear(&self, queue: String) -> Result<u64, StoreError> {
        let mut cleared = 0;
        for kept in Kept::ALL {
            let gone = self.clear_kept(kept, &queue).await?;
            cleared += if kept == Kept::Attempts { 0 } else { gone };
        }
        Ok(cleared)
    }

    async fn clear_kept(&self, kept: Kept, queue: &str) -> Result<u64, StoreError> {
        let through = self.newest(kept).await?;
        let mut gone = 0;
        loop {
            let queue = queue.to_owned();
            let part = self.writer.alone(move |conn, _| {
                let part = jobs::clear_part(conn, kept, &queue, through)?;
                let jobs = if kept == Kept::Jobs { -(part as i64) } else { 0 };
                Ok((part, Change { jobs, ..Change::default() }))
            });
            let part = part.await?;
            gone += part as u64;
            if part < jobs::PART {
                return Ok(gone);
            }
        }
    }

    async fn newest(&self, kept: Kept) -> Result<i64, StoreError> {
        self.reads.run(Weight::Heavy, move |conn| jobs::newest(conn, kept)).await
    }

    /// A total without a condition comes from the kept count, not from counting rows.
    async fn list_page(&self, mut query: ListRecords) -> Result<RecordPage, StoreError> {
        let kept = if query.with_total && query.conditions.is_empty() && !query.collection.is_view() {
            query.with_total = false;
            Some(self.count(&query.collection).await?)
        } else {
            None
        };
        let what =
            (query.sort.as_ref().map(|sort| Arc::as_ptr(sort) as usize), query.offset > 0, query.with_total);
        let mut page = if text_lookup::is_for(&query) {
            self.list_by_text(query, &what).await?
        } else {
            let weight = Weight::of(&query.collection, &query.conditions, &what);
            self.read(query.schema_version, weight, move |conn| reads::list(conn, &query, None)).await?
        };
        if kept.is_some() {
            page.total = kept;
        }
        Ok(page)
    }

    /// A list with a `~`. Each word is another filter, so what is remembered of its weight is of all of them.
    async fn list_by_text(&self, query: ListRecords, what: &impl Hash) -> Result<RecordPage, StoreError> {
        let weight = Weight::of(&query.collection, &[], &("text", what));
        let version = query.schema_version;
        if !self.reads.is_for_threads(weight) {
            return self.read(version, weight, move |conn| reads::list(conn, &query, None)).await;
        }
        if !self.shared.texts.versions.is_followed(&query.collection.id) {
            self.writer.follow(query.collection.id.clone()).await?;
        }
        let shared = self.shared.clone();
        self.read(version, Weight::Heavy, move |conn| shared.texts.list(conn, &query)).await
    }

    /// A read of what was built under a schema version: refused unless that version is the current one
    /// from before the read begins until after it has ended. A commit that changes the schema is
    /// announced before it happens; a read that comes meanwhile waits for its end, so that a caller that
    /// is refused can ask again at once.
    async fn read<T, F>(&self, schema_version: u64, weight: Weight, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let epoch = self.shared.settled_schema_epoch().await;
        if self.shared.schema.load().version() != schema_version {
            return Err(StoreError::SchemaChanged);
        }
        let result = self.reads.run(weight, read).await;
        if self.shared.schema_epoch.load(Ordering::Acquire) != epoch {
            return Err(StoreError::SchemaChanged);
        }
        result
    }

    async fn next_events(&self, consumer: String, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        let known = self.shared.consumers.get(&consumer).ok_or_else(|| unknown_consumer(&consumer))?;
        let after = known.position.max(i64::try_from(after).unwrap_or(i64::MAX));
        let read = move |conn: &Connection| outbox::next(conn, &known.interest, after, limit);
        self.reads.run(Weight::Heavy, read).await
    }

    /// The view is made and unmade by the writer, which is quick; its records are read as any others.
    async fn try_view(&self, query: TryView) -> Result<TriedView, StoreError> {
        let TryView { schema_version, collection } = query;
        let CollectionKind::View(options) = &collection.kind else {
            return Err(StoreError::Internal(format!("{} is no view", collection.name)));
        };
        let Tried { mut trial, select } = self.writer.try_view(schema_version, options.query.clone()).await?;
        if trial.fault.is_some() {
            return Ok(TriedView { trial, records: Vec::new() });
        }
        let collection = views::with_fields(&collection, &trial.fields);
        let read = move |conn: &Connection| views::sample(conn, &collection, &select);
        let records = match self.read(schema_version, Weight::Heavy, read).await {
            Err(StoreError::Deadline(_)) => Err(views::unreadable("context deadline exceeded")),
            read => read?,
        };
        match &records {
            Ok(records) => trial.check_ids(records.iter().map(Record::id)),
            Err(text) => trial.fault = Some(Fault::Records(text.clone())),
        }
        Ok(TriedView { trial, records: records.unwrap_or_default() })
    }

    async fn count(&self, collection: &Arc<Collection>) -> Result<u64, StoreError> {
        match self.shared.counts.get(&collection.id) {
            Some(count) => Ok(count),
            None => self.writer.count(collection.clone()).await,
        }
    }
}

fn unknown_consumer(name: &str) -> StoreError {
    StoreError::Internal(format!("no consumer is called {name:?}"))
}

/// What fails in a view is the query's own.
fn of_collection(error: StoreError, is_view: bool) -> StoreError {
    match error {
        StoreError::Internal(detail) if is_view => StoreError::BrokenView(detail),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future as _, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use contract::jobs::MAX_JOBS;
    use model::json::Json;
    use model::step::{NewJob, Step};
    use model::time::Timestamp;

    use super::*;

    #[test]
    fn no_more_jobs_are_left_than_may_wait() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(Options::new(folder.path())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        store.shared.jobs.store(MAX_JOBS - 2, Ordering::Relaxed);
        let job = || Step::Enqueue(NewJob::new("q", &Json::Null, Timestamp(0)).unwrap());
        let leave = |count: usize| {
            let steps = (0..count).map(|_| job()).collect();
            runtime.block_on(store.write(WriteBatch { steps, ..WriteBatch::default() }))
        };
        assert_eq!(leave(3).unwrap_err(), StoreError::Busy);
        assert!(leave(2).unwrap().is_ok());
        assert_eq!(leave(1).unwrap_err(), StoreError::Busy);
        let claimed = runtime.block_on(store.claim("q".to_owned(), 9, Duration::from_secs(9))).unwrap();
        assert_eq!(claimed.jobs.len(), 2, "of the batch that was refused nothing is left");
        assert!(runtime.block_on(store.end(claimed.jobs[0].attempt, AttemptEnd::Done, None)).unwrap());
        assert!(leave(1).unwrap().is_ok());
    }

    #[test]
    fn many_jobs_are_replayed_and_forgotten_in_parts_and_counted() {
        const MANY: u64 = 2 * jobs::PART as u64 + 1;
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(Options::new(folder.path())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fill = store.writer.alone(|conn, _| {
            let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                       INSERT INTO `_gs_dead_jobs` SELECT i, 'q', '{}', 0, 1, 0, '' FROM n";
            conn.execute(sql, [MANY as i64])?;
            Ok(((), Change::default()))
        });
        runtime.block_on(fill).unwrap();
        assert_eq!(runtime.block_on(JobStore::replay_all(&store, "q".to_owned())), Ok(MANY));
        assert_eq!(store.shared.jobs.load(Ordering::Relaxed), MANY);
        assert_eq!(runtime.block_on(JobStore::clear(&store, "q".to_owned())), Ok(MANY));
        assert_eq!(store.shared.jobs.load(Ordering::Relaxed), 0);
        assert_eq!(runtime.block_on(JobStore::queues(&store)), Ok(Vec::new()));
    }

    #[test]
    fn a_read_waits_for_a_schema_commit_that_is_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(Options::new(folder.path())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let version = store.shared.schema.load().version();
        runtime.block_on(async {
            store.shared.begin_schema_commit();
            let mut read = pin!(store.read(version, Weight::Light, |_| Ok(())));
            let is_waiting = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx).is_pending())).await;
            assert!(is_waiting);
            store.shared.end_schema_commit();
            assert_eq!(read.await, Ok(()));
        });
    }
}
