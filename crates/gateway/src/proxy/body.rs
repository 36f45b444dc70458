//! The body of an answer on its way to the client, and what is given back at its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::connections::Connection;
use crate::upstreams::Try;

/// What an answer is read with.
pub(super) struct Reading {
    pub(super) connection: Connection,
    /// The server has the request until this is dropped.
    pub(super) begun: Try,
}

/// Such a body. Its connection serves others once it was read to its end, and is closed otherwise.
pub(super) struct AnswerBody {
    body: Incoming,
    reading: Option<Reading>,
}

// === impl Reading ===

impl Reading {
    fn done(self) {
        self.connection.give_back();
    }
}

// === impl AnswerBody ===

impl AnswerBody {
    pub(super) fn new(body: Incoming, reading: Reading) -> Self {
        Self { body, reading: Some(reading) }
    }

    pub(super) fn into_body(mut self) -> Body {
        if self.body.is_end_stream() {
            self.end();
            return Body::empty();
        }
        Body::new(self)
    }

    fn end(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.done();
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, reading } = &mut *self;
        let frame = match reading {
            Some(reading) => ready!(reading.connection.poll_frame(body, cx)),
            None => ready!(Pin::new(body).poll_frame(cx)),
        };
        match &frame {
            Some(Ok(_)) if self.body.is_end_stream() => self.end(),
            None => self.end(),
            Some(Err(_)) => self.reading = None,
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
