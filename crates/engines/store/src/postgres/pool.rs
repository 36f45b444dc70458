//! Connections that are kept: a pool for each thread that asks, so that a request loop drives its own.
//!
//! A node holds at most threads × [`PoolOptions::size`] connections, made when they are needed. With request
//! loops and two background threads: (loops + 2) × size for each node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connector::Connector;
use super::error::Error;
use super::session::Session;

/// Who may wait for a connection of one pool; one more is refused as busy.
const WAITING: usize = 1_024;

/// How long a server that takes no more connections is left alone.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of pools.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Most connections of one thread.
    pub size: usize,
    /// How long one may be waited for.
    pub wait: Duration,
}

impl Default for PoolOptions {
    /// Eight for each thread: with two request loops, 32 for a node.
    fn default() -> PoolOptions {
        PoolOptions { size: 8, wait: Duration::from_secs(5) }
    }
}

/// The pools of a node.
pub(super) struct Pools {
    connector: Arc<Connector>,
    options: PoolOptions,
    by_thread: Mutex<HashMap<ThreadId, Arc<Pool>>>,
    /// Grows when the tables have changed: what was prepared before may not fit them.
    generation: AtomicU64,
}

/// The connections of one thread.
struct Pool {
    idle: Mutex<Vec<Arc<Session>>>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A connection for a while. It goes back when it is [finished](Lease::finish) with; otherwise what it is at is
/// stopped, and it is closed.
pub(super) struct Lease {
    session: Arc<Session>,
    pool: Arc<Pool>,
    /// Taken out where it goes on with the connection.
    place: Option<OwnedSemaphorePermit>,
    is_finished: bool,
}

// === impl Pools ===

impl Pools {
    pub(super) fn new(connector: Arc<Connector>, options: PoolOptions) -> Pools {
        Pools { connector, options, by_thread: Mutex::default(), generation: AtomicU64::new(0) }
    }

    /// A connection of this thread, made now when none is idle.
    pub(super) async fn lease(&self) -> Result<Lease, Error> {
        let pool = self.of_this_thread();
        let place = timeout(self.options.wait, pool.place())
            .await
            .map_err(|_| Error::NoConnection(format!("all were in use for {:?}", self.options.wait)))??;
        let session = timeout(self.options.wait, self.session(&pool))
            .await
            .map_err(|_| Error::NoConnection(format!("the server took none in {:?}", self.options.wait)))??;
        session.keep_to(self.generation.load(Ordering::Acquire));
        Ok(Lease { session, pool, place: Some(place), is_finished: false })
    }

    /// An idle connection, or a new one. While the server takes no more, whichever is there first.
    async fn session(&self, pool: &Pool) -> Result<Arc<Session>, Error> {
        loop {
            if let Some(session) = pool.take_idle() {
                return Ok(session);
            }
            match self.connector.connect().await {
                Ok(session) => return Ok(Arc::new(session)),
                Err(error) if error.is_full() => tokio::time::sleep(FULL_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Has every connection forget what is prepared on it before it is used again, when the tables have changed.
    pub(super) fn forget_prepared(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Closes what is idle; nothing is made any more.
    pub(super) fn close(&self) {
        for pool in lock(&self.by_thread).values() {
            pool.places.close();
            lock(&pool.idle).clear();
        }
    }

    fn of_this_thread(&self) -> Arc<Pool> {
        let mut pools = lock(&self.by_thread);
        pools
            .entry(std::thread::current().id())
            .or_insert_with(|| Arc::new(Pool::new(self.options.size)))
            .clone()
    }
}

// === impl Pool ===

impl Pool {
    fn new(size: usize) -> Pool {
        Pool { idle: Mutex::default(), places: Arc::new(Semaphore::new(size)), waiting: AtomicUsize::new(0) }
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        /// One who waits less, also when that is given up.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= WAITING {
            return Err(Error::Busy);
        }
        self.places.clone().acquire_owned().await.map_err(|_| Error::Closed)
    }

    fn put_back(&self, session: Arc<Session>) {
        if !session.is_closed() && !self.places.is_closed() {
            lock(&self.idle).push(session);
        }
    }

    /// The connection that was used last: those that were not needed for long end at the server's timeout.
    fn take_idle(&self) -> Option<Arc<Session>> {
        let mut idle = lock(&self.idle);
        idle.retain(|session| !session.is_closed());
        idle.pop()
    }
}

// === impl Lease ===

impl Lease {
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Nothing is under way on it.
    pub(super) fn finish(mut self) {
        self.is_finished = true;
    }

    /// The server does not answer: the connection ends at once.
    pub(super) fn abort(mut self) {
        self.is_finished = true;
        self.session.abort();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_finished {
            self.pool.put_back(self.session.clone());
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (session, place) = (self.session.clone(), self.place.take());
            // Ends by itself, within a deadline. Its place is free when the connection is gone.
            runtime.spawn(async move {
                session.stop().await;
                drop(place);
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
