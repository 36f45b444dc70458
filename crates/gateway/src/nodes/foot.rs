//! The foot of a stack: the services, here or on another node.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::future::Either;
use tower::Service;

use super::remote::Remote;
use crate::proxy::Forwarding;
use crate::upstream::Upstream;

/// Where the services are.
#[derive(Clone)]
pub enum Foot<S> {
    /// In this process, called directly.
    Here(S),
    /// On another node.
    Elsewhere(Remote),
}

impl<S: Upstream> Service<Request<Body>> for Foot<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Forwarding>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self {
            Self::Here(services) => services.poll_ready(cx),
            Self::Elsewhere(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Here(services) => Either::Left(services.call(request)),
            Self::Elsewhere(remote) => Either::Right(remote.call(request)),
        }
    }
}
