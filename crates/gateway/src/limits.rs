//! What a route takes of whom, beyond the limits that the settings have.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use metrics::{Counter, counter};

use crate::net::Peer;
use crate::networks::Networks;

/// The limits of a route. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// Who alone may ask, unless it is empty.
    pub allow: Networks,
    /// Who may not.
    pub deny: Networks,
}

/// Counts what routes refuse.
#[derive(Clone)]
pub(crate) struct Refusals {
    denied: Counter,
}

impl RouteLimits {
    /// The status of a refusal, unless the request may go on.
    pub(crate) fn refuse(&self, request: &Request<Body>, refusals: &Refusals) -> Option<StatusCode> {
        if self.allow.is_empty() && self.deny.is_empty() {
            return None;
        }
        // Missing only by a mistake in the wiring.
        let is_let_in = request.extensions().get().is_some_and(|peer: &Peer| self.let_in(peer.client));
        if is_let_in {
            return None;
        }
        refusals.denied.increment(1);
        Some(StatusCode::FORBIDDEN)
    }

    fn let_in(&self, client: IpAddr) -> bool {
        (self.allow.is_empty() || self.allow.contain(client)) && !self.deny.contain(client)
    }
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self { denied: counter!("groundswell_requests_denied_total", "why" => "route_address") }
    }
}
