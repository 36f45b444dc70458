//! Sending a request on to a server of a pool, and its answer back.
//!
//! A try has a server, a connection and a deadline, which begins when the client has sent all. What was not answered is tried again at another server if nothing was
//! sent, or if the method may be carried out twice and there is no body to send twice; and only while the pool's budget
//! lasts. Bodies stream both ways at the pace of the slower side.

mod body;
mod connections;
mod headers;
mod shared;
mod upgrade;
mod upload;

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::header::{AUTHORIZATION, HOST, TRANSFER_ENCODING};
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request,
};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use kit::error::{ApiError, ErrorStatus};
use kit::request::RequestId;
use tokio::time::{Instant, timeout_at};
use tower::Service;

use self::body::{AnswerBody, Reading};
pub(crate) use self::connections::Connections;
use self::connections::Unanswered;
use self::upload::Upload;
use crate::caller_tokens::CallerToken;
use crate::checks::rules::Stop;
use crate::layers::compress;
use crate::net::{Peer, Then, Transport};
use crate::refusal::Cause;
use crate::routes::{self, Route, Target};
use crate::upstream::Answer;
use crate::upstreams::{Outcome, Pool, Server, ServerUrl, Try};

pub(crate) use self::connections::Link;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Tries of one request, whatever the budget.
const MAX_TRIES: usize = 3;

/// An answer on its way from a server.
pub(crate) type Forwarding = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Where a request goes that is not the application's, among its extensions.
#[derive(Clone)]
pub(crate) enum Way {
    /// To a server of a pool.
    Upstream { pool: Arc<Pool>, route: Arc<Route> },
    /// Back, with the word to go elsewhere.
    Redirect(Arc<Route>),
    /// Nowhere: it is not what the route accepts.
    NotAccepted(StatusCode, Cause, Arc<Route>),
    /// Nowhere, by a rule.
    Stopped(Stop),
    /// Nowhere.
    Refused(StatusCode, Cause),
    /// Nowhere, by a mistake of ours.
    Lost,
}

/// The foot of what goes to other servers from one request loop: sends a request on its [`Way`].
#[derive(Clone, Default)]
pub(crate) struct Forward {
    pub(crate) connections: Connections,
}

/// Sends requests to one pool.
struct Proxy {
    pool: Arc<Pool>,
    connections: Connections,
}

/// An answer's extension: no server could be reached, and none has seen the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unreached;

/// A request that can be sent several times: all of it but its body.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// The client takes trailers, and says so: servers of gRPC want to hear it.
    takes_trailers: bool,
    /// By HTTP/2, where the pool has that. A WebSocket needs a connection of its own.
    may_http2: bool,
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
    /// The client sent more than the route accepts.
    TooLarge,
    /// The client broke off what it sent.
    ClientLeft,
    /// The client did not go on with what it sent.
    ClientLate,
}

/// The client's side of a connection that is to go on with another protocol.
struct Client {
    upgrade: OnUpgrade,
    then: Option<Then>,
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
            let way = request.extensions_mut().remove();
            Ok(match way {
                Some(Way::Upstream { pool, route }) => {
                    let encoding = route.compress.then(|| compress::accepted(request.headers()));
                    let mut response = Proxy { pool, connections }.answer(request, &route).await;
                    routes::apply(&route.response_headers, response.headers_mut());
                    if let Some(encoding) = encoding {
                        compress::of_route(&mut response, encoding);
                    }
                    response
                }
                Some(Way::Redirect(route)) => match &route.target {
                    Target::Redirect(to) => route.redirect(to, request.uri()),
                    _ => ApiError::internal().into_response(),
                },
                Some(Way::NotAccepted(status, cause, route)) => {
                    let mut refusal = refused(status, cause);
                    route.accepts.tell(&mut refusal);
                    refusal
                }
                Some(Way::Stopped(stop)) => stop.into_response(),
                Some(Way::Refused(status, cause)) => refused(status, cause),
                Some(Way::Lost) | None => ApiError::internal().into_response(),
            })
        })
    }
}

// === impl Proxy ===

impl Proxy {
    async fn answer(self, mut request: Request<Body>, route: &Route) -> Response<Body> {
        let is_upgrade = *request.method() == Method::GET
            && request.body().is_end_stream()
            && headers::is_websocket(request.headers());
        let client = is_upgrade.then(|| Client {
            upgrade: hyper::upgrade::on(&mut request),
            then: request.extensions_mut().remove(),
        });
        let (parts, body) = request.into_parts();
        let key = key(&parts);
        let is_in_chunks = body.size_hint().exact().is_none();
        let Some(head) = Head::of(parts, route, is_upgrade, is_in_chunks) else {
            return refused(StatusCode::URI_TOO_LONG, Cause::LongPath);
        };
        let is_repeatable = is_idempotent(&head.method) && body.is_end_stream() && !is_upgrade;
        let (body, upload) = Upload::follow(body);
        let pool = &self.pool;
        pool.budget.note_request(pool.now());
        let deadline = Instant::now() + pool.settings.timeout;
        let (mut body, mut tried) = (body, Vec::<Arc<Server>>::new());
        let mut erred: Option<Box<Answered>> = None;
        loop {
            let Some(begun) = pool.begin(key, &tried) else {
                return match erred {
                    Some(answered) => answered.into_response(None, tried.len()),
                    None => self.told(nobody(), &tried),
                };
            };
            let server = begun.server.clone();
            let until = deadline.min(Instant::now() + pool.settings.try_timeout);
            let missed = match self.try_once(begun, &head, body, &upload, until).await {
                Ok(answered) => return answered.into_response(client, tried.len() + 1),
                Err(missed) => missed,
            };
            tried.push(server);
            let may_retry = match &missed {
                Missed::Unsent(_) => true,
                Missed::Erred(_) => is_repeatable && tried.len() < pool.servers().len(),
                Missed::Lost | Missed::Late => is_repeatable,
                Missed::TooLarge | Missed::ClientLeft | Missed::ClientLate => false,
            };
            let has_time = Instant::now() < deadline && tried.len() < MAX_TRIES;
            let is_over = !may_retry || !has_time || !pool.may_retry();
            match missed {
                Missed::Erred(answered) if is_over => return answered.into_response(None, tried.len()),
                // An answer that says what is wrong is better than none.
                missed if is_over => match erred {
                    Some(answered) => return answered.into_response(None, tried.len()),
                    None => return self.told(missed.into_response(), &tried),
                },
                Missed::Unsent(unsent) => body = unsent,
                Missed::Erred(answered) => {
                    erred = erred.or(Some(answered));
                    body = Body::empty();
                }
                Missed::Lost | Missed::Late | Missed::TooLarge | Missed::ClientLeft | Missed::ClientLate => {
                    body = Body::empty()
                }
            }
        }
    }

    /// A refusal, with the server that had the request last.
    fn told(&self, mut response: Response<Body>, tried: &[Arc<Server>]) -> Response<Body> {
        if let Some(last) = tried.last() {
            response.extensions_mut().insert(self.pool.served(last, tried.len()));
        }
        response
    }

    async fn try_once(
        &self,
        mut begun: Try,
        head: &Head,
        mut body: Body,
        upload: &Upload,
        until: Instant,
    ) -> Result<Answered, Missed> {
        let server = begun.server.clone();
        let connect_until = || until.min(Instant::now() + self.pool.settings.connect_timeout);
        let mut connection = self.connections.get(&server, head.may_http2, connect_until()).await;
        let mut is_repeated = false;
        loop {
            let Some(mut connected) = connection else {
                begun.note(Outcome::Failed);
                return Err(Missed::Unsent(body));
            };
            let request = head.request(body, &server.url, connected.is_http2());
            let sent = self.in_time(connected.send(request), upload, until).await;
            match sent {
                Ok(Ok(response)) => {
                    let has_erred = is_fault(response.status());
                    begun.note(if has_erred { Outcome::Erred } else { Outcome::Answered });
                    let answered = Answered { response, reading: Reading { connection: connected, begun } };
                    return if has_erred { Err(Missed::Erred(Box::new(answered))) } else { Ok(answered) };
                }
                // The server closed a kept connection: no fault of its own. The next is a new one; where many share one,
                // all that it had ask for one.
                Ok(Err(Unanswered::Unsent(request))) if connected.is_used && !is_repeated => {
                    is_repeated = true;
                    body = request.into_body();
                    connection = if connected.is_http2() {
                        self.connections.get(&server, head.may_http2, connect_until()).await
                    } else {
                        self.connections.connect(&server, head.may_http2, connect_until()).await
                    };
                }
                Ok(Err(Unanswered::Unsent(request))) => {
                    // One that says no is there.
                    if !connected.is_open_http2() {
                        begun.note(Outcome::Failed);
                    }
                    return Err(Missed::Unsent(request.into_body()));
                }
                // Nothing is known of a server whose client left.
                Ok(Err(Unanswered::Lost)) if upload.is_too_large() => return Err(Missed::TooLarge),
                Ok(Err(Unanswered::Lost)) if upload.is_too_slow() => return Err(Missed::ClientLate),
                Ok(Err(Unanswered::Lost)) if upload.has_failed() => return Err(Missed::ClientLeft),
                Ok(Err(Unanswered::Lost)) => {
                    // One that was kept may have been closed while the request was on its way.
                    if !connected.is_used {
                        begun.note(Outcome::Failed);
                    }
                    return Err(Missed::Lost);
                }
                Err(Missed::Late) => {
                    connected.doubt();
                    begun.note(Outcome::Failed);
                    return Err(Missed::Late);
                }
                Err(missed) => return Err(missed),
            }
        }
    }

    /// Waits for the head of an answer until then, or as long after the client sent the last of the body; and for the
    /// client as long for each piece of it.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = T>,
        upload: &Upload,
        mut until: Instant,
    ) -> Result<T, Missed> {
        let mut answer = pin!(answer);
        loop {
            if let Ok(answer) = timeout_at(until, answer.as_mut()).await {
                return Ok(answer);
            }
            match upload.moved().map(|moved| moved + self.pool.settings.try_timeout) {
                Some(later) if later > until => until = later,
                _ if upload.waits_for_client() => return Err(Missed::ClientLate),
                _ => return Err(Missed::Late),
            }
        }
    }
}

// === impl Head ===

impl Head {
    /// What goes on of a request: its path and query, and its headers but for those of the connection, then what the
    /// route says of both. None for a target that cannot be what the route makes of it.
    fn of(parts: request::Parts, route: &Route, is_upgrade: bool, is_in_chunks: bool) -> Option<Self> {
        let request::Parts { method, uri, mut headers, extensions, .. } = parts;
        let takes_trailers = headers::takes_trailers(&headers);
        headers::strip(&mut headers);
        if is_in_chunks {
            // Without it hyper sends no body with a GET.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if is_upgrade {
            headers::set_websocket(&mut headers);
        }
        // A target that names a host is right, and the header is not (RFC 9112 §3.2.2).
        if let Some(host) = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
            headers.insert(HOST, host);
        }
        if let Some(peer) = extensions.get::<Peer>() {
            let protocol = match peer.transport {
                Transport::Plain | Transport::Internal => "http",
                Transport::Tls => "https",
            };
            headers::set_forwarded(&mut headers, peer, protocol);
        }
        if let Some(RequestId(id)) = extensions.get() {
            headers.insert(X_REQUEST_ID, id.clone());
        }
        if let Some(CallerToken(token)) = extensions.get() {
            headers.insert(AUTHORIZATION, token.clone());
        }
        routes::apply(&route.request_headers, &mut headers);
        let uri = route.rewritten(&uri)?.into();
        Some(Self { method, uri, headers, takes_trailers, may_http2: !is_upgrade })
    }

    fn request(&self, body: Body, server: &ServerUrl, is_http2: bool) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        // A client of HTTP/1.0 may name no host; a server of HTTP/1.1 wants one.
        if !self.headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(&server.authority())
        {
            request.headers_mut().insert(HOST, host);
        }
        if is_http2 {
            headers::to_http2(&mut request, server, self.takes_trailers);
        }
        request
    }
}

// === impl Answered ===

impl Answered {
    /// The answer as the client gets it. Where both sides agreed to go on with WebSocket, `client` is his side.
    fn into_response(self, client: Option<Client>, tries: usize) -> Response<Body> {
        let Answered { mut response, reading } = self;
        response.extensions_mut().insert(reading.begun.served(tries));
        let has_agreed = headers::is_websocket(response.headers());
        headers::strip(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(|body| AnswerBody::new(body, reading).into_body());
        }
        let Some(Client { upgrade, then: Some(then) }) = client.filter(|_| has_agreed) else {
            // Nobody asked for it.
            return refused(StatusCode::BAD_GATEWAY, Cause::Switched);
        };
        headers::set_websocket(response.headers_mut());
        let server = hyper::upgrade::on(&mut response);
        then.set(Box::pin(upgrade::join(upgrade, server, reading)));
        response.map(|_| Body::empty())
    }
}

// === impl Missed ===

impl Missed {
    fn into_response(self) -> Response<Body> {
        let is_unsent = matches!(self, Missed::Unsent(_));
        let (status, cause) = match self {
            Missed::Erred(_) | Missed::Unsent(_) | Missed::Lost => {
                (StatusCode::BAD_GATEWAY, Cause::Unanswered)
            }
            Missed::Late => (StatusCode::GATEWAY_TIMEOUT, Cause::Late),
            Missed::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Cause::BodySize),
            Missed::ClientLeft => (StatusCode::BAD_REQUEST, Cause::ClientLeft),
            Missed::ClientLate => (StatusCode::REQUEST_TIMEOUT, Cause::ClientLate),
        };
        let mut response = refused(status, cause);
        if is_unsent {
            response.extensions_mut().insert(Unreached);
        }
        response
    }
}

/// Whether an answer tells of a server that is not well, and not of one that will not do what was asked.
fn is_fault(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
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
    match peer.client {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        // The network of a host: its addresses in it change.
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

/// All servers have as much to do as they may.
fn nobody() -> Response<Body> {
    Cause::Full.mark(ApiError::unavailable(Duration::from_secs(1)).into_response())
}

/// An answer of the gateway's own, in the shape of the API's errors.
fn refused(status: StatusCode, cause: Cause) -> Response<Body> {
    let message = match status {
        StatusCode::FORBIDDEN => return cause.mark(ApiError::forbidden().into_response()),
        StatusCode::BAD_GATEWAY => "The service did not answer.",
        StatusCode::GATEWAY_TIMEOUT => "The service did not answer in time.",
        StatusCode::REQUEST_TIMEOUT => "The request took too long to arrive.",
        StatusCode::PAYLOAD_TOO_LARGE => return cause.mark(ApiError::too_large().into_response()),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The type of the request's body is not taken here.",
        StatusCode::URI_TOO_LONG => "The path is too long.",
        StatusCode::METHOD_NOT_ALLOWED => "The method is not allowed here.",
        StatusCode::BAD_REQUEST => "The request could not be understood.",
        _ => return ApiError::internal().into_response(),
    };
    match ErrorStatus::try_from(status) {
        Ok(status) => cause.mark(ApiError::new(status, message).into_response()),
        Err(_) => ApiError::internal().into_response(),
    }
}
