//! Which HTTP a client without TLS begins with. A client that was told that the server speaks HTTP/2 sends its preface at
//! once; no request of HTTP/1.1 begins so.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::connection::Protocol;

/// What a connection of HTTP/2 begins with (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection, where somebody has read them already.
#[derive(Debug, Default)]
pub(super) struct First {
    bytes: [u8; PREFACE.len()],
    length: usize,
}

/// Reads until the two can be told apart, but no further than the preface is long.
pub(super) async fn look<S>(stream: &mut S, patience: Duration) -> io::Result<(First, Protocol)>
where
    S: AsyncRead + Unpin,
{
    let mut first = First::default();
    let looked = async {
        while PREFACE.starts_with(first.bytes()) {
            if first.length == PREFACE.len() {
                return Ok(Protocol::Http2);
            }
            match stream.read(&mut first.bytes[first.length..]).await? {
                0 => break,
                count => first.length += count,
            }
        }
        Ok(Protocol::Http1)
    };
    match timeout(patience, looked).await {
        Ok(protocol) => protocol.map(|protocol| (first, protocol)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the first bytes took too long")),
    }
}

// === impl First ===

impl First {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn looked(pieces: &[&[u8]]) -> (Vec<u8>, Protocol) {
        let (mut client, mut server) = tokio::io::duplex(64);
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (first, ()) = tokio::join!(look(&mut server, Duration::from_secs(1)), send);
        let (first, protocol) = first.unwrap();
        (first.bytes().to_vec(), protocol)
    }

    #[tokio::test]
    async fn only_the_whole_preface_is_http2_and_nothing_read_is_lost() {
        assert_eq!(looked(&[PREFACE]).await, (PREFACE.to_vec(), Protocol::Http2));
        assert_eq!(looked(&[&PREFACE[..5], &PREFACE[5..]]).await.1, Protocol::Http2);
        assert_eq!(looked(&[b"PRI * HTTP/1.1\r\n"]).await, (b"PRI * HTTP/1.1\r\n".to_vec(), Protocol::Http1));
        assert_eq!(looked(&[b"P", b"UT /"]).await, (b"PUT /".to_vec(), Protocol::Http1));
        assert_eq!(looked(&[&PREFACE[..9]]).await, (PREFACE[..9].to_vec(), Protocol::Http1));
        assert_eq!(looked(&[]).await, (Vec::new(), Protocol::Http1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_given_up() {
        let (_client, mut server) = tokio::io::duplex(64);
        assert!(look(&mut server, Duration::from_secs(1)).await.is_err());
    }
}
