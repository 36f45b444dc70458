//! From change events to jobs: a job in its own queue for each hook that wants to know.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use contract::broker::{Broker, Subscription};
use contract::event::{ChangeEvent, Events, Interest};
use contract::jobs::{MAX_JOBS, QueueStatus};
use contract::store::{Commit, CommitObserver, Store, StoreError};
use model::json::Json;
use model::schema::Schema;
use model::step::{NewJob, Step, WriteBatch};
use model::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::event::HookEvent;
use crate::hook::{Hook, QUEUES, Source};
use crate::registry::{HookSet, Hooks};
use crate::{message, room};

/// The name of the consumer.
const CONSUMER: &str = "hooks";
/// After a store that did not answer, or has too many jobs already.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Most jobs that are left in one batch, and after how many bytes of them there are no more.
const JOBS_PER_BATCH: usize = 100;
const BYTES_PER_BATCH: usize = 1 << 20;
/// How often queues are looked at: in jobs that were left, and in time while one of them is full.
const LOOKED_AT_EVERY: u64 = 1_000;
const LOOKED_AT_AGAIN: Duration = Duration::from_secs(5);

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
        full: BTreeMap::new(),
        left: 0,
        look_at: Instant::now(),
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
    /// Queues that nothing is left in for now, and how much was not, since they are full.
    full: BTreeMap<String, u64>,
    /// Jobs left since queues were looked at.
    left: u64,
    /// When they are looked at again, while one is full.
    look_at: Instant,
    /// Collections that hooks of the configuration name and that were said to be missing.
    missing: BTreeSet<(String, String)>,
}

/// What the follower wakes up for.
enum Woken {
    /// There are other hooks, or other collections.
    Outdated,
    /// Full queues are to be looked at.
    Full,
    /// A delivery came.
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
        self.look_at_queues().await;
        loop {
            let woken = tokio::select! {
                Ok(()) = self.hooks_changed.changed() => Woken::Outdated,
                Ok(()) = self.schema_changed.changed() => Woken::Outdated,
                () = tokio::time::sleep_until(self.look_at), if !self.full.is_empty() => Woken::Full,
                events = subscription.next() => Woken::Events(events?),
            };
            match woken {
                Woken::Outdated => return Ok(()),
                Woken::Full => self.look_at_queues().await,
                Woken::Events(Events::Some(events)) => {
                    self.leave_all(set, &events).await?;
                    if let Some(last) = events.last() {
                        subscription.acknowledge(last.sequence).await?;
                    }
                }
                Woken::Events(Events::Resync { from }) => {
                    error!(from, "change events were cut off before hooks were told of them");
                    subscription.acknowledge(from).await?;
                }
            }
        }
    }

    async fn leave_all(&mut self, set: &HookSet, events: &[ChangeEvent]) -> Result<(), StoreError> {
        let schema = self.store.schema();
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        for event in events {
            // With a collection goes what would be told of it.
            let Some(collection) = schema.by_id(&event.collection) else { continue };
            let moment = HookEvent::new(false, event.action);
            let mut message = None;
            for hook in set.iter().filter(|hook| hook.wants(moment, collection)) {
                if self.is_dropped(&hook.queue()) {
                    continue;
                }
                let message = message.get_or_insert_with(|| message::after(event, collection));
                let Some(job) = job(hook, event, message) else { continue };
                bytes += job.payload().len();
                jobs.push(job);
                if jobs.len() == JOBS_PER_BATCH || bytes >= BYTES_PER_BATCH {
                    self.leave(std::mem::take(&mut jobs)).await?;
                    bytes = 0;
                }
            }
        }
        self.leave(jobs).await
    }

    /// Leaves jobs, but for those of queues that are full.
    async fn leave(&mut self, mut jobs: Vec<NewJob>) -> Result<(), StoreError> {
        if self.left >= LOOKED_AT_EVERY || !self.full.is_empty() && Instant::now() >= self.look_at {
            self.look_at_queues().await;
        }
        loop {
            jobs.retain(|job| !self.is_dropped(job.queue()));
            if jobs.is_empty() {
                return Ok(());
            }
            let steps = jobs.iter().cloned().map(Step::Enqueue).collect();
            match self.store.write(WriteBatch { steps, ..WriteBatch::default() }).await {
                Err(StoreError::Busy) => self.make_room(&jobs).await,
                Err(error) => return Err(error),
                Ok(Err(refused)) => {
                    return Err(StoreError::Internal(format!("a job was refused: {refused:?}")));
                }
                Ok(Ok(_)) => {
                    self.left += jobs.len() as u64;
                    return Ok(());
                }
            }
        }
    }

    /// The store has too much to do, or there are too many jobs. That may pass; but hooks must not hold up each
    /// other, so where it is jobs, the longest queues that these are for get no more.
    async fn make_room(&mut self, jobs: &[NewJob]) {
        tokio::time::sleep(AFTER_ERROR).await;
        let Ok(queues) = self.hooks.jobs().queues().await else { return };
        let all: u64 = queues.iter().map(|queue| queue.waiting + queue.running).sum();
        if all + JOBS_PER_BATCH as u64 > MAX_JOBS {
            let among = jobs.iter().map(NewJob::queue).collect();
            for queue in room::longest(&among, &waiting(queues)) {
                error!(queue, "there are too many jobs: a hook is not told of changes for a while");
                self.full.insert(queue, 0);
            }
            self.look_at = Instant::now() + LOOKED_AT_AGAIN;
        }
    }

    /// Whether nothing is left in a queue; then that is counted.
    fn is_dropped(&mut self, queue: &str) -> bool {
        let Some(dropped) = self.full.get_mut(queue) else { return false };
        *dropped += 1;
        self.hooks.note_dropped(queue);
        true
    }

    async fn look_at_queues(&mut self) {
        self.left = 0;
        self.look_at = Instant::now() + LOOKED_AT_AGAIN;
        let queues = match self.hooks.jobs().queues().await {
            Ok(queues) => queues,
            Err(error) => return warn!(%error, "the queues of hooks could not be looked at"),
        };
        let full = room::full(&waiting(queues), |queue| self.full.contains_key(queue));
        self.full.retain(|queue, dropped| {
            let is_full = full.contains(queue);
            if !is_full {
                warn!(queue, dropped, "a hook's queue has room again; it was not told of so many changes");
            }
            is_full
        });
        for queue in full {
            self.full.entry(queue).or_insert_with_key(|queue| {
                error!(queue, "a hook's queue is full: it is not told of changes until there is room");
                0
            });
        }
    }
}

/// How much waits in each hook's queue.
fn waiting(queues: Vec<QueueStatus>) -> BTreeMap<String, u64> {
    let of_hooks = queues.into_iter().filter(|queue| queue.name.starts_with(QUEUES));
    of_hooks.map(|queue| (queue.name, queue.waiting)).collect()
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

/// The message as a job for one hook; without its rows, if it is too large.
fn job(hook: &Hook, event: &ChangeEvent, message: &mut Json) -> Option<NewJob> {
    message::address(message, &hook.name, event);
    let job = NewJob::new(hook.queue(), message, Timestamp(0)).or_else(|_| {
        message::cut(message);
        NewJob::new(hook.queue(), message, Timestamp(0))
    });
    job.inspect_err(|error| error!(hook = hook.name, %error, "a hook is not told of a change")).ok()
}
