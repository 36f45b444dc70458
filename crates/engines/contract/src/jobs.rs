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

/// Keeps jobs. What it was told is durable as writes are. A worker that dies loses none: what it had claimed
/// comes back when the lease ends.
///
/// An adapter passes the cases `jobs` of `testkit::store_suite`.
pub trait JobStore: Send + Sync + 'static {
    /// Takes jobs of a queue that are due, those that are due longest first, for as long as the lease: after
    /// it they are given to whoever asks then.
    fn claim(&self, queue: String, limit: usize, lease: Duration) -> Answer<'_, Claimed>;

    /// An attempt is over. False when its lease had ended and the job is another's by now, or gone.
    fn end(&self, attempt: AttemptId, end: AttemptEnd) -> Answer<'_, bool>;

    /// The queues that have jobs, by name.
    fn queues(&self) -> Answer<'_, Vec<QueueStatus>>;

    /// Dead jobs, those that died last first.
    fn dead_jobs(&self, offset: u64, limit: u64) -> Answer<'_, DeadJobs>;

    /// Has a dead job done again, from its first attempt. False when there is none.
    fn replay(&self, id: u64) -> Answer<'_, bool>;

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
pub type Attempt<'a> = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send + 'a>>;

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

/// A page of dead jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadJobs {
    /// Those that died last first.
    pub jobs: Vec<DeadJob>,
    /// How many there are in all.
    pub total: u64,
    /// How many were forgotten because there were too many.
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
