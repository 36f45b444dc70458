//! From a listening socket to parsed requests: the socket, the acceptor, who may come in, one connection of HTTP/1.1 or
//! HTTP/2, and the rewriting of request targets that our parser would refuse.

mod acceptor;
mod admission;
mod connection;
mod http2;
mod lingering;
mod listen;
mod preface;
mod proxy_protocol;
mod request_target;
mod stalling;

pub use acceptor::{Transport, accept};
pub use admission::{Admission, ConnectionRules};
pub use connection::ConnectionServer;
pub use listen::{bind, raise_open_files};

pub(crate) use acceptor::{Accepted, Socket};
pub(crate) use admission::of_one_host;
pub(crate) use connection::{Peer, Protocol, Then};
pub(crate) use stalling::StallingStream;
