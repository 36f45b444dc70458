//! What is taken of whom, beyond the limits that the settings have: a route's limits, and those of everything.
//!
//! The [`Gateway`](crate::Gateway) notes in a request which limits it falls under, and layers of both stacks apply them:
//! what tells addresses apart before anybody is asked who calls, what tells callers apart afterwards.

mod body_rate;
mod buckets;
mod holding;
mod in_flight;
mod priority;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response};
use axum::response::IntoResponse;
use kit::error::ApiError;
use kit::request::CallInfo;
use model::context::Caller;

pub(crate) use body_rate::{Awaited, pace};
pub use buckets::{RateBy, RateRule, TokenBuckets};
pub(crate) use holding::HoldPlaces;
pub use in_flight::{InFlight, MaxInFlight, Most};

use crate::layers::before::Before;
use crate::net::{Peer, of_one_host};
use crate::networks::Networks;
use crate::refusal::Cause;
use crate::route_auth::RouteCaller;
use crate::routes::Route;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits of a route. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// Who alone may ask, unless it is empty.
    pub allow: Networks,
    /// Who may not.
    pub deny: Networks,
    /// How often.
    pub rate: Option<Arc<TokenBuckets>>,
    /// How many requests at once.
    pub in_flight: Option<Arc<InFlight>>,
}

/// The limits of everything that is asked for. By default a body has to come at a rate, and there is no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonLimits {
    /// How often.
    pub rate: Option<Arc<TokenBuckets>>,
    /// How many requests at once.
    pub in_flight: Option<Arc<InFlight>>,
    /// Bytes a second at which a body has to come while somebody waits for it, before there is an answer.
    pub min_body_rate: Option<NonZeroU32>,
}

/// A request's extension: which limits it falls under. Most have none.
#[derive(Clone)]
pub(crate) struct Limited {
    all: CommonLimits,
    route: Option<Arc<Route>>,
}

/// Answers 429 to a request for which there is no room in a bucket.
/// The parameter says whether it is known who calls; as a field it would take room in the future of every request.
#[derive(Clone)]
pub(crate) struct Rates<const KNOWS_CALLER: bool>;

// === impl RouteLimits ===

impl RouteLimits {
    /// Keeps what was counted under the limits that stay.
    pub(crate) fn go_on_from(&mut self, before: &Self) {
        keep(&mut self.rate, &before.rate);
        keep(&mut self.in_flight, &before.in_flight);
    }

    /// Whether the client may ask.
    pub(crate) fn let_in(&self, request: &Request<Body>) -> bool {
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        // Missing only by a mistake in the wiring.
        request.extensions().get().is_some_and(|peer: &Peer| {
            (self.allow.is_empty() || self.allow.contain(peer.client)) && !self.deny.contain(peer.client)
        })
    }
}

/// The one from before, if it is under the same rule.
fn keep<T: PartialEq>(limit: &mut Option<Arc<T>>, before: &Option<Arc<T>>) {
    if limit == before {
        limit.clone_from(before);
    }
}

// === impl CommonLimits ===

impl CommonLimits {
    /// Bytes a second. The slowest links of telephones have ten times as much.
    pub const MIN_BODY_RATE: NonZeroU32 = NonZeroU32::new(256).expect("it is not zero");

    /// Keeps what was counted under the limits that stay.
    pub(crate) fn go_on_from(&mut self, before: &Self) {
        keep(&mut self.rate, &before.rate);
        keep(&mut self.in_flight, &before.in_flight);
    }
}

impl Default for CommonLimits {
    fn default() -> Self {
        Self { rate: None, in_flight: None, min_body_rate: Some(Self::MIN_BODY_RATE) }
    }
}

// === impl Limited ===

impl Limited {
    /// Under which limits a request of this route falls.
    pub(crate) fn by(all: &CommonLimits, route: Option<&Arc<Route>>) -> Option<Self> {
        let route = route.filter(|route| route.limits.rate.is_some() || route.limits.in_flight.is_some());
        let is_limited = all.rate.is_some() || all.in_flight.is_some() || route.is_some();
        is_limited.then(|| Self { all: all.clone(), route: route.cloned() })
    }
}

// === impl Rates ===

impl<const KNOWS_CALLER: bool> Rates<KNOWS_CALLER> {
    /// The answer, where this bucket has no room.
    fn refusal(&self, buckets: &TokenBuckets, request: &Request<Body>) -> Option<Response<Body>> {
        let by = &buckets.rule().by;
        if (*by == RateBy::Caller) != KNOWS_CALLER {
            return None;
        }
        let taken = match by {
            RateBy::Route => buckets.take(()),
            RateBy::Ip => buckets.take(Key::Address(address(request))),
            RateBy::Header(name) => match request.headers().get(name) {
                Some(value) => buckets.take(Key::Header(value.as_bytes())),
                None => buckets.take(Key::Address(address(request))),
            },
            RateBy::Caller => match caller_of(request) {
                Some((collection, id)) => buckets.take(Key::Record(collection, id)),
                None => buckets.take(Key::Address(address(request))),
            },
        };
        let wait = taken.err()?;
        let mut response = ApiError::too_many_requests().with_retry_after(wait).into_response();
        let headers = response.headers_mut();
        headers.insert(RATE_LIMIT_POLICY, buckets.policy().clone());
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        if let Ok(value) = HeaderValue::from_str(&format!("\"{}\";r=0;t={seconds}", by.as_str())) {
            headers.insert(RATE_LIMIT, value);
        }
        Some(response)
    }
}

impl<const KNOWS_CALLER: bool> Before for Rates<KNOWS_CALLER> {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        holding::note_forger(request);
        self.refuse(request)
    }
}

impl<const KNOWS_CALLER: bool> Rates<KNOWS_CALLER> {
    fn refuse(&self, request: &Request<Body>) -> Option<Response<Body>> {
        let Limited { all, route } = request.extensions().get()?;
        if let Some(refusal) = all.rate.as_ref().and_then(|buckets| self.refusal(buckets, request)) {
            return Some(Cause::Rate.mark(refusal));
        }
        let refusal = self.refusal(route.as_ref()?.limits.rate.as_ref()?, request)?;
        Some(Cause::RouteRate.mark(refusal))
    }
}

/// What has a bucket.
#[derive(Hash)]
enum Key<'r> {
    Address(IpAddr),
    Header(&'r [u8]),
    Record(&'r str, &'r str),
}

/// Who calls, as the application or the route found out: where he is known, and his id there. None for guests.
fn caller_of(request: &Request<Body>) -> Option<(&str, &str)> {
    let extensions = request.extensions();
    let of_service = || match &extensions.get::<CallInfo>()?.caller {
        Caller::Record(record) | Caller::Superuser(record) => Some((&*record.collection.id, record.id())),
        Caller::Guest => None,
    };
    extensions.get().and_then(RouteCaller::key).or_else(of_service)
}

fn address(request: &Request<Body>) -> IpAddr {
    let extensions = request.extensions();
    let of_service = || extensions.get().map(|info: &CallInfo| info.client_ip);
    let address = extensions.get().map(|peer: &Peer| peer.client).or_else(of_service);
    // Missing only by a mistake in the wiring: then all are one.
    of_one_host(address.unwrap_or(IpAddr::from([0; 4])))
}
