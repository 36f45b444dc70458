//! What carrying out a batch needs of the writer's transaction. Nothing here waits: each call is done when it
//! returns, so that the whole of a batch is one poll ([`at_once`]).

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use model::collection::Collection;
use model::plan::Question;
use model::record::Record;
use model::schema::{Reference, Schema};
use model::settings::Settings;
use model::step::{NewJob, Uploads};
use model::time::Timestamp;
use model::value::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use crate::batch::{self, Effects, NewEvent, Transaction};

use super::layout::{self, quoted, value_to_sql};
use super::outbox::Written;
use super::{jobs, outbox, questions, rows, schema_rows, schema_steps, uploads};

/// Why a step could not be carried out.
pub(super) type StepFailure = batch::StepFailure<rusqlite::Error>;

/// The part of the writer's transaction that is one batch's.
pub(super) struct BatchTransaction<'c> {
    conn: &'c Connection,
    /// The batch's newest event.
    written: Option<Written>,
}

impl From<rusqlite::Error> for StepFailure {
    fn from(error: rusqlite::Error) -> StepFailure {
        StepFailure::Engine(error)
    }
}

// === impl BatchTransaction ===

impl<'c> BatchTransaction<'c> {
    pub(super) fn new(conn: &'c Connection) -> BatchTransaction<'c> {
        BatchTransaction { conn, written: None }
    }

    /// The sequence of the newest event that was left.
    pub(super) fn newest_event(&self) -> Option<u64> {
        Some(self.written?.sequence.unsigned_abs())
    }

    fn select(
        &self,
        collection: &Arc<Collection>,
        sql: &str,
        values: &[&Value],
    ) -> rusqlite::Result<Vec<Record>> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let values = params_from_iter(values.iter().map(|value| value_to_sql(value)));
        let rows = statement.query_map(values, |row| layout::record_from_row(collection, row, 0))?;
        rows.collect()
    }
}

impl Transaction for BatchTransaction<'_> {
    type Error = rusqlite::Error;

    fn begin_step(&mut self, _position: usize) {}

    async fn load(&mut self, collection: &Arc<Collection>, id: &str) -> rusqlite::Result<Option<Record>> {
        load(self.conn, collection, id)
    }

    async fn answer(&mut self, schema: &Schema, questions: &[Question]) -> rusqlite::Result<Vec<bool>> {
        questions::answer(self.conn, schema, questions)
    }

    async fn insert(&mut self, record: &Record) -> Result<(), StepFailure> {
        rows::insert(self.conn, record)
    }

    async fn update(&mut self, old: &Record, new: &Record) -> Result<(), StepFailure> {
        rows::update(self.conn, old, new)
    }

    async fn delete(&mut self, record: &Record) -> rusqlite::Result<bool> {
        rows::delete(self.conn, record)
    }

    async fn holders(&mut self, reference: &Reference, id: &str) -> rusqlite::Result<Vec<Record>> {
        let collection = &reference.collection;
        let field = &collection.fields[reference.field];
        let column = format!("r.{}", quoted(&field.name));
        let condition = if field.is_multiple() {
            // The text test is quick and drops most rows before their JSON is looked into.
            format!(
                "instr({column}, ?1) > 0 AND EXISTS (SELECT 1 FROM json_each({column}) AS item WHERE item.value = ?1)"
            )
        } else {
            format!("{column} = ?1")
        };
        let sql = format!(
            "SELECT {} FROM {} AS r WHERE {condition} ORDER BY r.rowid",
            layout::columns(collection, "r"),
            quoted(&collection.name)
        );
        self.select(collection, &sql, &[&Value::Text(id.to_owned())])
    }

    async fn delete_holders(&mut self, reference: &Reference, id: &str) -> rusqlite::Result<u64> {
        let collection = &reference.collection;
        let field = &collection.fields[reference.field];
        let sql = format!("DELETE FROM {} WHERE {} = ?", quoted(&collection.name), quoted(&field.name));
        Ok(execute(self.conn, &sql, &[&Value::Text(id.to_owned())])? as u64)
    }

    async fn satellites(
        &mut self,
        satellite: &Arc<Collection>,
        owner: &Record,
    ) -> rusqlite::Result<Vec<Record>> {
        let sql = format!(
            "SELECT {} FROM {} AS r WHERE r.`collectionRef` = ?1 AND r.`recordRef` = ?2",
            layout::columns(satellite, "r"),
            quoted(&satellite.name)
        );
        self.select(satellite, &sql, &[&Value::Text(owner.collection.id.clone()), owner.get("id")])
    }

    async fn all(&mut self, collection: &Arc<Collection>) -> rusqlite::Result<Vec<Record>> {
        let sql = format!(
            "SELECT {} FROM {} AS r ORDER BY r.rowid",
            layout::columns(collection, "r"),
            quoted(&collection.name)
        );
        self.select(collection, &sql, &[])
    }

    async fn delete_all(&mut self, collection: &Collection) -> rusqlite::Result<u64> {
        Ok(self.conn.execute(&format!("DELETE FROM {}", quoted(&collection.name)), [])? as u64)
    }

    async fn replace_password_hash(
        &mut self,
        collection: &Collection,
        id: &str,
        from: &str,
        to: &str,
    ) -> rusqlite::Result<()> {
        rows::replace_password_hash(self.conn, &collection.name, id, from, to)
    }

    async fn take_uploads(&mut self, record: &Record, uploads: &Uploads) -> Result<(), StepFailure> {
        uploads::take(self.conn, record, uploads)
    }

    async fn note_uploads(&mut self, keys: &[String], now: Timestamp) -> rusqlite::Result<()> {
        uploads::note(self.conn, keys, now)
    }

    async fn give_up_uploads(&mut self, keys: &[String]) -> rusqlite::Result<Vec<String>> {
        uploads::give_up(self.conn, keys)
    }

    async fn forget_uploads(&mut self, keys: &[String]) -> rusqlite::Result<()> {
        uploads::forget(self.conn, keys)
    }

    async fn enqueue(&mut self, job: &NewJob, now: Timestamp) -> rusqlite::Result<()> {
        jobs::enqueue(self.conn, job, now)
    }

    async fn append(&mut self, event: NewEvent<'_>, now: Timestamp) -> rusqlite::Result<()> {
        let batch = self.written.map(|written| written.batch);
        self.written = Some(outbox::append(self.conn, batch, now, event)?);
        Ok(())
    }

    async fn save_collection(
        &mut self,
        before: Option<&Collection>,
        after: &Arc<Collection>,
        effects: &mut Effects,
    ) -> Result<(), StepFailure> {
        schema_steps::save(self.conn, before, after, effects)
    }

    async fn delete_collection(
        &mut self,
        collection: &Arc<Collection>,
        check_views: bool,
        effects: &mut Effects,
    ) -> Result<(), StepFailure> {
        schema_steps::delete(self.conn, collection, check_views, effects)
    }

    async fn save_settings(&mut self, settings: &Settings, now: Timestamp) -> rusqlite::Result<()> {
        schema_rows::save_settings(self.conn, settings, &now.to_text())
    }
}

/// The outcome of what never waits.
pub(super) fn at_once<F: Future>(work: F) -> F::Output {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("the writer's transaction waits for nothing"),
    }
}

/// A stored row by id.
pub(super) fn load(
    conn: &Connection,
    collection: &Arc<Collection>,
    id: &str,
) -> rusqlite::Result<Option<Record>> {
    let sql = format!(
        "SELECT {} FROM {} AS r WHERE r.`id` = ?1",
        layout::columns(collection, "r"),
        quoted(&collection.name)
    );
    let mut statement = conn.prepare_cached(&sql)?;
    if collection.is_view() {
        let places = layout::places(collection, &statement);
        return statement
            .query_row([id], |row| layout::record_from_view(collection, row, &places))
            .optional();
    }
    statement.query_row([id], |row| layout::record_from_row(collection, row, 0)).optional()
}

/// Runs a cached statement with values bound in order.
pub(super) fn execute(
    conn: &Connection,
    sql: &str,
    values: &[&model::value::Value],
) -> rusqlite::Result<usize> {
    conn.prepare_cached(sql)?
        .execute(params_from_iter(values.iter().map(|value| layout::value_to_sql(value))))
}
