//! From a listening socket to parsed requests: the socket, the acceptor, who may come in, one connection, and the rewriting of
//! request targets that our parser would refuse.

mod acceptor;
mod admission;
mod connection;
mod lingering;
mod listen;
mod proxy_protocol;
mod request_target;
mod stalling;

pub use acceptor::{Transport, accept};
pub use admission::{Admission, ConnectionRules};
pub use connection::ConnectionServer;
pub use listen::{bind, raise_open_files};

pub(crate) use acceptor::Accepted;
pub(crate) use connection::{Peer, Then};
pub(crate) use stalling::StallingStream;
