//! Workers: a task for each queue, which claims what is due and has it done.

use std::sync::Arc;
use std::time::Duration;

use contract::jobs::{AttemptEnd, Job, JobError, JobHandler, JobStore};
use contract::store::StoreError;
use kit::app::now;
use model::time::Timestamp;
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
    pub name: &'static str,
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
}

/// Does jobs until it is stopped.
pub struct Worker {
    stop: CancellationToken,
    tasks: TaskTracker,
}

// === impl Policy ===

impl Default for Policy {
    /// Four at once, a minute for each attempt, and ten attempts within some hours.
    fn default() -> Policy {
        Policy {
            concurrency: 4,
            deadline: Duration::from_secs(60),
            max_attempts: 10,
            backoff: Backoff { first: Duration::from_secs(10), most: Duration::from_secs(3_600) },
        }
    }
}

// === impl Worker ===

impl Worker {
    /// Starts a task for each queue on the runtime of the caller. The store is one that was opened with
    /// `wakeup`.
    pub fn start(store: &Arc<dyn JobStore>, wakeup: &Wakeup, queues: Vec<Queue>) -> Worker {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for queue in queues {
            let serving = Serving {
                store: store.clone(),
                queue: Arc::new(queue),
                woken: wakeup.subscribe(),
                running: JoinSet::new(),
            };
            tasks.spawn(serving.run(stop.clone()));
        }
        tasks.close();
        Worker { stop, tasks }
    }

    /// Claims nothing more, waits a moment for what runs, and leaves the rest to its leases.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
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
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Before the claim: a commit after it ends the wait below.
            self.woken.borrow_and_update();
            let pause = self.claim().await;
            tokio::select! {
                () = stop.cancelled() => {}
                Some(_) = self.running.join_next() => {}
                () = more(self.woken.clone(), pause) => {}
            }
        }
        let ended = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            warn!(queue = self.queue.name, "jobs that were not done in time are left for later");
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
        match self.store.claim(self.queue.name.to_owned(), room, lease).await {
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

/// One attempt, and its end.
async fn perform(store: Arc<dyn JobStore>, queue: Arc<Queue>, job: Job) {
    let id = job.attempt;
    let result = if id.number > queue.policy.max_attempts {
        // No attempt before it lived to say what became of it.
        Err(JobError::Never("its attempts ended without a word".to_owned()))
    } else {
        attempt(queue.handler.run(job), queue.policy.deadline).await
    };
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
    match store.end(id, end).await {
        Ok(true) => {}
        Ok(false) => warn!(queue = queue.name, job = id.job, "a job took longer than its lease"),
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
