//! Requests that leave the server, to URLs that superusers or the configuration name.
//!
//! Whoever may name a URL must not reach what only the server can reach: the cloud's metadata, a database in
//! the private network, this machine itself. So an [`OutboundPolicy`] judges the address of every connection,
//! after the name was looked up, and redirects are not followed. Whoever is asked must not hold the server up
//! either: everything about a request is bounded, in time and in size.
//!
//! An [`OutboundUrl`] is read once, an [`Outbound`] is made once on each runtime that sends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioTimer;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

mod connector;
mod error;
mod host;
mod policy;
mod roots;
mod stream;
#[cfg(test)]
mod tests;
mod url;

use connector::Connector;
use stream::Hold;

pub use error::OutboundError;
pub use host::Target;
pub use policy::{OutboundPolicy, PolicyProblem};
pub use roots::{RootsProblem, system_roots};
pub use url::{OutboundUrl, UrlProblem};

/// A client with connections of its own. It belongs to the runtime that it first sends on, and when it is
/// dropped its connections and tasks end.
///
/// At most 512 connections are open or being made; further requests wait for one within their deadlines.
/// Up to 4 idle ones are kept for a host, for 4 s. At most 16 names are looked up at once, the next wait within
/// their deadlines; a look-up that nobody waits for any more keeps its place until the system gives it up.
pub struct Outbound {
    client: Client<Connector, Full<Bytes>>,
    policy: Arc<OutboundPolicy>,
    tls: TlsConnector,
    bounds: Bounds,
    _tasks: DropGuard,
}

/// What is sent.
pub struct OutboundRequest<'r> {
    /// Any but CONNECT.
    pub method: Method,
    /// Where to.
    pub url: &'r OutboundUrl,
    /// They win over what would be sent by itself (`User-Agent`). `Host`, and what says how a message lies on
    /// its connection (`Content-Length`, `Transfer-Encoding`, `Connection`, `Upgrade` and their like), are left
    /// out: a wrong one would make two requests of one.
    pub headers: HeaderMap,
    /// Sent with its `Content-Length`.
    pub body: Bytes,
}

/// What an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For everything: a free connection, looking up, connecting, TLS, sending, head and body.
    pub deadline: Duration,
    /// Of the body no more is read.
    pub max_answer_bytes: usize,
}

/// What came back, whatever its status; a redirect too.
pub struct OutboundAnswer {
    /// The status.
    pub status: StatusCode,
    /// At most 100 of them, the head at most 64 KiB.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Bytes,
    /// Whether the body went on, or was not seen to end, when it had `max_answer_bytes`.
    pub is_cut: bool,
}

/// What the client is held to, whatever the request says.
#[derive(Clone, Copy)]
struct Bounds {
    max_connections: usize,
    max_idle_per_host: usize,
    idle: Duration,
    /// For a free place, looking up, connecting and TLS. It ends what no request waits for any more.
    connect: Duration,
    /// For a peer that takes nothing of what is written.
    patience: Duration,
}

/// Where the client's tasks run: on the runtime that sends, until the client is dropped.
#[derive(Clone)]
struct Tasks(CancellationToken);

const BOUNDS: Bounds = Bounds {
    max_connections: 512,
    max_idle_per_host: 4,
    // Node closes after 5 s what is idle: a request on such a connection would be lost.
    idle: Duration::from_secs(4),
    connect: Duration::from_secs(30),
    patience: Duration::from_secs(30),
};
/// hyper reads this much of a head, and buffers as much of a body.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Groundswell/", env!("CARGO_PKG_VERSION")));
/// They say how a message lies on its connection, which is the client's to say.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

// === impl Outbound ===

impl Outbound {
    /// A client that trusts the system's and Mozilla's roots. Reading them takes some milliseconds, in which
    /// it blocks.
    pub fn new(policy: Arc<OutboundPolicy>) -> Outbound {
        let tls = roots::tls_connector(None).expect("no roots were named that could be wrong");
        Outbound::build(policy, tls, BOUNDS)
    }

    /// A client that trusts certificates in PEM besides, as a private authority has.
    pub fn with_roots(policy: Arc<OutboundPolicy>, roots_pem: &str) -> Result<Outbound, RootsProblem> {
        Ok(Outbound::build(policy, roots::tls_connector(Some(roots_pem))?, BOUNDS))
    }

    /// Another client that trusts the same, for another runtime: nothing is read, and no connection is shared.
    pub fn sibling(&self) -> Outbound {
        Outbound::build(self.policy.clone(), self.tls.clone(), self.bounds)
    }

    fn build(policy: Arc<OutboundPolicy>, tls: TlsConnector, bounds: Bounds) -> Outbound {
        let tasks = CancellationToken::new();
        let client = Client::builder(Tasks(tasks.clone()))
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(bounds.idle)
            .pool_max_idle_per_host(bounds.max_idle_per_host)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http1_max_headers(MAX_HEADERS)
            // A request that a kept connection did not take, because its peer had closed it, is tried on
            // another one, last of all on a fresh one. hyper gives a request back only if it has written
            // nothing of it; of one that failed later the error is told, and whoever sent it decides.
            .retry_canceled_requests(true)
            .build(Connector::new(policy.clone(), tls.clone(), bounds));
        Outbound { client, policy, tls, bounds, _tasks: tasks.drop_guard() }
    }

    /// Sends a request and reads the answer, within the limits. Dropping the future ends it and its
    /// connection.
    pub async fn send(
        &self,
        request: OutboundRequest<'_>,
        limits: Limits,
    ) -> Result<OutboundAnswer, OutboundError> {
        let target = request.url.target().clone();
        // It would make a tunnel of the connection, and has no place for a path.
        if request.method == Method::CONNECT {
            return Err(OutboundError::Unreachable(target, "CONNECT is not sent"));
        }
        let exchange = self.exchange(&target, request, limits.max_answer_bytes);
        match tokio::time::timeout(limits.deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(OutboundError::Deadline(target)),
        }
    }

    async fn exchange(
        &self,
        target: &Target,
        request: OutboundRequest<'_>,
        max_answer_bytes: usize,
    ) -> Result<OutboundAnswer, OutboundError> {
        let failed = |error: &(dyn std::error::Error + 'static)| OutboundError::of(target.clone(), error);
        let mut request = to_http(request);
        let hold = Hold::of(&mut request);
        let response = self.client.request(request).await.map_err(|error| failed(&error))?;
        let (head, body) = response.into_parts();
        if head_bytes(&head.headers) > MAX_HEAD_BYTES {
            return Err(OutboundError::BadAnswer(target.clone(), error::HEAD_TOO_LARGE));
        }
        let (body, is_cut) = read(body, max_answer_bytes).await.map_err(|error| failed(&error))?;
        if !is_cut {
            hold.release();
        }
        Ok(OutboundAnswer { status: head.status, headers: head.headers, body, is_cut })
    }
}

fn to_http(request: OutboundRequest<'_>) -> Request<Full<Bytes>> {
    let OutboundRequest { method, url, mut headers, body } = request;
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    // A method that means a body says of an empty one too how long it is (RFC 9110, 8.6).
    if !body.is_empty() || matches!(method, Method::POST | Method::PUT | Method::PATCH) {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    let mut http = Request::new(Full::new(body));
    *http.method_mut() = method;
    *http.uri_mut() = url.uri().clone();
    *http.headers_mut() = headers;
    http
}

/// hyper stops reading a head only some time after its bound.
fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

/// The body up to so many bytes, and whether that is not all.
async fn read(mut body: Incoming, max_bytes: usize) -> Result<(Bytes, bool), hyper::Error> {
    let mut bytes = BytesMut::new();
    while !body.is_end_stream() {
        let free = max_bytes - bytes.len();
        if free == 0 {
            return Ok((bytes.freeze(), true));
        }
        let Some(frame) = body.frame().await else { break };
        let Ok(mut data) = frame?.into_data() else { continue };
        if data.len() > free {
            bytes.extend_from_slice(&data.split_to(free));
            return Ok((bytes.freeze(), true));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), false))
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbound")
    }
}

// === impl OutboundRequest ===

impl fmt::Debug for OutboundRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.method, self.url)
    }
}

// === impl OutboundAnswer ===

/// Neither headers nor body: there are tokens in them.
impl fmt::Debug for OutboundAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundAnswer")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("is_cut", &self.is_cut)
            .finish()
    }
}

// === impl Tasks ===

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        tokio::spawn(self.0.clone().run_until_cancelled_owned(task));
    }
}
