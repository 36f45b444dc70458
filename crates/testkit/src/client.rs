use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::stream::Stream;

const DEADLINE: Duration = Duration::from_secs(30);
/// No server under test sends more headers than this.
const MAX_HEADERS: usize = 64;

/// A blocking HTTP/1.1 client: one connection a request, nothing followed, nothing decoded but chunks.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    deadline: Duration,
}

/// A request whose target and header values go out exactly as they are here.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, also an unknown one.
    pub method: String,
    /// The request target: path and query, already percent-encoded.
    pub target: String,
    /// Headers beside `Host`, `Connection` and `Content-Length`, which the client adds where absent.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers in the order of the wire, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, freed of chunking.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of the server at `address`, with 30 s for each request.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, deadline: DEADLINE }
    }

    /// The same client with another time limit for a whole request.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sends a request and reads its answer.
    pub fn send(&self, request: &Request) -> Result<Response> {
        self.send_raw(&request.to_bytes(self.address), request.method == "HEAD")
            .with_context(|| format!("{} {}", request.method, request.target))
    }

    /// Sends a request and reads the head of its answer, which goes on as a stream.
    pub fn open(&self, request: &Request) -> Result<Stream> {
        let until = Instant::now() + self.deadline;
        let mut stream = self.connect()?;
        stream.write_all(&request.to_bytes(self.address)).context("write the request")?;
        let mut received = Vec::new();
        loop {
            if let Some((head, length)) = parse_head(&received)? {
                return Ok(Stream::new(head, stream, received.split_off(length)));
            }
            if read_more(&mut stream, &mut received, until)? == 0 {
                bail!("the connection closed within the head: {:?}", String::from_utf8_lossy(&received));
            }
        }
    }

    /// A connection to the server, for those who write and read on their own.
    pub fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, self.deadline).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.deadline))?;
        Ok(stream)
    }

    /// Sends these bytes and reads one answer; `without_body` when it answers a HEAD request.
    pub fn send_raw(&self, bytes: &[u8], without_body: bool) -> Result<Response> {
        let until = Instant::now() + self.deadline;
        let mut stream = self.connect()?;
        // A server may refuse and close before it has read everything; its answer still counts.
        let written = stream.write_all(bytes);
        read_response(&mut stream, until, without_body).or_else(|error| {
            written.context("write the request")?;
            Err(error)
        })
    }
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: impl Into<String>, target: impl Into<String>) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets a JSON body and its content type.
    #[must_use]
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self.header("Content-Type", "application/json") }
    }

    /// Whether a header of this name was given.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn to_bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let mut push = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        if !self.has_header("Host") {
            push("Host", &address.to_string());
        }
        if !self.has_header("Connection") {
            push("Connection", "close");
        }
        let length_known = self.has_header("Content-Length") || self.has_header("Transfer-Encoding");
        if !length_known && (!self.body.is_empty() || self.method != "GET") {
            push("Content-Length", &self.body.len().to_string());
        }
        for (name, value) in &self.headers {
            push(name, value);
        }
        head.push_str("\r\n");
        [head.into_bytes(), self.body.clone()].concat()
    }
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text, invalid parts replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn read_response(stream: &mut TcpStream, until: Instant, without_body: bool) -> Result<Response> {
    let mut received = Vec::new();
    let mut closed = false;
    loop {
        if let Some(response) = parse_response(&received, closed, without_body)? {
            return Ok(response);
        }
        if closed {
            bail!("the connection closed within the answer: {:?}", String::from_utf8_lossy(&received));
        }
        closed = read_more(stream, &mut received, until)? == 0;
    }
}

fn read_more(stream: &mut TcpStream, received: &mut Vec<u8>, until: Instant) -> Result<usize> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        bail!("no complete answer within the deadline");
    }
    stream.set_read_timeout(Some(left))?;
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(count) => {
            received.extend_from_slice(&buffer[..count]);
            Ok(count)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            bail!("no complete answer within the deadline")
        }
        Err(error) => Err(error).context("read the answer"),
    }
}

/// The answer, once all of it is there.
fn parse_response(received: &[u8], closed: bool, without_body: bool) -> Result<Option<Response>> {
    let Some((mut response, head_length)) = parse_head(received)? else { return Ok(None) };
    let rest = &received[head_length..];
    let body = if without_body || matches!(response.status, 101 | 204 | 304) {
        Some(Vec::new())
    } else {
        parse_body(&response, rest, closed)?
    };
    Ok(body.map(|body| {
        response.body = body;
        response
    }))
}

/// The head, once all of it is there, and where it ends. Interim answers (1xx) are skipped.
fn parse_head(received: &[u8]) -> Result<Option<(Response, usize)>> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut slots);
    let httparse::Status::Complete(length) = head.parse(received).context("parse the answer")? else {
        return Ok(None);
    };
    let status = head.code.context("an answer without a status")?;
    if (100..200).contains(&status) && status != 101 {
        let next = parse_head(&received[length..])?;
        return Ok(next.map(|(head, further)| (head, length + further)));
    }
    let headers = head
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()));
    Ok(Some((Response { status, headers: headers.collect(), body: Vec::new() }, length)))
}

fn parse_body(response: &Response, rest: &[u8], closed: bool) -> Result<Option<Vec<u8>>> {
    if response.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return unchunk(rest);
    }
    match response.header("Content-Length") {
        Some(length) => {
            let length = length.trim().parse::<usize>().context("parse Content-Length")?;
            Ok(rest.get(..length).map(<[u8]>::to_vec))
        }
        None => Ok(closed.then(|| rest.to_vec())),
    }
}

fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let httparse::Status::Complete((start, size)) =
            httparse::parse_chunk_size(rest).map_err(|_| anyhow::anyhow!("a bad chunk size"))?
        else {
            return Ok(None);
        };
        let size = usize::try_from(size)?;
        let Some(chunk) = rest.get(start..start.saturating_add(size)) else { return Ok(None) };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
        rest = rest.get(start + size + 2..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(received: &str) -> Option<Response> {
        parse_response(received.as_bytes(), false, false).expect("well-formed")
    }

    #[test]
    fn chunks_are_joined_and_the_answer_waits_for_the_last_one() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parse(&format!("{head}3\r\nabc\r\n2\r\nde\r\n")), None);
        assert_eq!(parse(&format!("{head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).unwrap().body, b"abcde");
    }

    #[test]
    fn interim_answers_are_skipped() {
        let answer =
            parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nA: b\r\nA: c\r\n\r\n").unwrap();
        assert_eq!(answer.status, 204);
        assert_eq!(answer.headers, [("A".to_owned(), "b".to_owned()), ("A".to_owned(), "c".to_owned())]);
    }
}
