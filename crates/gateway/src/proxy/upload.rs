//! The body of a request on its way to a server: how far it is, and whom it waits for.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use kit::body::{is_past_its_limit, is_too_slow};
use tokio::time::Instant;

/// What is known of a body that somebody else sends. Without a body nothing ever happens.
#[derive(Clone, Default)]
pub(super) struct Upload(Option<Arc<Progress>>);

#[derive(Default)]
struct Progress {
    /// When the client sent the last piece, or the end.
    moved: Mutex<Option<Instant>>,
    waits_for_client: AtomicBool,
    has_failed: AtomicBool,
    is_too_large: AtomicBool,
    is_too_slow: AtomicBool,
}

struct Followed {
    body: Body,
    progress: Arc<Progress>,
}

// === impl Upload ===

impl Upload {
    /// Follows a body. One that is empty is left as it is.
    pub(super) fn follow(body: Body) -> (Body, Self) {
        if body.is_end_stream() {
            return (body, Self::default());
        }
        let progress = Arc::<Progress>::default();
        let followed = Followed { body, progress: progress.clone() };
        (Body::new(followed), Self(Some(progress)))
    }

    /// When the client sent the last piece, or the end of the body.
    pub(super) fn moved(&self) -> Option<Instant> {
        *self.0.as_ref()?.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the next piece is the client's to send, and not the server's to take.
    pub(super) fn waits_for_client(&self) -> bool {
        self.0.as_ref().is_some_and(|progress| progress.waits_for_client.load(Ordering::Relaxed))
    }

    /// Whether it came to more than may come.
    pub(super) fn is_too_large(&self) -> bool {
        self.0.as_ref().is_some_and(|progress| progress.is_too_large.load(Ordering::Relaxed))
    }

    /// Whether it came more slowly than it has to.
    pub(super) fn is_too_slow(&self) -> bool {
        self.0.as_ref().is_some_and(|progress| progress.is_too_slow.load(Ordering::Relaxed))
    }

    /// Whether the client broke off.
    pub(super) fn has_failed(&self) -> bool {
        self.0.as_ref().is_some_and(|progress| progress.has_failed.load(Ordering::Relaxed))
    }
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.waits_for_client.store(polled.is_pending(), Ordering::Relaxed);
        let frame = ready!(polled);
        // The end is progress, too: from then on the server has all.
        *self.progress.moved.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if let Some(Err(error)) = &frame {
            self.progress.is_too_large.store(is_past_its_limit(error), Ordering::Relaxed);
            self.progress.is_too_slow.store(is_too_slow(error), Ordering::Relaxed);
            self.progress.has_failed.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
