//! One kept connection that sends bytes and reads an answer, with next to no work of its own: for loads that our
//! threads make, where [`crate::client`] would take time from the servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// As long as `wrk` waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

/// What requests go over: a socket, or TLS on one.
pub(crate) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

/// The body of a request and what it is.
pub(crate) struct Body<'a> {
    pub(crate) content_type: &'a str,
    pub(crate) bytes: &'a [u8],
}

/// `127.0.0.1:8090` of `http://127.0.0.1:8090`.
pub(crate) fn address_of(base_url: &str) -> &str {
    base_url.trim_start_matches("http://")
}

/// The bytes of a whole request.
pub(crate) fn request(address: &str, method: &str, path: &str, body: Option<&Body<'_>>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    if let Some(body) = body {
        let Body { content_type, bytes } = body;
        text += &format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", bytes.len());
    }
    let mut request = (text + "\r\n").into_bytes();
    request.extend_from_slice(body.map_or(&[], |body| body.bytes));
    request
}

/// A socket that gives up in time.
pub(crate) fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

impl Connection {
    pub(crate) fn open(address: &str) -> Result<Self> {
        Ok(Self::over(connect(address)?))
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// Sends a whole request, made by [`request`], and waits for the answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.get_mut().write_all(request).context("send a request")?;
        self.read_answer().context("read an answer")
    }

    fn read_answer(&mut self) -> Result<Answer> {
        let status_line = self.read_line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status in {status_line:?}"))?;
        let (mut length, mut is_chunked, mut content_type) = (0, false, String::new());
        loop {
            let line = self.read_line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse()?,
                "transfer-encoding" => is_chunked = value.eq_ignore_ascii_case("chunked"),
                "content-type" => value.clone_into(&mut content_type),
                _ => {}
            }
        }
        let body = if is_chunked { self.read_chunks()? } else { self.read_bytes(length)? };
        Ok(Answer { status, content_type, body })
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn read_bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.read_line()?, 16)?;
            body.extend(self.read_bytes(length)?);
            self.read_line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn answers_with_a_length_and_in_chunks_come_over_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\none\
                      HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n",
                )
                .unwrap();
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).unwrap();
            asked
        });
        let mut connection = Connection::open(&address).unwrap();
        let first = connection.send(b"1;").unwrap();
        assert_eq!((first.status, first.content_type.as_str(), &first.body[..]), (200, "a/b", &b"one"[..]));
        let second = connection.send(b"2;").unwrap();
        assert_eq!((second.status, &second.body[..]), (400, &b"two"[..]));
        assert_eq!(&server.join().unwrap(), b"1;2;");
    }
}
