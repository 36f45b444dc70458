//! What goes with a deleted record (CONTRACT §4.8): references to it are emptied, or the records that
//! hold them go too, or the whole deletion is refused.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use model::collection::Collection;
use model::context::{Caller, RequestContext};
use model::plan::release::{AUTH_SATELLITES, Released, release};
use model::record::Record;
use model::schema::{Reference, Schema};
use model::step::{Access, Why};

use super::{Effects, OfEngine, StepFailure, Transaction};

/// Deletes a record and all that must go with it.
pub(super) async fn delete<T: Transaction>(
    transaction: &mut T,
    access: &Access,
    record: Record,
    effects: &mut Effects,
) -> Result<(), StepFailure<T::Error>> {
    let schema = effects.schema.clone();
    let queue = VecDeque::from([record]);
    Cascade { transaction, access, schema: &schema, effects, gone: HashSet::new(), queue }.run().await
}

/// Deletes all records of a collection with their cascades.
pub(super) async fn truncate<T: Transaction>(
    transaction: &mut T,
    collection: &Arc<Collection>,
    effects: &mut Effects,
) -> Result<(), StepFailure<T::Error>> {
    if collection.is_superusers() {
        return Err(Why::LastSuperuser.into());
    }
    let schema = effects.schema.clone();
    let is_alone = schema.references_to(&collection.id).is_empty() && !collection.is_auth();
    if is_alone && !effects.wanted.covers(collection) {
        let count = transaction.delete_all(collection).await.of_engine()?;
        effects.count(&collection.id, less(count));
        return Ok(());
    }
    let access = Access {
        context: Arc::new(RequestContext { caller: Caller::Guest, ..RequestContext::guest(effects.now) }),
        check_rule: false,
    };
    let queue = transaction.all(collection).await.of_engine()?.into();
    Cascade { transaction, access: &access, schema: &schema, effects, gone: HashSet::new(), queue }
        .run()
        .await
}

struct Cascade<'a, T> {
    transaction: &'a mut T,
    access: &'a Access,
    schema: &'a Schema,
    effects: &'a mut Effects,
    /// Collection and record ids of what is deleted already: relations may form circles.
    gone: HashSet<(String, String)>,
    queue: VecDeque<Record>,
}

impl<T: Transaction> Cascade<'_, T> {
    async fn run(&mut self) -> Result<(), StepFailure<T::Error>> {
        while let Some(record) = self.queue.pop_front() {
            let key = (record.collection.id.clone(), record.id().to_owned());
            if self.gone.contains(&key) {
                continue;
            }
            self.gone.insert(key);
            self.remove(&record).await?;
            for reference in self.schema.references_to(&record.collection.id) {
                if !reference.collection.is_view() {
                    self.release(&record, reference).await?;
                }
            }
            if record.collection.is_auth() {
                self.queue_satellites(&record).await?;
            }
        }
        Ok(())
    }

    async fn remove(&mut self, record: &Record) -> Result<(), StepFailure<T::Error>> {
        if self.transaction.delete(record).await.of_engine()? {
            self.effects.count(&record.collection.id, -1);
            self.effects.emit(self.transaction, self.access, Some(record), None).await.of_engine()?;
        }
        Ok(())
    }

    /// Takes the record out of one relation field of all who hold it.
    async fn release(&mut self, record: &Record, reference: &Reference) -> Result<(), StepFailure<T::Error>> {
        let field = &reference.collection.fields[reference.field];
        let Some(options) = field.relation() else { return Ok(()) };
        if options.cascade_delete && self.can_delete_at_once(reference) {
            let count = self.transaction.delete_holders(reference, record.id()).await.of_engine()?;
            self.effects.count(&reference.collection.id, less(count));
            return Ok(());
        }
        for holder in self.transaction.holders(reference, record.id()).await.of_engine()? {
            match release(&holder, reference.field, |id| id == record.id())? {
                Released::Goes => self.queue.push_back(holder),
                Released::Stays(after) => {
                    self.transaction.update(&holder, &after).await?;
                    let emitted =
                        self.effects.emit(self.transaction, self.access, Some(&holder), Some(&after));
                    emitted.await.of_engine()?;
                }
            }
        }
        Ok(())
    }

    /// Whether the rows that go need not be looked at one by one: nobody follows them, and nothing refers
    /// to them.
    fn can_delete_at_once(&self, reference: &Reference) -> bool {
        let collection = &reference.collection;
        !self.effects.wanted.covers(collection)
            && !collection.is_auth()
            && !collection.fields[reference.field].is_multiple()
            && self.schema.references_to(&collection.id).is_empty()
    }

    async fn queue_satellites(&mut self, record: &Record) -> Result<(), StepFailure<T::Error>> {
        for name in AUTH_SATELLITES {
            let Some(satellite) = self.schema.by_name(name) else { continue };
            self.queue.extend(self.transaction.satellites(satellite, record).await.of_engine()?);
        }
        Ok(())
    }
}

fn less(count: u64) -> i64 {
    -i64::try_from(count).unwrap_or(i64::MAX)
}
