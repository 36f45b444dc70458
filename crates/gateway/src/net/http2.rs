//! One connection of HTTP/2: its streams are requests to the stack like any others.
//!
//! hyper and the `h2` crate beneath it frame, and bound what they keep: streams at once, a head (431 past it, and the end of
//! the connection far past it), the frames that one may come in, small frames that nobody has read, streams that were
//! reset before anybody saw them, and such as end by a client's mistake. What is left is bounded here:
//!
//! - `frames.rs` counts the frames that cost work and are of no use, against the requests that were answered.
//! - `streams.rs` gives up on a stream of which the client takes nothing.
//! - A connection without a request is told to go, and closed.

mod frames;
mod request;
mod streams;

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};
use tokio_util::sync::CancellationToken;

use self::frames::{Credit, WatchedStream};
use self::streams::Streams;
use super::connection::Peer;
use super::preface::First;
use crate::layers::head_size::MAX_HEAD_BYTES;
use crate::upstream::Upstream;

/// Requests of one connection at once. Browsers send about a hundred for a page.
const MAX_STREAMS: u32 = 128;
/// Bytes of one request's body that wait for their reader. A connection has room for as much of all its requests, so that
/// one that waits holds up no other.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Bytes of an answer that wait for the client's window, beside the piece that is being handed over.
const MAX_SEND_BUFFER: usize = 64 << 10;
/// Streams that a client may reset before they were seen, and such as it ends by a mistake, in the whole life of a
/// connection. Nobody who means well comes near.
const MAX_UNSEEN_RESETS: usize = 64;
const MAX_ERROR_RESETS: usize = 512;
/// How often a silent client is asked whether it is there, and how long it may take to say so: a stream of events has
/// nothing else that would tell.
const PING_EVERY: Duration = Duration::from_secs(45);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection without a request may take to end once it is told to go.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Serves one connection to its end. Without a request it ends after this patience, or twice of it. Once `draining`, it
/// ends with the requests in flight.
pub(super) async fn serve<S: Upstream>(
    stack: S,
    first: First,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    patience: Duration,
    draining: CancellationToken,
) -> hyper::Result<()> {
    let credit = Arc::new(Credit::new());
    let streams = Streams::new(credit.clone());
    let ended = {
        let stream = TokioIo::new(WatchedStream::new(first, stream, credit));
        // hyper calls a shared service; only this connection has the clone, and no call is within another.
        let stack = RefCell::new(stack);
        let of_requests = streams.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            of_requests.answer(request, peer, |request| stack.borrow_mut().call(request))
        });
        let mut connection = pin!(builder(streams.clone()).serve_connection(stream, service));
        let mut looks = interval_at(Instant::now() + patience, patience);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let idle = async {
            while streams.look() {
                looks.tick().await;
            }
        };
        let (ended, until) = tokio::select! {
            ended = connection.as_mut() => (Some(ended), None),
            () = draining.cancelled() => (None, None),
            () = idle => (None, Some(Instant::now() + LAST_WORDS)),
        };
        match (ended, until) {
            (Some(ended), _) => ended,
            (None, None) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            (None, Some(until)) => {
                connection.as_mut().graceful_shutdown();
                timeout_at(until, connection).await.unwrap_or(Ok(()))
            }
        }
    };
    // The connection is gone by now, which its tasks are told.
    streams.ended(ended).await
}

fn builder(streams: Streams) -> http2::Builder<Streams> {
    let mut http = http2::Builder::new(streams);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        // What it counts of a header is 28 bytes more than a line of HTTP/1.1 has.
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}
