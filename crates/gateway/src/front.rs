//! The first of ours to see a request and the last to see its response.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use hyper::body::Incoming;
use kit::error::ApiError;
use kit::respond::AllowFraming;
use metrics::Counter;
use tower::Service;
use tracing::{Level, debug, enabled, error};

use crate::layers::compress::{self, Encoding};
use crate::layers::{Origins, caller, clean_path, cors};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// How large a request's head may be.
pub(crate) const MAX_HEAD_BYTES: usize = 128 * 1024;

/// A request id of a client is kept if it is no longer than this.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// Everything between the connections of one request loop and its router.
pub struct Front {
    services: Arc<kit::app::App>,
    router: Router,
    origins: Origins,
    answered: AnsweredRequests,
}

/// Counters by the first digit of the status.
struct AnsweredRequests([Counter; 6]);

/// What of a request its response depends on, noted before a service takes the request.
struct Asked {
    request_id: HeaderValue,
    allowed_origin: Option<HeaderValue>,
    encoding: Option<Encoding>,
    access: Option<Access>,
}

/// A response's extension: the request was refused before the router, whose headers it then lacks.
#[derive(Debug, Clone, Copy)]
struct Unrouted;

/// A line of the access log. It holds no query and no header: both may carry a token.
struct Access {
    method: Method,
    path: String,
    peer: SocketAddr,
    started: Instant,
}

impl Front {
    /// A front of `router`, for browsers of `origins`.
    pub fn new(services: Arc<kit::app::App>, router: Router, origins: Origins) -> Self {
        Self { services, router, origins, answered: AnsweredRequests::new() }
    }

    /// Answers one request.
    pub(crate) async fn handle(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Infallible> {
        if is_head_too_large(&request) {
            let mut response = bare(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Ok(response);
        }
        if let Some(response) = clean_path::answer(request.method(), request.uri()) {
            return Ok(response);
        }
        if request.headers().contains_key(TRANSFER_ENCODING) && request.headers().contains_key(CONTENT_LENGTH)
        {
            return Ok(bare(StatusCode::BAD_REQUEST));
        }
        if request.method() == Method::OPTIONS {
            if request.uri().path() == "*" {
                return Ok(bare(StatusCode::OK));
            }
            return Ok(self.origins.preflight(request.headers()));
        }
        clean_path::decode(&mut request);
        let asked = self.note(&request, peer);
        let mut response = self.route(request, peer, &asked.request_id).await;
        self.finish(&mut response, asked);
        Ok(response)
    }

    fn note(&self, request: &Request<Incoming>, peer: SocketAddr) -> Asked {
        Asked {
            request_id: request_id(request.headers()),
            allowed_origin: self.origins.allowed(request.headers()),
            encoding: compress::accepted(request.headers()),
            access: enabled!(Level::DEBUG).then(|| Access {
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                peer,
                started: Instant::now(),
            }),
        }
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        request_id: &HeaderValue,
    ) -> Response<Body> {
        let answer = async {
            let mut request = request.map(Body::new);
            match caller::note(&self.services, &mut request, peer, request_id).await {
                Ok(()) => match self.router.clone().call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
                Err(refusal) => {
                    let mut response = refusal.into_response();
                    response.extensions_mut().insert(Unrouted);
                    response
                }
            }
        };
        AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_panic| after_panic())
    }

    fn finish(&self, response: &mut Response<Body>, asked: Asked) {
        if let Some(encoding) = asked.encoding {
            compress::compress(response, encoding);
        }
        let status = response.status();
        let may_be_framed = response.extensions().get::<AllowFraming>().is_some();
        let is_routed = response.extensions().get::<Unrouted>().is_none();
        let headers = response.headers_mut();
        // The router names a path's methods; the contract's server knows no such thing.
        headers.remove(ALLOW);
        if is_routed {
            secure(headers, may_be_framed);
        }
        cors::vary_by_origin(headers);
        if let Some(origin) = asked.allowed_origin {
            headers.insert(axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        if let Some(access) = asked.access {
            access.log(status, &asked.request_id);
        }
        headers.insert(X_REQUEST_ID, asked.request_id);
        self.answered.count(status);
    }
}

/// hyper looks at its bound only between two reads, and one that begins just below it may go past it by as much
/// again: whether it refuses a head of that size depends on how the client's bytes happen to arrive.
fn is_head_too_large<B>(request: &Request<B>) -> bool {
    let lines = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    target + lines.sum::<usize>() > MAX_HEAD_BYTES
}

/// The headers of every routed response.
fn secure(headers: &mut HeaderMap, may_be_framed: bool) {
    headers.insert(X_XSS_PROTECTION, HeaderValue::from_static("1; mode=block"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !may_be_framed {
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    }
    headers.insert(CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin"));
}

/// The request's id: its own if it looks like one, otherwise a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_id = |own: &&HeaderValue| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&own.len())
            && own.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
    };
    headers.get(X_REQUEST_ID).filter(is_id).cloned().unwrap_or_else(new_request_id)
}

fn new_request_id() -> HeaderValue {
    let text = format!("{:016x}", rand::random::<u64>());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("hexadecimal digits are a header value")
}

/// The panic hook has logged what and where; neither is the client's business.
fn after_panic() -> Response<Body> {
    metrics::counter!("groundswell_panics_total").increment(1);
    error!("a request was answered 500 because of a panic");
    ApiError::internal().into_response()
}

/// A response that no route gave, and so without a routed response's headers.
fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
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

// === impl Access ===

impl Access {
    fn log(self, status: StatusCode, request_id: &HeaderValue) {
        debug!(
            method = %self.method,
            path = self.path,
            status = status.as_u16(),
            peer = %self.peer,
            request_id = request_id.to_str().unwrap_or_default(),
            elapsed_us = self.started.elapsed().as_micros(),
            "request"
        );
    }
}

#[cfg(test)]
mod tests;
