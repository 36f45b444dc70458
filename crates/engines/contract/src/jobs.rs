//! Jobs: work that is left to be done later, at least once, and tried again until it is done.
//!
//! A job is left by a step of a batch ([`Step::Enqueue`](model::step::Step::Enqueue)), alone or with what makes
//! it necessary. A worker claims it, has it run by its queue's [`JobHandler`], and ends it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use model::json::Json;
use model::time::Timestamp;

use crate::store::Answer;

/// Most jobs that wait. A batch that would leave one more is refused as
/// [`Busy`](crate::store::StoreError::Busy).
pub const MAX_JOBS: u64 = 1_000_000;
/// Most dead jobs that are kept; the oldest go, and are counted.
pub const MAX_DEAD_JOBS: u64 = 10_000;
/// Most bytes of an attempt's note as JSON. Of a larger one null is kept.
pub const MAX_NOTE_BYTES: usize = 2 * 1024;
/// A queue's log is cut now and then: it may hold fewer than this many attempts more than it should.
pub const LOG_MARGIN: u64 = 64;

/// Keeps jobs. What it was told is durable as writes are. A worker that dies loses none: what it had claimed
/// comes back when the lease ends.
///
/// An adapter passes the cases `jobs` of `testkit::store_suite`.
pub trait JobStore: Send + Sync + 'static {
    /// Takes jobs of a queue that are due, those that are due longest first, for as long as the lease: after
    /// it they are given to whoever asks then.
    fn claim(&self, queue: String, limit: usize, lease: Duration) -> Answer<'_, Claimed>;

    /// An attempt is over. False when its lease had ended and the job is another's by now, or gone. With a
    /// log entry, an attempt that ends here is kept in its queue's log together with its end.
    fn end(&self, attempt: AttemptId, end: AttemptEnd, log: Option<AttemptLog>) -> Answer<'_, bool>;

    /// The queues that have jobs, by name.
    fn queues(&self) -> Answer<'_, Vec<QueueStatus>>;

    /// The attempts in a queue's log, those that ended last first.
    fn attempts(&self, queue: String, offset: u64, limit: u64) -> Answer<'_, AttemptPage>;

    /// Dead jobs of one queue or of all, those that died last first.
    fn dead_jobs(&self, queue: Option<String>, offset: u64, limit: u64) -> Answer<'_, DeadJobs>;

    /// Has a dead job done again, from its first attempt. False when there is none.
    fn replay(&self, id: u64) -> Answer<'_, bool>;

    /// Has all dead jobs of a queue done again, from their first attempts: those that are dead when it begins.
    /// How many. It is done in parts, so that others' writes come between; dropping its future or an error
    /// ends it between two of them.
    fn replay_all(&self, queue: String) -> Answer<'_, u64>;

    /// Forgets the jobs of a queue, those that wait, run or are dead, and its log: what is there when it begins.
    /// How many jobs. What runs goes on, and its end is not kept. It is done in parts as
    /// [`replay_all`](JobStore::replay_all) is.
    fn clear(&self, queue: String) -> Answer<'_, u64>;

    /// Forgets a dead job. False when there is none.
    fn discard(&self, id: u64) -> Answer<'_, bool>;
}

/// Does the work of one queue.
pub trait JobHandler: Send + Sync + 'static {
    /// Does what a job asks for. It may have been done before, whole or in part: a job is delivered at least
    /// once, and now and then twice at the same time. Its future is dropped when the attempt takes too long.
    fn run(&self, job: Job) -> Attempt<'_>;
}

/// What a handler returns.
pub type Attempt<'a> = Pin<Box<dyn Future<Output = Finished> + Send + 'a>>;

/// What a handler says of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Whether the work is done.
    pub result: Result<(), JobError>,
    /// What whoever reads the queue's log is to know; null when there is nothing to say. It holds no secrets,
    /// and at most [`MAX_NOTE_BYTES`].
    pub note: Json,
}

/// A job for one attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The attempt.
    pub attempt: AttemptId,
    /// As it was left. It holds no secrets: superusers see it.
    pub payload: Json,
    /// When it was left.
    pub created: Timestamp,
}

/// One attempt of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptId {
    /// The job.
    pub job: u64,
    /// Which attempt it is, from 1.
    pub number: u32,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The work is done.
    Done,
    /// It failed, and is to be tried again.
    Again {
        /// Not before this instant.
        due: Timestamp,
        /// Why it failed.
        error: String,
    },
    /// It failed for good.
    Dead {
        /// Why it failed.
        error: String,
    },
}

/// What is kept of an attempt beside its end.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptLog {
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What the handler says of it.
    pub note: Json,
    /// How many attempts the queue's log is to hold, the newest; up to [`LOG_MARGIN`] more are there for a while.
    pub keep: u64,
}

/// Why a job was not done. The text is for superusers, and holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It may work later.
    #[error("{0}")]
    Again(String),
    /// It will not work, however often it is tried.
    #[error("{0}")]
    Never(String),
}

/// What a worker gets when it asks for jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// They are its own until the lease ends.
    pub jobs: Vec<Job>,
    /// When the next job of the queue is due, if it has more.
    pub next_due: Option<Timestamp>,
}

/// What an operator wants to know of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Jobs that wait, those for another attempt included.
    pub waiting: u64,
    /// Jobs that a worker has.
    pub running: u64,
    /// Jobs that failed for good.
    pub dead: u64,
    /// When the oldest of those that wait became due or will.
    pub oldest_due: Option<Timestamp>,
}

/// A page of a queue's log.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptPage {
    /// Those that ended last first.
    pub attempts: Vec<LoggedAttempt>,
    /// How many there are in all.
    pub total: u64,
}

/// An attempt that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedAttempt {
    /// Its number in the log; those that ended later have larger ones.
    pub id: u64,
    /// The job, and which attempt it was.
    pub attempt: AttemptId,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in whole milliseconds.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed, perhaps shortened; empty when it did not.
    pub error: String,
    /// What the handler said of it.
    pub note: Json,
}

/// How an attempt ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The work was done.
    Done,
    /// It failed, and was to be tried again.
    Again,
    /// It failed for good.
    Dead,
}

/// A page of dead jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadJobs {
    /// Those that died last first.
    pub jobs: Vec<DeadJob>,
    /// How many there are in all, in the queue that was asked for.
    pub total: u64,
    /// How many were forgotten because there were too many, of whatever queue.
    pub dropped: u64,
}

/// A job that failed for good.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadJob {
    /// Its number among the dead.
    pub id: u64,
    /// Its queue.
    pub queue: String,
    /// As it was left.
    pub payload: Json,
    /// When it was left.
    pub created: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed for good.
    pub died: Timestamp,
    /// Why.
    pub error: String,
}

// === impl Finished ===

impl From<Result<(), JobError>> for Finished {
    /// Without a note.
    fn from(result: Result<(), JobError>) -> Finished {
        Finished { result, note: Json::Null }
    }
}

// === impl AttemptEnd ===

impl AttemptEnd {
    /// What the log calls it.
    pub fn outcome(&self) -> Outcome {
        match self {
            AttemptEnd::Done => Outcome::Done,
            AttemptEnd::Again { .. } => Outcome::Again,
            AttemptEnd::Dead { .. } => Outcome::Dead,
        }
    }

    /// Why it failed; empty when it did not.
    pub fn error(&self) -> &str {
        match self {
            AttemptEnd::Done => "",
            AttemptEnd::Again { error, .. } | AttemptEnd::Dead { error } => error,
        }
    }
}

// === impl AttemptLog ===

impl AttemptLog {
    /// The note as JSON: what is kept of it.
    pub fn note_text(&self) -> String {
        let text = self.note.to_string();
        if text.len() > MAX_NOTE_BYTES { Json::Null.to_string() } else { text }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Its word: `done`, `again` or `dead`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Again => "again",
            Outcome::Dead => "dead",
        }
    }

    /// The outcome that has this word.
    pub fn of_word(word: &str) -> Option<Outcome> {
        [Outcome::Done, Outcome::Again, Outcome::Dead].into_iter().find(|outcome| outcome.as_str() == word)
    }
}
