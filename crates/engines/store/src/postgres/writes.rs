//! Writes: a batch in a transaction, tried again while others are in the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use contract::event::Interest;
use contract::jobs::MAX_JOBS;
use contract::store::StoreError;
use model::step::{Refused, Step, StepResult, Why, WriteBatch};
use rand::RngExt;

use crate::batch::{self, Effects, Failure};
use crate::interest::interest_text;

use super::error::{Error, Kind};
use super::pool::Lease;
use super::shared::Known;
use super::sql::Sql;
use super::transaction::{BatchTransaction, Isolation};
use super::{Inner, clock, consumers};

/// How long a batch is tried again that others are in the way of.
const CONFLICT_BUDGET: Duration = Duration::from_secs(10);
/// The first pause before it is tried again; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

type BatchResult = Result<Result<Vec<StepResult>, Refused>, StoreError>;

/// What one attempt came to.
enum Attempt {
    Done(BatchResult),
    Again(Error),
}

/// Carries out a batch, also when nobody waits for it any more.
pub(super) async fn write(inner: Arc<Inner>, batch: WriteBatch) -> BatchResult {
    if inner.is_closed.load(Ordering::Acquire) {
        return Err(StoreError::Closed);
    }
    let task = tokio::spawn(async move {
        let _place = inner.writes.try_acquire().map_err(|_| StoreError::Busy)?;
        inner.carry_out(&batch).await
    });
    task.await.unwrap_or_else(|_| {
        tracing::error!("a write panicked");
        Err(StoreError::Internal("a write failed".to_owned()))
    })
}

/// Makes a consumer known. Every write that begins afterwards, on whichever node, leaves events for it.
pub(super) async fn register(inner: &Inner, name: String, interest: Interest) -> Result<(), StoreError> {
    let interest = interest_text(&interest);
    let known = inner.shared.known.load_full();
    if let Some(known) = known.consumers.get(&name)
        && interest_text(known) == interest
    {
        return Ok(());
    }
    inner.change_consumers(consumers::register(&name, &interest)).await
}

/// Forgets a consumer.
pub(super) async fn unregister(inner: &Inner, name: String) -> Result<(), StoreError> {
    inner.change_consumers(consumers::unregister(&name)).await?;
    inner.positions.forget(&name);
    Ok(())
}

impl Inner {
    async fn carry_out(&self, batch: &WriteBatch) -> BatchResult {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut isolation = self.isolation_of(batch);
        loop {
            let error = match self.attempt(batch, isolation).await {
                Attempt::Done(result) => return result,
                Attempt::Again(error) => error,
            };
            match &error {
                Error::SchemaChanged => self.refresh().await?,
                Error::NeedsSerializable => {
                    isolation = Isolation::Serializable;
                    self.shared.note_serializable(collections(batch).map(str::to_owned));
                    continue;
                }
                _ => {}
            }
            if started.elapsed() > CONFLICT_BUDGET {
                tracing::warn!(%error, "a write was given up that others were in the way of");
                return Err(StoreError::Busy);
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn isolation_of(&self, batch: &WriteBatch) -> Isolation {
        let judges = collections(batch).any(|collection| self.shared.is_serializable(collection));
        if judges { Isolation::Serializable } else { Isolation::ReadCommitted }
    }

    async fn attempt(&self, batch: &WriteBatch, isolation: Isolation) -> Attempt {
        let lease = match self.pools.lease().await {
            Ok(lease) => lease,
            Err(error) => return Attempt::Done(Err(error.into_store_error())),
        };
        let known = self.shared.known.load_full();
        let room = MAX_JOBS.saturating_sub(self.shared.jobs.load(Ordering::Relaxed));
        let mut effects =
            Effects::new(known.schema.clone(), known.settings.clone(), clock(), known.wanted.clone(), room);
        let session = lease.session().clone();
        let patience = self.options.write_deadline;
        let begun = if batch.changes_schema() {
            BatchTransaction::begin_alone(session, known.versions, patience).await
        } else {
            BatchTransaction::begin(session, isolation, known.versions, patience).await
        };
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => return self.failed(lease, None, error).await,
        };
        let results = match batch::carry_out(&mut transaction, batch, &mut effects).await {
            Ok(results) => results,
            Err(Failure::Engine(error)) => return self.failed(lease, Some(transaction), error).await,
            Err(Failure::Refused(refused)) => {
                // A step before it may have been refused, too, which is told only now.
                if let Err(error) = transaction.settle().await {
                    return self.failed(lease, Some(transaction), error).await;
                }
                roll_back(lease, transaction).await;
                return Attempt::Done(Ok(Err(refused)));
            }
            Err(Failure::TooManyJobs) => {
                roll_back(lease, transaction).await;
                return Attempt::Done(Err(StoreError::Busy));
            }
        };
        if let Err(error) = transaction.commit().await {
            let was_made = matches!(&error, Error::Late(refused) if is_made_meanwhile(batch, refused));
            let attempt = self.failed(lease, Some(transaction), error).await;
            return if was_made { Attempt::Again(Error::MadeMeanwhile) } else { attempt };
        }
        lease.finish();
        effects.commit.newest_event = transaction.newest_event();
        self.publish(&known, effects);
        Attempt::Done(Ok(Ok(results)))
    }

    /// What an error comes to.
    async fn failed(&self, lease: Lease, transaction: Option<BatchTransaction>, error: Error) -> Attempt {
        let was_committing = transaction.as_ref().is_some_and(BatchTransaction::is_committing);
        match transaction {
            // It would not answer to a ROLLBACK either; without its client the server does it by itself.
            _ if error.is_silence() => lease.abort(),
            // COMMIT has ended the transaction, whichever way.
            Some(_) if was_committing && !lease.session().is_closed() => lease.finish(),
            Some(transaction) => roll_back(lease, transaction).await,
            None => drop(lease),
        }
        match error {
            Error::Late(refused) => Attempt::Done(Ok(Err(refused))),
            Error::Commit(text) => Attempt::Done(Err(StoreError::Unknown(text))),
            Error::SchemaChanged | Error::NeedsSerializable => Attempt::Again(error),
            // A statement that was prepared for other tables.
            error if error.is_outdated() => {
                self.pools.forget_prepared();
                Attempt::Again(error)
            }
            error if error.kind() == Kind::Conflict => Attempt::Again(error),
            error => Attempt::Done(Err(error.into_store_error())),
        }
    }

    /// Makes a committed transaction visible on this node before it is acknowledged.
    fn publish(&self, before: &Known, mut effects: Effects) {
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.batches.fetch_add(1, Ordering::Relaxed);
        self.shared.jobs.fetch_add(effects.jobs_left, Ordering::Relaxed);
        if effects.settings_changed {
            effects.commit.settings = Some(effects.settings.clone());
        }
        if effects.commit.schema_changed {
            let version = i64::try_from(effects.schema.version()).unwrap_or(i64::MAX);
            self.shared.learn_schema(version, effects.schema);
            self.pools.forget_prepared();
        }
        if effects.settings_changed {
            self.shared.learn_settings(before.versions.settings + 1, effects.settings);
        }
        if let Some(newest) = effects.commit.newest_event {
            let newest = i64::try_from(newest).unwrap_or(i64::MAX);
            self.newest_own_event.fetch_max(newest, Ordering::Relaxed);
            self.event_left.notify_one();
        }
        self.shared.tell(&effects.commit);
    }

    /// Changes who follows what: with nobody writing, so that no write is under way that does not know.
    async fn change_consumers(&self, sql: Sql) -> Result<(), StoreError> {
        let started = Instant::now();
        loop {
            let versions = self.shared.known.load().versions;
            let lease = self.pools.lease().await.map_err(Error::into_store_error)?;
            let session = lease.session().clone();
            let work = async {
                let mut transaction =
                    BatchTransaction::begin_alone(session, versions, self.options.write_deadline).await?;
                transaction.tell(sql.clone()).await?;
                transaction.tell(Sql::new(consumers::COUNT)).await?;
                transaction.commit().await
            };
            match work.await {
                Ok(()) => {
                    lease.finish();
                    return self.refresh().await;
                }
                Err(error) => {
                    drop(lease);
                    let is_again = matches!(error, Error::SchemaChanged) || error.kind() == Kind::Conflict;
                    if !is_again || started.elapsed() > CONFLICT_BUDGET {
                        return Err(error.into_store_error());
                    }
                    self.refresh().await?;
                }
            }
        }
    }
}

/// Whether a record that was to be changed or made, and was not there, was made by somebody else meanwhile.
fn is_made_meanwhile(batch: &WriteBatch, refused: &Refused) -> bool {
    matches!(batch.steps.get(refused.step), Some(Step::Upsert(_)))
        && matches!(&refused.why, Why::Fields(errors) if errors.contains("id"))
}

async fn roll_back(lease: Lease, mut transaction: BatchTransaction) {
    if lease.session().is_closed() {
        return;
    }
    match transaction.roll_back().await {
        Ok(()) => lease.finish(),
        // It does not answer.
        Err(_) => lease.abort(),
    }
}

/// The collections whose records a batch writes.
fn collections(batch: &WriteBatch) -> impl Iterator<Item = &str> {
    batch.steps.iter().filter_map(|step| match step {
        Step::Create(create) => Some(create.collection.as_str()),
        Step::Patch(patch) => Some(patch.collection.as_str()),
        Step::Upsert(upsert) => Some(upsert.patch.collection.as_str()),
        Step::Delete(delete) => Some(delete.collection.as_str()),
        _ => None,
    })
}
