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
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tracing::debug;

use crate::meters::PoolMeter;
use crate::upstreams::ServerUrl;

/// Idle connections that are kept to one server; one more is closed.
const MAX_IDLE: usize = 128;
/// How long one is kept. Shorter than what servers wait by default (Node 5 s, NGINX 75 s): one that the server closes at
/// the moment of its use costs a retry.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);
/// How often the old ones are looked for.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// A server that is silent for so long is asked whether it is still there: one that vanished takes no room for ever.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Headers of an answer.
const MAX_HEADERS: usize = 256;
/// Bytes of an answer's head, and of its body that wait for the client.
const MAX_BUFFER_BYTES: usize = 128 << 10;

/// The idle connections of one loop.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    // Only this loop's tasks come here, so nobody ever waits for the lock; but for whoever counts them, now and then.
    idle: Arc<Mutex<HashMap<ServerUrl, Vec<Idle>>>>,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// The two ends that hyper has of a connection.
struct Link {
    sender: SendRequest<Body>,
    /// Writes what the sender was given and reads what is answered, when it is polled. None once the connection has ended.
    driver: Option<Driver>,
    _open: Open,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection that takes one request.
pub(crate) struct Connection {
    link: Link,
    url: ServerUrl,
    home: Connections,
    /// Whether it has served a request before: then the server may have closed it meanwhile.
    pub(crate) is_used: bool,
}

/// A connection that is there, in the count.
struct Open(Arc<PoolMeter>);

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
    /// An idle connection, or a new one. None if the server cannot be reached by then.
    pub(crate) async fn get(
        &self,
        url: &ServerUrl,
        meter: &Arc<PoolMeter>,
        until: tokio::time::Instant,
    ) -> Option<Connection> {
        if let Some(link) = self.take(url) {
            return Some(Connection { link, url: url.clone(), home: self.clone(), is_used: true });
        }
        self.connect(url, meter, until).await
    }

    /// A new connection.
    pub(crate) async fn connect(
        &self,
        url: &ServerUrl,
        meter: &Arc<PoolMeter>,
        until: tokio::time::Instant,
    ) -> Option<Connection> {
        let connected = self.open(url, meter, until).await;
        if connected.is_some() { &meter.connected } else { &meter.not_connected }.add();
        connected
    }

    async fn open(
        &self,
        url: &ServerUrl,
        meter: &Arc<PoolMeter>,
        until: tokio::time::Instant,
    ) -> Option<Connection> {
        let made = timeout_at(until, async {
            let stream = TcpStream::connect(url.target()).await?;
            stream.set_nodelay(true)?;
            SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
            Ok::<_, std::io::Error>(stream)
        });
        let stream = match made.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(server = %url, %error, "a server cannot be reached");
                return None;
            }
            Err(_) => {
                debug!(server = %url, "a server cannot be reached in time");
                return None;
            }
        };
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS).max_buf_size(MAX_BUFFER_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.ok()?;
        let driver: Driver = Box::pin(connection.with_upgrades());
        let link = Link { sender, driver: Some(driver), _open: Open::count(meter) };
        Some(Connection { link, url: url.clone(), home: self.clone(), is_used: false })
    }

    /// How many wait for their next use. It does not look whether their servers closed them: that is for their loop.
    pub(crate) fn idle(&self, url: &ServerUrl) -> usize {
        let all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_young = |idle: &&Idle| idle.since.elapsed() < MAX_IDLE_TIME;
        all.get(url).map_or(0, |idle| idle.iter().filter(is_young).count())
    }

    /// The connection that was used last of those that are ready: the others may grow old and be closed.
    fn take(&self, url: &ServerUrl) -> Option<Link> {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = all.get_mut(url)?;
        while let Some(Idle { mut link, since }) = idle.pop() {
            if since.elapsed() < MAX_IDLE_TIME && link.is_ready() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection for others. One that still sends the body of a request which was answered before its end is
    /// not ready, and is closed.
    fn give_back(&self, url: &ServerUrl, mut link: Link) {
        if !link.is_ready() {
            return;
        }
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            tokio::spawn(self.clone().sweep());
        }
        let idle = match all.get_mut(url) {
            Some(idle) => idle,
            None => all.entry(url.clone()).or_default(),
        };
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
    fn count(meter: &Arc<PoolMeter>) -> Self {
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
        self.drive(&mut nobody());
        self.driver.is_some() && self.sender.is_ready()
    }
}

// === impl Connection ===

impl Connection {
    /// Sends a request, and gives the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Unanswered> {
        let Link { sender, .. } = &mut self.link;
        let mut answer = pin!(sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            self.link.drive(cx);
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
        self.link.drive(cx);
        Pin::new(body).poll_frame(&mut nobody())
    }

    /// Waits for the end of its life as a connection of HTTP: it goes on with another protocol.
    pub(crate) async fn upgraded(&mut self) {
        poll_fn(|cx| {
            self.link.drive(cx);
            if self.link.driver.is_some() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// The last answer was read to its end: others may use the connection.
    pub(crate) fn give_back(self) {
        self.home.give_back(&self.url, self.link);
    }
}

/// For what only the driver can make ready: it is polled beside, by the same task, and need not wake it.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
