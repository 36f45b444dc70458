//! From change events to jobs: a job in its own queue for each hook that wants to know.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use contract::broker::{Broker, Subscription};
use contract::event::{self, ChangeEvent, Events, Interest};
use contract::store::{Commit, CommitObserver, Store, StoreError};
use model::collection::Collection;
use model::json::{Json, JsonObject};
use model::schema::Schema;
use model::step::{NewJob, Step, WriteBatch};
use model::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::event::HookEvent;
use crate::hook::{Hook, Source};
use crate::message::{self, Rows};
use crate::registry::{HookSet, Hooks};

/// The name of the consumer.
const CONSUMER: &str = "hooks";
/// After a store that did not answer, or has too many jobs already.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Jobs that are left in one batch.
const JOBS_PER_BATCH: usize = 100;
/// Most jobs that wait for one hook: a target that is gone for good must not take the room of all others.
const MAX_WAITING: u64 = 100_000;
/// How often that is looked at, in jobs that were left.
const LOOKED_AT_EVERY: u64 = 1_000;

/// Tells of changes of collections. The store is opened with it.
#[derive(Debug)]
pub struct SchemaChanges(watch::Sender<()>);

/// Leaves jobs for hooks until it is told to stop. What it has not acknowledged then comes again after the next
/// start.
pub async fn follow(
    hooks: Hooks,
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    schema_changes: Arc<SchemaChanges>,
    stop: CancellationToken,
) {
    let mut follower = Follower {
        hooks_changed: hooks.changes(),
        schema_changed: schema_changes.0.subscribe(),
        hooks,
        store,
        broker,
        full: HashSet::new(),
        left: 0,
        dropped: BTreeMap::new(),
        missing: BTreeSet::new(),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follower.run() => {}
    }
}

struct Follower {
    hooks: Hooks,
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    hooks_changed: watch::Receiver<u64>,
    schema_changed: watch::Receiver<()>,
    /// Queues that are too long.
    full: HashSet<String>,
    /// Jobs left since their number was looked at.
    left: u64,
    /// Events that were not left for a hook, by its name.
    dropped: BTreeMap<String, u64>,
    /// Collections that hooks of the configuration name and that were said to be missing.
    missing: BTreeSet<(String, String)>,
}

/// What events are followed for.
enum Change {
    /// Other hooks, or other collections.
    Following,
    /// A delivery.
    Events(Events),
}

// === impl SchemaChanges ===

impl Default for SchemaChanges {
    fn default() -> SchemaChanges {
        SchemaChanges(watch::Sender::new(()))
    }
}

impl CommitObserver for SchemaChanges {
    fn committed(&self, commit: &Commit) {
        if commit.schema_changed {
            self.0.send_replace(());
        }
    }
}

// === impl Follower ===

impl Follower {
    /// Subscribes again after every error.
    async fn run(&mut self) {
        loop {
            let Err(error) = self.run_until_error().await;
            if error != StoreError::Closed {
                warn!(%error, "changes are not followed for hooks for a moment");
            }
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }

    async fn run_until_error(&mut self) -> Result<Infallible, StoreError> {
        loop {
            // Before the set and the schema are looked at: what changes after it is seen by the waits below.
            self.hooks_changed.borrow_and_update();
            self.schema_changed.borrow_and_update();
            let (set, schema) = (self.hooks.set(), self.store.schema());
            self.warn_of_missing(&set, &schema);
            match interest(&set, &schema) {
                Some(interest) => {
                    let mut subscription = self.broker.subscribe(CONSUMER.to_owned(), interest).await?;
                    self.hooks.note_followed(set.number());
                    self.take(&set, &mut *subscription).await?;
                }
                None => {
                    self.broker.unsubscribe(CONSUMER.to_owned()).await?;
                    self.hooks.note_followed(set.number());
                    tokio::select! {
                        Ok(()) = self.hooks_changed.changed() => {}
                        Ok(()) = self.schema_changed.changed() => {}
                    }
                }
            }
        }
    }

    /// Says once of each collection that a hook of the configuration names that there is none.
    fn warn_of_missing(&mut self, set: &HookSet, schema: &Schema) {
        let configured = set.iter().filter(|hook| hook.source == Source::Config);
        let missing: BTreeSet<(String, String)> = configured
            .flat_map(|hook| {
                let names = hook.unknown_collections(schema).into_iter();
                names.map(|name| (hook.name.clone(), name.to_owned()))
            })
            .collect();
        for (hook, collection) in missing.difference(&self.missing) {
            warn!(hook, collection, "a hook of the configuration names a collection that does not exist");
        }
        self.missing = missing;
    }

    /// Takes what comes until the hooks or the collections change.
    async fn take(&mut self, set: &HookSet, subscription: &mut dyn Subscription) -> Result<(), StoreError> {
        loop {
            let change = tokio::select! {
                Ok(()) = self.hooks_changed.changed() => Change::Following,
                Ok(()) = self.schema_changed.changed() => Change::Following,
                events = subscription.next() => Change::Events(events?),
            };
            match change {
                Change::Following => return Ok(()),
                Change::Events(Events::Some(events)) => {
                    self.leave_all(set, &events).await?;
                    if let Some(last) = events.last() {
                        subscription.acknowledge(last.sequence).await?;
                    }
                }
                Change::Events(Events::Resync { from }) => {
                    error!(from, "change events were cut off before hooks were told of them");
                    subscription.acknowledge(from).await?;
                }
            }
        }
    }

    async fn leave_all(&mut self, set: &HookSet, events: &[ChangeEvent]) -> Result<(), StoreError> {
        let schema = self.store.schema();
        let jobs: Vec<NewJob> = events.iter().flat_map(|event| jobs_of(set, &schema, event)).collect();
        for jobs in jobs.chunks(JOBS_PER_BATCH) {
            self.leave(jobs).await?;
        }
        Ok(())
    }

    async fn leave(&mut self, jobs: &[NewJob]) -> Result<(), StoreError> {
        self.left += jobs.len() as u64;
        if self.left >= LOOKED_AT_EVERY {
            self.left = 0;
            self.look_at_queues().await?;
        }
        let mut steps = Vec::with_capacity(jobs.len());
        for job in jobs {
            if self.full.contains(job.queue()) {
                *self.dropped.entry(job.queue().to_owned()).or_default() += 1;
            } else {
                steps.push(Step::Enqueue(job.clone()));
            }
        }
        let left = self.store.write(WriteBatch { steps, ..WriteBatch::default() }).await?;
        left.map(drop).map_err(|refused| StoreError::Internal(format!("a job was refused: {refused:?}")))
    }

    async fn look_at_queues(&mut self) -> Result<(), StoreError> {
        let queues = self.hooks.jobs().queues().await?;
        let full = queues.into_iter().filter(|queue| queue.waiting >= MAX_WAITING);
        self.full = full.map(|queue| queue.name).collect();
        for (queue, dropped) in std::mem::take(&mut self.dropped) {
            error!(queue, dropped, MAX_WAITING, "a hook's queue is full: it is not told of these changes");
        }
        Ok(())
    }
}

/// What the hooks of a set want to know; nothing if none is called after writes. A named collection that does not
/// exist may be made at any time: then everything is followed, so that its first record is not missed.
fn interest(set: &HookSet, schema: &Schema) -> Option<Interest> {
    let hooks: Vec<&Arc<Hook>> = set.iter().filter(|hook| hook.has_deliveries()).collect();
    if hooks.is_empty() {
        return None;
    }
    let mut ids = HashSet::new();
    for hook in hooks {
        let Some(names) = &hook.collections else { return Some(Interest::All) };
        for name in names {
            let Some(collection) = schema.find(name) else { return Some(Interest::All) };
            ids.insert(collection.id.clone());
        }
    }
    Some(Interest::Collections(ids.into_iter().collect()))
}

fn jobs_of(set: &HookSet, schema: &Schema, event: &ChangeEvent) -> Vec<NewJob> {
    // With a collection goes what would be told of it.
    let Some(collection) = schema.by_id(&event.collection) else { return Vec::new() };
    let moment = HookEvent::new(false, event.action);
    let hooks = set.iter().filter(|hook| hook.wants(moment, collection));
    hooks.filter_map(|hook| job(hook, event, collection)).collect()
}

fn job(hook: &Hook, event: &ChangeEvent, collection: &Arc<Collection>) -> Option<NewJob> {
    let row = |row: &Option<JsonObject>| match row {
        Some(row) => message::record_json(&event::record(collection, row)),
        None => Json::Null,
    };
    let rows = Rows::Of { before: row(&event.before), after: row(&event.after) };
    let whole = message::after(&hook.name, event, collection, rows);
    let job = NewJob::new(hook.queue(), &whole, Timestamp(0)).or_else(|_| {
        let cut = message::after(&hook.name, event, collection, Rows::Cut);
        NewJob::new(hook.queue(), &cut, Timestamp(0))
    });
    job.inspect_err(|error| error!(hook = hook.name, %error, "a hook is not told of a change")).ok()
}
