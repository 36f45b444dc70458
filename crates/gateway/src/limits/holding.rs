//! The layer that looks for room in the buckets of addresses, and then holds a place for each request until it is answered,
//! where there are bounds of them. It is one layer, since each one more makes the future of every request larger.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use kit::error::ApiError;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::in_flight::{InFlight, Permit};
use super::priority::Priority;
use super::{Limited, Rates, caller_of};
use crate::net::Peer;
use crate::proxy::Way;
use crate::refusal::{Cause, Refusal};
use crate::upstream::{Answer, Upstream};

/// After what time a refused client may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Holds the places, once the buckets that tell addresses apart have room.
#[derive(Clone)]
pub(crate) struct HoldPlaces;

/// A service whose requests have places.
#[derive(Clone)]
pub(crate) struct PlaceHolder<S> {
    inner: S,
}

pin_project! {
    /// A response on its way, once there is a place for its request.
    pub(crate) struct Holding<S: Upstream> {
        // What seldom is stands in a box, since every request's future has room for it.
        held: Option<Box<Held<S>>>,
        #[pin]
        answer: Option<S::Future>,
    }
}

enum Held<S> {
    /// Nothing goes on.
    Refused(Response<Body>),
    /// It is not its turn yet.
    Waiting {
        places: Pin<Box<dyn Future<Output = Result<Places, Cause>> + Send>>,
        inner: S,
        request: Request<Body>,
    },
    /// It is not answered yet.
    Places(Places),
}

/// The bounds that a request falls under.
struct Bounds {
    all: Option<Arc<InFlight>>,
    route: Option<Arc<InFlight>>,
    priority: Priority,
}

/// A request's places under each.
#[derive(Default)]
struct Places {
    all: Option<Permit>,
    route: Option<Permit>,
    claim: Option<Claim>,
}

/// A request's extension: it has its place by a token that nobody has looked at.
#[derive(Clone)]
struct Claim {
    bounds: [Option<Arc<InFlight>>; 2],
    address: IpAddr,
}

impl<S> Layer<S> for HoldPlaces {
    type Service = PlaceHolder<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PlaceHolder { inner }
    }
}

// === impl PlaceHolder ===

impl<S: Upstream> Service<Request<Body>> for PlaceHolder<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Holding<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(refusal) = Rates::<false>.refuse(&request) {
            return Holding { held: Some(Box::new(Held::Refused(refusal))), answer: None };
        }
        let Some(bounds) = Bounds::of(&request) else {
            return Holding { held: None, answer: Some(self.inner.call(request)) };
        };
        let claim = bounds.claim(&request);
        if let Some(claim) = &claim {
            request.extensions_mut().insert(claim.clone());
        }
        let mut places = Places { claim, ..Places::default() };
        let (held, answer) = match bounds.enter(&mut places) {
            Ok(()) => (Held::Places(places), Some(self.inner.call(request))),
            Err(cause) if !bounds.may_wait(cause) => (Held::Refused(refusal(cause)), None),
            Err(_) => {
                let places = Box::pin(bounds.wait(places));
                (Held::Waiting { places, inner: self.inner.clone(), request }, None)
            }
        };
        Holding { held: Some(Box::new(held)), answer }
    }
}

// === impl Bounds ===

impl Bounds {
    fn of(request: &Request<Body>) -> Option<Self> {
        let limited: &Limited = request.extensions().get()?;
        let all = limited.all.in_flight.clone();
        let route = limited.route.as_ref().and_then(|route| route.limits.in_flight.clone());
        let any = all.as_ref().or(route.as_ref())?;
        if asks_health(request) {
            return None;
        }
        // Where nobody looks at tokens they say nothing.
        let looks_at_tokens = match request.extensions().get() {
            Some(Way::Upstream { route, .. }) => route.auth.is_some(),
            _ => true,
        };
        let suspects = looks_at_tokens.then(|| any.suspects());
        let priority = Priority::of(request, suspects);
        Some(Self { all, route, priority })
    }

    fn claim(&self, request: &Request<Body>) -> Option<Claim> {
        let address = request.extensions().get::<Peer>()?.client;
        let bounds = || [self.all.clone(), self.route.clone()];
        self.priority.is_claimed().then(|| Claim { bounds: bounds(), address })
    }

    /// Takes the places that are free. The cause names the first that is not.
    fn enter(&self, places: &mut Places) -> Result<(), Cause> {
        let enter = |bound: &Option<Arc<InFlight>>| bound.as_ref().map(|one| one.enter(self.priority));
        places.all = enter(&self.all).transpose().map_err(|_| Cause::Overload)?;
        places.route = enter(&self.route).transpose().map_err(|_| Cause::RouteOverload)?;
        Ok(())
    }

    fn may_wait(&self, cause: Cause) -> bool {
        let bound = if cause == Cause::Overload { &self.all } else { &self.route };
        bound.as_ref().is_some_and(|bound| bound.may_wait(self.priority))
    }

    /// Waits for the places that are missing, the first of them first.
    async fn wait(self, mut places: Places) -> Result<Places, Cause> {
        if let (Some(all), None) = (&self.all, &places.all) {
            places.all = Some(all.clone().turn(self.priority).await.map_err(|_| Cause::Overload)?);
        }
        if let (Some(route), None) = (&self.route, &places.route) {
            places.route = Some(route.clone().turn(self.priority).await.map_err(|_| Cause::RouteOverload)?);
        }
        Ok(places)
    }
}

// === impl Places ===

impl Places {
    fn answered(self, response: &Response<Body>) {
        let refusal = response.extensions().get::<Refusal>();
        // What is refused for another reason, or could not be found out, says nothing against the token.
        if let (Some(claim), Some(Refusal { cause: Cause::Caller, .. })) = (&self.claim, refusal)
            && response.status() == StatusCode::UNAUTHORIZED
        {
            claim.was_none();
        }
        // What the edge refuses, and what fails, says nothing of how long answers take.
        if refusal.is_none() && !response.status().is_server_error() {
            [self.all, self.route].into_iter().flatten().for_each(Permit::answered);
        }
    }
}

// === impl Claim ===

impl Claim {
    fn was_none(&self) {
        self.bounds.iter().flatten().for_each(|bound| bound.suspects().note(self.address));
    }
}

/// Notes whoever has his place by a token that turned out not to count.
pub(super) fn note_forger(request: &Request<Body>) {
    if let Some(claim) = request.extensions().get::<Claim>()
        && caller_of(request).is_none()
    {
        claim.was_none();
    }
}

// === impl Holding ===

impl<S: Upstream> Future for Holding<S> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut this = self.project();
        loop {
            if let Some(answer) = this.answer.as_mut().as_pin_mut() {
                let Ok(response) = ready!(answer.poll(cx));
                if let Some(Held::Places(places)) = this.held.take().map(|held| *held) {
                    places.answered(&response);
                }
                return Poll::Ready(Ok(response));
            }
            let turn = match this.held.as_deref_mut() {
                Some(Held::Waiting { places, .. }) => Some(ready!(places.as_mut().poll(cx))),
                _ => None,
            };
            let held = this.held.take().map(|held| *held);
            match (turn, held) {
                (Some(Ok(places)), Some(Held::Waiting { mut inner, request, .. })) => {
                    *this.held = Some(Box::new(Held::Places(places)));
                    this.answer.set(Some(inner.call(request)));
                }
                (Some(Err(cause)), _) => return Poll::Ready(Ok(refusal(cause))),
                (_, Some(Held::Refused(response))) => return Poll::Ready(Ok(response)),
                // Only after the end.
                _ => return Poll::Ready(Ok(refusal(Cause::Overload))),
            }
        }
    }
}

/// Whether a request asks the application how it is. It costs next to nothing, and takes no place of anybody: who
/// watches is answered also when there is too much to do.
fn asks_health(request: &Request<Body>) -> bool {
    let is_elsewhere = request.extensions().get().is_some_and(|way| matches!(way, Way::Upstream { .. }));
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
    is_read && !is_elsewhere && request.uri().path() == "/api/health"
}

fn refusal(cause: Cause) -> Response<Body> {
    cause.mark(ApiError::busy(RETRY_AFTER).into_response())
}
