//! What a transaction does besides its rows.

use std::collections::HashMap;
use std::sync::Arc;

use contract::event::{self, Action};
use contract::store::Commit;
use model::record::Record;
use model::schema::Schema;
use model::settings::Settings;
use model::step::Access;
use model::time::Timestamp;

use super::{NewEvent, Transaction};
use crate::interest::Wanted;

/// What a transaction did besides its rows: made visible after COMMIT, forgotten with a rollback.
pub(crate) struct Effects {
    /// As the steps so far left it.
    pub(crate) schema: Arc<Schema>,
    /// What observers are told.
    pub(crate) commit: Commit,
    /// As the steps so far left them.
    pub(crate) settings: Arc<Settings>,
    pub(crate) settings_changed: bool,
    /// Rows more or fewer, by collection id.
    pub(crate) row_changes: HashMap<String, i64>,
    /// The ids of the collections whose rows were changed.
    pub(crate) touched: Vec<String>,
    /// How many more jobs may be left.
    pub(crate) jobs_room: u64,
    /// Jobs that were left.
    pub(crate) jobs_left: u64,
    /// One instant for the whole transaction.
    pub(crate) now: Timestamp,
    /// Whose changes leave events.
    pub(crate) wanted: Arc<Wanted>,
}

// === impl Effects ===

impl Effects {
    pub(crate) fn new(
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
        }
    }

    /// For one batch, on top of what the batches before it did.
    pub(crate) fn for_batch(&self) -> Effects {
        let jobs_room = self.jobs_room.saturating_sub(self.jobs_left);
        Effects::new(self.schema.clone(), self.settings.clone(), self.now, self.wanted.clone(), jobs_room)
    }

    /// Takes over what a batch did.
    pub(crate) fn merge(&mut self, batch: Effects) {
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

    /// Puts another schema in the place of the one so far.
    pub(crate) fn change_schema(&mut self, schema: Schema) {
        self.schema = Arc::new(schema);
        self.commit.schema_changed = true;
    }

    /// Notes that rows of a collection were changed.
    fn touch(&mut self, collection: &str) {
        if !self.touched.iter().any(|touched| touched == collection) {
            self.touched.push(collection.to_owned());
        }
    }

    /// Notes that a collection has so many rows more.
    pub(crate) fn count(&mut self, collection: &str, change: i64) {
        self.touch(collection);
        match self.row_changes.get_mut(collection) {
            Some(count) => *count += change,
            None => {
                self.row_changes.insert(collection.to_owned(), change);
            }
        }
    }

    /// Notes what observers must know of a change, and leaves a change event behind if anyone follows them.
    pub(super) async fn emit<T: Transaction>(
        &mut self,
        transaction: &mut T,
        access: &Access,
        before: Option<&Record>,
        after: Option<&Record>,
    ) -> Result<(), T::Error> {
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
        transaction.append(event, self.now).await
    }
}
