//! Connections of one request loop to servers: those that are idle, and how new ones are made. A connection never
//! leaves its loop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tracing::debug;

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
    // Only this loop's tasks come here, so nobody ever waits for the lock.
    idle: Arc<Mutex<HashMap<ServerUrl, Vec<Idle>>>>,
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// A connection that takes one request.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    url: ServerUrl,
    home: Connections,
    /// Whether it has served a request before: then the server may have closed it meanwhile.
    pub(crate) is_used: bool,
}

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
    pub(crate) async fn get(&self, url: &ServerUrl, until: tokio::time::Instant) -> Option<Connection> {
        if let Some(sender) = self.take(url) {
            return Some(Connection { sender, url: url.clone(), home: self.clone(), is_used: true });
        }
        self.connect(url, until).await
    }

    /// A new connection.
    pub(crate) async fn connect(&self, url: &ServerUrl, until: tokio::time::Instant) -> Option<Connection> {
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
        let server = url.clone();
        // It ends when its sender is dropped and its last answer read, or when the server closes it.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%server, %error, "a connection to a server ended");
            }
        });
        Some(Connection { sender, url: url.clone(), home: self.clone(), is_used: false })
    }

    /// The connection that was used last of those that are ready: the others may grow old and be closed. One that still
    /// sends the body of a request which was answered before its end is not ready.
    fn take(&self, url: &ServerUrl) -> Option<SendRequest<Body>> {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = all.get_mut(url)?;
        let position = idle.iter().rposition(|idle| idle.is_fresh() && idle.sender.is_ready())?;
        Some(idle.remove(position).sender)
    }

    fn give_back(&self, url: &ServerUrl, sender: SendRequest<Body>) {
        if sender.is_closed() {
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
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes those that nobody used for a while, until there are none.
    async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEPT_EVERY).await;
            let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, idle| {
                idle.retain(Idle::is_fresh);
                !idle.is_empty()
            });
            if all.is_empty() {
                return;
            }
        }
    }
}

// === impl Idle ===

impl Idle {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < MAX_IDLE_TIME && !self.sender.is_closed()
    }
}

// === impl Connection ===

impl Connection {
    /// Sends a request, and gives the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Unanswered> {
        if self.sender.ready().await.is_err() {
            return Err(Unanswered::Unsent(Box::new(request)));
        }
        self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(request) => Unanswered::Unsent(Box::new(request)),
            None => Unanswered::Lost,
        })
    }

    /// The last answer was read to its end: others may use the connection.
    pub(crate) fn give_back(self) {
        self.home.give_back(&self.url, self.sender);
    }
}
