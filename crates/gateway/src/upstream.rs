//! What stands at the foot of the stack: where a request goes that has passed all of it.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{Request, Response};
use tower::Service;

/// What an upstream's future gives. There is no error: one that a client is to see is a response.
pub type Answer = Result<Response<Body>, Infallible>;

/// Something that answers requests. So far it is the router of the services of this process, called directly: no
/// socket and no second parse.
///
/// It is always ready: a request that cannot be taken now is answered so. Nobody waits for `poll_ready`.
pub trait Upstream:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Upstream for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}
