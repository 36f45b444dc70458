//! The store: collections, records and settings, with atomic batches and an outbox of change events.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use model::collection::Collection;
use model::collection::view::Trial;
use model::condition::Condition;
use model::filter::Sort;
use model::record::Record;
use model::schema::Schema;
use model::settings::Settings;
use model::step::{Refused, StepResult, WriteBatch};
use model::time::Timestamp;

use crate::event::{EventPage, Interest};

/// What a store call returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The data of an application.
///
/// A read has a deadline, of the adapter's configuration; dropping its future stops it. A write has none:
/// it waits its turn with a bounded number of others, past which it is refused as [`StoreError::Busy`],
/// and once accepted is carried out, also when its future is dropped. What two writes do to each other
/// is the adapter's to sort out: it locks, or tries again, and says [`StoreError::Busy`] in the end.
///
/// An adapter passes the suite of `testkit::store_suite`.
pub trait Store: Send + Sync + 'static {
    /// The current schema, as far as this node knows. Cheap: a shared snapshot. A node that is behind
    /// catches up by itself: after a refusal as [`StoreError::SchemaChanged`] or
    /// [`Guard::SchemaVersion`](model::step::Guard::SchemaVersion) the newer one is here, or a moment later.
    fn schema(&self) -> Arc<Schema>;

    /// The current settings, known as the schema is. Cheap: a shared snapshot.
    fn settings(&self) -> Arc<Settings>;

    /// Carries out a batch: all of it or nothing. Answered once it is durable, in the adapter's
    /// configured sense, and visible to every read that starts afterwards on this node.
    fn write(&self, batch: WriteBatch) -> Answer<'_, Result<Vec<StepResult>, Refused>>;

    /// One record by id, if every condition holds for it.
    fn get(&self, query: GetRecord) -> Answer<'_, Option<Record>>;

    /// One page of records for which every condition holds.
    fn list(&self, query: ListRecords) -> Answer<'_, RecordPage>;

    /// Several records by id, at most [`GetRecords::MAX_IDS`], those for which every condition holds, in
    /// no order.
    fn get_many(&self, query: GetRecords) -> Answer<'_, Vec<Record>>;

    /// The records of a collection whose relation field lists `id`, those for which every condition
    /// holds, in insertion order, at most `limit`.
    fn referring(&self, query: ReferringRecords) -> Answer<'_, Vec<Record>>;

    /// Which of these conditions hold for a row that is given and may be stored no more, or otherwise by now.
    /// What a condition asks of other records is asked of them as they are.
    fn judge(&self, query: JudgeRow) -> Answer<'_, Vec<bool>>;

    /// The record of an auth collection in which one field equals a value; of several the oldest.
    fn find_by_field(&self, query: FindByField) -> Answer<'_, Option<Record>>;

    /// Tries a view's query, of which nothing is kept. Trying it never holds up writes for long: its first
    /// records are read with the deadline of reads.
    fn try_view(&self, query: TryView) -> Answer<'_, TriedView>;

    /// Makes a consumer of change events known; it starts after the newest event. One that is known stays
    /// where it is, and has this interest from now on. A change that no consumer's interest covers leaves
    /// no event.
    fn register_consumer(&self, name: String, interest: Interest) -> Answer<'_, ()>;

    /// Forgets a consumer. Events that only it was to see are gone. Not known: nothing changes.
    fn unregister_consumer(&self, name: String) -> Answer<'_, ()>;

    /// The consumer's events after the sequence `after`, or after what it acknowledged where that is later:
    /// so it may read ahead, and 0 asks for all that it has not acknowledged. At most `limit`, whole
    /// batches; a batch that is larger comes whole all the same up to [`MAX_EVENTS`] and [`MAX_EVENT_BYTES`],
    /// past which it is split. Those of an acknowledged write may come a little later than the
    /// acknowledgement, never in another order. An error for a consumer that is not known.
    fn events(&self, consumer: String, after: u64, limit: usize) -> Answer<'_, EventPage>;

    /// The consumer is done with all events up to and including `sequence`. What was acknowledged last may be
    /// forgotten when the process dies; its events come again then.
    fn acknowledge(&self, consumer: String, sequence: u64) -> Answer<'_, ()>;

    /// What the engine does now and then to stay quick. Others may wait for it, for some milliseconds.
    fn optimize(&self) -> Answer<'_, ()>;

    /// The keys of files whose note (`Step::NoteUploads`) was made before an instant, or that were given up, at
    /// most `limit`.
    fn stale_uploads(&self, before: Timestamp, limit: usize) -> Answer<'_, Vec<String>>;

    /// What an operator wants to know of the store.
    fn status(&self) -> Answer<'_, StoreStatus>;

    /// Ends: what was accepted is finished, nothing more is accepted.
    fn close(&self) -> Answer<'_, ()>;
}

/// Most events of one delivery, whatever was asked for.
pub const MAX_EVENTS: usize = 10_000;
/// Most bytes of the rows of one delivery, unless a single event has more.
pub const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// A record by id.
#[derive(Debug, Clone)]
pub struct GetRecord {
    /// The schema version that everything here was built under.
    pub schema_version: u64,
    /// Where to look.
    pub collection: Arc<Collection>,
    /// The record's id.
    pub id: String,
    /// What must hold.
    pub conditions: Vec<Condition>,
}

/// Records by id.
#[derive(Debug, Clone)]
pub struct GetRecords {
    /// The schema version that everything here was built under.
    pub schema_version: u64,
    /// Where to look.
    pub collection: Arc<Collection>,
    /// At most [`GetRecords::MAX_IDS`]; more is an error.
    pub ids: Vec<String>,
    /// What must hold.
    pub conditions: Vec<Condition>,
}

impl GetRecords {
    /// Most ids of one call, so that it stays far from its deadline. Whoever has more asks several times.
    pub const MAX_IDS: usize = 1_000;
}

/// Records that point to others.
#[derive(Debug, Clone)]
pub struct ReferringRecords {
    /// The schema version that everything here was built under.
    pub schema_version: u64,
    /// The collection that holds the relation field.
    pub collection: Arc<Collection>,
    /// The name of the relation field.
    pub field: String,
    /// The record that is pointed to.
    pub id: String,
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// Most records.
    pub limit: usize,
}

/// A row that is judged as it is given.
#[derive(Debug, Clone)]
pub struct JudgeRow {
    /// The schema version that everything here was built under.
    pub schema_version: u64,
    /// The row. Secret fields are not looked at.
    pub row: Arc<Record>,
    /// Each is answered with whether all of it holds; at most [`JudgeRow::MAX_QUESTIONS`].
    pub questions: Vec<Vec<Condition>>,
}

impl JudgeRow {
    /// Most questions of one call, so that it stays far from its deadline. Whoever has more asks several times.
    pub const MAX_QUESTIONS: usize = 256;
}

/// A record by the value of one field.
#[derive(Debug, Clone)]
pub struct FindByField {
    /// The schema version that everything here was built under.
    pub schema_version: u64,
    /// Where to look.
    pub collection: Arc<Collection>,
    /// The field's name.
    pub field: String,
    /// The value, as text.
    pub value: String,
    /// Whether ASCII case matters.
    pub ignore_case: bool,
}

/// A view to be tried.
#[derive(Debug, Clone)]
pub struct TryView {
    /// The schema version that everything here was built under.
    pub schema_version: u64,
    /// A view as it would be; its fields do not matter.
    pub collection: Collection,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct TriedView {
    /// The fields, and what is wrong with the query.
    pub trial: Trial,
    /// The first records, at most [`SAMPLE`](model::collection::view::SAMPLE), of the collection with these
    /// fields; none where there is no view.
    pub records: Vec<Record>,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct ListRecords {
    /// The schema version that everything here was built under.
    pub schema_version: u64,
    /// Where to look.
    pub collection: Arc<Collection>,
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// The order; insertion order after every sort.
    pub sort: Option<Arc<Sort>>,
    /// How many to skip.
    pub offset: u64,
    /// How many to return.
    pub limit: u64,
    /// Whether to count all that match.
    pub with_total: bool,
}

/// Is told of every commit before it is acknowledged, so that nothing stale outlives the answer to
/// a write. The write waits for it, and others may too: it must return quickly, and not block.
pub trait CommitObserver: Send + Sync {
    /// A transaction was committed.
    fn committed(&self, commit: &Commit);
}

/// What a commit changed that others remember.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    /// Collection and record ids of the changed and deleted records of auth collections.
    pub auth_records: Vec<(String, String)>,
    /// Whether any collection was changed.
    pub schema_changed: bool,
    /// The settings, if they were saved, changed or not.
    pub settings: Option<Arc<Settings>>,
    /// The sequence of the newest change event, if any was left.
    pub newest_event: Option<u64>,
    /// The queues in which a job was left, or put back to those that wait.
    pub job_queues: BTreeSet<String>,
}

impl Commit {
    /// Notes a record that was changed or deleted, as it was before. Of a new one there is nothing to
    /// remember.
    pub fn note(&mut self, before: Option<&Record>) {
        if let Some(record) = before.filter(|record| record.collection.is_auth()) {
            self.auth_records.push((record.collection.id.clone(), record.id().to_owned()));
        }
    }
}

/// What a list returns.
#[derive(Debug, Clone)]
pub struct RecordPage {
    /// In order.
    pub records: Vec<Record>,
    /// How many match in all, if asked for.
    pub total: Option<u64>,
}

/// What an operator wants to know of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// The adapter's name, such as `sqlite`.
    pub adapter: &'static str,
    /// How far an acknowledged write is on its way to the disk, in the engine's own word.
    pub durability: String,
    /// Transactions committed since the start.
    pub commits: u64,
    /// Batches carried out since the start.
    pub batches: u64,
}

/// A store call that had no answer. None of them says anything about the data, and unless it says
/// otherwise nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too much waits already; nothing was done.
    #[error("the store has too much to do")]
    Busy,
    /// The schema was changed since the query was built: build it again under [`Store::schema`].
    #[error("the schema was changed meanwhile")]
    SchemaChanged,
    /// The deadline passed; a read was stopped.
    #[error("the store did not answer in {0:?}")]
    Deadline(Duration),
    /// A view has no answer: its query fails, or no longer fits the tables that it names.
    #[error("the view cannot be read: {0}")]
    BrokenView(String),
    /// No room, or no access to the data, for now; nothing was done.
    #[error("the store cannot write: {0}")]
    Unavailable(String),
    /// The store is closed or closing.
    #[error("the store is closed")]
    Closed,
    /// The connection broke while a write was being committed: it was done or not, and nobody knows. Not to
    /// be tried again unasked.
    #[error("the store may have written or not: {0}")]
    Unknown(String),
    /// A bug or damaged data. The text is for logs.
    #[error("the store failed: {0}")]
    Internal(String),
}
