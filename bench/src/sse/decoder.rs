//! A chunked HTTP answer, taken apart as it comes, and the messages in it counted.

use anyhow::{Result, bail};
use memchr::memmem;

/// Where the next byte belongs.
enum Part {
    Head,
    Size(usize),
    /// The rest of a chunk's size line.
    Extension(usize),
    /// What is left of a chunk.
    Data(usize),
    /// What is left of the line end behind a chunk.
    End(usize),
    Over,
}

/// The state of one stream between two reads.
pub(super) struct Decoder {
    part: Part,
    head: Vec<u8>,
    ends_in_newline: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { part: Part::Head, head: Vec::new(), ends_in_newline: false }
    }

    /// The number of messages that end in these bytes: each ends in a blank line, which nothing else holds.
    /// `on_body` gets what remains without the frame of HTTP.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut on_body: impl FnMut(&[u8])) -> Result<u64> {
        let mut count = 0;
        while let Some(&byte) = bytes.first() {
            let mut used = 1;
            match self.part {
                Part::Head => self.take_head(byte)?,
                Part::Size(size) => self.part = after_size(size, byte)?,
                Part::Extension(size) if byte == b'\n' => self.part = Part::of_size(size),
                Part::Extension(_) => {}
                Part::Data(left) => {
                    used = left.min(bytes.len());
                    count += self.count(&bytes[..used]);
                    on_body(&bytes[..used]);
                    self.part = if used == left { Part::End(2) } else { Part::Data(left - used) };
                }
                Part::End(left) => self.part = if left == 1 { Part::Size(0) } else { Part::End(left - 1) },
                Part::Over => return Ok(count),
            }
            bytes = &bytes[used..];
        }
        Ok(count)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.part, Part::Over)
    }

    fn take_head(&mut self, byte: u8) -> Result<()> {
        self.head.push(byte);
        if !self.head.ends_with(b"\r\n\r\n") {
            return Ok(());
        }
        let head = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200 ") || !head.contains("transfer-encoding: chunked") {
            bail!("not a chunked answer of 200: {head}");
        }
        self.head = Vec::new();
        self.part = Part::Size(0);
        Ok(())
    }

    fn count(&mut self, body: &[u8]) -> u64 {
        let is_split = self.ends_in_newline && body.first() == Some(&b'\n');
        self.ends_in_newline = body.last() == Some(&b'\n') && !body.ends_with(b"\n\n");
        memmem::find_iter(body, b"\n\n").count() as u64 + u64::from(is_split)
    }
}

impl Part {
    fn of_size(size: usize) -> Self {
        if size == 0 { Self::Over } else { Self::Data(size) }
    }
}

fn after_size(size: usize, byte: u8) -> Result<Part> {
    Ok(match byte {
        b'\n' => Part::of_size(size),
        b'\r' => Part::Size(size),
        b';' => Part::Extension(size),
        _ => match char::from(byte).to_digit(16) {
            Some(digit) if size < 1 << 40 => Part::Size(size * 16 + digit as usize),
            _ => bail!("no chunk size: {byte}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        c\r\nid:1\ndata:a\n\r\n1\r\n\n\r\n14;x=y\r\nid:2\ndata:b\n\nid:3\nda\r\n5\r\nta:\n\n\r\n";

    fn count_in_pieces(length: usize) -> (u64, Vec<u8>) {
        let mut decoder = Decoder::new();
        let mut body = Vec::new();
        let count = ANSWER
            .chunks(length)
            .map(|piece| decoder.feed(piece, |part| body.extend_from_slice(part)).unwrap())
            .sum();
        (count, body)
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        for length in 1..ANSWER.len() {
            let (count, body) = count_in_pieces(length);
            assert_eq!(body, b"id:1\ndata:a\n\nid:2\ndata:b\n\nid:3\ndata:\n\n", "{length}");
            assert_eq!(count, 3, "{length}");
        }
    }

    #[test]
    fn the_last_chunk_ends_the_stream() {
        let mut decoder = Decoder::new();
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\n\n\r\n0\r\n\r\n";
        assert_eq!(decoder.feed(answer, |_| {}).unwrap(), 1);
        assert!(decoder.is_over());
    }

    #[test]
    fn an_answer_that_refuses_is_an_error() {
        assert!(Decoder::new().feed(b"HTTP/1.1 429 Too Many Requests\r\n\r\n", |_| {}).is_err());
    }
}
