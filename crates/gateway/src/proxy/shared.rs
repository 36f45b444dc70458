//! Connections of HTTP/2 to servers, of one request loop: many requests share one. Each has a task of its own, which ends
//! when nobody can send any more, or when the server closes it.

use std::collections::HashMap;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tracing::debug;

use super::connections::{Open, Unanswered};
use crate::upstreams::Server;

/// Requests of one connection at once, if the server takes as many. Then there is another connection.
const MAX_STREAMS: usize = 128;
/// Connections to one server; when all are full, requests wait on them for their turn.
const MAX_CONNECTIONS: usize = 8;
/// How long one is kept that has nothing to do. A server that closes it meanwhile costs no retry: it says what it has not seen.
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);
const SWEPT_EVERY: Duration = Duration::from_secs(5);
/// Bytes of one answer that wait for its client. A connection has room for as much of all its answers, so that a client that
/// is slow holds up no other.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Bytes of one request's body that wait for the server.
const MAX_SEND_BUFFER: usize = 64 << 10;
/// An answer's head.
const MAX_HEAD_BYTES: u32 = 128 << 10;
/// A server that says nothing for so long, with requests on their way, is asked whether it is there. Servers of gRPC close
/// connections that ask more often.
const PING_EVERY: Duration = Duration::from_secs(5 * 60 + 10);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What stands for the most requests that a server takes at once until it has said so. A server that says just this is
/// waited for in vain.
const UNTOLD: usize = 97;
/// How long a server may take to say it, which comes with its first bytes.
const TELLS_WITHIN: Duration = Duration::from_millis(200);

/// The connections, by their servers. A clone shares everything.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Servers>>);

#[derive(Default)]
struct Servers {
    known: HashMap<u64, Known>,
    /// Whether a task looks for old ones.
    are_swept: bool,
}

/// What is known of one server.
#[derive(Default)]
struct Known {
    open: Vec<Kept>,
    is_making: bool,
    made: Arc<Notify>,
    /// It has TLS, and wanted HTTP/1.1.
    has_no_http2: bool,
}

struct Kept {
    sender: SendRequest<Body>,
    load: Arc<Load>,
}

/// What a connection has to do.
#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    /// Most that the server takes.
    most: AtomicUsize,
    /// Gets no more requests.
    is_retired: AtomicBool,
    /// When the last request ended.
    used: Mutex<Instant>,
}

/// A request's place on a connection, until this is dropped.
pub(super) struct Place {
    sender: SendRequest<Body>,
    load: Arc<Load>,
}

/// What a request is to do.
pub(super) enum Chosen {
    Place(Place),
    /// Somebody makes a connection.
    Wait(Made),
    /// Make one.
    Make(Making),
    /// The server has none of HTTP/2.
    NoHttp2,
}

/// Tells that a connection was made, or could not be.
pub(super) struct Made(std::pin::Pin<Box<tokio::sync::futures::OwnedNotified>>);

/// Makes others wait while a connection is made.
pub(super) struct Making {
    shared: Shared,
    server: u64,
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection with the fewest requests that has room; past the most connections the one with the fewest.
    pub(super) fn choose(&self, server: u64) -> Chosen {
        let mut all = self.lock();
        let known = all.known.entry(server).or_default();
        known.open.retain(|open| !open.sender.is_closed() && !open.load.is_retired());
        let idlest = known.open.iter().min_by_key(|open| open.load.streams());
        if let Some(idlest) = idlest
            && (idlest.load.has_room() || known.open.len() >= MAX_CONNECTIONS)
        {
            return Chosen::Place(Place::new(idlest.sender.clone(), idlest.load.clone()));
        }
        if known.has_no_http2 {
            return Chosen::NoHttp2;
        }
        if std::mem::replace(&mut known.is_making, true) {
            // Made while the lock is held, it misses nothing.
            return Chosen::Wait(Made(Box::pin(known.made.clone().notified_owned())));
        }
        Chosen::Make(Making { shared: self.clone(), server })
    }

    /// A place on a new connection.
    pub(super) async fn begin<S>(&self, stream: S, server: &Server) -> Option<Place>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_header_list_size(MAX_HEAD_BYTES)
            .initial_max_send_streams(UNTOLD)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        let heard = Arc::new(Notify::new());
        let stream = Listened { stream, heard: Some(heard.clone()) };
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.ok()?;
        let load = Arc::new(Load::new());
        let place = Place::new(sender.clone(), load.clone());
        let (told, counted) = (load.clone(), Open::count(&server.meter));
        let has_told = Arc::new(Notify::new());
        let telling = has_told.clone();
        tokio::spawn(async move {
            let _counted = counted;
            let mut connection = pin!(connection);
            let mut heard = pin!(heard.notified());
            let ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                // The frames are read by a task of hyper's own: this one is woken to look what they said.
                _ = heard.as_mut().poll(cx);
                let most = connection.current_max_send_streams();
                if most != UNTOLD {
                    told.most.store(most.clamp(1, MAX_STREAMS), Ordering::Relaxed);
                    telling.notify_one();
                }
                polled
            });
            if let Err(error) = ended.await {
                debug!(%error, "a connection to a server ended");
            }
            told.retire();
        });
        // Those who wait would all be sent at once, and refused past the most that it takes.
        _ = tokio::time::timeout(TELLS_WITHIN, has_told.notified()).await;
        let mut all = self.lock();
        if !std::mem::replace(&mut all.are_swept, true) {
            tokio::spawn(self.clone().sweep());
        }
        let known = all.known.entry(server.id).or_default();
        known.has_no_http2 = false;
        known.open.push(Kept { sender, load });
        Some(place)
    }

    /// From now on connections of HTTP/1.1 are made to it.
    pub(super) fn note_no_http2(&self, server: u64) {
        self.lock().known.entry(server).or_default().has_no_http2 = true;
    }

    /// How many have nothing to do.
    pub(super) fn idle(&self, server: u64) -> usize {
        let all = self.lock();
        all.known
            .get(&server)
            .map_or(0, |known| known.open.iter().filter(|open| open.load.streams() == 0).count())
    }

    /// Closes those that nobody used for a while, until there are none. Then nothing is known of any server.
    async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEPT_EVERY).await;
            let mut all = self.lock();
            for known in all.known.values_mut() {
                known.open.retain(|open| !open.sender.is_closed() && !open.load.is_old());
            }
            all.known.retain(|_, known| known.is_making || !known.open.is_empty());
            if all.known.values().all(|known| known.open.is_empty()) {
                all.are_swept = false;
                return;
            }
        }
    }
}

/// A connection that tells when the first bytes come.
struct Listened<S> {
    stream: S,
    heard: Option<Arc<Notify>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before
            && let Some(heard) = self.heard.take()
        {
            heard.notify_one();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// === impl Load ===

impl Load {
    fn new() -> Self {
        Self {
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(MAX_STREAMS),
            is_retired: AtomicBool::new(false),
            used: Mutex::new(Instant::now()),
        }
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.streams() < self.most.load(Ordering::Relaxed)
    }

    fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    fn is_old(&self) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.streams() == 0 && used.elapsed() > MAX_IDLE_TIME
    }
}

// === impl Place ===

impl Place {
    fn new(sender: SendRequest<Body>, load: Arc<Load>) -> Self {
        load.streams.fetch_add(1, Ordering::Relaxed);
        Self { sender, load }
    }

    /// Sends a request, and gives the head of the answer.
    pub(super) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Unanswered> {
        let is_empty = request.body().is_end_stream();
        let mut error = match self.sender.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        if let Some(request) = error.take_message() {
            self.retire();
            return Err(Unanswered::Unsent(Box::new(request)));
        }
        let why = error.into_error();
        if source(&why).is_some_and(h2::Error::is_go_away) {
            self.retire();
        }
        // What was sent of a body is gone, though the server wanted none of it.
        if is_empty && source(&why).is_some_and(was_not_taken) {
            return Err(Unanswered::Unsent(Box::default()));
        }
        Err(Unanswered::Lost)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.load.is_retired()
    }

    /// The connection gets no more requests; those that it has are finished.
    pub(super) fn retire(&self) {
        self.load.retire();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.streams.fetch_sub(1, Ordering::Relaxed);
        *self.load.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Whether the server says that it did nothing for the request: it was refused, or came after the last one that it
/// takes.
fn was_not_taken(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

fn source(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

// === impl Made ===

impl Made {
    pub(super) async fn wait(self) {
        self.0.await;
    }
}

// === impl Making ===

/// However it went: who waits looks again.
impl Drop for Making {
    fn drop(&mut self) {
        if let Some(known) = self.shared.lock().known.get_mut(&self.server) {
            known.is_making = false;
            known.made.notify_waiters();
        }
    }
}
