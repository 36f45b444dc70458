//! Counts answers by their status, and tells of each: to the access log, and at level `debug`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use kit::request::RequestId;
use metrics::Counter;
use tracing::{Level, debug, enabled};

use super::around::Around;
use crate::access_log::{AccessLog, Line};
use crate::net::Peer;

/// Under the program's name, which users give for a level of its own.
const TARGET: &str = "groundswell::requests";

/// The counters of one request loop, and the access log if there is one.
#[derive(Clone)]
pub(crate) struct Count {
    counters: Arc<AnsweredRequests>,
    log: Option<AccessLog>,
}

/// Counters by the first digit of the status.
struct AnsweredRequests([Counter; 6]);

/// A request that is not answered yet.
pub(crate) struct Unanswered {
    counters: Arc<AnsweredRequests>,
    /// In a box, since it is seldom there and every request's future has room for it.
    line: Option<Box<AccessLine>>,
}

/// What is told of a request. It holds no query and no header: both may carry a token.
struct AccessLine {
    log: Option<AccessLog>,
    method: Method,
    path: String,
    peer: Option<Peer>,
    request_id: Option<RequestId>,
    started: Instant,
}

// === impl Count ===

impl Count {
    pub(crate) fn new(log: Option<AccessLog>) -> Self {
        Self { counters: Arc::new(AnsweredRequests::new()), log }
    }
}

impl Around for Count {
    type Noted = Unanswered;

    fn note(&self, request: &mut Request<Body>) -> Unanswered {
        let is_told = self.log.is_some() || enabled!(target: TARGET, Level::DEBUG);
        let line = is_told.then(|| Box::new(AccessLine::new(request, self.log.clone())));
        Unanswered { counters: Arc::clone(&self.counters), line }
    }

    fn finish(unanswered: Unanswered, response: &mut Response<Body>) {
        if let Some(line) = unanswered.line {
            line.tell(response);
        }
        unanswered.counters.count(response.status());
    }
}

// === impl AnsweredRequests ===

impl AnsweredRequests {
    fn new() -> Self {
        Self(
            ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"]
                .map(|status| metrics::counter!("groundswell_requests_total", "status" => status)),
        )
    }

    fn count(&self, status: StatusCode) {
        if let Some(counter) = self.0.get(usize::from(status.as_u16() / 100)) {
            counter.increment(1);
        }
    }
}

// === impl AccessLine ===

impl AccessLine {
    fn new(request: &Request<Body>, log: Option<AccessLog>) -> Self {
        Self {
            log,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            peer: request.extensions().get().copied(),
            request_id: request.extensions().get().cloned(),
            started: Instant::now(),
        }
    }

    fn tell(&self, response: &Response<Body>) {
        let (status, took) = (response.status(), self.started.elapsed());
        if let Some(log) = &self.log {
            log.write(&Line {
                method: &self.method,
                path: &self.path,
                status,
                took,
                client: self.peer.map(|peer| peer.client),
                request_id: self.request_id.as_ref(),
                served: response.extensions().get(),
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
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::http::HeaderValue;
    use metrics::{Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
    use tower::service_fn;

    use super::*;
    use crate::layers::around::AroundLayer;
    use crate::layers::testing::{answer, inner};

    /// Keeps each status's counter.
    #[derive(Default)]
    struct Counters(Mutex<Vec<(String, Arc<AtomicU64>)>>);

    impl Counters {
        fn of(&self, status: &str) -> u64 {
            let counters = self.0.lock().unwrap();
            counters
                .iter()
                .find(|(name, _)| name == status)
                .map_or(0, |(_, count)| count.load(Ordering::Relaxed))
        }
    }

    impl Recorder for Counters {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let status = key.labels().next().map(|label| label.value().to_owned());
            let count = Arc::new(AtomicU64::new(0));
            self.0.lock().unwrap().push((status.unwrap_or_default(), Arc::clone(&count)));
            Counter::from_arc(count)
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[tokio::test]
    async fn answers_are_counted_by_the_first_digit_of_their_status() {
        let counters = Counters::default();
        let count = metrics::with_local_recorder(&counters, || AroundLayer(Count::new(None)));
        let missing = service_fn(|_| async {
            Ok(Response::builder()
                .status(StatusCode::NOT_FOUND)
                .body(Body::empty())
                .expect("a valid response"))
        });
        answer(&count, inner(), Request::new(Body::empty())).await;
        answer(&count, missing, Request::new(Body::empty())).await;
        answer(&count, missing, Request::new(Body::empty())).await;
        assert_eq!(["2xx", "4xx", "5xx"].map(|status| counters.of(status)), [1, 2, 0]);
    }

    #[test]
    fn a_line_holds_no_query() {
        let mut request = Request::get("/a?token=secret").body(Body::empty()).unwrap();
        request.extensions_mut().insert(RequestId(HeaderValue::from_static("r1")));
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Peer::new(address, crate::net::Transport::Plain));
        let line = AccessLine::new(&request, None);
        assert_eq!((line.path.as_str(), line.request_id.unwrap().as_str()), ("/a", "r1"));
        assert_eq!(line.peer.unwrap().address.port(), 1);
    }
}
