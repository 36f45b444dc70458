//! Carrying out the steps of a batch inside the writer's transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use contract::event::{self, Action};
use contract::store::Commit;
use model::collection::Collection;
use model::plan::{self, Environment};
use model::record::Record;
use model::schema::Schema;
use model::settings::Settings;
use model::step::{
    Access, CreateRecord, DeleteRecord, Guard, NewJob, PatchRecord, Refused, Step, StepResult, UpsertRecord,
    Why, WriteBatch,
};
use model::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::consumers::Wanted;
use super::layout::{self, quoted};
use super::outbox::{self, NewEvent};
use super::{cascade, jobs, questions, rows, schema_rows, schema_steps, uploads};

/// What a transaction did besides its rows: made visible after COMMIT, forgotten with a rollback.
pub(super) struct Effects {
    /// As the steps so far left it.
    pub(super) schema: Arc<Schema>,
    /// What observers are told.
    pub(super) commit: Commit,
    /// As the steps so far left them.
    pub(super) settings: Arc<Settings>,
    pub(super) settings_changed: bool,
    /// Rows more or fewer, by collection id.
    pub(super) row_changes: HashMap<String, i64>,
    /// The ids of the collections whose rows were changed.
    pub(super) touched: Vec<String>,
    /// How many more jobs may be left.
    pub(super) jobs_room: u64,
    /// Jobs that were left.
    pub(super) jobs_left: u64,
    /// One instant for the whole transaction.
    pub(super) now: Timestamp,
    /// Whose changes leave events.
    pub(super) wanted: Arc<Wanted>,
    /// The batch number that this batch's events share.
    event_batch: Option<i64>,
}

/// Why a batch could not be carried out.
pub(super) enum Failure {
    Refused(Refused),
    TooManyJobs,
    Sql(rusqlite::Error),
}

/// Why a step could not be carried out.
pub(super) enum StepFailure {
    Refused(Why),
    TooManyJobs,
    Sql(rusqlite::Error),
}

// === impl Effects ===

impl Effects {
    pub(super) fn new(
        schema: Arc<Schema>,
        settings: Arc<Settings>,
        now: Timestamp,
        wanted: Arc<Wanted>,
        jobs_room: u64,
    ) -> Effects {
        Effects {
            schema,
            commit: Commit::default(),
            settings,
            settings_changed: false,
            row_changes: HashMap::new(),
            touched: Vec::new(),
            jobs_room,
            jobs_left: 0,
            now,
            wanted,
            event_batch: None,
        }
    }

    /// For one batch, on top of what the batches before it did.
    pub(super) fn for_batch(&self) -> Effects {
        let jobs_room = self.jobs_room.saturating_sub(self.jobs_left);
        Effects::new(self.schema.clone(), self.settings.clone(), self.now, self.wanted.clone(), jobs_room)
    }

    /// Takes over what a batch did.
    pub(super) fn merge(&mut self, batch: Effects) {
        self.schema = batch.schema;
        self.commit.schema_changed |= batch.commit.schema_changed;
        self.commit.auth_records.extend(batch.commit.auth_records);
        self.settings = batch.settings;
        self.settings_changed |= batch.settings_changed;
        self.jobs_left += batch.jobs_left;
        self.commit.job_queues.extend(batch.commit.job_queues);
        self.commit.newest_event = batch.commit.newest_event.or(self.commit.newest_event);
        batch.touched.iter().for_each(|collection| self.touch(collection));
        for (collection, change) in batch.row_changes {
            *self.row_changes.entry(collection).or_default() += change;
        }
    }

    /// Notes that rows of a collection were changed.
    fn touch(&mut self, collection: &str) {
        if !self.touched.iter().any(|touched| touched == collection) {
            self.touched.push(collection.to_owned());
        }
    }

    /// Notes that a collection has so many rows more.
    pub(super) fn count(&mut self, collection: &str, change: i64) {
        self.touch(collection);
        match self.row_changes.get_mut(collection) {
            Some(count) => *count += change,
            None => {
                self.row_changes.insert(collection.to_owned(), change);
            }
        }
    }

    /// Notes what observers must know of a change, and leaves a change event behind if anyone follows them.
    pub(super) fn emit(
        &mut self,
        conn: &Connection,
        access: &Access,
        before: Option<&Record>,
        after: Option<&Record>,
    ) -> rusqlite::Result<()> {
        let Some(record) = after.or(before) else { return Ok(()) };
        self.touch(&record.collection.id);
        self.commit.note(before);
        let loses_files = event::loses_files(before, after);
        if !self.wanted.covers_change(&record.collection, loses_files) {
            return Ok(());
        }
        let action = match (before, after) {
            (None, _) => Action::Create,
            (Some(_), Some(_)) => Action::Update,
            (Some(_), None) => Action::Delete,
        };
        let event = NewEvent {
            collection: &record.collection.id,
            loses_files,
            record: record.id(),
            action,
            schema_version: self.schema.version(),
            caller: access.context.caller.record().map_or("", |caller| caller.id()),
            before: before.map(event::row),
            after: after.map(event::row),
        };
        let written = outbox::append(conn, self.event_batch, self.now, event)?;
        self.event_batch = Some(written.batch);
        self.commit.newest_event = Some(written.sequence.unsigned_abs());
        Ok(())
    }
}

// === impl StepFailure ===

impl From<Why> for StepFailure {
    fn from(why: Why) -> StepFailure {
        StepFailure::Refused(why)
    }
}

impl From<rusqlite::Error> for StepFailure {
    fn from(error: rusqlite::Error) -> StepFailure {
        StepFailure::Sql(error)
    }
}

/// Carries out all steps, or says which could not be. The caller undoes what was done before it.
pub(super) fn batch(
    conn: &Connection,
    batch: &WriteBatch,
    effects: &mut Effects,
) -> Result<Vec<StepResult>, Failure> {
    if batch.schema_version.is_some_and(|version| version != effects.schema.version()) {
        return Err(Failure::Refused(Refused { step: 0, why: Why::Guard(Guard::SchemaVersion) }));
    }
    let mut results = Vec::with_capacity(batch.steps.len());
    for (position, one) in batch.steps.iter().enumerate() {
        if batch.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(Failure::Refused(Refused { step: position, why: Why::Deadline }));
        }
        match step(conn, one, effects) {
            Ok(result) => results.push(result),
            Err(StepFailure::Refused(why)) => return Err(Failure::Refused(Refused { step: position, why })),
            Err(StepFailure::TooManyJobs) => return Err(Failure::TooManyJobs),
            Err(StepFailure::Sql(error)) => return Err(Failure::Sql(error)),
        }
    }
    Ok(results)
}

fn step(conn: &Connection, step: &Step, effects: &mut Effects) -> Result<StepResult, StepFailure> {
    match step {
        Step::Create(create) => create_record(conn, create, effects),
        Step::Patch(patch) => patch_record(conn, patch, effects),
        Step::Upsert(upsert) => upsert_record(conn, upsert, effects),
        Step::Delete(delete) => delete_record(conn, delete, effects),
        Step::ReplacePasswordHash { collection, id, from, to } => {
            if let Some(collection) = effects.schema.by_id(collection) {
                rows::replace_password_hash(conn, &collection.name, id, from, to)?;
            }
            Ok(StepResult::Done)
        }
        Step::SaveCollection { before, after } => {
            schema_steps::save(conn, before.as_deref(), after, effects).map(|()| StepResult::Done)
        }
        Step::DeleteCollection { collection, check_views } => {
            schema_steps::delete(conn, collection, *check_views, effects).map(|()| StepResult::Done)
        }
        Step::Truncate(collection) => cascade::truncate(conn, collection, effects).map(|()| StepResult::Done),
        Step::SaveSettings { before, after } => {
            save_settings(conn, before, after, effects).map(|()| StepResult::Done)
        }
        Step::Enqueue(job) => enqueue(conn, job, effects).map(|()| StepResult::Done),
        Step::NoteUploads(keys) => {
            uploads::note(conn, keys, effects.now)?;
            Ok(StepResult::Done)
        }
        Step::GiveUpUploads(keys) => Ok(StepResult::GivenUp(uploads::give_up(conn, keys)?)),
        Step::ForgetUploads(keys) => {
            uploads::forget(conn, keys)?;
            Ok(StepResult::Done)
        }
        Step::Impossible => Err(Why::Impossible.into()),
    }
}

fn save_settings(
    conn: &Connection,
    before: &Arc<Settings>,
    after: &Arc<Settings>,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    if *before != effects.settings {
        return Err(Why::Guard(Guard::Settings).into());
    }
    schema_rows::save_settings(conn, after, &effects.now.to_text())?;
    effects.settings = after.clone();
    effects.settings_changed = true;
    Ok(())
}

fn enqueue(conn: &Connection, job: &NewJob, effects: &mut Effects) -> Result<(), StepFailure> {
    if effects.jobs_left >= effects.jobs_room {
        return Err(StepFailure::TooManyJobs);
    }
    jobs::enqueue(conn, job, effects.now)?;
    effects.jobs_left += 1;
    if !effects.commit.job_queues.contains(job.queue()) {
        effects.commit.job_queues.insert(job.queue().to_owned());
    }
    Ok(())
}

fn create_record(
    conn: &Connection,
    create: &CreateRecord,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure> {
    let schema = effects.schema.clone();
    let collection = schema.by_id(&create.collection).ok_or(Why::NotFound)?;
    let mut rng = rand::rng();
    let mut environment = Environment { schema: &schema, now: effects.now, rng: &mut rng };
    let pending = plan::create(&mut environment, collection, create)?;
    let answers = questions::answer(conn, &schema, pending.questions())?;
    let record = pending.decide(&answers)?;
    uploads::take(conn, &record, &create.uploads)?;
    rows::insert(conn, &record)?;
    effects.count(&collection.id, 1);
    effects.emit(conn, &create.access, None, Some(&record))?;
    Ok(StepResult::Record(record))
}

fn patch_record(
    conn: &Connection,
    patch: &PatchRecord,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure> {
    let schema = effects.schema.clone();
    let collection = schema.by_id(&patch.collection).ok_or(Why::NotFound)?;
    let old = load(conn, collection, &patch.id)?.ok_or(Why::NotFound)?;
    patch_loaded(conn, patch, &old, effects)
}

fn patch_loaded(
    conn: &Connection,
    patch: &PatchRecord,
    old: &Record,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure> {
    let schema = effects.schema.clone();
    let mut rng = rand::rng();
    let mut environment = Environment { schema: &schema, now: effects.now, rng: &mut rng };
    let pending = plan::patch(&mut environment, patch, old)?;
    let answers = questions::answer(conn, &schema, pending.questions())?;
    let record = pending.decide(&answers)?;
    uploads::take(conn, &record, &patch.uploads)?;
    rows::update(conn, old, &record)?;
    effects.emit(conn, &patch.access, Some(old), Some(&record))?;
    Ok(StepResult::Record(record))
}

fn upsert_record(
    conn: &Connection,
    upsert: &UpsertRecord,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure> {
    let collection = effects.schema.by_id(&upsert.patch.collection).ok_or(Why::NotFound)?.clone();
    match load(conn, &collection, &upsert.patch.id)? {
        Some(old) => patch_loaded(conn, &upsert.patch, &old, effects),
        None => create_record(conn, &upsert.create, effects),
    }
}

fn delete_record(
    conn: &Connection,
    delete: &DeleteRecord,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure> {
    let schema = effects.schema.clone();
    let collection = schema.by_id(&delete.collection).ok_or(Why::NotFound)?;
    let old = load(conn, collection, &delete.id)?.ok_or(Why::NotFound)?;
    let mut rng = rand::rng();
    let mut environment = Environment { schema: &schema, now: effects.now, rng: &mut rng };
    let pending = plan::delete(&mut environment, delete, &old)?;
    let answers = questions::answer(conn, &schema, pending.questions())?;
    let record = pending.decide(&answers)?;
    cascade::delete(conn, &delete.access, record, effects)?;
    Ok(StepResult::Done)
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
