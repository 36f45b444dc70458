//! A request's body, bounded in size and in patience.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::error;

/// The contract's limit for a body, where a route has no other.
const DEFAULT_MAX_BODY_BYTES: u64 = 32 * 1024 * 1024;

/// The limit of one request's body, an extension of the request. A service that takes more raises it before it
/// reads.
#[derive(Debug, Clone)]
pub(crate) struct BodyLimit(Arc<LimitState>);

#[derive(Debug)]
struct LimitState {
    max_bytes: AtomicU64,
    broken: AtomicU8,
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is larger than its limit.
    #[error("body is larger than its limit")]
    TooLarge,
    /// Its next bytes did not come in time.
    #[error("body stalled")]
    Stalled,
    /// The connection broke, or broke the protocol.
    #[error("body could not be read")]
    Connection(#[from] hyper::Error),
}

const TOO_LARGE: u8 = 1;
const STALLED: u8 = 2;

/// The body as services read it.
struct BoundedBody {
    incoming: Incoming,
    limit: BodyLimit,
    received_bytes: u64,
    timeout: Duration,
    // Made the first time that the body makes us wait.
    patience: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

/// The request with its body bounded, and the limit if it has a body at all. The body breaks off when it is silent
/// for `timeout`.
pub(super) fn bounded(request: Request<Incoming>, timeout: Duration) -> (Request<Body>, Option<BodyLimit>) {
    let (parts, incoming) = request.into_parts();
    if incoming.is_end_stream() {
        return (Request::from_parts(parts, Body::empty()), None);
    }
    let limit = BodyLimit::new(DEFAULT_MAX_BODY_BYTES);
    let body = BoundedBody {
        incoming,
        limit: limit.clone(),
        received_bytes: 0,
        timeout,
        patience: None,
        is_waiting: false,
    };
    let mut request = Request::from_parts(parts, Body::new(body));
    request.extensions_mut().insert(limit.clone());
    (request, Some(limit))
}

/// Whether the request says that its body is larger than any that is taken by default.
pub(super) fn is_declared_too_large(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    declared.is_some_and(|length| length > DEFAULT_MAX_BODY_BYTES)
}

// === impl BodyLimit ===

impl BodyLimit {
    fn new(max_bytes: u64) -> Self {
        Self(Arc::new(LimitState { max_bytes: AtomicU64::new(max_bytes), broken: AtomicU8::new(0) }))
    }

    /// Sets another limit for what is not read yet.
    #[expect(dead_code, reason = "the first service with a limit of its own calls it")]
    pub(crate) fn set(&self, max_bytes: u64) {
        self.0.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// The answer in place of the service's own, when the body went past its limit or stalled: whatever the
    /// service made of the broken body, this is the reason.
    pub(super) fn refusal(&self) -> Option<Response<Body>> {
        match self.0.broken.load(Ordering::Relaxed) {
            TOO_LARGE => Some(error::response(StatusCode::PAYLOAD_TOO_LARGE, error::TOO_LARGE)),
            STALLED => Some(error::response(StatusCode::REQUEST_TIMEOUT, error::SOMETHING_WRONG)),
            _ => None,
        }
    }

    fn allows(&self, bytes: u64) -> bool {
        bytes <= self.0.max_bytes.load(Ordering::Relaxed)
    }

    fn broken(&self, how: u8) {
        self.0.broken.store(how, Ordering::Relaxed);
    }
}

// === impl BoundedBody ===

impl BoundedBody {
    fn too_large(&self) -> BodyError {
        self.limit.broken(TOO_LARGE);
        BodyError::TooLarge
    }

    /// Whether the body has kept us waiting for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = Instant::now() + self.timeout;
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.is_waiting {
            patience.as_mut().reset(deadline);
            self.is_waiting = true;
        }
        patience.as_mut().poll(cx).is_ready()
    }
}

impl http_body::Body for BoundedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let declared = this.incoming.size_hint().lower();
        if !this.limit.allows(this.received_bytes.saturating_add(declared)) {
            return Poll::Ready(Some(Err(this.too_large())));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            if this.poll_patience(cx) {
                this.limit.broken(STALLED);
                return Poll::Ready(Some(Err(BodyError::Stalled)));
            }
            return Poll::Pending;
        };
        this.is_waiting = false;
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let frame = frame?;
        this.received_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if !this.limit.allows(this.received_bytes) {
            return Poll::Ready(Some(Err(this.too_large())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
