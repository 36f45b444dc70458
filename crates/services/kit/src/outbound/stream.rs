//! One connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Extensions, Request};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, capture_connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A connection that counts among those that may be open. It ends when an exchange on it does without having
/// come to its end, and does not wait for a peer that has stopped reading.
pub(super) struct OutboundStream {
    transport: Transport,
    link: Link,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    patience: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

/// What an exchange has of the connection it is on.
#[derive(Clone)]
struct Link {
    end: CancellationToken,
    is_stalled: Arc<AtomicBool>,
}

/// An exchange's hold on its connection, whichever it will get. Dropped, it ends the connection: hyper alone
/// would first write what is left of the request, for as long as the peer likes.
pub(super) struct Hold {
    connection: CaptureConnection,
    ends_it: bool,
}

pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Hold ===

impl Hold {
    pub(super) fn of<B>(request: &mut Request<B>) -> Hold {
        Hold { connection: capture_connection(request), ends_it: true }
    }

    /// Leaves the connection to further requests, unless its peer has not even taken this one.
    pub(super) fn release(mut self) {
        self.ends_it = self.link().is_none_or(|link| link.is_stalled.load(Ordering::Relaxed));
    }

    fn link(&self) -> Option<Link> {
        let mut extras = Extensions::new();
        self.connection.connection_metadata().as_ref()?.get_extras(&mut extras);
        extras.remove()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.ends_it
            && let Some(link) = self.link()
        {
            link.end.cancel();
        }
    }
}

// === impl OutboundStream ===

impl OutboundStream {
    pub(super) fn new(
        transport: Transport,
        patience: Duration,
        permit: OwnedSemaphorePermit,
    ) -> OutboundStream {
        let link = Link { end: CancellationToken::new(), is_stalled: Arc::default() };
        let ended = Box::pin(link.end.clone().cancelled_owned());
        OutboundStream { transport, link, ended, patience, stalled: None, _permit: permit }
    }

    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.ended.as_mut().poll(cx).is_ready()
    }

    /// What a write came to, or the end of the patience with it.
    fn unless_stalled<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.link.is_stalled.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        if self.has_ended(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let patience = self.patience;
        let ends = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(ends.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Connection for OutboundStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.link.clone())
    }
}

impl AsyncRead for OutboundStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_ended(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for OutboundStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.unless_stalled(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        self.unless_stalled(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.unless_stalled(written, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        self.unless_stalled(written, cx)
    }
}
