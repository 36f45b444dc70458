//! One connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_rustls::client::TlsStream;

/// A connection that counts among those that may be open, and that does not wait for a peer that has stopped
/// reading: neither with a request, nor with the goodbye of TLS.
pub(super) struct OutboundStream {
    transport: Transport,
    patience: Patience,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    parting: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

/// How long a peer may take nothing.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) writing: Duration,
    pub(super) parting: Duration,
}

pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl OutboundStream ===

impl OutboundStream {
    pub(super) fn new(
        transport: Transport,
        patience: Patience,
        permit: OwnedSemaphorePermit,
    ) -> OutboundStream {
        OutboundStream { transport, patience, stalled: None, parting: None, _permit: permit }
    }

    /// What a write came to, or the end of the patience with it.
    fn unless_stalled<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let writing = self.patience.writing;
        let ends = self.stalled.get_or_insert_with(|| {
            // hyper looks for an answer, and for whether anybody still wants one, before it writes. Unless it
            // is called again after a write that could not be finished, it sees neither.
            cx.waker().wake_by_ref();
            Box::pin(sleep(writing))
        });
        ready!(ends.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Connection for OutboundStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for OutboundStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
        let said = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        if said.is_ready() {
            return said;
        }
        let parting = self.patience.parting;
        let ends = self.parting.get_or_insert_with(|| Box::pin(sleep(parting)));
        ready!(ends.as_mut().poll(cx));
        Poll::Ready(Ok(()))
    }
}
