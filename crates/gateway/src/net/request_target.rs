//! Clients written for a Go server send raw `"`, `<`, `>` and bytes outside ASCII in request targets. Our parser
//! refuses them, so they are percent-encoded before it sees them: the same target, spelt properly.
//!
//! A [`RequestWatcher`] follows the bytes of a connection and says which of them to change. It buffers nothing
//! and changes nothing but bytes of a request target, so it must know where requests begin. It knows that for
//! the first request, and for later ones as long as every request before was delimited plainly: by no body, by
//! one `Content-Length`, or by chunks. At anything else (other encodings, odd headers) it stops watching for good, and
//! later raw bytes get the parser's 400. After a request for WebSocket or a tunnel no target is changed: what follows
//! may be frames.
//!
//! What two servers in a row might read differently, and the parser would take, is spoilt on purpose, so that it does
//! not: a head that holds both `Content-Length` and `Transfer-Encoding`, or one of them behind many spaces, and
//! trailers whose lines end with a line feed alone. Our parser reads on after the empty one of those, over the next request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose incoming request targets are rewritten.
pub(super) struct RewritingStream<S> {
    stream: S,
    watcher: RequestWatcher,
    // Rewritten bytes that did not fit the reader's buffer: at most three times what one read brought.
    rewritten: Vec<u8>,
    delivered: usize,
    changes: Vec<Change>,
}

/// Where in the bytes of a connection we are.
#[derive(Debug, Default)]
struct RequestWatcher {
    state: State,
    line: LineStart,
    framing: Framing,
    /// The connection was asked to go on with another protocol.
    may_have_switched: bool,
}

/// A change to one byte of those just fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Percent-encode the byte at this place.
    Encode(usize),
    /// Replace the byte at this place by NUL, which no head may hold.
    Spoil(usize),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a request line, where empty lines are allowed.
    #[default]
    Idle,
    Method,
    Target,
    Version,
    HeaderStart,
    Header,
    /// In a header that says nothing about framing.
    OtherHeader,
    /// So many bytes of a body remain.
    Body(u64),
    /// At the digits of a chunk's size, which is this so far; `None` before the first.
    ChunkSize(Option<u64>),
    /// Behind them.
    ChunkExtension(u64),
    /// So many bytes of a chunk and of the line's end after it remain.
    Chunk(u64),
    /// In the lines after the last chunk, of which an empty one is the end.
    Trailers(TrailerByte),
    Unwatched,
}

/// What stands before a byte of the trailers. Their lines end with both bytes of a line's end, or our parser
/// would see other lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrailerByte {
    LineStart,
    Text,
    ReturnOfEmptyLine,
    Return,
}

/// What the headers so far say about the request's end.
#[derive(Debug, Default, Clone, Copy)]
struct Framing {
    content_length: Option<u64>,
    has_transfer_encoding: bool,
    /// The encoding is not `chunked` alone, or it cannot be told where the request ends.
    is_unclear: bool,
    /// One of both headers is longer than it has any reason to be.
    is_cut: bool,
    asks_for_websocket: bool,
}

/// The first bytes of a line, enough for a method or for a header that says something about framing.
#[derive(Debug)]
struct LineStart {
    bytes: [u8; 64],
    length: usize,
    is_cut: bool,
}

/// Which bytes our parser refuses in a target, or takes for something else (`#` begins a fragment), and Go's not.
const fn wants_encoding(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | b'#' | 0x80..=0xFF)
}

// === impl RewritingStream ===

impl<S> RewritingStream<S> {
    /// Watches a connection from its first byte. Of these `first` some may have been read already.
    pub(super) fn after(first: &[u8], stream: S) -> Self {
        let (mut watcher, mut changes) = (RequestWatcher::default(), Vec::new());
        watcher.feed(first, &mut changes);
        let rewritten = apply(&changes, first);
        changes.clear();
        Self { stream, watcher, rewritten, delivered: 0, changes }
    }

    /// Whether the client may still be sending a request.
    pub(super) fn is_mid_request(&self) -> bool {
        self.watcher.state != State::Idle
    }

    fn deliver_rewritten(&mut self, buffer: &mut ReadBuf<'_>) {
        let waiting = &self.rewritten[self.delivered..];
        let count = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..count]);
        self.delivered += count;
        if self.delivered == self.rewritten.len() {
            self.rewritten = Vec::new();
            self.delivered = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RewritingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.rewritten.is_empty() {
            this.deliver_rewritten(buffer);
            return Poll::Ready(Ok(()));
        }
        let filled_before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        if this.watcher.state == State::Unwatched {
            return Poll::Ready(Ok(()));
        }
        let received = &buffer.filled()[filled_before..];
        this.watcher.feed(received, &mut this.changes);
        if !this.changes.is_empty() {
            this.rewritten = apply(&this.changes, received);
            this.changes.clear();
            buffer.set_filled(filled_before);
            this.deliver_rewritten(buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RewritingStream<S> {
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

/// `received` with the changes, which are in order.
fn apply(changes: &[Change], received: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut rewritten = Vec::with_capacity(received.len() + 2 * changes.len());
    let mut copied = 0;
    for change in changes {
        let (Change::Encode(place) | Change::Spoil(place)) = *change;
        rewritten.extend_from_slice(&received[copied..place]);
        match change {
            Change::Encode(_) => {
                let byte = usize::from(received[place]);
                rewritten.extend_from_slice(&[b'%', HEX[byte >> 4], HEX[byte & 15]]);
            }
            Change::Spoil(_) => rewritten.push(0),
        }
        copied = place + 1;
    }
    rewritten.extend_from_slice(&received[copied..]);
    rewritten
}

// === impl RequestWatcher ===

impl RequestWatcher {
    /// Follows the next bytes of the connection, and appends the changes that they need.
    fn feed(&mut self, bytes: &[u8], changes: &mut Vec<Change>) {
        let mut at = 0;
        while at < bytes.len() {
            at += match self.state {
                State::Idle => self.idle(bytes[at]),
                State::Method => self.method(bytes[at]),
                State::Target => self.target(&bytes[at..], at, changes),
                State::Version => self.skip_line(&bytes[at..], State::HeaderStart),
                State::HeaderStart => self.header_start(bytes[at], at, changes),
                State::Header => self.header(bytes[at]),
                State::OtherHeader => self.skip_line(&bytes[at..], State::HeaderStart),
                State::Body(remaining) => self.body(remaining, bytes.len() - at),
                State::ChunkSize(size) => self.chunk_size(size, bytes[at]),
                State::ChunkExtension(0) => {
                    self.skip_line(&bytes[at..], State::Trailers(TrailerByte::LineStart))
                }
                State::ChunkExtension(size) => self.skip_line(&bytes[at..], State::Chunk(size + 2)),
                State::Chunk(remaining) => self.chunk(remaining, &bytes[at..]),
                State::Trailers(before) => self.trailers(before, bytes[at], at, changes),
                State::Unwatched => return,
            };
        }
    }

    fn idle(&mut self, byte: u8) -> usize {
        if matches!(byte, b'\r' | b'\n') {
            return 1;
        }
        self.line.clear();
        self.framing = Framing::default();
        self.state = State::Method;
        0
    }

    fn method(&mut self, byte: u8) -> usize {
        match byte {
            b' ' => {
                self.may_have_switched |= self.line.bytes().eq_ignore_ascii_case(b"CONNECT");
                self.state = State::Target;
            }
            // No request line at all: the parser says so to the client.
            b'\n' => self.state = State::Unwatched,
            _ => self.line.push(byte),
        }
        1
    }

    fn target(&mut self, bytes: &[u8], offset: usize, changes: &mut Vec<Change>) -> usize {
        for (index, &byte) in bytes.iter().enumerate() {
            if byte == b' ' || byte == b'\n' {
                self.state = if byte == b' ' { State::Version } else { State::Unwatched };
                return index + 1;
            }
            if wants_encoding(byte) && !self.may_have_switched {
                changes.push(Change::Encode(offset + index));
            }
        }
        bytes.len()
    }

    fn skip_line(&mut self, bytes: &[u8], next: State) -> usize {
        match memchr::memchr(b'\n', bytes) {
            Some(end) => {
                self.state = next;
                end + 1
            }
            None => bytes.len(),
        }
    }

    /// Looks closer only at lines that may end the head or say how long the request is.
    fn header_start(&mut self, byte: u8, offset: usize, changes: &mut Vec<Change>) -> usize {
        match byte {
            b'\n' => {
                self.end_of_head(offset, changes);
                return 1;
            }
            // The other half of the line's end follows.
            b'\r' => return 1,
            b'c' | b'C' | b't' | b'T' | b'u' | b'U' | b' ' | b'\t' => {
                self.line.clear();
                self.state = State::Header;
            }
            _ => self.state = State::OtherHeader,
        }
        0
    }

    fn header(&mut self, byte: u8) -> usize {
        if byte == b'\n' {
            self.framing.note(&self.line);
            self.state = State::HeaderStart;
            return 1;
        }
        self.line.push(byte);
        if self.line.is_cut {
            self.framing.note(&self.line);
            self.state = State::OtherHeader;
        }
        1
    }

    fn end_of_head(&mut self, offset: usize, changes: &mut Vec<Change>) {
        let framing = self.framing;
        self.may_have_switched |= framing.asks_for_websocket;
        if framing.is_cut || framing.has_transfer_encoding && framing.content_length.is_some() {
            changes.push(Change::Spoil(offset));
        }
        self.state = match framing.content_length {
            _ if framing.is_unclear => State::Unwatched,
            Some(_) if framing.has_transfer_encoding => State::Unwatched,
            None if framing.has_transfer_encoding => State::ChunkSize(None),
            None | Some(0) => State::Idle,
            Some(length) => State::Body(length),
        };
    }

    fn body(&mut self, remaining: u64, available: usize) -> usize {
        let available_bytes = available as u64;
        if available_bytes < remaining {
            self.state = State::Body(remaining - available_bytes);
            return available;
        }
        self.state = State::Idle;
        // No larger than `available`, which is a usize.
        usize::try_from(remaining).unwrap_or(available)
    }

    fn chunk_size(&mut self, size: Option<u64>, byte: u8) -> usize {
        let digit = char::from(byte).to_digit(16);
        self.state = match (size, digit, byte) {
            (size, Some(digit), _) => match size.unwrap_or(0).checked_mul(16) {
                // A chunk that leaves no room for the line's end is none that our parser takes.
                Some(sixteenfold) if sixteenfold < u64::MAX - 16 => {
                    State::ChunkSize(Some(sixteenfold + u64::from(digit)))
                }
                _ => State::Unwatched,
            },
            (Some(size), None, b'\r' | b';' | b' ' | b'\t') => State::ChunkExtension(size),
            _ => State::Unwatched,
        };
        1
    }

    /// The bytes of a chunk; the last two of `remaining` are the line's end.
    fn chunk(&mut self, remaining: u64, bytes: &[u8]) -> usize {
        if remaining > 2 {
            let skipped = (remaining - 2).min(bytes.len() as u64);
            self.state = State::Chunk(remaining - skipped);
            return usize::try_from(skipped).unwrap_or(bytes.len());
        }
        self.state = match (remaining, bytes[0]) {
            (2, b'\r') => State::Chunk(1),
            (1, b'\n') => State::ChunkSize(None),
            _ => State::Unwatched,
        };
        1
    }

    fn trailers(&mut self, before: TrailerByte, byte: u8, offset: usize, changes: &mut Vec<Change>) -> usize {
        use TrailerByte::{LineStart, Return, ReturnOfEmptyLine, Text};
        if matches!((before, byte), (LineStart | Text, b'\n')) {
            changes.push(Change::Spoil(offset));
        }
        self.state = match (before, byte) {
            (LineStart, b'\r') => State::Trailers(ReturnOfEmptyLine),
            (Text, b'\r') => State::Trailers(Return),
            (ReturnOfEmptyLine, b'\n') => State::Idle,
            (Return, b'\n') => State::Trailers(LineStart),
            (ReturnOfEmptyLine | Return, _) | (_, b'\n') => State::Unwatched,
            (LineStart | Text, _) => State::Trailers(Text),
        };
        1
    }
}

// === impl Framing ===

impl Framing {
    fn note(&mut self, line: &LineStart) {
        let bytes = line.bytes().trim_ascii_end();
        let Some(colon) = memchr::memchr(b':', bytes) else {
            self.is_unclear = true;
            return;
        };
        let (name, value) = (&bytes[..colon], bytes[colon + 1..].trim_ascii());
        let name = name.trim_ascii();
        if name.len() != colon {
            self.is_unclear = true;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = if line.is_cut { None } else { decimal(value) };
            let is_another = self.content_length.is_some_and(|before| Some(before) != length);
            self.is_unclear |= length.is_none() || is_another;
            self.is_cut |= line.is_cut;
            self.content_length = Some(length.unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_chunked = !line.is_cut && value.eq_ignore_ascii_case(b"chunked");
            self.is_unclear |= !is_chunked || self.has_transfer_encoding;
            self.is_cut |= line.is_cut;
            self.has_transfer_encoding = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            // No other protocol is switched to.
            self.asks_for_websocket |= value.eq_ignore_ascii_case(b"websocket");
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    // Digits alone: `parse` would take a sign as well.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

// === impl LineStart ===

impl Default for LineStart {
    fn default() -> Self {
        Self { bytes: [0; 64], length: 0, is_cut: false }
    }
}

impl LineStart {
    fn clear(&mut self) {
        self.length = 0;
        self.is_cut = false;
    }

    fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
            }
            None => self.is_cut = true,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What a parser reads when `pieces` arrive one after another.
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "its fuzzer builds this file in"))]
fn rewritten(pieces: &[&[u8]]) -> Vec<u8> {
    let mut watcher = RequestWatcher::default();
    let mut output = Vec::new();
    for piece in pieces {
        let mut changes = Vec::new();
        watcher.feed(piece, &mut changes);
        output.extend(apply(&changes, piece));
    }
    output
}

/// What the fuzzer in `fuzz/` calls, and our tests with random bytes: the first byte says where a connection's
/// bytes, which are the rest, are cut in two.
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "its fuzzer builds this file in"))]
pub(super) fn try_bytes(bytes: &[u8]) {
    let Some((&cut, input)) = bytes.split_first() else { return };
    let whole = rewritten(&[input]);
    let (first, second) = input.split_at(usize::from(cut).min(input.len()));
    assert_eq!(rewritten(&[first, second]), whole, "where the bytes are cut makes a difference");
    assert!(whole.len() <= 3 * input.len());
    let zeros = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == 0).count();
    let is_spoilt = zeros(&whole) > zeros(input);
    assert!(is_spoilt || rewritten(&[&whole]) == whole, "what is spelt properly is changed");
}

#[cfg(test)]
mod tests;
