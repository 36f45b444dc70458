//! Workers: a task for each queue, which claims what is due and has it done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contract::jobs::{AttemptEnd, AttemptLog, Finished, Job, JobError, JobHandler, JobStore};
use contract::store::StoreError;
use kit::app::now;
use model::time::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::attempt::attempt;
use crate::backoff::Backoff;
use crate::wakeup::Wakeup;

/// How much longer than its deadline an attempt has the job: for ending it.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// How long attempts may go on when the process stops; what is not done then comes back with its lease.
const GRACE: Duration = Duration::from_secs(5);
/// After a store that did not answer.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// A wait without an end is looked after now and then: the clock may have been set.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// One kind of jobs, and who does them.
pub struct Queue {
    /// As jobs name it.
    pub name: String,
    /// Does them.
    pub handler: Arc<dyn JobHandler>,
    /// How they are done.
    pub policy: Policy,
}

/// How the jobs of a queue are done.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Most attempts at once on this node.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub deadline: Duration,
    /// A job whose last attempt fails is dead.
    pub max_attempts: u32,
    /// The wait between attempts.
    pub backoff: Backoff,
    /// How many attempts the queue's log holds, about; 0 for none.
    pub log: u64,
}

/// Does jobs until it is stopped. How many queues it has is for those to bound who open them.
pub struct Worker {
    store: Arc<dyn JobStore>,
    wakeup: Arc<Wakeup>,
    /// Where its tasks run, whoever opens a queue.
    runtime: Handle,
    /// What ends the claims of each open queue.
    open: Mutex<HashMap<String, CancellationToken>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

// === impl Policy ===

impl Default for Policy {
    /// Four at once, a minute for each attempt, ten attempts within some hours, and no log.
    fn default() -> Policy {
        Policy {
            concurrency: 4,
            deadline: Duration::from_secs(60),
            max_attempts: 10,
            backoff: Backoff { first: Duration::from_secs(10), most: Duration::from_secs(3_600) },
            log: 0,
        }
    }
}

// === impl Worker ===

impl Worker {
    /// Starts a task for each queue on the runtime of the caller, where those that are opened later run too.
    /// The store is one that was opened with `wakeup`.
    pub fn start(store: &Arc<dyn JobStore>, wakeup: &Arc<Wakeup>, queues: Vec<Queue>) -> Worker {
        let worker = Worker {
            store: store.clone(),
            wakeup: wakeup.clone(),
            runtime: Handle::current(),
            open: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        queues.into_iter().for_each(|queue| worker.open(queue));
        // Queues can be opened all the same.
        worker.tasks.close();
        worker
    }

    /// Does the jobs of one more queue. One that is open under this name is closed first, so for a while more
    /// jobs may run than the new one allows. A worker that is stopped opens nothing.
    pub fn open(&self, queue: Queue) {
        let closed = self.stop.child_token();
        let serving = Serving {
            store: self.store.clone(),
            woken: self.wakeup.subscribe(&queue.name),
            queue: Arc::new(queue),
            running: JoinSet::new(),
        };
        let name = serving.queue.name.clone();
        let before = self.queues().insert(name, closed.clone());
        if let Some(before) = before {
            before.cancel();
        }
        self.tasks.spawn_on(serving.run(closed, self.stop.clone()), &self.runtime);
    }

    /// Claims nothing more of a queue; a claim that is under way counts as made. The attempts that run go on
    /// to their end. A queue that is not open stays so.
    pub fn close(&self, name: &str) {
        if let Some(open) = self.queues().remove(name) {
            open.cancel();
        }
    }

    /// Claims nothing more, waits a moment for what runs, and leaves the rest to its leases.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker that is forgotten claims nothing more.
impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The life of one queue.
struct Serving {
    store: Arc<dyn JobStore>,
    queue: Arc<Queue>,
    woken: watch::Receiver<()>,
    running: JoinSet<()>,
}

// === impl Serving ===

impl Serving {
    /// Until it is closed, and for as long as its attempts then take: until their deadlines, or for a moment
    /// when the worker is stopped.
    async fn run(mut self, closed: CancellationToken, stop: CancellationToken) {
        while !closed.is_cancelled() {
            // Before the claim: a commit after it ends the wait below.
            self.woken.borrow_and_update();
            let pause = self.claim().await;
            tokio::select! {
                () = closed.cancelled() => {}
                Some(_) = self.running.join_next() => {}
                () = more(self.woken.clone(), pause) => {}
            }
        }
        let ended = async { while self.running.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => {}
            () = grace(&stop) => {
                warn!(queue = self.queue.name, "jobs that were not done in time are left for later");
            }
        }
    }

    /// Starts as many attempts as there is room for. How long to wait for the next job; none when there is no
    /// room, and the end of an attempt is what to wait for.
    async fn claim(&mut self) -> Option<Duration> {
        let room = self.queue.policy.concurrency.max(1).saturating_sub(self.running.len());
        if room == 0 {
            return None;
        }
        let lease = self.queue.policy.deadline + LEASE_MARGIN;
        match self.store.claim(self.queue.name.clone(), room, lease).await {
            Ok(claimed) => {
                let is_full = claimed.jobs.len() == room;
                for job in claimed.jobs {
                    self.running.spawn(perform(self.store.clone(), self.queue.clone(), job));
                }
                let wait = claimed.next_due.map_or(LONGEST_WAIT, |due| until(due).min(LONGEST_WAIT));
                (!is_full).then_some(wait)
            }
            // The store is closing, and so is everything else; or this call alone was lost.
            Err(StoreError::Closed) => Some(AFTER_ERROR),
            Err(error) => {
                warn!(queue = self.queue.name, %error, "jobs could not be claimed");
                Some(AFTER_ERROR)
            }
        }
    }
}

/// Waits for a reason to claim more.
async fn more(mut woken: watch::Receiver<()>, pause: Option<Duration>) {
    let Some(pause) = pause else { return std::future::pending().await };
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        Ok(()) = woken.changed() => {}
    }
}

/// How long attempts may go on once the worker is stopped.
async fn grace(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// One attempt, and its end.
async fn perform(store: Arc<dyn JobStore>, queue: Arc<Queue>, job: Job) {
    let id = job.attempt;
    let (started, clock) = (now(), Instant::now());
    let Finished { result, note } = if id.number > queue.policy.max_attempts {
        // No attempt before it lived to say what became of it.
        Err(JobError::Never("its attempts ended without a word".to_owned())).into()
    } else {
        // The call itself may panic too.
        attempt(async { queue.handler.run(job).await }, queue.policy.deadline).await
    };
    let keep = queue.policy.log;
    let log = (keep > 0).then(|| AttemptLog { started, took: clock.elapsed(), note, keep });
    let end = end_of(result, id.number, &queue.policy);
    match &end {
        AttemptEnd::Done => debug!(queue = queue.name, job = id.job, "a job is done"),
        AttemptEnd::Again { error, .. } => {
            warn!(
                queue = queue.name,
                job = id.job,
                attempt = id.number,
                error,
                "a job failed, and is tried again"
            );
        }
        AttemptEnd::Dead { error } => {
            error!(queue = queue.name, job = id.job, attempt = id.number, error, "a job is dead");
        }
    }
    match store.end(id, end, log).await {
        Ok(true) => {}
        Ok(false) => {
            warn!(
                queue = queue.name,
                job = id.job,
                "a job took longer than its lease, or was forgotten meanwhile"
            );
        }
        // It comes back with its lease.
        Err(error) => warn!(queue = queue.name, job = id.job, %error, "the end of a job could not be kept"),
    }
}

fn end_of(result: Result<(), JobError>, number: u32, policy: &Policy) -> AttemptEnd {
    match result {
        Ok(()) => AttemptEnd::Done,
        Err(JobError::Again(error)) if number < policy.max_attempts => {
            let wait = policy.backoff.wait(number, &mut rand::rng());
            let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            AttemptEnd::Again { due: Timestamp(now().0.saturating_add(wait)), error }
        }
        Err(JobError::Again(error) | JobError::Never(error)) => AttemptEnd::Dead { error },
    }
}

/// From now until then.
fn until(due: Timestamp) -> Duration {
    Duration::from_millis(due.0.saturating_sub(now().0).try_into().unwrap_or(0))
}
