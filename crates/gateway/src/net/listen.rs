//! Listening sockets, and the number of them that the process may hold.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

/// Connections that the kernel holds for us between two rounds of accepting.
const BACKLOG: i32 = 4096;

/// Below this many open files a busy server runs out of them.
const ENOUGH_OPEN_FILES: u64 = 65_536;

/// Binds and listens. A port in use is an error: `SO_REUSEPORT` would let a second process share it silently.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Only lets the port be taken again while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Raises the limit of open files to the highest allowed, and gives how many of `wanted` connections fit below it.
pub fn raise_open_files(wanted: usize) -> usize {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            warn!(%error, "could not raise the limit of open files");
            return wanted;
        }
    };
    let connections = wanted.min(usize::try_from(limit - limit / 8).unwrap_or(usize::MAX));
    if limit < ENOUGH_OPEN_FILES {
        warn!(limit, recommended = ENOUGH_OPEN_FILES, connections, "few files may be open");
    }
    connections
}
