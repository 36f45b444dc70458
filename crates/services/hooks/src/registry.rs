//! Which hooks there are: those of the configuration and those that the store keeps, as one snapshot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use contract::hooks::{HookStore, Saved, StoredHook};
use contract::jobs::JobStore;
use contract::store::StoreError;
use kit::outbound::Outbound;
use model::json::Json;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use crate::broken::Broken;
use crate::hook::{Hook, HookInput, Source, queue_of};

/// How long a change, and the start, waits until events are left for it; it stands all the same.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

/// The hooks of this process. Cheap to clone.
#[derive(Clone)]
pub struct Hooks {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn HookStore>,
    jobs: Arc<dyn JobStore>,
    configured: Vec<Arc<Hook>>,
    set: ArcSwap<HookSet>,
    /// What a read of the store is worth: of two that overlap the one that began later counts.
    reads: AtomicU64,
    /// The number of the newest set.
    changes: watch::Sender<u64>,
    /// The number of the set that events are left for.
    followed: watch::Sender<u64>,
    /// Messages that were not left, since the process began, by queue.
    dropped: Mutex<BTreeMap<String, u64>>,
    /// Makes clients for trying a hook.
    outbound: Outbound,
}

/// All hooks at one time.
#[derive(Debug, Default)]
pub struct HookSet {
    /// Grows with every change.
    number: u64,
    /// By name.
    hooks: Vec<Arc<Hook>>,
    /// Stored ones that cannot be called.
    broken: Vec<Arc<Broken>>,
}

/// Why the hooks that the store keeps could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the hooks could not be read: {0}")]
pub struct NotLoaded(#[from] StoreError);

// === impl Hooks ===

impl Hooks {
    /// Those of the configuration, and those that the store keeps.
    pub async fn load(
        store: Arc<dyn HookStore>,
        jobs: Arc<dyn JobStore>,
        configured: Vec<Hook>,
        outbound: Outbound,
    ) -> Result<Hooks, NotLoaded> {
        let hooks = Hooks {
            shared: Arc::new(Shared {
                store,
                jobs,
                configured: configured.into_iter().map(Arc::new).collect(),
                set: ArcSwap::default(),
                reads: AtomicU64::new(0),
                changes: watch::Sender::new(0),
                followed: watch::Sender::new(0),
                dropped: Mutex::default(),
                outbound,
            }),
        };
        hooks.reload().await?;
        Ok(hooks)
    }

    /// The hooks as they are now.
    pub fn set(&self) -> Arc<HookSet> {
        self.shared.set.load_full()
    }

    /// Tells of every new set.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The same for a short look, without a count that request loops would share.
    pub(crate) fn look(&self) -> Guard<Arc<HookSet>> {
        self.shared.set.load()
    }

    /// The hook of a name.
    pub fn get(&self, name: &str) -> Option<Arc<Hook>> {
        self.shared.set.load().get(name)
    }

    pub(crate) fn jobs(&self) -> &dyn JobStore {
        &*self.shared.jobs
    }

    /// A client for one use: it belongs to the request loop that it is used on.
    pub(crate) fn outbound(&self) -> Outbound {
        self.shared.outbound.sibling()
    }

    /// One more message was not left in a queue.
    pub(crate) fn note_dropped(&self, queue: &str) {
        *self.dropped_messages().entry(queue.to_owned()).or_default() += 1;
    }

    /// Messages that were not left in a queue since the process began.
    pub(crate) fn dropped(&self, queue: &str) -> u64 {
        self.dropped_messages().get(queue).copied().unwrap_or_default()
    }

    fn dropped_messages(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.shared.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a hook, or replaces the one whose definition is `before`. Once this is answered, every write that comes
    /// after it meets the hook.
    pub(crate) async fn save(&self, hook: &Hook, before: Option<Json>) -> Result<Saved, StoreError> {
        let stored = StoredHook { name: hook.name.clone(), definition: Json::Object(hook.definition()) };
        let saved = self.shared.store.save_hook(stored, before).await?;
        if saved == Saved::Kept {
            self.reload().await?;
            self.until_followed().await;
        }
        Ok(saved)
    }

    /// What the store keeps under a name now.
    pub(crate) async fn stored(&self, name: &str) -> Result<Option<StoredHook>, StoreError> {
        let stored = self.shared.store.hooks().await?;
        Ok(stored.into_iter().find(|stored| stored.name == name))
    }

    /// Forgets a hook, what waits for it, and its log. False when there is none.
    pub(crate) async fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let is_removed = self.shared.store.remove_hook(name.to_owned()).await?;
        self.reload().await?;
        self.until_followed().await;
        self.shared.jobs.clear(queue_of(name)).await?;
        self.dropped_messages().remove(&queue_of(name));
        Ok(is_removed)
    }

    /// Events are left for this set from now on.
    pub(crate) fn note_followed(&self, number: u64) {
        self.shared.followed.send_replace(number);
    }

    /// Waits a moment until events are left for the present set.
    pub async fn until_followed(&self) {
        let number = self.set().number;
        let mut followed = self.shared.followed.subscribe();
        if timeout(FOLLOWED_WITHIN, followed.wait_for(|followed| *followed >= number)).await.is_err() {
            warn!("change events are not left for the present hooks yet");
        }
    }

    async fn reload(&self) -> Result<(), StoreError> {
        let read = 1 + self.shared.reads.fetch_add(1, Ordering::SeqCst);
        let stored = self.shared.store.hooks().await?;
        let mut hooks = self.shared.configured.clone();
        let mut broken = Vec::new();
        for stored in &stored {
            if hooks.iter().any(|hook| hook.source == Source::Config && hook.name == stored.name) {
                let name = &stored.name;
                warn!(name, "a hook of the configuration stands before the stored one of its name");
                continue;
            }
            match HookInput::of_definition(&stored.name, &stored.definition).check(Source::Api) {
                Ok(hook) => hooks.push(Arc::new(hook)),
                Err(problems) => broken.push(Arc::new(Broken::new(stored, problems))),
            }
        }
        hooks.sort_by(|one, other| one.name.cmp(&other.name));
        let set = Arc::new(HookSet { number: read, hooks, broken });
        self.shared.set.rcu(|current| if current.number < read { set.clone() } else { current.clone() });
        self.shared.changes.send_if_modified(|number| {
            let is_newer = *number < read;
            *number = (*number).max(read);
            is_newer
        });
        Ok(())
    }
}

// === impl HookSet ===

impl HookSet {
    /// The hook of a name.
    pub fn get(&self, name: &str) -> Option<Arc<Hook>> {
        let position = self.hooks.binary_search_by(|hook| hook.name.as_str().cmp(name)).ok()?;
        Some(self.hooks[position].clone())
    }

    /// All that can be called, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Hook>> {
        self.hooks.iter()
    }

    /// The stored ones that cannot be called.
    pub(crate) fn broken(&self) -> impl Iterator<Item = &Arc<Broken>> {
        self.broken.iter()
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}
