//! The shape of a layer that notes something of a request and finishes its response with it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::upstream::{Answer, Upstream};

/// What such a layer does.
pub(crate) trait Around: Clone + Send + 'static {
    /// What of the request the response depends on: a service takes the request itself.
    type Noted: Send + 'static;

    /// Looks at the request, and may change it.
    fn note(&self, request: &mut Request<Body>) -> Self::Noted;

    /// Changes the response, or tells of it.
    fn finish(noted: Self::Noted, response: &mut Response<Body>);
}

/// Such a layer.
#[derive(Debug, Clone)]
pub(crate) struct AroundLayer<A>(pub(crate) A);

/// A service behind such a layer.
#[derive(Debug, Clone)]
pub(crate) struct AroundService<A, S> {
    around: A,
    inner: S,
}

pin_project! {
    /// A response on its way, and what it is finished with.
    pub(crate) struct Finishing<A: Around, F> {
        #[pin]
        answer: F,
        noted: Option<A::Noted>,
    }
}

// === impl AroundLayer ===

impl<A: Around, S> Layer<S> for AroundLayer<A> {
    type Service = AroundService<A, S>;

    fn layer(&self, inner: S) -> Self::Service {
        AroundService { around: self.0.clone(), inner }
    }
}

// === impl AroundService ===

impl<A: Around, S: Upstream> Service<Request<Body>> for AroundService<A, S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Finishing<A, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let noted = self.around.note(&mut request);
        Finishing { answer: self.inner.call(request), noted: Some(noted) }
    }
}

// === impl Finishing ===

impl<A: Around, F: Future<Output = Answer>> Future for Finishing<A, F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = self.project();
        let Ok(mut response) = ready!(this.answer.poll(cx));
        if let Some(noted) = this.noted.take() {
            A::finish(noted, &mut response);
        }
        Poll::Ready(Ok(response))
    }
}
