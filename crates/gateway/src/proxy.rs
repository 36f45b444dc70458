//! Sending a request on to a server of a pool, and its answer back.
//!
//! A try has a server, a connection and a deadline. What was not answered is tried again at another server if nothing was
//! sent, or if the method may be carried out twice and there is no body to send twice; and only while the pool's budget
//! lasts. Bodies stream both ways at the pace of the slower side.

mod body;
mod connections;
mod headers;
mod upgrade;

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use kit::error::{ApiError, ErrorStatus};
use tokio::time::{Instant, timeout_at};
use tower::Service;

use self::body::{AnswerBody, Reading};
use self::connections::{Connections, Unanswered};
use crate::net::{Peer, Transport};
use crate::routes::{self, Route};
use crate::upstream::Answer;
use crate::upstreams::{Outcome, Pool, Try};

/// Tries of one request, whatever the budget.
const MAX_TRIES: usize = 3;

/// An answer on its way from a server.
pub(crate) type Forwarding = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Where a request goes, among its extensions.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) pool: Arc<Pool>,
    pub(crate) route: Arc<Route>,
}

/// The foot of what goes to other servers from one request loop: sends a request on its [`Way`].
#[derive(Clone, Default)]
pub(crate) struct Forward {
    connections: Connections,
}

/// Sends requests to one pool.
struct Proxy {
    pool: Arc<Pool>,
    connections: Connections,
}

/// A request that can be sent several times: all of it but its body.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    protocol: Option<HeaderValue>,
}

/// Why a try gave no answer that is worth passing on.
enum Missed {
    /// The answer of 500 and above is what the client gets if nobody does better.
    Erred(Box<Answered>),
    /// The server cannot be reached, or did not take the request: here is its body again.
    Unsent(Body),
    /// It did not answer, and may have seen the request.
    Lost,
    /// It did not answer in time, and may be at it.
    Late,
}

/// The head of an answer, and what its body is read with.
struct Answered {
    response: Response<Incoming>,
    reading: Reading,
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Forwarding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Forwarding {
        let connections = self.connections.clone();
        Box::pin(async move {
            // Missing only by a mistake in the wiring.
            let Some(Way { pool, route }) = request.extensions_mut().remove() else {
                return Ok(ApiError::internal().into_response());
            };
            routes::apply(&route.request_headers, request.headers_mut());
            let mut response = Proxy { pool, connections }.answer(request).await;
            routes::apply(&route.response_headers, response.headers_mut());
            Ok(response)
        })
    }
}

// === impl Proxy ===

impl Proxy {
    async fn answer(self, mut request: Request<Body>) -> Response<Body> {
        let client = headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let key = key(&parts);
        let head = Head::of(parts);
        let is_repeatable = is_idempotent(&head.method) && body.is_end_stream() && head.protocol.is_none();
        let pool = &self.pool;
        pool.budget.note_request(pool.now());
        let deadline = Instant::now() + pool.settings.timeout;
        let (mut body, mut tried) = (body, Vec::new());
        loop {
            let Some(begun) = pool.begin(key, &tried) else { return nobody() };
            let server = begun.server.clone();
            let until = deadline.min(Instant::now() + pool.settings.try_timeout);
            let missed = match self.try_once(begun, &head, body, until).await {
                Ok(answered) => return answered.into_response(client, tried.len() + 1),
                Err(missed) => missed,
            };
            tried.push(server);
            let may_retry = match &missed {
                Missed::Unsent(_) => true,
                Missed::Erred(_) => is_repeatable && tried.len() < pool.servers().len(),
                Missed::Lost | Missed::Late => is_repeatable,
            };
            let has_time = Instant::now() < deadline && tried.len() < MAX_TRIES;
            if !may_retry || !has_time || !pool.may_retry() {
                return missed.into_response(tried.len());
            }
            body = match missed {
                Missed::Unsent(body) => body,
                Missed::Erred(_) | Missed::Lost | Missed::Late => Body::empty(),
            };
        }
    }

    async fn try_once(
        &self,
        mut begun: Try,
        head: &Head,
        mut body: Body,
        until: Instant,
    ) -> Result<Answered, Missed> {
        let server = begun.server.clone();
        let connect_timeout = self.pool.settings.connect_timeout;
        let mut connection = self.connections.get(&server.url, connect_timeout).await;
        loop {
            let Some(mut connected) = connection else {
                begun.note(Outcome::Failed);
                return Err(Missed::Unsent(body));
            };
            match timeout_at(until, connected.send(head.request(body))).await {
                Ok(Ok(response)) => {
                    let has_erred = response.status().is_server_error();
                    begun.note(if has_erred { Outcome::Erred } else { Outcome::Answered });
                    let answered = Answered { response, reading: Reading { connection: connected, begun } };
                    return if has_erred { Err(Missed::Erred(Box::new(answered))) } else { Ok(answered) };
                }
                // The server closed a kept connection: no fault of its own. The next is a new one.
                Ok(Err(Unanswered::Unsent(request))) if connected.is_used => {
                    body = request.into_body();
                    connection = self.connections.connect(&server.url, connect_timeout).await;
                }
                Ok(Err(Unanswered::Unsent(request))) => {
                    begun.note(Outcome::Failed);
                    return Err(Missed::Unsent(request.into_body()));
                }
                Ok(Err(Unanswered::Lost)) => {
                    // One that was kept may have been closed while the request was on its way.
                    if !connected.is_used {
                        begun.note(Outcome::Failed);
                    }
                    return Err(Missed::Lost);
                }
                Err(_) => {
                    begun.note(Outcome::Failed);
                    return Err(Missed::Late);
                }
            }
        }
    }
}

// === impl Head ===

impl Head {
    /// What goes on of a request: its path and query, and its headers but for those of the connection.
    fn of(parts: request::Parts) -> Self {
        let request::Parts { method, uri, mut headers, extensions, .. } = parts;
        let protocol = headers::upgrade(&headers);
        headers::strip(&mut headers);
        if let Some(protocol) = &protocol {
            headers::set_upgrade(&mut headers, protocol.clone());
        }
        if let Some(peer) = extensions.get::<Peer>() {
            let protocol = match peer.transport {
                Transport::Plain => "http",
                Transport::Tls => "https",
            };
            headers::set_forwarded(&mut headers, peer.address.ip(), protocol);
        }
        let target = uri.path_and_query().map_or(Ok(Uri::from_static("/")), |target| target.as_str().parse());
        Self { method, uri: target.unwrap_or_else(|_| Uri::from_static("/")), headers, protocol }
    }

    fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

// === impl Answered ===

impl Answered {
    /// The answer as the client gets it. Where both sides agreed to go on with another protocol, `client` is his side.
    fn into_response(self, client: Option<OnUpgrade>, tries: usize) -> Response<Body> {
        let Answered { mut response, reading } = self;
        response.extensions_mut().insert(reading.begun.served(tries));
        let protocol = headers::upgrade(response.headers());
        headers::strip(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(|body| AnswerBody::new(body, reading).into_body());
        }
        let (Some(client), Some(protocol)) = (client, protocol) else {
            // Nobody asked for it.
            return no_answer(StatusCode::BAD_GATEWAY);
        };
        headers::set_upgrade(response.headers_mut(), protocol);
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(upgrade::join(client, server, reading));
        response.map(|_| Body::empty())
    }
}

// === impl Missed ===

impl Missed {
    fn into_response(self, tries: usize) -> Response<Body> {
        match self {
            Missed::Erred(answered) => answered.into_response(None, tries),
            Missed::Unsent(_) | Missed::Lost => no_answer(StatusCode::BAD_GATEWAY),
            Missed::Late => no_answer(StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

/// What may be done twice (RFC 9110 §9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// By what a hash balances: the client's address.
fn key(parts: &request::Parts) -> u64 {
    let Some(peer) = parts.extensions.get::<Peer>() else { return 0 };
    match peer.address.ip() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        // The network of a host: its addresses in it change.
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

/// All servers have as much to do as they may.
fn nobody() -> Response<Body> {
    ApiError::unavailable(Duration::from_secs(1)).into_response()
}

fn no_answer(status: StatusCode) -> Response<Body> {
    let message = match status {
        StatusCode::GATEWAY_TIMEOUT => "The service did not answer in time.",
        _ => "The service did not answer.",
    };
    match ErrorStatus::try_from(status) {
        Ok(status) => ApiError::new(status, message).into_response(),
        Err(_) => ApiError::internal().into_response(),
    }
}
