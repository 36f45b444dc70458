//! What is told of every request, whatever answers it: its count and duration by route, why it was refused, a line in the
//! access log, and an event at level `debug`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use kit::request::RequestId;
use pin_project_lite::pin_project;
use tracing::{Level, debug, enabled};

use crate::access_log::{AccessLog, Line};
use crate::checks::rules::Noted;
use crate::gateway::Gateway;
use crate::layers::request_id;
use crate::meters::Cell;
use crate::net::Peer;
use crate::refusal::{Refusal, Refusals};
use crate::upstream::Answer;

/// Under the program's name, which users give for a level of its own.
const TARGET: &str = "groundswell::requests";

/// What one request loop tells with.
#[derive(Clone)]
pub(crate) struct Observer(Arc<Means>);

struct Means {
    refusals: Refusals,
    log: Option<AccessLog>,
    /// Counts what is answered before there is a route.
    unrouted: Arc<Cell>,
}

/// A request that is not answered yet.
pub(crate) struct Observed {
    observer: Observer,
    cell: Arc<Cell>,
    started: Instant,
    /// In a box, since it is seldom there and every request's future has room for it.
    line: Option<Box<AccessLine>>,
    is_answered: bool,
}

/// What is told of a request. It holds no query and no header: both may carry a token.
struct AccessLine {
    method: Method,
    path: String,
    peer: Option<Peer>,
    request_id: Option<RequestId>,
    noted: Option<Noted>,
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
        Self(Arc::new(Means { refusals: Refusals::new(), log, unrouted: gateway.unrouted() }))
    }

    /// Tells of a request that was answered before there was a route.
    pub(crate) fn answered(&self, request: &mut Request<Body>, response: &Response<Body>) {
        self.begin(request, self.0.unrouted.clone()).finish(response);
    }

    /// Begins with a request, which has an id from here on. It is counted in this cell.
    pub(crate) fn begin(&self, request: &mut Request<Body>, cell: Arc<Cell>) -> Observed {
        request_id::give(request);
        let is_told = self.0.log.is_some() || enabled!(target: TARGET, Level::DEBUG);
        let line = is_told.then(|| Box::new(AccessLine::new(request)));
        cell.begun.add();
        Observed { observer: self.clone(), cell, started: Instant::now(), line, is_answered: false }
    }
}

// === impl Observed ===

impl Observed {
    /// The request's answer.
    pub(crate) fn on<F>(self, answer: F) -> Observing<F> {
        Observing { answer, observed: self }
    }

    fn finish(&mut self, response: &Response<Body>) {
        self.is_answered = true;
        let (status, took) = (response.status(), self.started.elapsed());
        self.cell.answered(status, took);
        let means = &self.observer.0;
        let refusal = response.extensions().get::<Refusal>();
        if let Some(refusal) = refusal {
            means.refusals.count(refusal.cause);
        }
        if let Some(line) = self.line.take() {
            line.tell(means.log.as_ref(), response, took);
        }
    }
}

/// A client that leaves ends its request.
impl Drop for Observed {
    fn drop(&mut self) {
        if !self.is_answered {
            self.cell.abandoned.add();
        }
    }
}

// === impl Observing ===

impl<F: Future<Output = Answer>> Future for Observing<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = self.project();
        let Ok(response) = ready!(this.answer.poll(cx));
        this.observed.finish(&response);
        Poll::Ready(Ok(response))
    }
}

// === impl AccessLine ===

impl AccessLine {
    fn new(request: &Request<Body>) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            peer: request.extensions().get().copied(),
            request_id: request.extensions().get().cloned(),
            noted: request.extensions().get().cloned(),
        }
    }

    fn tell(&self, log: Option<&AccessLog>, response: &Response<Body>, took: Duration) {
        let status: StatusCode = response.status();
        if let Some(log) = log {
            log.write(&Line {
                method: &self.method,
                path: &self.path,
                status,
                took,
                client: self.peer.map(|peer| peer.client),
                request_id: self.request_id.as_ref(),
                served: response.extensions().get(),
                refusal: response.extensions().get(),
                noted: self.noted.as_ref(),
            });
        }
        debug!(
            target: TARGET,
            method = %self.method,
            path = self.path,
            status = status.as_u16(),
            peer = self.peer.map(|peer| tracing::field::display(peer.address)),
            client = self.peer.map(|peer| tracing::field::display(peer.client)),
            request_id = self.request_id.as_ref().map(RequestId::as_str),
            elapsed_us = took.as_micros(),
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_line_holds_no_query() {
        let mut request = Request::get("/a?token=secret").body(Body::empty()).unwrap();
        request.extensions_mut().insert(RequestId(HeaderValue::from_static("r1")));
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Peer::new(address, crate::net::Transport::Plain));
        let line = AccessLine::new(&request);
        assert_eq!((line.path.as_str(), line.request_id.unwrap().as_str()), ("/a", "r1"));
        assert_eq!(line.peer.unwrap().address.port(), 1);
    }
}
