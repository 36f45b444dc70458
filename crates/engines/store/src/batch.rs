//! Carrying out the steps of a batch inside a transaction: one code for every adapter, over what a
//! [`Transaction`] of its engine can do.

mod cascade;
mod effects;

use std::sync::Arc;
use std::time::Instant;

use contract::event::Action;
use model::collection::Collection;
use model::json::JsonObject;
use model::plan::{self, Environment, Pending, Question};
use model::record::Record;
use model::schema::{Reference, Schema};
use model::settings::Settings;
use model::step::{
    CreateRecord, DeleteRecord, Guard, NewJob, PatchRecord, Refused, Step, StepResult, Uploads, UpsertRecord,
    Why, WriteBatch,
};
use model::time::Timestamp;

pub(crate) use effects::Effects;

/// What carrying out a batch needs of a transaction. Rows that it gives to be changed are locked until its
/// end, or nobody else writes meanwhile.
///
/// An engine may send writes and look at their outcome later: what one of them refuses then counts for the
/// step that was [begun](Transaction::begin_step) last.
pub(crate) trait Transaction {
    /// Why a statement failed.
    type Error;

    /// What follows is of the step at this position.
    fn begin_step(&mut self, position: usize);

    /// A stored row by id.
    async fn load(&mut self, collection: &Arc<Collection>, id: &str) -> Result<Option<Record>, Self::Error>;

    /// One answer for each question, in order.
    async fn answer(&mut self, schema: &Schema, questions: &[Question]) -> Result<Vec<bool>, Self::Error>;

    /// Writes a new row.
    async fn insert(&mut self, record: &Record) -> Result<(), StepFailure<Self::Error>>;

    /// Writes what changed between two forms of a row.
    async fn update(&mut self, old: &Record, new: &Record) -> Result<(), StepFailure<Self::Error>>;

    /// Removes a row that was loaded. False when it is known not to be there.
    async fn delete(&mut self, record: &Record) -> Result<bool, Self::Error>;

    /// The rows that hold an id in a relation field, in the order in which they were made.
    async fn holders(&mut self, reference: &Reference, id: &str) -> Result<Vec<Record>, Self::Error>;

    /// Removes the rows that hold an id in a single relation field, unseen. How many there were.
    async fn delete_holders(&mut self, reference: &Reference, id: &str) -> Result<u64, Self::Error>;

    /// The rows of a satellite collection that belong to a record.
    async fn satellites(
        &mut self,
        satellite: &Arc<Collection>,
        owner: &Record,
    ) -> Result<Vec<Record>, Self::Error>;

    /// All rows of a collection, in the order in which they were made.
    async fn all(&mut self, collection: &Arc<Collection>) -> Result<Vec<Record>, Self::Error>;

    /// Removes all rows of a collection, unseen. How many there were.
    async fn delete_all(&mut self, collection: &Collection) -> Result<u64, Self::Error>;

    /// Sets the hash of a password, if the row still holds the old one.
    async fn replace_password_hash(
        &mut self,
        collection: &Collection,
        id: &str,
        from: &str,
        to: &str,
    ) -> Result<(), Self::Error>;

    /// Takes away the notes of the files that a record names; refused when one is gone.
    async fn take_uploads(
        &mut self,
        record: &Record,
        uploads: &Uploads,
    ) -> Result<(), StepFailure<Self::Error>>;

    /// Notes files that are about to be stored.
    async fn note_uploads(&mut self, keys: &[String], now: Timestamp) -> Result<(), Self::Error>;

    /// Gives up the files whose note is there, and returns their keys.
    async fn give_up_uploads(&mut self, keys: &[String]) -> Result<Vec<String>, Self::Error>;

    /// Forgets the notes of files that were given up.
    async fn forget_uploads(&mut self, keys: &[String]) -> Result<(), Self::Error>;

    /// Leaves a job.
    async fn enqueue(&mut self, job: &NewJob, now: Timestamp) -> Result<(), Self::Error>;

    /// Leaves a change event. All events of the transaction's batch share a number.
    async fn append(&mut self, event: NewEvent<'_>, now: Timestamp) -> Result<(), Self::Error>;

    /// Makes or changes a collection.
    async fn save_collection(
        &mut self,
        before: Option<&Collection>,
        after: &Arc<Collection>,
        effects: &mut Effects,
    ) -> Result<(), StepFailure<Self::Error>>;

    /// Removes a collection, perhaps only if every view still is one.
    async fn delete_collection(
        &mut self,
        collection: &Arc<Collection>,
        check_views: bool,
        effects: &mut Effects,
    ) -> Result<(), StepFailure<Self::Error>>;

    /// Replaces the settings.
    async fn save_settings(&mut self, settings: &Settings, now: Timestamp) -> Result<(), Self::Error>;
}

/// An event about to be written; the rest is the transaction's.
pub(crate) struct NewEvent<'a> {
    pub(crate) collection: &'a str,
    pub(crate) loses_files: bool,
    pub(crate) record: &'a str,
    pub(crate) action: Action,
    pub(crate) schema_version: u64,
    pub(crate) caller: &'a str,
    pub(crate) before: Option<JsonObject>,
    pub(crate) after: Option<JsonObject>,
}

/// Why a batch could not be carried out.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    Refused(Refused),
    TooManyJobs,
    Engine(E),
}

/// Why a step could not be carried out.
#[derive(Debug)]
pub(crate) enum StepFailure<E> {
    Refused(Why),
    TooManyJobs,
    Engine(E),
}

// === impl StepFailure ===

impl<E> From<Why> for StepFailure<E> {
    fn from(why: Why) -> StepFailure<E> {
        StepFailure::Refused(why)
    }
}

/// What becomes of an engine's error where a step can also be refused.
trait OfEngine<T, E> {
    fn of_engine(self) -> Result<T, StepFailure<E>>;
}

impl<T, E> OfEngine<T, E> for Result<T, E> {
    fn of_engine(self) -> Result<T, StepFailure<E>> {
        self.map_err(StepFailure::Engine)
    }
}

/// Carries out all steps, or says which could not be. The caller undoes what was done before it.
pub(crate) async fn carry_out<T: Transaction>(
    transaction: &mut T,
    batch: &WriteBatch,
    effects: &mut Effects,
) -> Result<Vec<StepResult>, Failure<T::Error>> {
    if batch.schema_version.is_some_and(|version| version != effects.schema.version()) {
        return Err(Failure::Refused(Refused { step: 0, why: Why::Guard(Guard::SchemaVersion) }));
    }
    let mut results = Vec::with_capacity(batch.steps.len());
    for (position, step) in batch.steps.iter().enumerate() {
        if batch.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(Failure::Refused(Refused { step: position, why: Why::Deadline }));
        }
        transaction.begin_step(position);
        match carry_out_step(transaction, step, effects).await {
            Ok(result) => results.push(result),
            Err(StepFailure::Refused(why)) => return Err(Failure::Refused(Refused { step: position, why })),
            Err(StepFailure::TooManyJobs) => return Err(Failure::TooManyJobs),
            Err(StepFailure::Engine(error)) => return Err(Failure::Engine(error)),
        }
    }
    Ok(results)
}

async fn carry_out_step<T: Transaction>(
    transaction: &mut T,
    step: &Step,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure<T::Error>> {
    match step {
        Step::Create(create) => return create_record(transaction, create, effects).await,
        Step::Patch(patch) => return patch_record(transaction, patch, effects).await,
        Step::Upsert(upsert) => return upsert_record(transaction, upsert, effects).await,
        Step::Delete(delete) => return delete_record(transaction, delete, effects).await,
        Step::ReplacePasswordHash { collection, id, from, to } => {
            if let Some(collection) = effects.schema.by_id(collection) {
                transaction.replace_password_hash(collection, id, from, to).await.of_engine()?;
            }
        }
        Step::SaveCollection { before, after } => {
            transaction.save_collection(before.as_deref(), after, effects).await?;
        }
        Step::DeleteCollection { collection, check_views } => {
            transaction.delete_collection(collection, *check_views, effects).await?;
        }
        Step::Truncate(collection) => cascade::truncate(transaction, collection, effects).await?,
        Step::SaveSettings { before, after } => {
            save_settings(transaction, before, after, effects).await?;
        }
        Step::Enqueue(job) => enqueue(transaction, job, effects).await?,
        Step::NoteUploads(keys) => transaction.note_uploads(keys, effects.now).await.of_engine()?,
        Step::GiveUpUploads(keys) => {
            return Ok(StepResult::GivenUp(transaction.give_up_uploads(keys).await.of_engine()?));
        }
        Step::ForgetUploads(keys) => transaction.forget_uploads(keys).await.of_engine()?,
        Step::Impossible => return Err(Why::Impossible.into()),
    }
    Ok(StepResult::Done)
}

async fn save_settings<T: Transaction>(
    transaction: &mut T,
    before: &Arc<Settings>,
    after: &Arc<Settings>,
    effects: &mut Effects,
) -> Result<(), StepFailure<T::Error>> {
    if *before != effects.settings {
        return Err(Why::Guard(Guard::Settings).into());
    }
    transaction.save_settings(after, effects.now).await.of_engine()?;
    effects.settings = after.clone();
    effects.settings_changed = true;
    Ok(())
}

async fn enqueue<T: Transaction>(
    transaction: &mut T,
    job: &NewJob,
    effects: &mut Effects,
) -> Result<(), StepFailure<T::Error>> {
    if effects.jobs_left >= effects.jobs_room {
        return Err(StepFailure::TooManyJobs);
    }
    transaction.enqueue(job, effects.now).await.of_engine()?;
    effects.jobs_left += 1;
    if !effects.commit.job_queues.contains(job.queue()) {
        effects.commit.job_queues.insert(job.queue().to_owned());
    }
    Ok(())
}

async fn create_record<T: Transaction>(
    transaction: &mut T,
    create: &CreateRecord,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure<T::Error>> {
    let schema = effects.schema.clone();
    let collection = schema.by_id(&create.collection).ok_or(Why::NotFound)?;
    let pending = {
        let mut rng = rand::rng();
        let mut environment = Environment { schema: &schema, now: effects.now, rng: &mut rng };
        plan::create(&mut environment, collection, create)?
    };
    let record = decide(transaction, &schema, pending).await?;
    transaction.take_uploads(&record, &create.uploads).await?;
    transaction.insert(&record).await?;
    effects.count(&collection.id, 1);
    effects.emit(transaction, &create.access, None, Some(&record)).await.of_engine()?;
    Ok(StepResult::Record(record))
}

async fn patch_record<T: Transaction>(
    transaction: &mut T,
    patch: &PatchRecord,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure<T::Error>> {
    let schema = effects.schema.clone();
    let collection = schema.by_id(&patch.collection).ok_or(Why::NotFound)?;
    let old = transaction.load(collection, &patch.id).await.of_engine()?.ok_or(Why::NotFound)?;
    patch_loaded(transaction, patch, &old, effects).await
}

async fn patch_loaded<T: Transaction>(
    transaction: &mut T,
    patch: &PatchRecord,
    old: &Record,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure<T::Error>> {
    let schema = effects.schema.clone();
    let pending = {
        let mut rng = rand::rng();
        let mut environment = Environment { schema: &schema, now: effects.now, rng: &mut rng };
        plan::patch(&mut environment, patch, old)?
    };
    let record = decide(transaction, &schema, pending).await?;
    transaction.take_uploads(&record, &patch.uploads).await?;
    transaction.update(old, &record).await?;
    effects.emit(transaction, &patch.access, Some(old), Some(&record)).await.of_engine()?;
    Ok(StepResult::Record(record))
}

async fn upsert_record<T: Transaction>(
    transaction: &mut T,
    upsert: &UpsertRecord,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure<T::Error>> {
    let collection = effects.schema.by_id(&upsert.patch.collection).ok_or(Why::NotFound)?.clone();
    match transaction.load(&collection, &upsert.patch.id).await.of_engine()? {
        Some(old) => patch_loaded(transaction, &upsert.patch, &old, effects).await,
        None => create_record(transaction, &upsert.create, effects).await,
    }
}

async fn delete_record<T: Transaction>(
    transaction: &mut T,
    delete: &DeleteRecord,
    effects: &mut Effects,
) -> Result<StepResult, StepFailure<T::Error>> {
    let schema = effects.schema.clone();
    let collection = schema.by_id(&delete.collection).ok_or(Why::NotFound)?;
    let old = transaction.load(collection, &delete.id).await.of_engine()?.ok_or(Why::NotFound)?;
    let pending = {
        let mut rng = rand::rng();
        let mut environment = Environment { schema: &schema, now: effects.now, rng: &mut rng };
        plan::delete(&mut environment, delete, &old)?
    };
    let record = decide(transaction, &schema, pending).await?;
    cascade::delete(transaction, &delete.access, record, effects).await?;
    Ok(StepResult::Done)
}

/// The row to write or to remove, once the store has answered what the plan asks of it.
async fn decide<T: Transaction>(
    transaction: &mut T,
    schema: &Schema,
    pending: Pending,
) -> Result<Record, StepFailure<T::Error>> {
    let questions = pending.questions();
    let answers = match questions {
        [] => Vec::new(),
        questions => transaction.answer(schema, questions).await.of_engine()?,
    };
    Ok(pending.decide(&answers)?)
}
