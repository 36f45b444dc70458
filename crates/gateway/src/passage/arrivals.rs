//! What the process before hands on: each a connection, over a socket that only this user reaches, that begins with a line
//! which says whose the request is.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::loops::RequestLoops;
use crate::net::{Accepted, Peer, Socket, Transport};

/// `plain`, `tls` or `internal`, a space, an address of IPv6 with its port, a line feed.
const MAX_LINE_BYTES: usize = 64;
/// How long the line may take.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes what is handed on until `stop`. The listener is in non-blocking mode.
pub async fn arrivals(
    listener: UnixListener,
    loops: &RequestLoops,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => loops.hand_over(arrived(stream)),
            Err(error) => {
                warn!(%error, "could not take a request of the process before");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A connection whose first line will say whose it is.
fn arrived(stream: std::os::unix::net::UnixStream) -> Accepted {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    Accepted { socket: Socket::Passed(stream), peer: unknown, transport: Transport::Plain }
}

/// Whose request a connection brings.
pub(crate) async fn read_sender(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Peer> {
    let line = async {
        let mut line = Vec::with_capacity(MAX_LINE_BYTES);
        loop {
            match stream.read_u8().await? {
                b'\n' => return Ok::<_, io::Error>(line),
                _ if line.len() == MAX_LINE_BYTES => return Err(io::ErrorKind::InvalidData.into()),
                byte => line.push(byte),
            }
        }
    };
    let line = timeout(LINE_TIMEOUT, line).await.map_err(|_| io::ErrorKind::TimedOut)??;
    sender(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

pub(super) fn sender_line(peer: &Peer) -> String {
    let transport = match peer.transport {
        Transport::Plain => "plain",
        Transport::Tls => "tls",
        Transport::Internal => "internal",
    };
    format!("{transport} {}\n", peer.address)
}

fn sender(line: &[u8]) -> Option<Peer> {
    let (transport, address) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let transport = match transport {
        "plain" => Transport::Plain,
        "tls" => Transport::Tls,
        "internal" => Transport::Internal,
        _ => return None,
    };
    Some(Peer::new(address.parse().ok()?, transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whose_a_request_is_comes_over() {
        for (address, transport) in [
            ("192.0.2.7:80", Transport::Plain),
            ("[2001:db8::1]:65535", Transport::Tls),
            ("192.0.2.7:1", Transport::Internal),
        ] {
            let line = sender_line(&Peer::new(address.parse().unwrap(), transport));
            let mut bytes = &[line.as_bytes(), b"GET / HTTP/1.1\r\n"].concat()[..];
            let peer = read_sender(&mut bytes).await.unwrap();
            assert_eq!((peer.address.to_string(), peer.transport), (address.to_owned(), transport));
            assert!(bytes.starts_with(b"GET"));
        }
        for line in ["", "\n", "plain\n", "plain x\n", "smoke 1.2.3.4:5\n", &"p".repeat(100)] {
            assert!(read_sender(&mut line.as_bytes()).await.is_err(), "{line}");
        }
    }
}
