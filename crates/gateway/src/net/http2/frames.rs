//! Counts the frames of a client that cost work and are of no use by themselves: floods of resets, settings, pings,
//! empty frames, window updates, priorities and streams that are refused. Each costs credit. A request that was answered earns
//! some, as does a piece of an answer, for which windows are updated; and time does. A client without credit is closed.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::preface::{First, PREFACE};

/// What a connection begins with, and the most it ever has: a page that is left can reset hundreds of streams at once.
const MOST: i64 = 10_000;
const PER_SECOND: i64 = 100;
const PER_ANSWER: i64 = 20;
/// Clients update two windows for a piece of 16 KiB, and some of them several times.
const PER_PIECE: i64 = 10;

const FRAME_HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// A flag of settings and pings, and one of data.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// A stream of bytes whose incoming frames are counted.
pub(super) struct WatchedStream<S> {
    stream: S,
    first: First,
    delivered: usize,
    frames: Frames,
    credit: Arc<Credit>,
}

/// What one connection may still cost.
#[derive(Debug)]
pub(super) struct Credit {
    left: AtomicI64,
    /// When time was last counted: only once there is none left.
    counted: Mutex<Instant>,
}

/// Where in the bytes of a connection we are.
#[derive(Debug)]
struct Frames {
    /// Bytes that are of no interest: the preface, then of each frame all but its header.
    skipped: usize,
    header: [u8; FRAME_HEADER],
    length: usize,
}

/// What a frame costs.
fn cost(kind: u8, flags: u8, length: usize) -> i64 {
    match kind {
        // A last one is no worse than its request, and small ones that hold something are counted until they are read.
        DATA if flags & END_STREAM != 0 => 0,
        DATA if length == 0 || flags & PADDED != 0 && length < 1024 => 10,
        DATA => 0,
        HEADERS => 5,
        // The work for a request that nobody wants.
        RST_STREAM => 10,
        SETTINGS if flags & ACK == 0 => 100,
        PING if flags & ACK == 0 => 10,
        _ => 1,
    }
}

// === impl WatchedStream ===

impl<S> WatchedStream<S> {
    pub(super) fn new(first: First, stream: S, credit: Arc<Credit>) -> Self {
        Self { stream, first, delivered: 0, frames: Frames::new(), credit }
    }

    fn watch(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.credit.pays(self.frames.feed(bytes)) {
            return Ok(());
        }
        metrics::counter!("groundswell_http2_floods_total").increment(1);
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many frames of no use"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let waiting = &this.first.bytes()[this.delivered..];
        if waiting.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        } else {
            let count = waiting.len().min(buffer.remaining());
            buffer.put_slice(&waiting[..count]);
            this.delivered += count;
        }
        Poll::Ready(this.watch(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
}

// === impl Credit ===

impl Credit {
    pub(super) fn new() -> Self {
        Self { left: AtomicI64::new(MOST), counted: Mutex::new(Instant::now()) }
    }

    /// A request was answered.
    pub(super) fn earn_for_answer(&self) {
        self.earn(PER_ANSWER);
    }

    /// A piece of an answer is on its way.
    pub(super) fn earn_for_piece(&self) {
        self.earn(PER_PIECE);
    }

    /// Takes this off. Whether there was as much.
    fn pays(&self, cost: i64) -> bool {
        if cost == 0 || self.left.fetch_sub(cost, Ordering::Relaxed) >= cost {
            return true;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = counted.elapsed().as_millis().min(1_000_000) as i64;
        *counted = Instant::now();
        self.earn(passed * PER_SECOND / 1_000);
        self.left.load(Ordering::Relaxed) >= 0
    }

    // One thread changes it, so nothing is lost between the two.
    fn earn(&self, credit: i64) {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store((left + credit).min(MOST), Ordering::Relaxed);
    }
}

// === impl Frames ===

impl Frames {
    fn new() -> Self {
        Self { skipped: PREFACE.len(), header: [0; FRAME_HEADER], length: 0 }
    }

    /// What the frames cost that begin in these bytes.
    fn feed(&mut self, mut bytes: &[u8]) -> i64 {
        let mut costs = 0;
        while !bytes.is_empty() {
            if self.skipped > 0 {
                let count = self.skipped.min(bytes.len());
                self.skipped -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (FRAME_HEADER - self.length).min(bytes.len());
            self.header[self.length..self.length + count].copy_from_slice(&bytes[..count]);
            self.length += count;
            bytes = &bytes[count..];
            if self.length == FRAME_HEADER {
                let [high, middle, low, kind, flags, ..] = self.header;
                self.skipped = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.length = 0;
                costs += cost(kind, flags, self.skipped);
            }
        }
        costs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 1];
        frame.extend(vec![0xFF; payload]);
        frame
    }

    #[test]
    fn frames_are_found_however_their_bytes_arrive() {
        let frames = [frame(PING, 0, 8), frame(DATA, 0, 300), frame(RST_STREAM, 0, 4), frame(SETTINGS, 0, 0)];
        let bytes = [&PREFACE[..], &frames.concat()].concat();
        let expected = 10 + 10 + 100;
        assert_eq!(Frames::new().feed(&bytes), expected);
        for size in [1, 2, 7, 100] {
            let mut frames = Frames::new();
            let cost: i64 = bytes.chunks(size).map(|piece| frames.feed(piece)).sum();
            assert_eq!(cost, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn only_frames_of_no_use_cost_much() {
        assert_eq!([cost(DATA, 0, 5), cost(DATA, END_STREAM, 0), cost(DATA, PADDED, 9_000)], [0; 3]);
        assert_eq!([cost(DATA, 0, 0), cost(DATA, PADDED, 256), cost(PING, 0, 8)], [10; 3]);
        assert_eq!([cost(PING, ACK, 8), cost(SETTINGS, ACK, 0), cost(8, 0, 4), cost(99, 0, 0)], [1; 4]);
    }

    #[test]
    fn credit_is_spent_and_earned_by_answers() {
        let credit = Credit::new();
        assert!(credit.pays(MOST));
        assert!(!credit.pays(100));
        for _ in 0..10 {
            credit.earn_for_answer();
        }
        assert!(credit.pays(10), "two hundred were earned, and a hundred owed");
        for _ in 0..MOST {
            credit.earn_for_piece();
        }
        assert!(credit.pays(MOST), "it never grows past the most");
        assert!(!credit.pays(MOST));
    }
}
