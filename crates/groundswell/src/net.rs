//! From a listening socket to parsed requests: the socket, the acceptor, one connection, and the rewriting of
//! request targets that our parser would refuse.

mod acceptor;
mod connection;
mod lingering;
mod listen;
mod request_target;
mod stalling;

pub(crate) use acceptor::{Accepted, accept};
pub(crate) use connection::ConnectionServer;
pub(crate) use listen::{bind, raise_open_files};
