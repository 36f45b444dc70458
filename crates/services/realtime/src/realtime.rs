//! The service of a process: what its request loops and its task share.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::Router;
use axum::routing::get;
use contract::broker::Broker;
use kit::app::App;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::hub::{Hub, Seats};
use crate::limits::{Limits, Times};
use crate::outlet::{Message, Outlet};
use crate::resume::Resume;
use crate::{connect, follow, subscribe};

/// How the service is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the ids of this node's clients begin with: a few letters and digits, other than those of other nodes.
    pub node_code: String,
    /// How much is held for clients.
    pub limits: Limits,
    /// How long things last.
    pub times: Times,
}

/// The streams of a process.
pub struct Realtime {
    shared: Arc<Shared>,
    follower: Mutex<Option<JoinHandle<()>>>,
}

/// What handlers and the task share.
pub(crate) struct Shared {
    pub(crate) app: App,
    pub(crate) options: Options,
    pub(crate) hub: Arc<Hub>,
    /// One a request loop.
    outlets: RwLock<Vec<Arc<Outlet>>>,
    /// Somebody wants events.
    pub(crate) wanted: Notify,
    /// Whether every write from now on is seen.
    pub(crate) follows: watch::Sender<bool>,
    /// To the task, from clients that connect again. Who finds it full waits.
    pub(crate) resumes: mpsc::Sender<Resume>,
    pub(crate) draining: CancellationToken,
}

/// What the handlers of one request loop work with.
pub(crate) struct Gate {
    pub(crate) shared: Arc<Shared>,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) outlet_index: usize,
}

/// Clients that wait for the task to look at what they missed.
const RESUMES: usize = 64;

// === impl Realtime ===

impl Realtime {
    /// Starts the task that sends events, on the runtime that this is called on. All streams end when `draining` is
    /// cancelled, and then the task. `app` is the task's own.
    pub fn start(
        app: App,
        broker: Arc<dyn Broker>,
        options: Options,
        draining: CancellationToken,
    ) -> Realtime {
        let (resumes, resumed) = mpsc::channel(RESUMES);
        let shared = Arc::new(Shared {
            app,
            hub: Arc::new(Hub::new(options.limits)),
            options,
            outlets: RwLock::default(),
            wanted: Notify::new(),
            follows: watch::Sender::new(false),
            resumes,
            draining,
        });
        let follower = tokio::spawn(follow::run(shared.clone(), broker, resumed));
        Realtime { shared, follower: Mutex::new(Some(follower)) }
    }

    /// The service's routes. Called once for each request loop, whose clients are its own.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let options = &self.shared.options;
        let outlet = Outlet::new(&options.limits, &options.times, self.shared.draining.clone());
        let outlet = Arc::new(outlet);
        let outlet_index = self.shared.add_outlet(outlet.clone());
        let gate = Arc::new(Gate { shared: self.shared.clone(), outlet, outlet_index });
        Router::new().route("/api/realtime", get(connect::handle).post(subscribe::handle)).with_state(gate)
    }

    /// Waits for the end of the task, once `draining` is cancelled.
    pub async fn close(&self) {
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower
            && let Err(error) = follower.await
        {
            tracing::error!(%error, "the realtime task failed");
        }
    }
}

// === impl Shared ===

impl Shared {
    fn add_outlet(&self, outlet: Arc<Outlet>) -> usize {
        let mut outlets = self.outlets.write().unwrap_or_else(PoisonError::into_inner);
        outlets.push(outlet);
        outlets.len() - 1
    }

    fn outlet(&self, index: usize) -> Option<Arc<Outlet>> {
        self.outlets.read().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }

    /// Hands messages to a loop.
    pub(crate) async fn send(&self, outlet: usize, messages: Vec<Message>) {
        if let Some(outlet) = self.outlet(outlet) {
            outlet.send(messages).await;
        }
    }

    /// Ends the streams of clients of whom it is not known what they missed; they connect again.
    pub(crate) fn end(&self, seats: &Seats) {
        for (outlet, places) in &seats.0 {
            if let Some(outlet) = self.outlet(*outlet) {
                outlet.end(places);
            }
        }
    }
}
