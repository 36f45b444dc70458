use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::Response;

/// An answer without an end, such as an event stream: its head is there, its body comes bit by bit.
#[derive(Debug)]
pub struct Stream {
    /// Status and headers.
    pub head: Response,
    socket: TcpStream,
    /// What has come of the body and was not read yet, still in chunks if it is sent so.
    pending: Vec<u8>,
    chunked: bool,
    ended: bool,
}

impl Stream {
    pub(crate) fn new(head: Response, socket: TcpStream, pending: Vec<u8>) -> Self {
        let chunked =
            head.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        Self { head, socket, pending, chunked, ended: false }
    }

    /// What has come since the last call; waits for it as long as this, and is empty then.
    pub fn read(&mut self, patience: Duration) -> Result<Vec<u8>> {
        let until = Instant::now() + patience;
        loop {
            let body = self.take_pending()?;
            let left = until.saturating_duration_since(Instant::now());
            if !body.is_empty() || self.ended || left.is_zero() {
                return Ok(body);
            }
            self.receive(left)?;
        }
    }

    /// Whether the server has ended the answer.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn receive(&mut self, patience: Duration) -> Result<()> {
        self.socket.set_read_timeout(Some(patience))?;
        let mut buffer = [0; 16 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
            Err(error) => return Err(error).context("read the stream"),
        }
        Ok(())
    }

    fn take_pending(&mut self) -> Result<Vec<u8>> {
        if !self.chunked {
            return Ok(std::mem::take(&mut self.pending));
        }
        let mut body = Vec::new();
        while let Some(chunk) = take_chunk(&mut self.pending)? {
            self.ended |= chunk.is_empty();
            body.extend(chunk);
        }
        Ok(body)
    }
}

/// The first chunk, once it is there as a whole; the last one is empty.
fn take_chunk(pending: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let (start, size) = match httparse::parse_chunk_size(pending) {
        Ok(httparse::Status::Complete((start, size))) => (start, usize::try_from(size)?),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => bail!("a bad chunk size"),
    };
    let end = start.saturating_add(size).saturating_add(2);
    if pending.len() < end {
        return Ok(None);
    }
    let rest = pending.split_off(end);
    let mut chunk = std::mem::replace(pending, rest);
    chunk.truncate(start + size);
    Ok(Some(chunk.split_off(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_taken_once_they_are_whole() {
        let mut pending = b"3\r\nabc\r\n2\r\nd".to_vec();
        assert_eq!(take_chunk(&mut pending).unwrap().unwrap(), b"abc");
        assert_eq!(take_chunk(&mut pending).unwrap(), None);
        pending.extend(b"e\r\n0\r\n\r\n");
        assert_eq!(take_chunk(&mut pending).unwrap().unwrap(), b"de");
        assert_eq!(take_chunk(&mut pending).unwrap().unwrap(), b"");
    }
}
