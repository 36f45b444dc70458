//! What becomes of jobs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::jobs::{Attempt, DeadJob, Finished, Job, JobError, JobHandler, JobStore};
use contract::store::Store;
use jobs::{Backoff, Policy, Queue, Wakeup, Worker};
use model::json::Json;
use model::step::{NewJob, Step, WriteBatch};
use model::time::Timestamp;
use store::sqlite::SqliteStore;
use tokio::sync::Semaphore;

use crate::{fresh, until};

pub(crate) const QUICK: Policy = Policy {
    concurrency: 3,
    deadline: Duration::from_millis(200),
    max_attempts: 3,
    backoff: Backoff { first: Duration::from_millis(1), most: Duration::from_millis(5) },
    log: 0,
};

/// Does what the payload says, and notes it; in the log too.
pub(crate) struct Notes {
    attempts: Mutex<BTreeMap<String, usize>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// A permit lets one that is held go on.
    pub(crate) held: Semaphore,
}

impl Default for Notes {
    fn default() -> Notes {
        Notes {
            attempts: Mutex::default(),
            running: AtomicUsize::default(),
            most_running: AtomicUsize::default(),
            held: Semaphore::new(0),
        }
    }
}

impl Notes {
    pub(crate) fn attempts_of(&self, payload: &str) -> usize {
        self.attempts.lock().unwrap().get(payload).copied().unwrap_or(0)
    }

    async fn perform(&self, payload: &str) -> Result<(), JobError> {
        *self.attempts.lock().unwrap().entry(payload.to_owned()).or_default() += 1;
        match payload {
            "fails once" if self.attempts_of(payload) == 1 => Err(JobError::Again("once".to_owned())),
            "fails" => Err(JobError::Again("always".to_owned())),
            "never" => Err(JobError::Never("no use".to_owned())),
            "panics" => panic!("on purpose"),
            "hangs" => std::future::pending().await,
            "is held" => {
                self.held.acquire().await.unwrap().forget();
                Ok(())
            }
            "is held, fails once" if self.attempts_of(payload) == 1 => {
                self.held.acquire().await.unwrap().forget();
                Err(JobError::Again("once".to_owned()))
            }
            "waits" => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl JobHandler for Notes {
    fn run(&self, job: Job) -> Attempt<'_> {
        Box::pin(async move {
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_running.fetch_max(running, Ordering::SeqCst);
            let result = self.perform(job.payload.as_str().unwrap()).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            Finished { result, note: job.payload }
        })
    }
}

fn start(store: &Arc<SqliteStore>, wakeup: &Arc<Wakeup>, policy: Policy) -> (Worker, Arc<Notes>) {
    let store: Arc<dyn JobStore> = store.clone();
    let (queue, notes) = queue("q", policy);
    (Worker::start(&store, wakeup, vec![queue]), notes)
}

pub(crate) fn queue(name: &str, policy: Policy) -> (Queue, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    (Queue { name: name.to_owned(), handler: notes.clone(), policy }, notes)
}

async fn leave(store: &SqliteStore, payload: &str, due: Timestamp) {
    leave_in(store, "q", payload, due).await;
}

pub(crate) async fn leave_in(store: &SqliteStore, queue: &str, payload: &str, due: Timestamp) {
    let job = NewJob::new(queue, &Json::from(payload), due).unwrap();
    store.write(WriteBatch::one(Step::Enqueue(job))).await.unwrap().unwrap();
}

pub(crate) async fn is_empty(store: &SqliteStore) -> bool {
    store.queues().await.unwrap().iter().all(|queue| queue.waiting == 0 && queue.running == 0)
}

pub(crate) async fn dead(store: &SqliteStore) -> Vec<DeadJob> {
    store.dead_jobs(None, 0, 100).await.unwrap().jobs
}

#[tokio::test]
async fn jobs_are_done_as_they_come() {
    let (_folder, store, wakeup) = fresh();
    leave(&store, "before", Timestamp(0)).await;
    let (worker, notes) = start(&store, &wakeup, QUICK);
    until("the first job", async || notes.attempts_of("before") == 1).await;
    leave(&store, "after", Timestamp(0)).await;
    until("the second job", async || notes.attempts_of("after") == 1 && is_empty(&store).await).await;
    worker.stop().await;
    assert_eq!(dead(&store).await, []);
}

#[tokio::test]
async fn a_job_is_done_when_it_is_due() {
    let (_folder, store, wakeup) = fresh();
    let (worker, notes) = start(&store, &wakeup, QUICK);
    let due = Timestamp(kit::app::now().0 + 150);
    leave(&store, "later", due).await;
    until("the job", async || notes.attempts_of("later") == 1).await;
    assert!(kit::app::now() >= due);
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again_until_it_is_done_or_dead() {
    let (_folder, store, wakeup) = fresh();
    let (worker, notes) = start(&store, &wakeup, QUICK);
    for payload in ["fails once", "fails", "never", "panics", "hangs"] {
        leave(&store, payload, Timestamp(0)).await;
    }
    until("all are done or dead", async || is_empty(&store).await).await;
    worker.stop().await;
    let attempts =
        ["fails once", "fails", "never", "panics", "hangs"].map(|payload| notes.attempts_of(payload));
    assert_eq!(attempts, [2, 3, 1, 3, 3]);
    let mut died: Vec<_> = dead(&store)
        .await
        .into_iter()
        .map(|job| (job.payload.as_str().unwrap().to_owned(), job.attempts, job.error))
        .collect();
    died.sort();
    let expected = [
        ("fails", 3, "always"),
        ("hangs", 3, "not done in 200ms"),
        ("never", 1, "no use"),
        ("panics", 3, "the handler panicked"),
    ];
    assert_eq!(
        died,
        expected.map(|(payload, attempts, error)| (payload.to_owned(), attempts, error.to_owned()))
    );
}

#[tokio::test]
async fn a_dead_job_that_is_replayed_is_done() {
    let (_folder, store, wakeup) = fresh();
    let (worker, notes) = start(&store, &wakeup, Policy { max_attempts: 1, ..QUICK });
    leave(&store, "fails once", Timestamp(0)).await;
    until("it is dead", async || dead(&store).await.len() == 1).await;
    assert!(store.replay(dead(&store).await[0].id).await.unwrap());
    until("it is done", async || is_empty(&store).await).await;
    assert_eq!((notes.attempts_of("fails once"), dead(&store).await.len()), (2, 0));
    worker.stop().await;
}

#[tokio::test]
async fn no_more_run_at_once_than_the_queue_allows() {
    let (_folder, store, wakeup) = fresh();
    for _ in 0..30 {
        leave(&store, "waits", Timestamp(0)).await;
    }
    let (worker, notes) = start(&store, &wakeup, QUICK);
    until("all are done", async || is_empty(&store).await).await;
    worker.stop().await;
    assert_eq!(notes.attempts_of("waits"), 30);
    assert_eq!(notes.most_running.load(Ordering::SeqCst), 3);
}

/// As after a kill: somebody claimed it and was never heard of again.
#[tokio::test]
async fn a_job_of_a_worker_that_died_is_done_by_another() {
    let (_folder, store, wakeup) = fresh();
    leave(&store, "a", Timestamp(0)).await;
    let lost = store.claim("q".to_owned(), 1, Duration::from_millis(100)).await.unwrap();
    assert_eq!(lost.jobs.len(), 1);
    let (worker, notes) = start(&store, &wakeup, QUICK);
    until("it is done", async || notes.attempts_of("a") == 1 && is_empty(&store).await).await;
    worker.stop().await;
}

/// It may be what kills the worker.
#[tokio::test]
async fn a_job_whose_attempts_never_end_is_dead_in_the_end() {
    let (_folder, store, wakeup) = fresh();
    leave(&store, "a", Timestamp(0)).await;
    for _ in 0..QUICK.max_attempts {
        until("it comes back", async || {
            store.claim("q".to_owned(), 1, Duration::from_millis(1)).await.unwrap().jobs.len() == 1
        })
        .await;
    }
    let (worker, notes) = start(&store, &wakeup, QUICK);
    until("it is dead", async || dead(&store).await.len() == 1).await;
    assert_eq!(notes.attempts_of("a"), 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_finishes_what_runs_and_takes_nothing_more() {
    let (_folder, store, wakeup) = fresh();
    let (worker, notes) = start(&store, &wakeup, QUICK);
    leave(&store, "waits", Timestamp(0)).await;
    until("it runs", async || notes.attempts_of("waits") == 1).await;
    worker.stop().await;
    assert!(is_empty(&store).await, "what ran is done");
    leave(&store, "late", Timestamp(0)).await;
    assert_eq!(store.queues().await.unwrap()[0].waiting, 1);
    assert_eq!(notes.attempts_of("late"), 0);
}

#[tokio::test]
async fn attempts_are_logged_with_what_the_handler_says() {
    let (_folder, store, wakeup) = fresh();
    let before = kit::app::now();
    let (worker, _) = start(&store, &wakeup, Policy { max_attempts: 2, log: 50, ..QUICK });
    for payload in ["fails once", "hangs"] {
        leave(&store, payload, Timestamp(0)).await;
        until("it is done or dead", async || is_empty(&store).await).await;
    }
    worker.stop().await;
    let page = store.attempts("q".to_owned(), 0, 10).await.unwrap();
    let mut said: Vec<_> = page
        .attempts
        .iter()
        .map(|logged| {
            let note = logged.note.as_str().unwrap_or("none");
            (logged.attempt.number, logged.outcome.as_str(), logged.error.as_str(), note)
        })
        .collect();
    said.reverse();
    let expected = [
        (1, "again", "once", "fails once"),
        (2, "done", "", "fails once"),
        (1, "again", "not done in 200ms", "none"),
        (2, "dead", "not done in 200ms", "none"),
    ];
    assert_eq!((said, page.total), (expected.to_vec(), 4));
    let slow = &page.attempts[0];
    assert!(slow.took >= QUICK.deadline && slow.started >= before && slow.started <= kit::app::now());
}

#[tokio::test]
async fn a_queue_without_a_log_keeps_no_attempts() {
    let (_folder, store, wakeup) = fresh();
    let (worker, notes) = start(&store, &wakeup, QUICK);
    leave(&store, "a", Timestamp(0)).await;
    until("it is done", async || notes.attempts_of("a") == 1 && is_empty(&store).await).await;
    worker.stop().await;
    assert_eq!(store.attempts("q".to_owned(), 0, 10).await.unwrap().total, 0);
}
