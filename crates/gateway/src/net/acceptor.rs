//! Takes connections from a listening socket and hands each to the request loop with the fewest.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::loops::RequestLoops;

/// How long to wait when the process is out of files or memory, which accepting again would not mend.
const PAUSE_WHEN_EXHAUSTED: Duration = Duration::from_millis(50);

/// What a client reads when there are `server.max_connections` already.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
    Retry-After: 1\r\nConnection: close\r\n\r\n\
    {\"data\":{},\"message\":\"The server is at its limit.\",\"status\":503}";

/// A connection fresh from the listening socket, not yet known to any runtime.
pub(crate) struct Accepted {
    /// In non-blocking mode.
    pub(crate) socket: Socket,
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// What is spoken on it.
    pub(crate) transport: Transport,
}

/// What a connection comes over.
pub(crate) enum Socket {
    /// The network.
    Tcp(TcpStream),
    /// The passage from the process before. Its first line says whose it is.
    Passed(UnixStream),
}

/// What lies between a socket and HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// TLS.
    Tls,
    /// Nothing, for other nodes of the application alone.
    Internal,
}

/// Accepts until `draining`, then closes the socket.
pub async fn accept(
    listener: std::net::TcpListener,
    transport: Transport,
    loops: &RequestLoops,
    max_connections: usize,
    draining: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            biased;
            () = draining.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(detached) {
            Ok((stream, peer)) if loops.open_connections() < max_connections => {
                metrics::counter!("groundswell_connections_accepted_total").increment(1);
                loops.hand_over(Accepted { socket: Socket::Tcp(stream), peer, transport });
            }
            Ok((stream, peer)) => refuse(stream, peer, transport),
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection ended before it began")
            }
            Err(error) => {
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(PAUSE_WHEN_EXHAUSTED).await;
            }
        }
    }
}

/// The connection off this runtime, for a loop to watch.
fn detached((stream, peer): (tokio::net::TcpStream, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
    stream.set_nodelay(true)?;
    Ok((stream.into_std()?, peer))
}

/// Answers at once. The answer fits the empty send buffer of a new socket, so that this never waits.
/// To a client that expects TLS nothing can be said without a handshake.
fn refuse(mut stream: TcpStream, peer: SocketAddr, transport: Transport) {
    metrics::counter!("groundswell_connections_refused_total").increment(1);
    debug!(%peer, "refused a connection: too many are open");
    if transport != Transport::Tls {
        let _ = stream.write(TOO_MANY_CONNECTIONS);
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
