//! Jobs: left by batches, claimed for a time, tried again, or dead.

use std::time::{Duration, Instant};

use contract::jobs::{AttemptEnd, Claimed, Job, QueueStatus};
use contract::store::Commit;
use model::json::Json;
use model::step::{NewJob, Step};
use model::time::Timestamp;

use super::Stage;
use super::stage::server;

const LONG: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);
/// The year 2096.
const FAR: Timestamp = Timestamp(4_000_000_000_000);

fn step(queue: &str, payload: &str, due: Timestamp) -> Step {
    Step::Enqueue(NewJob::new(queue, &Json::from(payload), due).unwrap())
}

async fn enqueue(stage: &Stage, queue: &str, payload: &str) {
    stage.step(step(queue, payload, Timestamp(0))).await.unwrap();
}

async fn claim(stage: &Stage, queue: &str, lease: Duration) -> Claimed {
    stage.jobs().claim(queue.to_owned(), 10, lease).await.unwrap()
}

/// Claims one job that comes by and by.
async fn await_job(stage: &Stage, queue: &str, lease: Duration) -> Job {
    let started = Instant::now();
    loop {
        if let Some(job) = claim(stage, queue, lease).await.jobs.pop() {
            return job;
        }
        assert!(started.elapsed() < PATIENCE, "no job comes");
        tokio::task::yield_now().await;
    }
}

async fn end(stage: &Stage, job: &Job, end: AttemptEnd) -> bool {
    stage.jobs().end(job.attempt, end).await.unwrap()
}

fn payloads(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.payload.as_str().unwrap()).collect()
}

pub async fn a_job_is_left_with_its_batch_or_not_at_all(stage: Stage) {
    stage.collection("notes", r#"{"fields": []}"#).await;
    let missing = stage.delete_step("notes", "missing", server());
    stage.steps(vec![step("q", "refused", Timestamp(0)), missing]).await.unwrap_err();
    let create = stage.create_step("notes", r#"{"id": "a"}"#, server());
    stage.steps(vec![create, step("q", "left", Timestamp(0))]).await.unwrap();
    let claimed = claim(&stage, "q", LONG).await;
    assert_eq!(payloads(&claimed.jobs), ["left"]);
    assert_eq!(claimed.jobs[0].attempt.number, 1);
}

pub async fn a_claimed_job_is_nobody_elses_until_the_lease_ends(stage: Stage) {
    enqueue(&stage, "q", "a").await;
    let first = claim(&stage, "q", Duration::from_millis(200)).await;
    assert_eq!(payloads(&first.jobs), ["a"]);
    let second = claim(&stage, "q", LONG).await;
    assert_eq!(payloads(&second.jobs), [""; 0]);
    assert!(second.next_due.is_some(), "it comes back when the lease ends");
    let again = await_job(&stage, "q", LONG).await;
    assert_eq!(again.attempt.job, first.jobs[0].attempt.job);
    assert_eq!(again.attempt.number, 2);
}

pub async fn jobs_come_when_they_are_due_and_in_that_order(stage: Stage) {
    stage.step(step("q", "later", FAR)).await.unwrap();
    for payload in ["a", "b", "c"] {
        enqueue(&stage, "q", payload).await;
    }
    let two = stage.jobs().claim("q".to_owned(), 2, LONG).await.unwrap();
    assert_eq!(payloads(&two.jobs), ["a", "b"]);
    let rest = claim(&stage, "q", LONG).await;
    assert_eq!(payloads(&rest.jobs), ["c"]);
    for job in two.jobs.iter().chain(&rest.jobs) {
        assert!(end(&stage, job, AttemptEnd::Done).await);
    }
    let claimed = claim(&stage, "q", LONG).await;
    assert_eq!((claimed.jobs.len(), claimed.next_due), (0, Some(FAR)));
}

pub async fn a_job_that_is_done_is_gone(stage: Stage) {
    enqueue(&stage, "q", "a").await;
    let job = claim(&stage, "q", LONG).await.jobs.remove(0);
    assert!(end(&stage, &job, AttemptEnd::Done).await);
    assert!(!end(&stage, &job, AttemptEnd::Done).await, "it is gone already");
    assert_eq!(claim(&stage, "q", LONG).await, Claimed { jobs: Vec::new(), next_due: None });
}

pub async fn a_job_that_failed_comes_again_when_it_is_due(stage: Stage) {
    enqueue(&stage, "q", "a").await;
    let job = claim(&stage, "q", LONG).await.jobs.remove(0);
    let again = |due| AttemptEnd::Again { due, error: "not now".to_owned() };
    assert!(end(&stage, &job, again(Timestamp(0))).await);
    let second = claim(&stage, "q", LONG).await.jobs.remove(0);
    assert_eq!(second.attempt.number, 2);
    assert!(end(&stage, &second, again(FAR)).await);
    let claimed = claim(&stage, "q", LONG).await;
    assert_eq!((claimed.jobs.len(), claimed.next_due), (0, Some(FAR)));
}

pub async fn a_dead_job_is_kept_and_can_be_replayed_or_forgotten(stage: Stage) {
    for payload in ["a", "b", "c"] {
        enqueue(&stage, "q", payload).await;
    }
    for job in claim(&stage, "q", LONG).await.jobs {
        assert!(end(&stage, &job, AttemptEnd::Dead { error: "é".repeat(2_000) }).await);
    }
    assert_eq!(claim(&stage, "q", LONG).await.next_due, None);
    let dead = stage.jobs().dead_jobs(1, 5).await.unwrap();
    let found: Vec<_> = dead.jobs.iter().map(|job| job.payload.as_str().unwrap()).collect();
    assert_eq!((found, dead.total, dead.dropped), (vec!["b", "a"], 3, 0));
    assert!(dead.jobs.iter().all(|job| job.attempts == 1 && job.error.starts_with('é')));
    assert!(dead.jobs[0].error.len() < 2_000, "an error is kept in part");

    assert!(stage.jobs().replay(dead.jobs[0].id).await.unwrap());
    assert!(!stage.jobs().replay(dead.jobs[0].id).await.unwrap());
    assert!(stage.jobs().discard(dead.jobs[1].id).await.unwrap());
    assert!(!stage.jobs().discard(dead.jobs[1].id).await.unwrap());
    let claimed = claim(&stage, "q", LONG).await;
    assert_eq!((payloads(&claimed.jobs), claimed.jobs[0].attempt.number), (vec!["b"], 1));
    assert_eq!(stage.jobs().dead_jobs(0, 5).await.unwrap().total, 1);
}

pub async fn an_attempt_whose_lease_ended_ends_nothing(stage: Stage) {
    enqueue(&stage, "q", "a").await;
    let slow = claim(&stage, "q", Duration::from_millis(1)).await.jobs.remove(0);
    let quick = await_job(&stage, "q", LONG).await;
    for late in [
        AttemptEnd::Done,
        AttemptEnd::Again { due: Timestamp(0), error: String::new() },
        AttemptEnd::Dead { error: String::new() },
    ] {
        assert!(!end(&stage, &slow, late).await);
    }
    assert_eq!(stage.jobs().dead_jobs(0, 1).await.unwrap().total, 0);
    assert!(end(&stage, &quick, AttemptEnd::Done).await);
}

pub async fn queues_are_apart_and_counted(stage: Stage) {
    for (queue, payload) in [("one", "a"), ("one", "b"), ("two", "c")] {
        enqueue(&stage, queue, payload).await;
    }
    let taken = stage.jobs().claim("one".to_owned(), 1, LONG).await.unwrap().jobs;
    let dead = claim(&stage, "two", LONG).await.jobs;
    assert_eq!((payloads(&taken), payloads(&dead)), (vec!["a"], vec!["c"]));
    end(&stage, &dead[0], AttemptEnd::Dead { error: String::new() }).await;
    let queues = stage.jobs().queues().await.unwrap();
    let counts = |queue: &QueueStatus| (queue.name.clone(), queue.waiting, queue.running, queue.dead);
    let counted: Vec<_> = queues.iter().map(counts).collect();
    assert_eq!(counted, [("one".to_owned(), 1, 1, 0), ("two".to_owned(), 0, 0, 1)]);
    assert!(queues[0].oldest_due.is_some() && queues[1].oldest_due.is_none());
}

pub async fn observers_know_of_jobs(stage: Stage) {
    let told = Commit { has_jobs: true, ..Commit::default() };
    enqueue(&stage, "q", "a").await;
    assert_eq!(stage.take_commits(), std::slice::from_ref(&told));
    let job = claim(&stage, "q", LONG).await.jobs.remove(0);
    end(&stage, &job, AttemptEnd::Dead { error: String::new() }).await;
    assert_eq!(stage.take_commits(), []);
    let id = stage.jobs().dead_jobs(0, 1).await.unwrap().jobs[0].id;
    stage.jobs().replay(id).await.unwrap();
    assert_eq!(stage.take_commits(), [told]);
}
