//! What carrying out a batch needs of a transaction on PostgreSQL.
//!
//! A write is sent and not waited for: its outcome is looked at when something is read, or with the commit. So
//! an update is two trips to the server (the row with its lock; its new form, the event, the commit), and a
//! create without look-ups is one. A statement that fails makes the server refuse all that come after it until
//! the end of the transaction, COMMIT included, so that nothing can be kept of a batch of which one failed.
//! COMMIT itself then reports success (seen): a batch counts as written only if every one of its statements was
//! seen to succeed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{MaybeDone, maybe_done};
use model::collection::Collection;
use model::errors::{FieldError, FieldErrors};
use model::plan::Question;
use model::record::Record;
use model::record::unique::unique_errors;
use model::schema::{Reference, Schema};
use model::settings::Settings;
use model::step::{Guard, NewJob, Refused, Uploads, Why};
use model::time::Timestamp;
use model::value::Value;
use tokio_postgres::Row;

use crate::batch::{self, Effects, NewEvent, Transaction};

use super::error::{self, Error, Kind};
use super::layout::{json_column, quoted};
use super::outbox::Waiting;
use super::session::{self, Outcome, Session};
use super::shared::Versions;
use super::sql::{Param, Sql};
use super::{jobs, outbox, reads, rows, schema_rows, schema_steps, uploads};

/// Why a step could not be carried out.
pub(super) type StepFailure = batch::StepFailure<Error>;

/// How long one statement of a change of the schema may take: an index over many rows, a column made anew in all of
/// them.
const LONGEST_CHANGE: Duration = Duration::from_secs(600);

/// Statements whose outcome is not looked at yet; past it all of them are.
const MOST_SENT: usize = 512;

/// How a transaction sees what others do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    ReadCommitted,
    Serializable,
}

/// The transaction of one batch. Dropped before its commit, its connection must be closed.
pub(super) struct BatchTransaction {
    session: Arc<Session>,
    isolation: Isolation,
    /// What this node knows.
    versions: Versions,
    /// How long the server may take for one answer.
    patience: Duration,
    step: usize,
    /// What was sent and not looked at yet.
    sent: VecDeque<Sent>,
    /// What is written before the commit, when all rows are locked.
    events: Vec<Waiting>,
    newest_event: Option<i64>,
    has_counted_settings: bool,
    /// Whether COMMIT is on its way.
    is_committing: bool,
}

struct Sent {
    step: usize,
    expected: Expected,
    outcome: Pin<Box<MaybeDone<Running>>>,
}

type Running = Pin<Box<dyn Future<Output = Result<Outcome, Error>> + Send>>;

/// What a statement's outcome means.
enum Expected {
    /// It succeeds.
    Success,
    /// It fails when the versions are not those that this node knows.
    Versions,
    /// A unique index of the collection may refuse it.
    Row(Arc<Collection>),
    /// It fails when a file is gone that was to be named.
    Upload,
    /// It gives the sequence of an event.
    Event,
    /// It is COMMIT.
    Commit,
}

impl From<Error> for StepFailure {
    fn from(error: Error) -> StepFailure {
        StepFailure::Engine(error)
    }
}

// === impl BatchTransaction ===

impl BatchTransaction {
    /// Begins a transaction that goes on only if these are the versions. Nothing is waited for.
    pub(super) async fn begin(
        session: Arc<Session>,
        isolation: Isolation,
        versions: Versions,
        patience: Duration,
    ) -> Result<BatchTransaction, Error> {
        let mut transaction = BatchTransaction::new(session, isolation, versions, patience);
        let begin = match isolation {
            Isolation::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE",
            Isolation::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE",
        };
        transaction.send(Sql::new(begin), Expected::Success).await?;
        if transaction.session.is_pooled() {
            transaction.send(session::bound(patience), Expected::Success).await?;
        }
        if isolation == Isolation::Serializable {
            // Its snapshot is made with the first statement that has one, and must be younger than the lock.
            let lock = Sql::new("LOCK TABLE _gs_versions IN ACCESS SHARE MODE");
            transaction.send(lock, Expected::Success).await?;
        }
        // The read locks the table against those who change a version, until the end of the transaction.
        let mut guard = Sql::new("SELECT 1 / (schema = ");
        guard.param(Param::Integer(versions.schema));
        guard.push(" AND consumers = ");
        guard.param(Param::Integer(versions.consumers));
        guard.push(")::int FROM _gs_versions");
        transaction.send(guard, Expected::Versions).await?;
        Ok(transaction)
    }

    /// Begins a transaction that changes the schema, or who follows the changes: it waits for all others, and
    /// they for it.
    pub(super) async fn begin_alone(
        session: Arc<Session>,
        versions: Versions,
        patience: Duration,
    ) -> Result<BatchTransaction, Error> {
        // It is alone: what it judges cannot change.
        let mut transaction =
            BatchTransaction::new(session, Isolation::Serializable, versions, LONGEST_CHANGE);
        transaction.send(Sql::new("BEGIN ISOLATION LEVEL READ COMMITTED"), Expected::Success).await?;
        transaction.send(session::bound(LONGEST_CHANGE), Expected::Success).await?;
        let waits = format!("SET LOCAL lock_timeout = {}", patience.as_millis());
        transaction.send(Sql::new(waits), Expected::Success).await?;
        let lock = Sql::new("LOCK TABLE _gs_versions IN ACCESS EXCLUSIVE MODE");
        transaction.send(lock, Expected::Success).await?;
        let found = transaction.ask(Sql::new("SELECT schema, settings, consumers FROM _gs_versions")).await?;
        let found = found.rows.first().map(Versions::of_row).transpose()?;
        if found.is_none_or(|found| found.schema != versions.schema || found.consumers != versions.consumers)
        {
            return Err(Error::SchemaChanged);
        }
        Ok(transaction)
    }

    /// Begins a transaction that has nothing to do with the schema.
    pub(super) async fn begin_plain(
        session: Arc<Session>,
        patience: Duration,
    ) -> Result<BatchTransaction, Error> {
        let mut transaction = BatchTransaction::within(session, patience);
        transaction.send(Sql::new("BEGIN"), Expected::Success).await?;
        Ok(transaction)
    }

    /// Goes on in a transaction that has been begun already.
    pub(super) fn within(session: Arc<Session>, patience: Duration) -> BatchTransaction {
        let versions = Versions { schema: 0, settings: 0, consumers: 0 };
        BatchTransaction::new(session, Isolation::ReadCommitted, versions, patience)
    }

    fn new(
        session: Arc<Session>,
        isolation: Isolation,
        versions: Versions,
        patience: Duration,
    ) -> BatchTransaction {
        BatchTransaction {
            session,
            isolation,
            versions,
            patience,
            step: 0,
            sent: VecDeque::new(),
            events: Vec::new(),
            newest_event: None,
            has_counted_settings: false,
            is_committing: false,
        }
    }

    /// Commits, if all that was sent has succeeded. An error before COMMIT was sent means that nothing was
    /// kept.
    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        for (position, event) in std::mem::take(&mut self.events).into_iter().enumerate() {
            self.send(outbox::append(event, position), Expected::Event).await?;
        }
        self.is_committing = true;
        self.send(Sql::new("COMMIT"), Expected::Commit).await?;
        self.settle().await
    }

    /// Whether COMMIT was on its way: then what broke the connection says nothing of the outcome.
    pub(super) fn is_committing(&self) -> bool {
        self.is_committing
    }

    /// Undoes all.
    pub(super) async fn roll_back(&mut self) -> Result<(), Error> {
        // What was refused is known by now, and the rest does not matter.
        let _ = self.settle().await;
        self.send(Sql::new("ROLLBACK"), Expected::Success).await?;
        self.settle().await
    }

    /// The sequence of the newest event that was left. Known once it is settled.
    pub(super) fn newest_event(&self) -> Option<u64> {
        Some(self.newest_event?.unsigned_abs())
    }

    /// Looks at the outcome of all that was sent; the first that failed is told.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let mut failed = None;
        while let Some(sent) = self.sent.pop_front() {
            let Err(error) = self.outcome_of(sent).await else { continue };
            // What does not answer to one will not answer to the next.
            if error.is_silence() {
                self.sent.clear();
                return Err(failed.unwrap_or(error));
            }
            failed.get_or_insert(error);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends a statement that gives rows, and waits for them; what was sent before is looked at first.
    pub(super) async fn ask(&mut self, sql: Sql) -> Result<Outcome, Error> {
        let asked = self.start(sql).await?;
        self.settle().await?;
        self.wait_for(asked).await
    }

    /// Sends a statement whose outcome is looked at later.
    async fn send(&mut self, sql: Sql, expected: Expected) -> Result<(), Error> {
        let outcome = self.start(sql).await?;
        self.sent.push_back(Sent { step: self.step, expected, outcome });
        // What waits is held in memory.
        if self.sent.len() >= MOST_SENT { self.settle().await } else { Ok(()) }
    }

    /// Sends a statement that only has to succeed.
    pub(super) async fn tell(&mut self, sql: Sql) -> Result<(), Error> {
        self.send(sql, Expected::Success).await
    }

    /// Runs a statement whose failure is to be survived, and gives that. Nothing else may be under way.
    pub(super) async fn attempt(
        &mut self,
        sql: Sql,
    ) -> Result<Result<Outcome, tokio_postgres::Error>, Error> {
        self.ask(Sql::new("SAVEPOINT attempt")).await?;
        let session = self.session.clone();
        let attempted = under_way(async move { session.run_once(&sql).await }).await;
        match self.wait_for(attempted).await {
            Ok(outcome) => {
                self.tell(Sql::new("RELEASE attempt")).await?;
                Ok(Ok(outcome))
            }
            Err(Error::Postgres(error)) if error.as_db_error().is_some() => {
                self.tell(Sql::new("ROLLBACK TO attempt")).await?;
                self.tell(Sql::new("RELEASE attempt")).await?;
                Ok(Err(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Prepares a statement if need be, and puts it on its way.
    async fn start(&mut self, sql: Sql) -> Result<Pin<Box<MaybeDone<Running>>>, Error> {
        if !self.session.is_prepared(&sql) {
            let prepared = tokio::time::timeout(self.patience, self.session.prepare(&sql)).await;
            match prepared.map_err(|_| silence(self.patience))? {
                Ok(_) => {}
                // In a transaction that has failed nothing can be prepared; why it did is what counts.
                Err(error) => {
                    self.settle().await?;
                    return Err(error);
                }
            }
        }
        let session = self.session.clone();
        Ok(under_way(async move { session.run(&sql).await }).await)
    }

    async fn wait_for(&mut self, mut outcome: Pin<Box<MaybeDone<Running>>>) -> Result<Outcome, Error> {
        let patience = self.patience;
        tokio::time::timeout(patience, outcome.as_mut()).await.map_err(|_| silence(patience))?;
        outcome
            .as_mut()
            .take_output()
            .unwrap_or_else(|| Err(Error::Unexpected("an outcome was taken twice".to_owned())))
    }

    async fn outcome_of(&mut self, sent: Sent) -> Result<(), Error> {
        let Sent { step, expected, outcome } = sent;
        let refused = |why| Error::Late(Refused { step, why });
        match (expected, self.wait_for(outcome).await) {
            (Expected::Versions, Err(Error::Postgres(error))) if error::is_guard(&error) => {
                Err(Error::SchemaChanged)
            }
            (Expected::Upload, Err(Error::Postgres(error))) if error::is_guard(&error) => {
                Err(refused(Why::Guard(Guard::Upload)))
            }
            (Expected::Row(collection), Err(Error::Postgres(error)))
                if error::kind(&error) == Kind::NotUnique =>
            {
                let index = error.as_db_error().and_then(|told| told.constraint()).unwrap_or_default();
                Err(refused(Why::Fields(unique_errors(&rows::fields_of_index(&collection, index)))))
            }
            (Expected::Commit, Err(error)) if error.kind() != Kind::Conflict => {
                Err(Error::Commit(error.to_string()))
            }
            // Without the server's word it may have got as far as COMMIT.
            (_, Err(error)) if self.is_committing && !error.is_told() => {
                Err(Error::Commit(error.to_string()))
            }
            (_, Err(error)) => Err(error),
            (Expected::Event, Ok(outcome)) => {
                let sequence = outcome.rows.first().map(|row| row.try_get(0)).transpose()?;
                self.newest_event = sequence.or(self.newest_event);
                Ok(())
            }
            (_, Ok(_)) => Ok(()),
        }
    }

    async fn select(&mut self, collection: &Arc<Collection>, sql: Sql) -> Result<Vec<Record>, Error> {
        let outcome = self.ask(sql).await?;
        outcome.rows.iter().map(|row| rows::record(collection, row, 0)).collect()
    }

    async fn answer_one(&mut self, schema: &Schema, question: &Question) -> Result<bool, Error> {
        match question {
            Question::Holds { row, is_stored, condition } => {
                if self.isolation != Isolation::Serializable {
                    return Err(Error::NeedsSerializable);
                }
                let asked = reads::holds(row, *is_stored, condition)?;
                Ok(!self.ask(asked).await?.rows.is_empty())
            }
            Question::AllExist { collection_id, ids } => {
                let Some(collection) = schema.by_id(collection_id) else { return Ok(false) };
                if ids.iter().any(|id| id.contains('\0')) {
                    return Ok(false);
                }
                // Locked, so that they are there until the reference to them is.
                let mut sql = Sql::new("SELECT 1 FROM ");
                sql.name(&collection.name);
                sql.push(" WHERE \"id\" = ANY(");
                sql.param(Param::Texts(ids.clone()));
                sql.push(") ORDER BY \"id\" FOR KEY SHARE");
                Ok(self.ask(sql).await?.rows.len() == ids.len())
            }
            Question::IdIsFree { collection, id, ignore_case } => {
                let mut sql = Sql::new("SELECT 1 FROM ");
                sql.name(&collection.name);
                sql.push(if *ignore_case { " WHERE lower(\"id\") = lower(" } else { " WHERE \"id\" = (" });
                sql.param(Param::from(id.as_str()));
                sql.push(" COLLATE \"C\") LIMIT 1");
                Ok(self.ask(sql).await?.rows.is_empty())
            }
            Question::HasOther { collection, id } => {
                // Locked: of two that go at once, each must not count on the other.
                let mut sql = Sql::new("SELECT 1 FROM ");
                sql.name(&collection.name);
                sql.push(" WHERE \"id\" <> ");
                sql.param(Param::from(id.as_str()));
                sql.push(" ORDER BY \"id\" LIMIT 1 FOR UPDATE");
                Ok(!self.ask(sql).await?.rows.is_empty())
            }
        }
    }
}

impl Transaction for BatchTransaction {
    type Error = Error;

    fn begin_step(&mut self, position: usize) {
        self.step = position;
    }

    async fn load(&mut self, collection: &Arc<Collection>, id: &str) -> Result<Option<Record>, Error> {
        if id.contains('\0') {
            return Ok(None);
        }
        let mut sql = select_rows(collection);
        sql.push(" WHERE r.\"id\" = ");
        sql.param(Param::from(id));
        if !collection.is_view() {
            sql.push(" FOR UPDATE");
        }
        Ok(self.select(collection, sql).await?.pop())
    }

    async fn answer(&mut self, schema: &Schema, questions: &[Question]) -> Result<Vec<bool>, Error> {
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            answers.push(self.answer_one(schema, question).await?);
        }
        Ok(answers)
    }

    async fn insert(&mut self, record: &Record) -> Result<(), StepFailure> {
        refuse_nul(record)?;
        let expected = Expected::Row(record.collection.clone());
        Ok(self.send(rows::insert(record), expected).await?)
    }

    async fn update(&mut self, old: &Record, new: &Record) -> Result<(), StepFailure> {
        refuse_nul(new)?;
        if let Some(sql) = rows::update(old, new) {
            self.send(sql, Expected::Row(new.collection.clone())).await?;
        }
        Ok(())
    }

    async fn delete(&mut self, record: &Record) -> Result<bool, Error> {
        self.tell(rows::delete(record)).await?;
        Ok(true)
    }

    async fn holders(&mut self, reference: &Reference, id: &str) -> Result<Vec<Record>, Error> {
        let collection = &reference.collection;
        let field = &collection.fields[reference.field];
        let mut sql = select_rows(collection);
        sql.push(" WHERE r.");
        if field.is_multiple() {
            sql.name(&json_column(&field.name));
            sql.push(" ? ");
        } else {
            sql.name(&field.name);
            sql.push(" = ");
        }
        sql.param(Param::from(id));
        sql.push(" ORDER BY r._rowid FOR UPDATE");
        self.select(collection, sql).await
    }

    async fn delete_holders(&mut self, reference: &Reference, id: &str) -> Result<u64, Error> {
        let collection = &reference.collection;
        let mut sql = Sql::new("DELETE FROM ");
        sql.name(&collection.name);
        sql.push(" WHERE ");
        sql.name(&collection.fields[reference.field].name);
        sql.push(" = ");
        sql.param(Param::from(id));
        Ok(self.ask(sql).await?.affected)
    }

    async fn satellites(
        &mut self,
        satellite: &Arc<Collection>,
        owner: &Record,
    ) -> Result<Vec<Record>, Error> {
        let mut sql = select_rows(satellite);
        sql.push(" WHERE r.\"collectionRef\" = ");
        sql.param(Param::from(owner.collection.id.as_str()));
        sql.push(" AND r.\"recordRef\" = ");
        sql.param(Param::from(owner.id()));
        sql.push(" FOR UPDATE");
        self.select(satellite, sql).await
    }

    async fn all(&mut self, collection: &Arc<Collection>) -> Result<Vec<Record>, Error> {
        let mut sql = select_rows(collection);
        sql.push(" ORDER BY r._rowid FOR UPDATE");
        self.select(collection, sql).await
    }

    async fn delete_all(&mut self, collection: &Collection) -> Result<u64, Error> {
        Ok(self.ask(Sql::new(format!("DELETE FROM {}", quoted(&collection.name)))).await?.affected)
    }

    async fn replace_password_hash(
        &mut self,
        collection: &Collection,
        id: &str,
        from: &str,
        to: &str,
    ) -> Result<(), Error> {
        let mut sql = Sql::new(format!("UPDATE {} SET \"password\" = ", quoted(&collection.name)));
        sql.param(Param::from(to));
        sql.push(" WHERE \"id\" = ");
        sql.param(Param::from(id));
        sql.push(" AND \"password\" = ");
        sql.param(Param::from(from));
        self.tell(sql).await
    }

    async fn take_uploads(&mut self, record: &Record, uploads: &Uploads) -> Result<(), StepFailure> {
        if uploads.files.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = record.file_names().collect();
        for file in uploads.files.iter().filter(|file| named.contains(&file.name)) {
            self.send(uploads::take(&record.file_key(&file.name)), Expected::Upload).await?;
        }
        Ok(())
    }

    async fn note_uploads(&mut self, keys: &[String], now: Timestamp) -> Result<(), Error> {
        self.tell(uploads::note(keys, now)).await
    }

    async fn give_up_uploads(&mut self, keys: &[String]) -> Result<Vec<String>, Error> {
        texts(&self.ask(uploads::give_up(keys)).await?.rows)
    }

    async fn forget_uploads(&mut self, keys: &[String]) -> Result<(), Error> {
        self.tell(uploads::forget(keys)).await
    }

    async fn enqueue(&mut self, job: &NewJob, now: Timestamp) -> Result<(), Error> {
        self.tell(jobs::enqueue(job, now)).await
    }

    async fn append(&mut self, event: NewEvent<'_>, now: Timestamp) -> Result<(), Error> {
        self.events.push(outbox::waiting(event, now));
        Ok(())
    }

    async fn save_collection(
        &mut self,
        before: Option<&Collection>,
        after: &Arc<Collection>,
        effects: &mut Effects,
    ) -> Result<(), StepFailure> {
        schema_steps::save(self, before, after, effects).await
    }

    async fn delete_collection(
        &mut self,
        collection: &Arc<Collection>,
        check_views: bool,
        effects: &mut Effects,
    ) -> Result<(), StepFailure> {
        schema_steps::delete(self, collection, check_views, effects).await
    }

    async fn save_settings(&mut self, settings: &Settings, now: Timestamp) -> Result<(), Error> {
        if !self.has_counted_settings {
            self.has_counted_settings = true;
            let mut count =
                Sql::new("UPDATE _gs_versions SET settings = settings + 1 WHERE 1 / (settings = ");
            count.param(Param::Integer(self.versions.settings));
            count.push(")::int = 1");
            self.send(count, Expected::Versions).await?;
        }
        self.tell(schema_rows::save_settings(settings, now)).await
    }
}

/// A statement that has been put on its way.
async fn under_way(
    running: impl Future<Output = Result<Outcome, Error>> + Send + 'static,
) -> Pin<Box<MaybeDone<Running>>> {
    let running: Running = Box::pin(running);
    let mut outcome = Box::pin(maybe_done(running));
    std::future::poll_fn(|cx| {
        let _ = outcome.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    outcome
}

fn silence(patience: Duration) -> Error {
    Error::NoConnection(format!("it did not answer in {patience:?}"))
}

/// `SELECT` of whole rows, which stand under `r`.
fn select_rows(collection: &Collection) -> Sql {
    let mut sql = Sql::new("SELECT ");
    rows::push_row(collection, "r", &mut sql.text);
    sql.push(" FROM ");
    sql.name(&collection.name);
    sql.push(" AS r");
    sql
}

/// PostgreSQL stores no text with U+0000 in it.
fn refuse_nul(record: &Record) -> Result<(), Why> {
    let mut errors = FieldErrors::new();
    for (field, value) in record.collection.fields.iter().zip(&record.values) {
        if let Value::Text(text) | Value::Json(text) = value
            && text.contains('\0')
        {
            errors.add(
                &field.name,
                FieldError::new(
                    "validation_invalid_character",
                    "The value must not contain the character U+0000.",
                ),
            );
        }
    }
    errors.into_result().map_err(Why::Fields)
}

/// The texts of one column.
pub(super) fn texts(rows: &[Row]) -> Result<Vec<String>, Error> {
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
