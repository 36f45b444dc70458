//! The shape of a layer that looks at a request's head and may answer it at once.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures_util::future::Either;
use tower::{Layer, Service};

use crate::upstream::{Answer, Upstream};

/// What such a layer does.
pub(crate) trait Before: Clone + Send + 'static {
    /// The answer, unless the request is to go on, changed or not.
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>>;

    /// This one, then another, as one layer: two would move the request, and what waits for its answer, twice.
    fn then<N: Before>(self, next: N) -> Then<Self, N> {
        Then { first: self, next }
    }
}

/// Two that look at a request in turn.
#[derive(Debug, Clone)]
pub(crate) struct Then<F, N> {
    first: F,
    next: N,
}

/// Such a layer.
#[derive(Debug, Clone)]
pub(crate) struct BeforeLayer<B>(pub(crate) B);

/// A service behind such a layer.
#[derive(Debug, Clone)]
pub(crate) struct BeforeService<B, S> {
    before: B,
    inner: S,
}

/// A response that no route gave, and so without a routed response's headers.
pub(super) fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

impl<F: Before, N: Before> Before for Then<F, N> {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        self.first.answer(request).or_else(|| self.next.answer(request))
    }
}

impl<B: Before, S> Layer<S> for BeforeLayer<B> {
    type Service = BeforeService<B, S>;

    fn layer(&self, inner: S) -> Self::Service {
        BeforeService { before: self.0.clone(), inner }
    }
}

impl<B: Before, S: Upstream> Service<Request<Body>> for BeforeService<B, S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answer>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.before.answer(&mut request) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => Either::Right(self.inner.call(request)),
        }
    }
}
