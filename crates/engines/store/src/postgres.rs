//! The store on PostgreSQL: a database that several nodes may share.
//!
//! Every write is one transaction, in as few trips to the server as its steps allow ([`transaction`]). What a
//! node knows of the schema, of the settings and of who follows the changes counts as long as the versions in
//! the database are those that it read ([`shared`]); each read and each write asks for them on its way.

mod connector;
mod consumers;
mod error;
pub mod filter_sql;
mod hooks;
mod indexes;
mod inspect;
mod jobs;
mod layout;
mod open;
mod outbox;
mod pool;
mod reads;
mod rows;
mod schema_rows;
mod schema_steps;
mod secrets;
mod session;
mod shared;
mod small;
pub mod sql;
mod tasks;
mod transaction;
mod uploads;
mod views;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::event::{EventPage, Interest};
use contract::store::{
    Answer, Commit, CommitObserver, FindByField, GetRecord, GetRecords, JudgeRow, ListRecords, RecordPage,
    ReferringRecords, Store, StoreError, StoreStatus, TriedView, TryView,
};
use model::collection::view::Fault;
use model::collection::{Collection, CollectionKind};
use model::filter::Verdict;
use model::record::Record;
use model::schema::Schema;
use model::settings::Settings;
use model::step::{Refused, StepResult, WriteBatch};
use model::time::Timestamp;
use tokio::sync::Semaphore;

pub use connector::UrlError;
pub use inspect::{Inspection, Place};
pub use layout::{FORMAT, create_table};
pub use open::OpenError;
pub use outbox::OutboxBounds;
pub use pool::PoolOptions;
pub use rows::insert;

use connector::Connector;
use consumers::Positions;
use error::{Error, Kind};
use outbox::Horizon;
use pool::{Lease, Pools};
use reads::Found;
use session::Outcome;
use shared::Shared;
use sql::Sql;
use tasks::Tasks;
use transaction::BatchTransaction;

/// Writes that may be under way or wait; one more is refused as busy.
const WRITES: usize = 4_096;

/// How the store is opened.
#[derive(Clone)]
pub struct Options {
    /// Where the database is: `postgres://user:password@host:5432/database`.
    pub url: String,
    /// Where it is without a pooler in between, where `url` goes through one.
    pub direct_url: Option<String>,
    /// Connections of each thread.
    pub pool: PoolOptions,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a read may run.
    pub read_deadline: Duration,
    /// How long the server may take for one answer within a write.
    pub write_deadline: Duration,
    /// Bounds of the outbox.
    pub outbox: OutboxBounds,
    /// Who is told of commits.
    pub observers: Vec<Arc<dyn CommitObserver>>,
}

/// The store on PostgreSQL.
pub struct PostgresStore {
    inner: Arc<Inner>,
    /// Ended with the store.
    tasks: Tasks,
}

struct Inner {
    shared: Shared,
    pools: Pools,
    options: Options,
    positions: Positions,
    horizon: tokio::sync::Mutex<Horizon>,
    /// A place for each write.
    writes: Semaphore,
    is_closed: AtomicBool,
    /// The newest event of this node's writes.
    newest_own_event: AtomicI64,
    /// Whether somebody looked for events while some were not settled.
    has_held_up: AtomicBool,
    /// Woken by a commit that left an event.
    event_left: tokio::sync::Notify,
}

// === impl Options ===

impl Options {
    /// The defaults for a URL.
    pub fn new(url: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            direct_url: None,
            pool: PoolOptions::default(),
            connect_timeout: Duration::from_secs(5),
            read_deadline: Duration::from_secs(30),
            write_deadline: Duration::from_secs(30),
            outbox: OutboxBounds::default(),
            observers: Vec::new(),
        }
    }
}

// === impl PostgresStore ===

impl PostgresStore {
    /// Looks at a database, and changes nothing in it. Fails where opening it would fail.
    pub async fn inspect(options: &Options) -> Result<Inspection, OpenError> {
        let url = options.direct_url.as_ref().unwrap_or(&options.url);
        let connector = Connector::new(url, false, options.connect_timeout, options.read_deadline)?;
        let connector = Arc::new(connector);
        let session = connector.connect().await.map_err(|error| OpenError::Unreachable {
            database: connector.database().to_owned(),
            detail: error.to_string(),
        })?;
        inspect::inspect(&Arc::new(session), connector.database()).await
    }

    /// Opens the database, makes what is missing, and starts the tasks, on the runtime that this is called on.
    pub async fn open(options: Options) -> Result<PostgresStore, OpenError> {
        // This node itself gives up before.
        let longest = options.read_deadline.max(options.write_deadline) + Duration::from_secs(5);
        let connector = |url: &str, is_pooled| {
            Connector::new(url, is_pooled, options.connect_timeout, longest).map(Arc::new)
        };
        let connector_of_url = connector(&options.url, options.direct_url.is_some())?;
        let direct = match &options.direct_url {
            Some(url) => connector(url, false)?,
            None => connector_of_url.clone(),
        };
        let database = direct.database().to_owned();
        let session = direct.connect().await.map_err(|error| OpenError::Unreachable {
            database: database.clone(),
            detail: error.to_string(),
        })?;
        let opened = open::open(&Arc::new(session), &database, &options).await?;
        let positions = Positions::default();
        opened.positions.iter().for_each(|(name, position)| positions.learn(name, *position));
        let inner = Arc::new(Inner {
            shared: Shared::new(opened.known, options.observers.clone(), opened.jobs, opened.durability),
            pools: Pools::new(connector_of_url, options.pool),
            options,
            positions,
            horizon: tokio::sync::Mutex::default(),
            writes: Semaphore::new(WRITES),
            is_closed: AtomicBool::new(false),
            newest_own_event: AtomicI64::new(0),
            has_held_up: AtomicBool::new(false),
            event_left: tokio::sync::Notify::new(),
        });
        let tasks = Tasks::start(&inner);
        Ok(PostgresStore { inner, tasks })
    }
}

impl Store for PostgresStore {
    fn schema(&self) -> Arc<Schema> {
        self.inner.shared.known.load().schema.clone()
    }

    fn settings(&self) -> Arc<Settings> {
        self.inner.shared.known.load().settings.clone()
    }

    fn write(&self, batch: WriteBatch) -> Answer<'_, Result<Vec<StepResult>, Refused>> {
        Box::pin(writes::write(self.inner.clone(), batch))
    }

    fn get(&self, query: GetRecord) -> Answer<'_, Option<Record>> {
        Box::pin(self.inner.get(query))
    }

    fn list(&self, query: ListRecords) -> Answer<'_, RecordPage> {
        Box::pin(self.inner.list(query))
    }

    fn get_many(&self, query: GetRecords) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            if query.ids.len() > GetRecords::MAX_IDS {
                return Err(StoreError::Internal(format!("{} ids in one call", query.ids.len())));
            }
            let sql = reads::get_many(&query).map_err(Error::into_store_error)?;
            self.inner.records(query.schema_version, &query.collection, sql).await
        })
    }

    fn referring(&self, query: ReferringRecords) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            match reads::referring(&query).map_err(Error::into_store_error)? {
                Some(_) if query.id.contains('\0') => Ok(Vec::new()),
                Some(sql) => self.inner.records(query.schema_version, &query.collection, sql).await,
                None => Ok(Vec::new()),
            }
        })
    }

    fn judge(&self, query: JudgeRow) -> Answer<'_, Vec<bool>> {
        Box::pin(self.inner.judge(query))
    }

    fn find_by_field(&self, query: FindByField) -> Answer<'_, Option<Record>> {
        Box::pin(async move {
            if query.value.contains('\0') {
                return Ok(None);
            }
            let sql = reads::find_by_field(&query);
            Ok(self.inner.records(query.schema_version, &query.collection, sql).await?.pop())
        })
    }

    fn try_view(&self, query: TryView) -> Answer<'_, TriedView> {
        Box::pin(self.inner.try_view(query))
    }

    fn register_consumer(&self, name: String, interest: Interest) -> Answer<'_, ()> {
        Box::pin(writes::register(&self.inner, name, interest))
    }

    fn unregister_consumer(&self, name: String) -> Answer<'_, ()> {
        Box::pin(writes::unregister(&self.inner, name))
    }

    fn events(&self, consumer: String, after: u64, limit: usize) -> Answer<'_, EventPage> {
        Box::pin(self.inner.events(consumer, after, limit))
    }

    fn acknowledge(&self, consumer: String, sequence: u64) -> Answer<'_, ()> {
        let is_known = self.inner.shared.known.load().consumers.contains_key(&consumer);
        let result = if is_known {
            self.inner.positions.acknowledge(&consumer, sequence);
            Ok(())
        } else {
            Err(unknown_consumer(&consumer))
        };
        Box::pin(std::future::ready(result))
    }

    fn optimize(&self) -> Answer<'_, ()> {
        // The server's own autovacuum does it.
        Box::pin(std::future::ready(Ok(())))
    }

    fn stale_uploads(&self, before: Timestamp, limit: usize) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            let outcome = self.inner.run(uploads::stale(before, limit)).await?;
            transaction::texts(&outcome.rows).map_err(Error::into_store_error)
        })
    }

    fn status(&self) -> Answer<'_, StoreStatus> {
        Box::pin(async { Ok(self.inner.shared.status()) })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.inner.is_closed.store(true, Ordering::Release);
            // Who has a place ends; nobody gets one any more.
            let _ = self.inner.writes.acquire_many(WRITES as u32).await;
            self.inner.writes.close();
            self.tasks.stop().await;
            self.inner.store_positions().await;
            self.inner.pools.close();
            Ok(())
        })
    }
}

impl Inner {
    /// One record by id, if every condition holds. What can be judged in memory is.
    async fn get(&self, query: GetRecord) -> Result<Option<Record>, StoreError> {
        if query.id.contains('\0') {
            return Ok(None);
        }
        let version = query.schema_version;
        let Some(record) = self.records(version, &query.collection, reads::get(&query)).await?.pop() else {
            return Ok(None);
        };
        let mut needs_store = false;
        for condition in &query.conditions {
            match condition.judge(&record) {
                Verdict::Yes => {}
                Verdict::No => return Ok(None),
                Verdict::NeedsStore => needs_store = true,
            }
        }
        if !needs_store {
            return Ok(Some(record));
        }
        // The row may have changed since: the one that is given is the one that is judged.
        let GetRecord { schema_version, collection, id, conditions } = query;
        let judged = GetRecords { schema_version, collection: collection.clone(), ids: vec![id], conditions };
        let sql = reads::get_many(&judged).map_err(Error::into_store_error)?;
        Ok(self.records(schema_version, &collection, sql).await?.pop())
    }

    async fn list(&self, query: ListRecords) -> Result<RecordPage, StoreError> {
        let sql = reads::list(&query).map_err(Error::into_store_error)?;
        let records = self.records(query.schema_version, &query.collection, sql).await?;
        if !query.with_total {
            return Ok(RecordPage { records, total: None });
        }
        let total = match reads::total_of_page(&query, &records) {
            Some(total) => total,
            None => {
                let sql = reads::count(&query).map_err(Error::into_store_error)?;
                let outcome = self.run_for(sql, query.collection.is_view()).await?;
                let count: Option<i64> = outcome.rows.first().and_then(|row| row.try_get(0).ok());
                count.unwrap_or_default().unsigned_abs()
            }
        };
        Ok(RecordPage { records, total: Some(total) })
    }

    /// Which conditions hold for a row as it is given.
    async fn judge(&self, query: JudgeRow) -> Result<Vec<bool>, StoreError> {
        if query.questions.len() > JudgeRow::MAX_QUESTIONS {
            return Err(StoreError::Internal(format!("{} questions in one call", query.questions.len())));
        }
        let row = &*query.row;
        if self.shared.known.load().schema.version() != query.schema_version {
            return Err(StoreError::SchemaChanged);
        }
        let mut answers = Vec::with_capacity(query.questions.len());
        for question in &query.questions {
            let mut all_hold = true;
            for condition in question {
                all_hold = match condition.judge(row) {
                    Verdict::Yes => true,
                    Verdict::No => false,
                    Verdict::NeedsStore => self.holds(reads::holds_given(&query, condition)).await?,
                };
                if !all_hold {
                    break;
                }
            }
            answers.push(all_hold);
        }
        Ok(answers)
    }

    async fn holds(&self, sql: Result<Sql, Error>) -> Result<bool, StoreError> {
        let sql = sql.map_err(Error::into_store_error)?;
        Ok(!self.run(sql).await?.rows.is_empty())
    }

    /// The records of a SELECT that gives the schema's version beside them. Refused unless that is the one that
    /// the query was built under.
    async fn records(
        &self,
        schema_version: u64,
        collection: &Arc<Collection>,
        sql: Sql,
    ) -> Result<Vec<Record>, StoreError> {
        if self.shared.known.load().schema.version() != schema_version {
            return Err(StoreError::SchemaChanged);
        }
        let outcome = self.run_for(sql, collection.is_view()).await?;
        let Found { schema, records } =
            reads::found(collection, &outcome).map_err(Error::into_store_error)?;
        if schema.unsigned_abs() != schema_version {
            self.refresh().await?;
            return Err(StoreError::SchemaChanged);
        }
        Ok(records)
    }

    async fn run(&self, sql: Sql) -> Result<Outcome, StoreError> {
        self.run_for(sql, false).await
    }

    /// Runs a read within its deadline. What fails in a view is the query's own.
    async fn run_for(&self, sql: Sql, is_view: bool) -> Result<Outcome, StoreError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let (mut has_forgotten, mut has_retried) = (false, 0);
        loop {
            let lease = self.pools.lease().await.map_err(Error::into_store_error)?;
            let error = match self.run_on(lease, &sql).await? {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            match error.kind() {
                Kind::Cancelled => return Err(StoreError::Deadline(self.options.read_deadline)),
                // It met a change of the schema, and was the one to give way.
                Kind::Conflict if has_retried < 3 => has_retried += 1,
                // A statement that was prepared for other tables, or written for other ones.
                Kind::Statement if !has_forgotten => {
                    has_forgotten = true;
                    self.pools.forget_prepared();
                    let before = self.shared.known.load().versions.schema;
                    self.refresh().await?;
                    if self.shared.known.load().versions.schema != before {
                        return Err(StoreError::SchemaChanged);
                    }
                }
                Kind::Statement | Kind::Other if is_view => {
                    return Err(StoreError::BrokenView(error.to_string()));
                }
                _ => return Err(error.into_store_error()),
            }
        }
    }

    async fn run_on(&self, lease: Lease, sql: &Sql) -> Result<Result<Outcome, Error>, StoreError> {
        let session = lease.session().clone();
        // Dropped at the deadline or with the caller, the lease stops the statement.
        match tokio::time::timeout(
            self.options.read_deadline,
            session.run_within(sql, self.options.read_deadline),
        )
        .await
        {
            Ok(result) => {
                lease.finish();
                Ok(result)
            }
            Err(_) => Err(StoreError::Deadline(self.options.read_deadline)),
        }
    }

    /// Reads again what this node must know, unless somebody else does it at this moment.
    async fn refresh(&self) -> Result<(), StoreError> {
        let before = self.shared.known.load().versions;
        let _alone = self.shared.refreshing.lock().await;
        if self.shared.known.load().versions != before {
            return Ok(());
        }
        let lease = self.pools.lease().await.map_err(Error::into_store_error)?;
        let session = lease.session().clone();
        let read = tokio::time::timeout(self.options.read_deadline, open::read_known(&session)).await;
        let (known, positions) = read
            .map_err(|_| StoreError::Deadline(self.options.read_deadline))?
            .map_err(Error::into_store_error)?;
        lease.finish();
        positions.iter().for_each(|(name, position)| self.positions.learn(name, *position));
        let settings = (known.versions.settings != before.settings).then(|| known.settings.clone());
        let schema_changed = known.versions.schema != before.schema;
        if schema_changed {
            self.pools.forget_prepared();
        }
        self.shared.learn(&known);
        self.shared.tell(&Commit { schema_changed, settings, ..Commit::default() });
        Ok(())
    }

    async fn events(&self, consumer: String, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        let interest = self.shared.known.load().consumers.get(&consumer).cloned();
        let interest = interest.ok_or_else(|| unknown_consumer(&consumer))?;
        let after = self.positions.get(&consumer).max(i64::try_from(after).unwrap_or(i64::MAX));
        let lease = self.pools.lease().await.map_err(Error::into_store_error)?;
        let session = lease.session().clone();
        let read = async {
            let settled = {
                let mut horizon = self.horizon.lock().await;
                let settled = horizon.advance(&session).await?;
                if horizon.is_behind() {
                    self.has_held_up.store(true, Ordering::Relaxed);
                    self.event_left.notify_one();
                }
                settled
            };
            outbox::next(&session, &interest, after, settled, limit).await
        };
        let read = tokio::time::timeout(self.options.read_deadline, read).await;
        let page = read.map_err(|_| StoreError::Deadline(self.options.read_deadline))?;
        lease.finish();
        page.map_err(Error::into_store_error)
    }

    /// Brings positions into the table; one that cannot be stored now is stored later.
    async fn store_positions(&self) {
        for (name, position) in self.positions.moved() {
            let stored = async {
                let lease = self.pools.lease().await?;
                let session = lease.session().clone();
                let stored = session.run(&consumers::store(&name, position)).await;
                lease.finish();
                stored
            };
            match tokio::time::timeout(self.options.write_deadline, stored).await {
                Ok(Ok(_)) => self.positions.learn(&name, position),
                Ok(Err(error)) => tracing::warn!(%error, "a consumer's position could not be stored"),
                Err(_) => tracing::warn!("a consumer's position could not be stored in time"),
            }
        }
    }

    /// The view is made and unmade in a transaction; its records are read as any others.
    async fn try_view(&self, query: TryView) -> Result<TriedView, StoreError> {
        let TryView { schema_version, collection } = query;
        let CollectionKind::View(options) = &collection.kind else {
            return Err(StoreError::Internal(format!("{} is no view", collection.name)));
        };
        let known = self.shared.known.load_full();
        if known.schema.version() != schema_version {
            return Err(StoreError::SchemaChanged);
        }
        let lease = self.pools.lease().await.map_err(Error::into_store_error)?;
        let work = async {
            let mut transaction = BatchTransaction::begin(
                lease.session().clone(),
                transaction::Isolation::ReadCommitted,
                known.versions,
                self.options.read_deadline,
            )
            .await?;
            let tried = views::try_query(&mut transaction, &known.schema, &options.query).await?;
            transaction.roll_back().await?;
            Ok(tried)
        };
        let tried = match work.await {
            Ok(tried) => tried,
            Err(Error::SchemaChanged) => {
                drop(lease);
                self.refresh().await?;
                return Err(StoreError::SchemaChanged);
            }
            Err(error) => return Err(error.into_store_error()),
        };
        lease.finish();
        let views::Tried { mut trial, select } = tried;
        if trial.fault.is_some() {
            return Ok(TriedView { trial, records: Vec::new() });
        }
        let collection = views::with_fields(&collection, &trial.fields);
        let records = match self.run_for(views::sample(&collection, &select), true).await {
            Ok(outcome) => {
                let rows = outcome.rows.iter().map(|row| rows::record(&collection, row, 0));
                Ok(rows.collect::<Result<Vec<_>, Error>>().map_err(Error::into_store_error)?)
            }
            Err(StoreError::Deadline(_)) => Err(views::unreadable("context deadline exceeded")),
            Err(StoreError::BrokenView(text)) => Err(views::unreadable(&text)),
            Err(error) => return Err(error),
        };
        match &records {
            Ok(records) => trial.check_ids(records.iter().map(Record::id)),
            Err(text) => trial.fault = Some(Fault::Records(text.clone())),
        }
        Ok(TriedView { trial, records: records.unwrap_or_default() })
    }
}

fn unknown_consumer(name: &str) -> StoreError {
    StoreError::Internal(format!("no consumer is called {name:?}"))
}

/// The time of day.
fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
