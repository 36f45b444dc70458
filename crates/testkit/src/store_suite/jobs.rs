//! Jobs: left by batches, claimed for a time, tried again, or dead.

use std::time::{Duration, Instant};

use contract::jobs::{
    AttemptEnd, AttemptId, AttemptLog, AttemptPage, Claimed, DeadJob, Job, LOG_MARGIN, MAX_NOTE_BYTES,
    Outcome, QueueStatus,
};
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
    stage.jobs().end(job.attempt, end, None).await.unwrap()
}

/// Claims a job and has its attempt logged with a note.
async fn log(stage: &Stage, queue: &str, end: AttemptEnd, note: Json, keep: u64) -> AttemptId {
    let attempt = await_job(stage, queue, LONG).await.attempt;
    let entry = AttemptLog { started: Timestamp(5), took: Duration::from_micros(7_900), note, keep };
    assert!(stage.jobs().end(attempt, end, Some(entry)).await.unwrap());
    attempt
}

fn again() -> AttemptEnd {
    AttemptEnd::Again { due: Timestamp(0), error: "not now".to_owned() }
}

async fn logged(stage: &Stage, queue: &str) -> AttemptPage {
    stage.jobs().attempts(queue.to_owned(), 0, 1_000).await.unwrap()
}

async fn kill_all(stage: &Stage, queue: &str) {
    for job in claim(stage, queue, LONG).await.jobs {
        assert!(end(stage, &job, AttemptEnd::Dead { error: "no use".to_owned() }).await);
    }
}

async fn dead(stage: &Stage, queue: Option<&str>) -> Vec<DeadJob> {
    stage.jobs().dead_jobs(queue.map(str::to_owned), 0, 100).await.unwrap().jobs
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
    let dead = stage.jobs().dead_jobs(None, 1, 5).await.unwrap();
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
    assert_eq!(stage.jobs().dead_jobs(None, 0, 5).await.unwrap().total, 1);
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
    assert_eq!(stage.jobs().dead_jobs(None, 0, 1).await.unwrap().total, 0);
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
    let told = |queues: &[&str]| {
        let job_queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        Commit { job_queues, ..Commit::default() }
    };
    let steps = ["q", "other", "q"].map(|queue| step(queue, "a", Timestamp(0)));
    stage.steps(steps.into()).await.unwrap();
    assert_eq!(stage.take_commits(), [told(&["other", "q"])]);
    let mut jobs = claim(&stage, "q", LONG).await.jobs;
    assert_eq!(stage.take_commits(), []);
    end(&stage, &jobs.remove(0), AttemptEnd::Done).await;
    end(&stage, &jobs.remove(0), AttemptEnd::Again { due: FAR, error: String::new() }).await;
    assert_eq!(stage.take_commits(), [told(&["q"])]);
    kill_all(&stage, "other").await;
    assert_eq!(stage.take_commits(), []);
    stage.jobs().replay(dead(&stage, None).await[0].id).await.unwrap();
    assert_eq!(stage.take_commits(), [told(&["other"])]);
    kill_all(&stage, "other").await;
    stage.jobs().replay_all("other".to_owned()).await.unwrap();
    assert_eq!(stage.take_commits(), [told(&["other"])]);
    stage.jobs().replay_all("other".to_owned()).await.unwrap();
    stage.jobs().clear("other".to_owned()).await.unwrap();
    assert_eq!(stage.take_commits(), [], "there is nothing more to do than before");
}

pub async fn an_attempt_is_logged_with_its_end(stage: Stage) {
    enqueue(&stage, "q", "a").await;
    enqueue(&stage, "other", "b").await;
    let note = Json::parse_whole(r#"{"status":503}"#).unwrap();
    let first = log(&stage, "q", again(), note.clone(), 10).await;
    log(&stage, "other", again(), Json::Null, 10).await;
    let second = log(&stage, "q", AttemptEnd::Done, Json::Null, 10).await;
    assert_eq!((second.job, second.number), (first.job, 2));
    let last = log(&stage, "other", AttemptEnd::Dead { error: "é".repeat(2_000) }, Json::Null, 10).await;

    let page = logged(&stage, "q").await;
    let (newest, oldest) = (&page.attempts[0], &page.attempts[1]);
    assert_eq!((page.attempts.len(), page.total), (2, 2));
    assert_eq!((newest.attempt, newest.outcome, newest.error.as_str()), (second, Outcome::Done, ""));
    assert_eq!((oldest.attempt, oldest.outcome, oldest.error.as_str()), (first, Outcome::Again, "not now"));
    assert_eq!((&newest.note, &oldest.note), (&Json::Null, &note));
    assert_eq!((oldest.started, oldest.took), (Timestamp(5), Duration::from_millis(7)));
    assert!(newest.id > oldest.id);

    let page = stage.jobs().attempts("other".to_owned(), 0, 1).await.unwrap();
    assert_eq!((page.attempts.len(), page.total), (1, 2));
    assert_eq!((page.attempts[0].attempt, page.attempts[0].outcome), (last, Outcome::Dead));
    assert!(page.attempts[0].error.len() < 2_000, "an error is kept in part");
    let page = stage.jobs().attempts("other".to_owned(), 1, 5).await.unwrap();
    assert_eq!(page.attempts[0].outcome, Outcome::Again);
    assert_eq!(logged(&stage, "empty").await, AttemptPage { attempts: Vec::new(), total: 0 });
}

pub async fn an_attempt_that_ends_nothing_is_not_logged(stage: Stage) {
    enqueue(&stage, "q", "a").await;
    let slow = claim(&stage, "q", Duration::from_millis(1)).await.jobs.remove(0);
    let quick = await_job(&stage, "q", LONG).await;
    let entry = AttemptLog { started: Timestamp(0), took: Duration::ZERO, note: Json::Null, keep: 10 };
    assert!(!stage.jobs().end(slow.attempt, AttemptEnd::Done, Some(entry.clone())).await.unwrap());
    assert!(end(&stage, &quick, again()).await, "without an entry");
    log(&stage, "q", again(), Json::Null, 0).await;
    assert_eq!(logged(&stage, "q").await.total, 0);
}

pub async fn a_note_that_is_too_long_is_not_kept(stage: Stage) {
    enqueue(&stage, "q", "a").await;
    // With its quotes.
    let longest = Json::from("n".repeat(MAX_NOTE_BYTES - 2));
    log(&stage, "q", again(), longest.clone(), 10).await;
    log(&stage, "q", again(), Json::from("n".repeat(MAX_NOTE_BYTES - 1)), 10).await;
    let notes: Vec<Json> =
        logged(&stage, "q").await.attempts.into_iter().map(|attempt| attempt.note).collect();
    assert_eq!(notes, [Json::Null, longest]);
}

pub async fn a_log_holds_the_newest_attempts_of_its_queue(stage: Stage) {
    const KEEP: u64 = 3;
    for queue in ["short", "long"] {
        enqueue(&stage, queue, "a").await;
    }
    for number in 1..=2 * LOG_MARGIN {
        // In turns: what is counted for all queues together must do for each.
        let attempt = log(&stage, "short", again(), Json::Null, KEEP).await;
        log(&stage, "long", again(), Json::Null, 1_000).await;
        let page = logged(&stage, "short").await;
        assert!(
            page.total < KEEP + LOG_MARGIN && page.total >= number.min(KEEP),
            "{} of {number}",
            page.total
        );
        assert_eq!(page.attempts[0].attempt, attempt, "the newest are there");
    }
    assert_eq!(logged(&stage, "long").await.total, 2 * LOG_MARGIN, "the log of a queue is its own");
}

pub async fn dead_jobs_of_one_queue_are_found(stage: Stage) {
    for (queue, payload) in [("one", "a"), ("two", "b"), ("one", "c")] {
        enqueue(&stage, queue, payload).await;
        kill_all(&stage, queue).await;
    }
    let page = stage.jobs().dead_jobs(Some("one".to_owned()), 1, 5).await.unwrap();
    let found: Vec<_> = page.jobs.iter().map(|job| job.payload.as_str().unwrap()).collect();
    assert_eq!((found, page.total), (vec!["a"], 2));
    assert_eq!(dead(&stage, Some("two")).await.len(), 1);
    assert_eq!(dead(&stage, Some("three")).await, []);
    assert_eq!(dead(&stage, None).await.len(), 3);
}

pub async fn all_dead_jobs_of_a_queue_can_be_replayed(stage: Stage) {
    for (queue, payload) in [("one", "a"), ("two", "b"), ("one", "c")] {
        enqueue(&stage, queue, payload).await;
        kill_all(&stage, queue).await;
    }
    assert_eq!(stage.jobs().replay_all("one".to_owned()).await.unwrap(), 2);
    assert_eq!(stage.jobs().replay_all("one".to_owned()).await.unwrap(), 0);
    let claimed = claim(&stage, "one", LONG).await.jobs;
    assert_eq!(payloads(&claimed), ["a", "c"]);
    assert!(claimed.iter().all(|job| job.attempt.number == 1));
    assert_eq!(dead(&stage, None).await.len(), 1, "those of another queue stay dead");
}

pub async fn a_queue_that_is_cleared_has_no_jobs_and_no_log(stage: Stage) {
    for queue in ["one", "two"] {
        enqueue(&stage, queue, "dies").await;
        log(&stage, queue, AttemptEnd::Dead { error: String::new() }, Json::Null, 10).await;
        enqueue(&stage, queue, "runs").await;
    }
    let running = claim(&stage, "one", LONG).await.jobs.remove(0);
    enqueue(&stage, "one", "waits").await;
    assert_eq!(stage.jobs().clear("one".to_owned()).await.unwrap(), 3);
    assert_eq!(stage.jobs().clear("one".to_owned()).await.unwrap(), 0);
    assert_eq!(claim(&stage, "one", LONG).await, Claimed { jobs: Vec::new(), next_due: None });
    assert!(!end(&stage, &running, again()).await, "what ran is forgotten");
    assert_eq!((dead(&stage, Some("one")).await, logged(&stage, "one").await.total), (Vec::new(), 0));

    assert_eq!(payloads(&claim(&stage, "two", LONG).await.jobs), ["runs"]);
    assert_eq!((dead(&stage, Some("two")).await.len(), logged(&stage, "two").await.total), (1, 1));
}
