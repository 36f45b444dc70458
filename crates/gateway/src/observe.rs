//! What is told of every request, whatever answers it: its count and duration by route, why it was refused, a line in the
//! access log at the end of its answer, and an event at level `debug` at the head.

mod told_body;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::http::header::{HOST, HeaderName, USER_AGENT};
use axum::http::{Method, Request, Response, StatusCode};
use kit::request::RequestId;
use pin_project_lite::pin_project;
use tracing::{Level, Span, debug, debug_span, enabled, error};

use self::told_body::ToldBody;
use crate::access_log::{AccessLog, Line};
use crate::gateway::Gateway;
use crate::layers::request_id;
use crate::limits::Awaited;
use crate::meters::Cell;
use crate::refusal::{Cause, Refusal, Refusals};
use crate::trace::TraceId;
use crate::upstream::Answer;
use crate::upstreams::Served;

/// Under the program's name, which users give for a level of its own.
const TARGET: &str = "groundswell::requests";

/// What of a header that names a host or a program is told.
const MAX_TOLD_BYTES: usize = 256;

/// What one request loop tells with.
#[derive(Clone)]
pub(crate) struct Observer(Arc<Means>);

struct Means {
    refusals: Refusals,
    log: Option<AccessLog>,
    epoch: Instant,
    /// Counts what is answered before there is a route.
    unrouted: Arc<Cell>,
}

/// A request that is not answered yet. Every request's future has room for it, so it is small.
pub(crate) struct Observed {
    observer: Observer,
    /// None once it is answered.
    cell: Option<Arc<Cell>>,
    /// By the observer's clock, in nanoseconds.
    started: u64,
    told: Option<Box<Told>>,
    /// Its body is told when it is answered.
    awaited: Option<Awaited>,
}

/// What is told of a request beyond counts.
struct Told {
    line: Line,
    span: Option<Span>,
}

pin_project! {
    /// A response on its way that is told of.
    pub(crate) struct Observing<F> {
        #[pin]
        answer: F,
        observed: Observed,
    }
}

// === impl Observer ===

impl Observer {
    pub(crate) fn new(log: Option<AccessLog>, gateway: &Gateway) -> Self {
        let (refusals, unrouted) = (Refusals::new(), gateway.unrouted());
        Self(Arc::new(Means { refusals, log, epoch: Instant::now(), unrouted }))
    }

    /// Tells of a request that was answered before there was a route.
    pub(crate) fn answered(&self, request: &mut Request<Body>, response: Response<Body>) -> Response<Body> {
        self.begin(request, self.0.unrouted.clone(), None, false).finish(response)
    }

    /// Begins with a request, which has an id from here on. It is counted in this cell.
    pub(crate) fn begin(
        &self,
        request: &mut Request<Body>,
        cell: Arc<Cell>,
        trace: Option<TraceId>,
        goes_on: bool,
    ) -> Observed {
        request_id::give(request);
        cell.begun.add();
        let is_traced = trace.is_some() && !goes_on;
        let has_span = enabled!(target: TARGET, Level::DEBUG);
        let is_told = has_span || is_traced || self.0.log.is_some();
        let told = is_told.then(|| {
            let line = line(request, &cell, trace);
            let span = has_span.then(|| span(&line));
            Box::new(Told { line, span })
        });
        Observed { observer: self.clone(), cell: Some(cell), started: self.now(), told, awaited: None }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// By it all is named that is logged while a request is worked on.
fn span(line: &Line) -> Span {
    debug_span!(
        target: TARGET,
        "request",
        id = line.request_id.as_ref().map(RequestId::as_str),
        trace = line.trace.map(tracing::field::display),
    )
}

/// What is known of a request before it is answered. It holds no query, and of the headers two: others may carry a
/// token.
fn line(request: &Request<Body>, cell: &Cell, trace: Option<TraceId>) -> Line {
    let header = |name: HeaderName| {
        let value = request.headers().get(name)?.as_bytes();
        Some(String::from_utf8_lossy(&value[..value.len().min(MAX_TOLD_BYTES)]).into_owned())
    };
    Line {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        host: request.uri().host().map(str::to_owned).or_else(|| header(HOST)),
        agent: header(USER_AGENT),
        peer: request.extensions().get().copied(),
        request_id: request.extensions().get().cloned(),
        trace,
        route: cell.route.clone(),
        status: None,
        served: None,
        refusal: None,
        noted: request.extensions().get().cloned(),
        bytes: 0,
        until_head: None,
        took: None,
        is_cut: false,
    }
}

// === impl Observed ===

impl Observed {
    /// With what waits for its answer, too.
    pub(crate) fn awaited(mut self, awaited: Option<Awaited>) -> Self {
        self.awaited = awaited;
        self
    }

    /// The request's answer.
    pub(crate) fn on<F>(self, answer: F) -> Observing<F> {
        Observing { answer, observed: self }
    }

    fn took(&self) -> Duration {
        Duration::from_nanos(self.observer.now().saturating_sub(self.started))
    }

    fn finish(&mut self, response: Response<Body>) -> Response<Body> {
        let (status, took) = (response.status(), self.took());
        if let Some(cell) = self.cell.take() {
            cell.answered(status, took);
        }
        if let Some(awaited) = self.awaited.take() {
            awaited.answered();
        }
        let means = &self.observer.0;
        let served = response.extensions().get::<Served>();
        let late = late_body(status, served.is_some());
        let refusal = response.extensions().get::<Refusal>().or(late.as_ref());
        if let Some(refusal) = refusal {
            means.refusals.count(refusal.cause);
        }
        let told = self.told.take();
        if status == StatusCode::INTERNAL_SERVER_ERROR && served.is_none() {
            let id = response.headers().get(request_id::X_REQUEST_ID).and_then(|id| id.to_str().ok());
            let trace = told.as_ref().and_then(|told| told.line.trace).map(tracing::field::display);
            error!(id, trace, "a request was answered 500");
        }
        let Some(mut line) = told.map(|told| told.line) else { return response };
        line.status = Some(status);
        line.until_head = Some(took);
        line.served = served.cloned();
        line.refusal = refusal.cloned();
        debug!(
            target: TARGET,
            method = %line.method,
            path = line.path,
            status = status.as_u16(),
            peer = line.peer.map(|peer| tracing::field::display(peer.address)),
            client = line.peer.map(|peer| tracing::field::display(peer.client)),
            request_id = line.request_id.as_ref().map(RequestId::as_str),
            elapsed_us = took.as_micros(),
            "request"
        );
        let Some(log) = means.log.clone() else { return response };
        let has_no_body = line.method == Method::HEAD || response.body().is_end_stream();
        let body = ToldBody::new(log, line, took);
        if has_no_body { body.over(response) } else { response.map(|inner| body.around(inner)) }
    }
}

/// The services answer 408 for a body that does not come, and for nothing else. They know no refusals.
fn late_body(status: StatusCode, is_of_server: bool) -> Option<Refusal> {
    let is_late = status == StatusCode::REQUEST_TIMEOUT && !is_of_server;
    is_late.then_some(Refusal { cause: Cause::ClientLate, rule: None })
}

/// A client that leaves ends its request.
impl Drop for Observed {
    fn drop(&mut self) {
        let Some(cell) = self.cell.take() else { return };
        cell.abandoned.add();
        let took = self.took();
        if let (Some(told), Some(log)) = (self.told.take(), &self.observer.0.log) {
            log.write(&Line { took: Some(took), is_cut: true, ..told.line });
        }
    }
}

// === impl Observing ===

impl<F: Future<Output = Answer>> Future for Observing<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = self.project();
        let span = this.observed.told.as_ref().and_then(|told| told.span.clone());
        let _entered = span.as_ref().map(Span::enter);
        let Ok(response) = ready!(this.answer.poll(cx));
        Poll::Ready(Ok(this.observed.finish(response)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::http::HeaderValue;

    use super::*;
    use crate::net::Peer;

    #[test]
    fn a_line_holds_no_query_and_a_bounded_agent() {
        let mut request = Request::get("/a?token=secret").body(Body::empty()).unwrap();
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_bytes(&[0xff; 4_000]).unwrap());
        request.extensions_mut().insert(RequestId(HeaderValue::from_static("r1")));
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Peer::new(address, crate::net::Transport::Plain));
        let line = {
            let meter = crate::meters::RouteMeter::new(&crate::meters::RouteLabels::new("a", None));
            line(&request, meter.cell(0), None)
        };
        assert_eq!((line.path.as_str(), line.request_id.unwrap().as_str()), ("/a", "r1"));
        assert_eq!(line.peer.unwrap().address.port(), 1);
        assert_eq!(line.agent.unwrap().chars().count(), MAX_TOLD_BYTES);
    }
}
