//! The requests of one connection, each in a task that this connection owns, and what they are answered.
//!
//! An answer is handed over in pieces, the next when the client has room for the one before. A client that takes none for
//! a while has its stream reset; other streams go on, as those of a browser in which a film was paused.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::TaskTracker;

use super::frames::Credit;
use super::request::as_http1;
use crate::net::connection::Peer;
use crate::net::stalling::WRITE_PATIENCE;
use crate::upstream::Answer;

/// What is handed over at once: as much as a frame holds.
const PIECE_BYTES: usize = 16 << 10;

/// The streams of one connection. A clone shares everything.
#[derive(Clone)]
pub(super) struct Streams(Arc<Shared>);

struct Shared {
    tasks: TaskTracker,
    credit: Arc<Credit>,
    /// How many there ever were.
    begun: AtomicUsize,
    /// The same at the last look.
    looked: AtomicUsize,
    /// Of the request that has just begun, until its task takes it.
    newest: Mutex<Option<Arc<Sending>>>,
}

/// How far an answer is.
#[derive(Debug, Default)]
struct Sending {
    pieces: AtomicUsize,
    /// The next piece is the client's to take, and not the server's to give.
    waits_for_client: AtomicBool,
}

pin_project! {
    /// An answer on its way from the stack.
    #[project = AnsweringProjection]
    pub(super) enum Answering<F> {
        Stack {
            #[pin]
            answer: F,
            outgoing: Option<Outgoing>,
            is_head: bool,
        },
        Refused { status: StatusCode, outgoing: Option<Outgoing> },
    }
}

/// The body of an answer.
pub(super) struct Outgoing {
    body: Body,
    rest: Bytes,
    sending: Arc<Sending>,
    credit: Arc<Credit>,
}

pin_project! {
    /// A stream's task, which gives up on a client that takes nothing.
    struct Task<F> {
        #[pin]
        stream: F,
        sending: Arc<Sending>,
        // Made when an answer has to wait for the client, so that others cost nothing.
        waiting: Option<Pin<Box<Sleep>>>,
        pieces: usize,
    }
}

// === impl Streams ===

impl Streams {
    pub(super) fn new(credit: Arc<Credit>) -> Self {
        Self(Arc::new(Shared {
            tasks: TaskTracker::new(),
            credit,
            begun: AtomicUsize::new(0),
            looked: AtomicUsize::new(usize::MAX),
            newest: Mutex::default(),
        }))
    }

    /// The answer to a request. hyper makes a task of it at once.
    pub(super) fn answer<F>(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        stack: impl FnOnce(Request<Body>) -> F,
    ) -> Answering<F> {
        let shared = &*self.0;
        shared.begun.fetch_add(1, Ordering::Relaxed);
        let sending = Arc::<Sending>::default();
        *shared.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(sending.clone());
        let credit = shared.credit.clone();
        let outgoing = Some(Outgoing { body: Body::empty(), rest: Bytes::new(), sending, credit });
        let is_head = request.method() == Method::HEAD;
        match as_http1(request, peer) {
            Ok(request) => Answering::Stack { answer: stack(request), outgoing, is_head },
            Err(status) => Answering::Refused { status, outgoing },
        }
    }

    /// Whether there was a request since the last look, or there is one now. Nothing is known at the first.
    pub(super) fn look(&self) -> bool {
        let begun = self.0.begun.load(Ordering::Relaxed);
        self.0.looked.swap(begun, Ordering::Relaxed) != begun || !self.0.tasks.is_empty()
    }

    /// Waits for the tasks of a connection that has ended: they notice.
    pub(super) async fn ended<T>(self, ended: T) -> T {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        ended
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let newest = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sending = newest.unwrap_or_default();
        self.0.tasks.spawn(Task { stream, sending, waiting: None, pieces: 0 });
    }
}

// === impl Answering ===

impl<F: Future<Output = Answer>> Future for Answering<F> {
    type Output = Result<Response<Outgoing>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (response, outgoing, is_head) = match self.project() {
            AnsweringProjection::Stack { answer, outgoing, is_head } => {
                let Ok(response) = ready!(answer.poll(cx));
                (response, outgoing, *is_head)
            }
            AnsweringProjection::Refused { status, outgoing } => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = *status;
                (response, outgoing, true)
            }
        };
        let outgoing = outgoing.take().expect("a future is not polled past its end");
        outgoing.credit.earn_for_answer();
        let (mut head, body) = response.into_parts();
        // It is said in another way here.
        head.headers.remove(CONNECTION);
        let body = if is_head {
            if let Some(length @ 1..) = body.size_hint().exact() {
                head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
            }
            outgoing
        } else {
            Outgoing { body, ..outgoing }
        };
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

// === impl Outgoing ===

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            this.sending.waits_for_client.store(polled.is_ready(), Ordering::Relaxed);
            match ready!(polled) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end_or_error => return Poll::Ready(end_or_error),
            }
        }
        this.sending.pieces.fetch_add(1, Ordering::Relaxed);
        this.credit.earn_for_piece();
        let piece = if this.rest.len() > PIECE_BYTES {
            this.rest.split_to(PIECE_BYTES)
        } else {
            std::mem::take(&mut this.rest)
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

// === impl Task ===

impl<F: Future> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !this.sending.waits_for_client.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let waiting = this.waiting.get_or_insert_with(|| {
            *this.pieces = this.sending.pieces.load(Ordering::Relaxed);
            Box::pin(sleep(WRITE_PATIENCE))
        });
        while waiting.as_mut().poll(cx).is_ready() {
            // Looked at only now and then, a client is given up after once to twice the time.
            let pieces = this.sending.pieces.load(Ordering::Relaxed);
            if std::mem::replace(this.pieces, pieces) == pieces {
                return Poll::Ready(());
            }
            waiting.as_mut().reset(Instant::now() + WRITE_PATIENCE);
        }
        Poll::Pending
    }
}
