//! Queues that come and go, and who is woken for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::jobs::{
    AttemptEnd, AttemptId, AttemptLog, AttemptPage, Claimed, DeadJobs, JobStore, QueueStatus,
};
use contract::store::Answer;
use jobs::{Policy, Wakeup, Worker};
use model::time::Timestamp;
use store::sqlite::SqliteStore;

use crate::worker::{QUICK, dead, is_empty, leave_in, queue};
use crate::{fresh, until};

/// Nothing here ends an attempt by its deadline, or brings it back with its lease.
const PATIENT: Policy = Policy { deadline: Duration::from_secs(600), ..QUICK };

/// A store that counts claims.
struct Counting {
    store: Arc<SqliteStore>,
    claims: Mutex<HashMap<String, usize>>,
}

impl Counting {
    fn claims_of(&self, queue: &str) -> usize {
        self.claims.lock().unwrap().get(queue).copied().unwrap_or(0)
    }
}

impl JobStore for Counting {
    fn claim(&self, queue: String, limit: usize, lease: Duration) -> Answer<'_, Claimed> {
        *self.claims.lock().unwrap().entry(queue.clone()).or_default() += 1;
        self.store.claim(queue, limit, lease)
    }

    fn end(&self, attempt: AttemptId, end: AttemptEnd, log: Option<AttemptLog>) -> Answer<'_, bool> {
        self.store.end(attempt, end, log)
    }

    fn queues(&self) -> Answer<'_, Vec<QueueStatus>> {
        self.store.queues()
    }

    fn attempts(&self, queue: String, offset: u64, limit: u64) -> Answer<'_, AttemptPage> {
        self.store.attempts(queue, offset, limit)
    }

    fn dead_jobs(&self, queue: Option<String>, offset: u64, limit: u64) -> Answer<'_, DeadJobs> {
        self.store.dead_jobs(queue, offset, limit)
    }

    fn replay(&self, id: u64) -> Answer<'_, bool> {
        self.store.replay(id)
    }

    fn replay_all(&self, queue: String) -> Answer<'_, u64> {
        self.store.replay_all(queue)
    }

    fn clear(&self, queue: String) -> Answer<'_, u64> {
        self.store.clear(queue)
    }

    fn discard(&self, id: u64) -> Answer<'_, bool> {
        self.store.discard(id)
    }
}

/// A worker without a queue.
fn start(store: &Arc<SqliteStore>, wakeup: &Arc<Wakeup>) -> Worker {
    let store: Arc<dyn JobStore> = store.clone();
    Worker::start(&store, wakeup, Vec::new())
}

async fn leave(store: &SqliteStore, queue: &str, payload: &str) {
    leave_in(store, queue, payload, Timestamp(0)).await;
}

#[tokio::test]
async fn a_job_wakes_its_queue_alone() {
    let (_folder, store, wakeup) = fresh();
    let counting = Arc::new(Counting { store: store.clone(), claims: Mutex::default() });
    let ((one, ones), (other, others)) = (queue("one", QUICK), queue("other", QUICK));
    let jobs: Arc<dyn JobStore> = counting.clone();
    let worker = Worker::start(&jobs, &wakeup, vec![one, other]);
    for done in 1..=20 {
        leave(&store, "one", "a").await;
        until("it is done", async || ones.attempts_of("a") == done && is_empty(&store).await).await;
    }
    leave(&store, "other", "a").await;
    until("it is done", async || others.attempts_of("a") == 1 && is_empty(&store).await).await;
    worker.stop().await;
    assert!(counting.claims_of("one") > 20);
    // At its start, when the job came, and when it was done.
    let claims = counting.claims_of("other");
    assert!((2..=3).contains(&claims), "{claims}");
}

#[tokio::test]
async fn a_queue_is_served_while_it_is_open() {
    let (_folder, store, wakeup) = fresh();
    let worker = start(&store, &wakeup);
    leave(&store, "q", "early").await;
    let (first, notes) = queue("q", QUICK);
    worker.open(first);
    until("it is done", async || notes.attempts_of("early") == 1 && is_empty(&store).await).await;

    worker.close("q");
    worker.close("never opened");
    leave(&store, "q", "late").await;
    // A sign that whoever was woken for the one before had his turn.
    let (sign, signs) = queue("sign", QUICK);
    worker.open(sign);
    leave(&store, "sign", "a").await;
    until("the sign", async || signs.attempts_of("a") == 1).await;
    assert_eq!(notes.attempts_of("late"), 0);

    let (second, notes) = queue("q", QUICK);
    worker.open(second);
    until("it is done", async || notes.attempts_of("late") == 1 && is_empty(&store).await).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_queue_that_is_replaced_ends_what_it_runs_and_takes_nothing_more() {
    let (_folder, store, wakeup) = fresh();
    let worker = start(&store, &wakeup);
    let (old, old_notes) = queue("q", PATIENT);
    worker.open(old);
    leave(&store, "q", "is held").await;
    until("it runs", async || old_notes.attempts_of("is held") == 1).await;

    let (new, new_notes) = queue("q", PATIENT);
    worker.open(new);
    leave(&store, "q", "a").await;
    until("the new one does it", async || new_notes.attempts_of("a") == 1).await;
    assert_eq!(old_notes.attempts_of("a"), 0);
    old_notes.held.add_permits(1);
    until("all is done", async || is_empty(&store).await).await;
    worker.stop().await;
    assert_eq!((new_notes.attempts_of("is held"), dead(&store).await), (0, Vec::new()));
}

/// Long before the lease would bring it back.
#[tokio::test]
async fn what_fails_in_a_replaced_queue_is_tried_again_by_the_new_one() {
    let (_folder, store, wakeup) = fresh();
    let worker = start(&store, &wakeup);
    let (old, old_notes) = queue("q", PATIENT);
    worker.open(old);
    leave(&store, "q", "is held, fails once").await;
    until("it runs", async || old_notes.attempts_of("is held, fails once") == 1).await;

    let (new, new_notes) = queue("q", PATIENT);
    // So that it does not hold it too.
    new_notes.held.add_permits(1);
    worker.open(new);
    old_notes.held.add_permits(1);
    until("the new one tries", async || new_notes.attempts_of("is held, fails once") >= 1).await;
    until("it is done", async || is_empty(&store).await).await;
    worker.stop().await;
    assert_eq!(old_notes.attempts_of("is held, fails once"), 1);
}

#[tokio::test]
async fn a_worker_that_is_stopped_waits_for_closed_queues_too() {
    let (_folder, store, wakeup) = fresh();
    let worker = start(&store, &wakeup);
    let (waiting, notes) = queue("q", QUICK);
    worker.open(waiting);
    leave(&store, "q", "waits").await;
    until("it runs", async || notes.attempts_of("waits") == 1).await;
    worker.close("q");
    worker.stop().await;
    assert!(is_empty(&store).await, "what ran is done");

    let (late, notes) = queue("q", QUICK);
    worker.open(late);
    leave(&store, "q", "a").await;
    worker.stop().await;
    assert_eq!(notes.attempts_of("a"), 0, "nothing is opened after the end");
}

#[tokio::test]
async fn what_is_not_done_in_time_does_not_hold_up_the_end() {
    let (_folder, store, wakeup) = fresh();
    let worker = start(&store, &wakeup);
    let ((closed, closed_notes), (open, open_notes)) = (queue("closed", PATIENT), queue("open", PATIENT));
    worker.open(closed);
    worker.open(open);
    leave(&store, "closed", "is held").await;
    leave(&store, "open", "is held").await;
    let run = async || closed_notes.attempts_of("is held") + open_notes.attempts_of("is held") == 2;
    until("both run", run).await;
    worker.close("closed");
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    worker.stop().await;
    assert!(started.elapsed() < PATIENT.deadline);
    tokio::time::resume();
    let running = |status: &QueueStatus| status.running;
    assert_eq!(store.queues().await.unwrap().iter().map(running).collect::<Vec<_>>(), [1, 1]);
}

/// As a request's loop is, which ends before the worker does.
#[test]
fn a_queue_runs_where_the_worker_was_started() {
    let (_folder, store, wakeup) = fresh();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let worker = runtime.block_on(async { start(&store, &wakeup) });
    let (opened, notes) = queue("q", QUICK);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async { worker.open(opened) });
    drop(other);
    runtime.block_on(async {
        leave(&store, "q", "a").await;
        until("it is done", async || notes.attempts_of("a") == 1 && is_empty(&store).await).await;
        worker.stop().await;
    });
}
