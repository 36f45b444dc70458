//! The application: the services of this process as one router, and what they stand on.
//!
//! This is where services are wired to engines, in plain sight.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use blobs::{EncryptedBlobs, FolderBlobs, PlainBlobs};
use broker::EmbeddedBroker;
use contract::blobs::Blobs;
use contract::broker::Broker;
use contract::secrets::SecretStore;
use contract::store::{CommitObserver, Store};
use files::Downloads;
use files::cleanup::{self, RemoveFiles};
use gateway::{Internal, Notices};
use hooks::Hooks;
use identity::Identity;
use jobs::{Crons, Jobs, Policy, Queue, Worker};
use kit::file_removal::FileRemoval;
use kit::files::Files;
use kit::outbound::Outbound;
use kit::rate_limits::RateLimits;
use kit::spool::{Spool, SpoolBounds};
use rand::distr::{Alphanumeric, SampleString};
use realtime::Realtime;
use store::sqlite::FolderLock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caller_keys::KeyKeeper;
use crate::config::Settings;
use crate::hook_queues;
use crate::readiness::has_superuser;
use crate::stores::{self, Stores};
use crate::unmatched::{StaticFolder, unmatched};

/// What the services of this process stand on. One for the process, shared by its request loops.
pub(crate) struct App {
    store: Arc<dyn Store>,
    secrets: Arc<dyn SecretStore>,
    identity: Arc<Identity>,
    files: Arc<Files>,
    downloads: Arc<Downloads>,
    realtime: Realtime,
    rate_limits: Arc<RateLimits>,
    static_folder: Arc<StaticFolder>,
    has_superuser: bool,
    jobs: Jobs,
    hooks: Hooks,
    outbound: Outbound,
    /// What gateways on other nodes are told, if there may be any.
    notices: Option<Arc<Notices>>,
    tasks: Tasks,
    /// Held until nothing of it is used any more.
    _folder: Option<FolderLock>,
}

/// What runs beside the requests, in the background runtime.
struct Tasks {
    stop: CancellationToken,
    running: TaskTracker,
    worker: Arc<Worker>,
}

/// How long one attempt to remove files may take: a collection's folder may hold hundreds of thousands.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(600);

/// Letters of a node's code: enough that the nodes of one application differ.
const NODE_CODE_LETTERS: usize = 4;

impl App {
    /// Opens the engines. `draining` is cancelled when the process is asked to stop: streams without an end of
    /// their own must end then.
    pub(crate) async fn open(settings: &Settings, draining: CancellationToken) -> anyhow::Result<Self> {
        let identity = Arc::new(Identity::start().context("start the password hash pool")?);
        let (new_events, new_jobs) = (Arc::<broker::Wakeup>::default(), Arc::<jobs::Wakeup>::default());
        let schema_changes = Arc::<hooks::SchemaChanges>::default();
        let rate_limits = Arc::<RateLimits>::default();
        let node_code = Alphanumeric.sample_string(&mut rand::rng(), NODE_CODE_LETTERS);
        let is_internal = settings.server.internal.is_some();
        let notices = is_internal.then(|| Arc::new(Notices::new(node_code.clone())));
        let mut observers: Vec<Arc<dyn CommitObserver>> = vec![
            identity.clone(),
            new_events.clone(),
            new_jobs.clone(),
            schema_changes.clone(),
            rate_limits.clone(),
        ];
        observers.extend(notices.clone().map(|notices| notices as Arc<dyn CommitObserver>));
        let Stores { store, jobs: job_store, hooks: hook_store, secrets, folder } =
            stores::open(settings, observers).await?;
        rate_limits.take(&store.settings());
        let files = Arc::new(open_files(settings)?);
        let has_superuser = has_superuser(&*store).await.context("look for a superuser")?;
        let static_folder =
            StaticFolder::new(settings.server.public_dir.clone(), settings.server.index_fallback);
        let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(store.clone(), new_events));
        let crons = Crons::start(jobs::built_in(store.clone()), kit::app::now);
        let jobs = Jobs { store: job_store.clone(), crons: Arc::new(crons) };
        let worker = Arc::new(Worker::start(&jobs.store, &new_jobs, queues(store.clone(), &files)));
        let tasks = Tasks { stop: CancellationToken::new(), running: TaskTracker::new(), worker };
        let sweeper = files::sweeper::run(store.clone(), files.blobs.clone(), tasks.stop.clone());
        tasks.running.spawn(sweeper);
        tasks.running.spawn(cleanup::run(store.clone(), broker.clone(), tasks.stop.clone()));
        let outbound = Outbound::new(settings.outbound.policy.clone());
        let hooks =
            Hooks::load(hook_store, job_store.clone(), settings.hooks.clone(), outbound.sibling()).await?;
        tasks.running.spawn(hooks::follow(
            hooks.clone(),
            store.clone(),
            broker.clone(),
            schema_changes,
            tasks.stop.clone(),
        ));
        // What is written from now on is left for a hook that the configuration has anew.
        hooks.until_followed().await;
        let for_deliveries = Arc::new(outbound.sibling());
        tasks.running.spawn(hook_queues::keep(
            hooks.clone(),
            tasks.worker.clone(),
            for_deliveries,
            tasks.stop.clone(),
        ));
        let services = kit::app::App::new(store.clone(), identity.clone(), files.clone());
        let realtime = start_realtime(services, broker, node_code, draining);
        Ok(Self {
            store,
            secrets,
            identity,
            files,
            realtime,
            rate_limits,
            downloads: Arc::default(),
            static_folder: Arc::new(static_folder),
            has_superuser,
            jobs,
            hooks,
            outbound,
            notices,
            tasks,
            _folder: folder,
        })
    }

    /// The data.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What looks after the keys of callers' tokens.
    pub(crate) fn key_keeper(&self) -> KeyKeeper {
        KeyKeeper::new(self.secrets.clone(), self.identity.clone())
    }

    /// Where the server keeps what it keeps to itself.
    pub(crate) fn secrets(&self) -> &Arc<dyn SecretStore> {
        &self.secrets
    }

    /// What the services of one request loop share: what they remember is the loop's own, so that no core waits
    /// for another's cache line.
    pub(crate) fn services(&self) -> Arc<kit::app::App> {
        let outbound = Arc::new(self.outbound.sibling());
        let before_hooks = Arc::new(hooks::Before::new(self.hooks.clone(), outbound));
        let app = kit::app::App::new(self.store.clone(), self.identity.clone(), self.files.clone());
        Arc::new(app.with_before_hooks(before_hooks).with_rate_limits(self.rate_limits.clone()))
    }

    /// What the internal listener answers from, if there is one. Its streams end when `draining`.
    pub(crate) fn internal(&self, settings: &Settings, draining: CancellationToken) -> Option<Arc<Internal>> {
        let (notices, keys) = self.notices.clone().zip(settings.nodes.keys.clone())?;
        let (store, identity) = (self.store.clone(), self.identity.clone());
        let rules = settings.gateway.tokens.rules.clone();
        Some(Arc::new(Internal::new(keys, store, identity, notices, rules, draining)))
    }

    /// Whether anybody can sign in as a superuser yet.
    pub(crate) fn has_superuser(&self) -> bool {
        self.has_superuser
    }

    /// Ends what runs beside the requests. These are answered as before; what they leave to be done waits.
    pub(crate) async fn rest(&self) {
        self.tasks.stop.cancel();
        self.tasks.running.close();
        self.tasks.running.wait().await;
        self.tasks.worker.stop().await;
        self.jobs.crons.stop().await;
    }

    /// Brings the store to rest, once no request runs, and gives the data folder up. What is being read is read to its
    /// end.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        self.realtime.close().await;
        self.rest().await;
        self.store.close().await.context("close the store")
    }
}

/// The routes of every service. Called once for each request loop, so that loops share nothing of a router.
pub(crate) fn router(app: &App, services: Arc<kit::app::App>) -> Router {
    let routes = Router::new()
        .merge(records::router())
        .merge(auth::router())
        .merge(files::router(app.downloads.clone()))
        .merge(jobs::router(app.jobs.clone()))
        .merge(hooks::router(app.hooks.clone()))
        .merge(app.realtime.router())
        .merge(admin::router());
    let identity = services.identity.clone();
    unmatched(routes.with_state(services), Arc::clone(&app.static_folder), identity)
}

/// The queues of jobs, and who does them.
fn queues(store: Arc<dyn Store>, files: &Files) -> Vec<Queue> {
    let remove_files = Arc::new(RemoveFiles::new(store, files.blobs.clone()));
    vec![Queue {
        name: FileRemoval::QUEUE.to_owned(),
        handler: remove_files,
        policy: Policy { deadline: REMOVAL_DEADLINE, ..Policy::default() },
    }]
}

/// The files of the data folder, and where those of requests wait.
fn open_files(settings: &Settings) -> anyhow::Result<Files> {
    let dir = &settings.server.dir;
    let folder = Arc::new(FolderBlobs::open(blobs::Options::new(dir.join("storage")))?);
    let blobs: Arc<dyn Blobs> = match &settings.blobs.encryption_keys {
        Some(keys) => Arc::new(EncryptedBlobs::new(folder, keys.clone())),
        None => Arc::new(PlainBlobs::new(folder)),
    };
    let bounds = SpoolBounds {
        max_bytes: settings.blobs.max_waiting_bytes,
        max_bytes_per_address: settings.blobs.max_waiting_bytes_per_address,
        ..SpoolBounds::default()
    };
    let spool = Arc::new(Spool::new(dir.clone(), bounds));
    Ok(Files { blobs, spool })
}

/// Starts what sends changes to clients, on the runtime that this is called on.
fn start_realtime(
    app: kit::app::App,
    broker: Arc<dyn Broker>,
    node_code: String,
    draining: CancellationToken,
) -> Realtime {
    Realtime::start(app, broker, realtime::Options { node_code, ..Default::default() }, draining)
}
