//! Connections of one request loop to servers: those that are idle, and how new ones are made. A connection never
//! leaves its loop, and it has no task of its own: who waits for an answer reads and writes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::unconstrained;
use tokio::time::timeout_at;
use tracing::debug;

use super::shared::{Chosen, Place, Shared};
use crate::meters::PoolMeter;
use crate::net::Protocol;
use crate::upstreams::{Server, Wire, dial};

/// Idle connections that are kept to one server; one more is closed.
const MAX_IDLE: usize = 128;
/// How long one is kept. Shorter than what servers wait by default (Node 5 s, NGINX 75 s): one that the server closes at
/// the moment of its use costs a retry.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);
/// How often the old ones are looked for.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// Headers of an answer.
const MAX_HEADERS: usize = 256;
/// Bytes of an answer's head, and of its body that wait for the client.
const MAX_BUFFER_BYTES: usize = 128 << 10;

/// The connections of one loop: those of HTTP/1.1 that are idle, and those of HTTP/2.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    // Only this loop's tasks come here, so nobody ever waits for a lock; but for whoever counts them, now and then.
    idle: Arc<Mutex<HashMap<u64, Vec<Idle>>>>,
    shared: Shared,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// The two ends that hyper has of a connection.
pub(crate) struct Link {
    sender: SendRequest<Body>,
    /// Writes what the sender was given and reads what is answered, when it is polled. None once the connection has ended.
    driver: Option<Driver>,
    /// None of one that is no server's of a pool.
    _open: Option<Open>,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection that takes one request.
pub(crate) struct Connection {
    way: Way,
    server: u64,
    home: Connections,
    /// Whether it has served a request before: then the server may have closed it meanwhile.
    pub(crate) is_used: bool,
}

/// A whole connection, or a place on one.
enum Way {
    Http1(Link),
    Http2(Place),
}

/// A connection that is there, in the count.
pub(super) struct Open(Arc<PoolMeter>);

/// Why there was no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Nothing was sent: the request is back.
    Unsent(Box<Request<Body>>),
    /// The server may have seen the request.
    Lost,
}

// === impl Connections ===

impl Connections {
    /// A connection that is there, or a new one. None if the server cannot be reached by then. What `may_http2` goes by
    /// HTTP/2 where the pool has that.
    pub(crate) async fn get(
        &self,
        server: &Server,
        may_http2: bool,
        until: tokio::time::Instant,
    ) -> Option<Connection> {
        if server.has_http2 && may_http2 {
            return self.get_shared(server, until).await;
        }
        match self.take(server.id) {
            Some(link) => Some(self.connection(Way::Http1(link), server, true)),
            None => self.connect(server, may_http2, until).await,
        }
    }

    /// A place on a connection of HTTP/2. One request makes a new connection, others wait for it.
    async fn get_shared(&self, server: &Server, until: tokio::time::Instant) -> Option<Connection> {
        loop {
            let making = match self.shared.choose(server.id) {
                Chosen::Place(place) => return Some(self.connection(Way::Http2(place), server, true)),
                Chosen::Wait(made) => {
                    timeout_at(until, made.wait()).await.ok()?;
                    continue;
                }
                Chosen::NoHttp2 => {
                    if let Some(link) = self.take(server.id) {
                        return Some(self.connection(Way::Http1(link), server, true));
                    }
                    None
                }
                Chosen::Make(making) => Some(making),
            };
            let connection = self.connect(server, true, until).await;
            drop(making);
            return connection;
        }
    }

    fn connection(&self, way: Way, server: &Server, is_used: bool) -> Connection {
        Connection { way, server: server.id, home: self.clone(), is_used }
    }

    /// A new connection.
    pub(crate) async fn connect(
        &self,
        server: &Server,
        may_http2: bool,
        until: tokio::time::Instant,
    ) -> Option<Connection> {
        let connected = self.open(server, may_http2, until).await;
        if connected.is_some() { &server.meter.connected } else { &server.meter.not_connected }.add();
        connected
    }

    async fn open(
        &self,
        server: &Server,
        may_http2: bool,
        until: tokio::time::Instant,
    ) -> Option<Connection> {
        let made = timeout_at(until, async {
            Ok(match dial(server, may_http2).await? {
                (Wire::Plain(stream), protocol) => self.begin(stream, protocol, server).await,
                (Wire::Tls(stream), protocol) => self.begin(stream, protocol, server).await,
            })
        });
        let way = match made.await {
            Ok(Ok(way)) => way?,
            Ok(Err(error)) => {
                server.note_unreachable(&error);
                return None;
            }
            Err(_) => {
                debug!(server = %server.url, "a server cannot be reached in time");
                return None;
            }
        };
        Some(self.connection(way, server, false))
    }

    /// Begins with HTTP. None if the other side has left already.
    async fn begin<S>(&self, stream: S, protocol: Protocol, server: &Server) -> Option<Way>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if protocol == Protocol::Http2 {
            return self.shared.begin(stream, server).await.map(Way::Http2);
        }
        if server.has_http2 {
            self.shared.note_no_http2(server.id);
        }
        let link = Link::new(stream, Some(Open::count(&server.meter))).await.ok()?;
        Some(Way::Http1(link))
    }

    /// How many wait for their next use. It does not look whether their servers closed them: that is for their loop.
    pub(crate) fn idle(&self, server: &Server) -> usize {
        let all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_young = |idle: &&Idle| idle.since.elapsed() < MAX_IDLE_TIME;
        all.get(&server.id).map_or(0, |idle| idle.iter().filter(is_young).count())
            + self.shared.idle(server.id)
    }

    /// The connection that was used last of those that are ready: the others may grow old and be closed.
    fn take(&self, server: u64) -> Option<Link> {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = all.get_mut(&server)?;
        while let Some(Idle { mut link, since }) = idle.pop() {
            if since.elapsed() < MAX_IDLE_TIME && link.is_ready() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection for others. One that still sends the body of a request which was answered before its end is
    /// not ready, and is closed.
    fn give_back(&self, server: u64, mut link: Link) {
        if !link.is_ready() {
            return;
        }
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            tokio::spawn(self.clone().sweep());
        }
        let idle = all.entry(server).or_default();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { link, since: Instant::now() });
        }
    }

    /// Closes those that nobody used for a while, until there are none.
    async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEPT_EVERY).await;
            let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, idle| {
                idle.retain_mut(Idle::is_fresh);
                !idle.is_empty()
            });
            if all.is_empty() {
                return;
            }
        }
    }
}

// === impl Open ===

impl Open {
    pub(super) fn count(meter: &Arc<PoolMeter>) -> Self {
        meter.open.add();
        Self(meter.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.remove();
    }
}

// === impl Idle ===

impl Idle {
    fn is_fresh(&mut self) -> bool {
        self.since.elapsed() < MAX_IDLE_TIME && self.link.is_ready()
    }
}

// === impl Link ===

impl Link {
    /// HTTP/1.1 over a stream, which is counted as long.
    async fn new(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        open: Option<Open>,
    ) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS).max_buf_size(MAX_BUFFER_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(connection.with_upgrades())), _open: open })
    }

    /// The same, counted nowhere.
    pub(crate) async fn uncounted(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> hyper::Result<Self> {
        Self::new(stream, None).await
    }

    /// Sends a request, and gives the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Unanswered> {
        // Its turns are the driver's: made to wait because the task has had enough of them, it would tell nobody.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let answer = poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(&mut nobody())
        });
        answer.await.map_err(|mut error| match error.take_message() {
            Some(request) => Unanswered::Unsent(Box::new(request)),
            None => Unanswered::Lost,
        })
    }

    /// The next piece of the body of an answer.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // The piece that came with the head, or with the one before, is there already.
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(&mut nobody()) {
            return Poll::Ready(frame);
        }
        self.drive(cx);
        Pin::new(body).poll_frame(&mut nobody())
    }

    /// Writes and reads what can be. Whoever waits for an answer, or for its body, is woken by this alone.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(driver) = &mut self.driver else { return };
        if let Poll::Ready(ended) = driver.as_mut().poll(cx) {
            self.driver = None;
            if let Err(error) = ended {
                debug!(%error, "a connection to a server ended");
            }
        }
    }

    /// Whether it takes a request now. Looks at what came from the server meanwhile: its end, above all.
    fn is_ready(&mut self) -> bool {
        // As above: what it did not look at now, nobody would look at later.
        let mut drive = pin!(unconstrained(poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(())
        })));
        _ = drive.as_mut().poll(&mut nobody());
        self.driver.is_some() && self.sender.is_ready()
    }
}

// === impl Connection ===

impl Connection {
    /// Whether requests go by HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.way, Way::Http2(_))
    }

    /// Whether it is of HTTP/2 and takes more requests.
    pub(crate) fn is_open_http2(&self) -> bool {
        matches!(&self.way, Way::Http2(place) if !place.is_closed())
    }

    /// Sends a request, and gives the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Unanswered> {
        match &mut self.way {
            Way::Http1(link) => link.send(request).await,
            Way::Http2(place) => {
                let answer = place.send(request).await;
                // Of a new one the server may take nothing either, but not because it was closed meanwhile.
                self.is_used &= place.is_closed();
                answer
            }
        }
    }

    /// The next piece of the body of an answer.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.way {
            Way::Http1(link) => link.poll_frame(body, cx),
            Way::Http2(_) => Pin::new(body).poll_frame(cx),
        }
    }

    /// Waits for the end of its life as a connection of HTTP: it goes on with another protocol.
    pub(crate) async fn upgraded(&mut self) {
        let Way::Http1(link) = &mut self.way else { return };
        poll_fn(|cx| {
            link.drive(cx);
            if link.driver.is_some() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// The server did not answer in time: if others share the connection, no more of them come.
    pub(crate) fn doubt(&self) {
        if let Way::Http2(place) = &self.way {
            place.retire();
        }
    }

    /// The last answer was read to its end: others may use the connection.
    pub(crate) fn give_back(self) {
        if let Way::Http1(link) = self.way {
            self.home.give_back(self.server, link);
        }
    }
}

/// For what only the driver can make ready: it is polled beside, by the same task, and need not wake it.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
