//! Where passwords are hashed and checked: a few threads with a bounded queue, so that a flood of
//! sign-ins cannot take the cores from everything else. When the queue is full a request is told so at
//! once (503 with Retry-After at the edge), and one whose client has gone is not worked on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use crate::password::{self, HashFailure};

/// The threads. Dropping the pool ends them: what runs is finished, what waits is given up.
#[derive(Debug)]
pub struct HashPool {
    jobs: Option<SyncSender<Job>>,
    is_stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashPoolError {
    /// The queue is full: try again later.
    #[error("the queue of password hashes is full")]
    Busy,
    /// The pool was dropped, or the work panicked.
    #[error("the password hash was given up")]
    GivenUp,
    /// A hash could not be made.
    #[error(transparent)]
    Failed(#[from] HashFailure),
}

/// How a password fits the hash that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is the right one.
    pub is_right: bool,
    /// Whether it is right, and should be hashed anew while it is at hand.
    pub needs_upgrade: bool,
}

type Job = Box<dyn FnOnce() + Send>;

/// At some 30 ms each, the last of these on one thread waits for two seconds: longer and clients give up.
const QUEUE: usize = 64;

// === impl HashPool ===

impl HashPool {
    /// A pool of half the cores, at least one, with a queue of 64.
    pub fn start() -> std::io::Result<HashPool> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        HashPool::with_size((cores / 2).max(1), QUEUE)
    }

    /// A pool of this many threads and places in the queue.
    pub fn with_size(threads: usize, queue: usize) -> std::io::Result<HashPool> {
        let (jobs, receiver) = sync_channel(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let mut pool = HashPool { jobs: Some(jobs), is_stopping, threads: Vec::new() };
        for number in 0..threads.max(1) {
            let (receiver, is_stopping) = (receiver.clone(), pool.is_stopping.clone());
            let thread = thread::Builder::new().name(format!("hash-{number}"));
            pool.threads.push(thread.spawn(move || work(&receiver, &is_stopping))?);
        }
        Ok(pool)
    }

    /// Hashes a new password.
    pub async fn hash(&self, password: String) -> Result<String, HashPoolError> {
        Ok(self.run(move || password::hash(&password)).await??)
    }

    /// Checks a password against the stored hash.
    pub async fn verify(&self, password: String, hash: String) -> Result<Verdict, HashPoolError> {
        let verify = move || {
            let is_right = password::verify(&password, &hash);
            Verdict { is_right, needs_upgrade: is_right && password::needs_upgrade(&hash) }
        };
        self.run(verify).await
    }

    /// Takes as long as [`HashPool::verify`], where there is no hash to check against.
    pub async fn dummy_verify(&self, password: String) -> Result<(), HashPoolError> {
        self.run(move || password::dummy_verify(&password)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashPoolError> {
        let (answer, outcome) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Nobody waits any more: the client has gone.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        });
        let jobs = self.jobs.as_ref().ok_or(HashPoolError::GivenUp)?;
        jobs.try_send(job).map_err(|_| HashPoolError::Busy)?;
        outcome.await.map_err(|_| HashPoolError::GivenUp)
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What a thread does until the pool is dropped.
fn work(jobs: &Mutex<Receiver<Job>>, is_stopping: &AtomicBool) {
    loop {
        let job = jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
        let Ok(job) = job else { return };
        if !is_stopping.load(Ordering::Acquire) {
            // A panic is the end of its job, not of the thread; the waiting side learns that it was given up.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Polls once, so that the job is in the queue.
    fn enqueue<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn passwords_are_hashed_and_checked() {
        let pool = HashPool::start().unwrap();
        let hash = pool.hash("secret".to_owned()).await.unwrap();
        let right = pool.verify("secret".to_owned(), hash.clone()).await.unwrap();
        assert_eq!(right, Verdict { is_right: true, needs_upgrade: false });
        assert!(!pool.verify("other".to_owned(), hash).await.unwrap().is_right);
        pool.dummy_verify("secret".to_owned()).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_is_told_and_gone_clients_cost_nothing() {
        let pool = HashPool::with_size(1, 1).unwrap();
        let (release, held) = channel::<()>();
        let (started, has_started) = channel();
        let mut first = pin!(pool.run(move || {
            started.send(()).unwrap();
            held.recv().unwrap();
        }));
        assert!(enqueue(first.as_mut()).is_pending());
        has_started.recv().unwrap();

        let ran = Arc::new(AtomicBool::new(false));
        let flag = ran.clone();
        let mut second = Box::pin(pool.run(move || flag.store(true, Ordering::SeqCst)));
        assert!(enqueue(second.as_mut()).is_pending());
        assert_eq!(pool.run(|| ()).await, Err(HashPoolError::Busy));

        drop(second);
        release.send(()).unwrap();
        first.await.unwrap();
        // The queue has one place: once this one is taken in, the second has been passed over.
        while pool.run(|| ()).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert!(!ran.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_panic_gives_up_its_own_job_only() {
        let pool = HashPool::with_size(1, 4).unwrap();
        assert_eq!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(HashPoolError::GivenUp));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[test]
    fn dropping_the_pool_ends_its_threads() {
        let pool = HashPool::with_size(2, 4).unwrap();
        let is_stopping = Arc::downgrade(&pool.is_stopping);
        drop(pool);
        assert!(is_stopping.upgrade().is_none());
    }
}
