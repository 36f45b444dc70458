//! The passage from one process to the next that takes its place: while that one takes over what only one of them may
//! have, requests wait here, and afterwards what still comes over this one's connections is handed on to it.
//!
//! It stands above everything else in the stack. [`Passage::close`] lets nobody in any more; those who are in are waited for
//! ([`Passage::until_quiet`]). [`Passage::lead_to`] names the socket on which the next process listens for what is handed on
//! (`passage/arrivals.rs`), and each connection that had its last request answered so is closed: its client's next one is the
//! next process's.

mod arrivals;
mod hand_on;

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use futures_util::future::Either;
use kit::error::ApiError;
use pin_project_lite::pin_project;
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, timeout};
use tower::{Layer, Service};

use crate::upstream::{Answer, Upstream};

pub use arrivals::arrivals;
pub(crate) use arrivals::read_sender;

/// Requests that wait, or are being handed on; one more is answered 503.
const MAX_WAITING: usize = 4_096;
/// How long one waits for the next process.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The passage of a process. A clone shares everything.
#[derive(Clone)]
pub struct Passage(Arc<Shared>);

struct Shared {
    is_closed: AtomicBool,
    leads: watch::Sender<Leads>,
    waiting: Semaphore,
    /// Requests of each request loop that have no answer yet.
    inside: Mutex<Vec<Arc<AtomicUsize>>>,
}

/// Where a closed passage leads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leads {
    /// It is not known yet.
    Unknown,
    /// To who listens on this socket.
    To(PathBuf),
    /// Nowhere: the next process has failed.
    Nowhere,
}

/// What lets requests of one request loop in.
#[derive(Clone)]
pub(crate) struct PassageLayer {
    passage: Passage,
    inside: Arc<AtomicUsize>,
}

/// What such a layer makes of a service.
#[derive(Clone)]
pub(crate) struct PassageService<S> {
    layer: PassageLayer,
    inner: S,
}

/// One request without an answer, until this is dropped.
struct Inside(Arc<AtomicUsize>);

pin_project! {
    /// An answer that is waited for where the passage is closed.
    pub(crate) struct Answering<F> {
        #[pin]
        answer: F,
        inside: Inside,
    }
}

/// An answer of the next process on its way.
type HandedOn = Pin<Box<dyn Future<Output = Answer> + Send>>;

// === impl Passage ===

impl Default for Passage {
    fn default() -> Self {
        Self(Arc::new(Shared {
            is_closed: AtomicBool::new(false),
            leads: watch::Sender::new(Leads::Unknown),
            waiting: Semaphore::new(MAX_WAITING),
            inside: Mutex::default(),
        }))
    }
}

impl Passage {
    /// Lets no request in any more: those that come wait.
    pub fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
    }

    /// Waits until every request that is in has its answer, at least the head of it, or so long. Whether all have.
    pub async fn until_quiet(&self, limit: Duration) -> bool {
        const LOOKED_EVERY: Duration = Duration::from_millis(1);
        let quiet = async {
            let mut ticks = interval(LOOKED_EVERY);
            while self.inside() > 0 {
                ticks.tick().await;
            }
        };
        timeout(limit, quiet).await.is_ok()
    }

    /// Hands what waits, and what still comes, on to who listens on this socket.
    pub fn lead_to(&self, socket: PathBuf) {
        self.0.leads.send_replace(Leads::To(socket));
    }

    /// Answers what waits, and what still comes, by 503.
    pub fn lead_nowhere(&self) {
        self.0.leads.send_replace(Leads::Nowhere);
    }

    fn inside(&self) -> usize {
        let inside = self.0.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.iter().map(|of_loop| of_loop.load(Ordering::SeqCst)).sum()
    }

    /// For one request loop, which counts for itself: no core waits for another's cache line.
    pub(crate) fn layer(&self) -> PassageLayer {
        let inside = Arc::<AtomicUsize>::default();
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner).push(inside.clone());
        PassageLayer { passage: self.clone(), inside }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let Ok(_place) = self.0.waiting.try_acquire() else { return unavailable() };
        let mut leads = self.0.leads.subscribe();
        let known = timeout(MAX_WAIT, leads.wait_for(|leads| *leads != Leads::Unknown)).await;
        // The sender is here: only the time can have passed.
        match known.ok().and_then(|known| Some(known.ok()?.clone())) {
            Some(Leads::To(socket)) => hand_on::hand_on(request, &socket).await,
            Some(Leads::Nowhere | Leads::Unknown) | None => unavailable(),
        }
    }
}

fn unavailable() -> Response<Body> {
    ApiError::unavailable(Duration::from_secs(1)).into_response()
}

// === impl PassageLayer ===

impl PassageLayer {
    /// None where it is closed. Counted before it is looked, so that who closes it and then counts misses nobody.
    fn enter(&self) -> Option<Inside> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let inside = Inside(self.inside.clone());
        (!self.passage.0.is_closed.load(Ordering::SeqCst)).then_some(inside)
    }
}

impl<S> Layer<S> for PassageLayer {
    type Service = PassageService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PassageService { layer: self.clone(), inner }
    }
}

// === impl PassageService ===

impl<S: Upstream> Service<Request<Body>> for PassageService<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Answering<S::Future>, HandedOn>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.layer.enter() {
            Some(inside) => Either::Left(Answering { answer: self.inner.call(request), inside }),
            None => {
                let passage = self.layer.passage.clone();
                Either::Right(Box::pin(async move { Ok(passage.answer(request).await) }))
            }
        }
    }
}

// === impl Answering ===

impl<F: Future<Output = Answer>> Future for Answering<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.project().answer.poll(cx)
    }
}

// === impl Inside ===

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
