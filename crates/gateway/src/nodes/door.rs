//! Two stacks behind the sockets of one process: one for clients, one for other nodes.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use futures_util::future::Either;
use kit::error::ApiError;
use tower::Service;

use crate::net::{Peer, Transport};
use crate::upstream::{Answer, Upstream};

/// Sends a request to the stack of the socket that it came by.
#[derive(Clone)]
pub struct Doors<P, I> {
    public: P,
    internal: Option<I>,
}

impl<P, I> Doors<P, I> {
    /// `internal` answers what comes by the internal listener, if there is one.
    pub fn new(public: P, internal: Option<I>) -> Self {
        Self { public, internal }
    }
}

impl<P: Upstream, I: Upstream> Service<Request<Body>> for Doors<P, I> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<P::Future, Either<I::Future, Ready<Answer>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.public.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        if peer.is_none_or(|peer| peer.transport != Transport::Internal) {
            return Either::Left(self.public.call(request));
        }
        Either::Right(match &mut self.internal {
            Some(internal) => Either::Left(internal.call(request)),
            // There is no such listener without its stack, but by a mistake in the wiring.
            None => Either::Right(ready(Ok(ApiError::internal().into_response()))),
        })
    }
}
