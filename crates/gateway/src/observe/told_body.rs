//! The body of an answer that the access log tells of: how much of it went out, and when it ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Response;
use http_body::{Frame, SizeHint};

use crate::access_log::{AccessLog, Line};

/// Writes its line once it is gone, however that comes.
pub(super) struct ToldBody {
    body: Body,
    log: AccessLog,
    line: Line,
    head_went: Instant,
    until_head: Duration,
    is_whole: bool,
}

// === impl ToldBody ===

impl ToldBody {
    /// Of an answer whose head took so long until now.
    pub(super) fn new(log: AccessLog, line: Line, until_head: Duration) -> Self {
        Self { body: Body::empty(), log, line, head_went: Instant::now(), until_head, is_whole: false }
    }

    /// Of an answer whose body nobody reads.
    pub(super) fn over(mut self, response: Response<Body>) -> Response<Body> {
        self.is_whole = true;
        response
    }

    pub(super) fn around(mut self, body: Body) -> Body {
        self.body = body;
        Body::new(self)
    }
}

impl HttpBody for ToldBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.is_whole = self.body.is_end_stream();
            }
            Some(Err(_)) => {}
            None => self.is_whole = true,
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

impl Drop for ToldBody {
    fn drop(&mut self) {
        self.line.took = Some(self.until_head + self.head_went.elapsed());
        self.line.is_cut = !self.is_whole;
        self.log.write(&self.line);
    }
}
