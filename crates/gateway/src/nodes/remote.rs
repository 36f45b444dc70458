//! The foot of the stack of a gateway node: the services, on another node.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use identity::signed_caller::{Asks, RecordId, Word};
use kit::error::ApiError;
use kit::request::CallInfo;
use model::context::Caller;
use model::record::Record;
use tower::Service;

use super::service_nodes::ServiceNodes;
use super::{client_id, marks};
use crate::proxy::{Forward, Forwarding, Unreached};
use crate::refusal::{Cause, Refusal};

/// Sends what one request loop has for the services to a node that runs them.
#[derive(Clone)]
pub struct Remote {
    nodes: Arc<ServiceNodes>,
    forward: Forward,
}

/// A request's extension: whose connection it came by. The services work out with their own settings which client that
/// stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CameFrom(pub(crate) IpAddr);

// === impl Remote ===

impl Remote {
    /// With connections of its own.
    pub fn new(nodes: Arc<ServiceNodes>) -> Self {
        let forward = nodes.forward();
        Self { nodes, forward }
    }

    async fn answer(self, mut request: Request<Body>) -> Result<Response<Body>, ApiError> {
        const RETRY_AFTER: Duration = Duration::from_secs(1);
        if !self.nodes.is_reachable() {
            return Err(ApiError::unavailable(RETRY_AFTER));
        }
        // Missing only by a mistake in the wiring.
        let CameFrom(from) = request.extensions_mut().remove().ok_or_else(ApiError::internal)?;
        let info: CallInfo = request.extensions_mut().remove().ok_or_else(ApiError::internal)?;
        let request_id = info.request_id.as_str().to_owned();
        self.nodes.sign(&mut request, &Word { asks: asks(&info.caller), from, request_id })?;
        let pool = match self.nodes.are_several() {
            true => match client_id::of(&mut request).await? {
                Some(client) => self.nodes.of_client(&client),
                None => None,
            },
            false => None,
        };
        let pool = pool.unwrap_or_else(|| self.nodes.pool()).clone();
        let mut response = self.nodes.send(&self.forward, pool, request).await;
        if response.extensions().get::<Unreached>().is_some() {
            return Err(ApiError::unavailable(RETRY_AFTER));
        }
        // In the words of the services, which had nothing to say.
        match response.extensions().get().map(|refusal: &Refusal| refusal.cause) {
            Some(Cause::ClientLeft) => return Err(ApiError::bad_request()),
            Some(Cause::ClientLate) => return Err(ApiError::request_timeout()),
            _ => {}
        }
        marks::read(&mut response);
        Ok(response)
    }
}

impl Service<Request<Body>> for Remote {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Forwarding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Forwarding {
        let remote = self.clone();
        Box::pin(
            async move { Ok(remote.answer(request).await.unwrap_or_else(|error| error.into_response())) },
        )
    }
}

fn asks(caller: &Caller) -> Asks {
    let id =
        |record: &Record| RecordId { collection: record.collection.id.clone(), id: record.id().to_owned() };
    match caller {
        Caller::Guest => Asks::Guest,
        Caller::Record(record) => Asks::Record(id(record)),
        Caller::Superuser(record) => Asks::Superuser(id(record)),
    }
}
