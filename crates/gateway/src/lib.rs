//! The edge: what every request passes before a service sees it, and every response after.
//!
//! [`accept`] takes connections from a listening socket and hands each to a loop of the [`RequestLoops`], where, after
//! the handshake of [`Tls`] if the socket is for that, a [`ConnectionServer`] reads its requests and gives them to the [`stack()`]: `tower` layers, each of which does one
//! thing (`layers/`), over an [`Upstream`]. So far that is the router of this process's services, called directly;
//! nothing above it can tell. Every layer over an upstream is one again.
//!
//! The order of the layers (`stack.rs`), from the connection down, and why:
//!
//! 0. HTTPS: a redirect to it, and the header that asks browsers to keep to it, on every answer that goes by it.
//! 1. What the head alone decides: its size, a clean path, one framing, preflights. They are answered without an id,
//!    a count and a routed response's headers, as the contract has it. The size comes first, since what it refuses
//!    is looked at no further; the path before the framing, since that order is what clients see.
//! 2. The request's id, above all that names it.
//! 3. The count and the line of the log: every answer from here down is in it, also a refusal or a caught panic.
//! 4. What every such answer has: CORS, then the security headers.
//! 5. Compression, beneath what only adds headers, above whatever makes a body.
//! 6. The catching of panics, above all that asks the store or runs a service.
//! 7. Who asks: the last to know before the upstream, and the only layer that waits.
//!
//! What a response says to the layers above it travels among its extensions: [`kit::respond::AllowFraming`],
//! [`kit::respond::NoCompression`], and `Unrouted` for a refusal of the edge's own. To the upstream goes a
//! [`kit::request::CallInfo`].
//!
//! A request costs the stack no boxed future, and no lock but that of the tokens that are remembered. What a stack
//! answers from is its loop's own; a connection's clone of it shares that by a few counted pointers.

mod gateway;
mod layers;
mod loops;
mod net;
mod proxy;
mod routes;
mod stack;
mod tls;
mod upstream;
mod upstreams;

pub use gateway::{Gateway, NoSuchUpstream};
pub use layers::caller::Callers;
pub use layers::cors::Origins;
pub use layers::https::HttpsRules;
pub use loops::RequestLoops;
pub use net::{ConnectionServer, Transport, accept, bind, raise_open_files};
pub use routes::{HostPattern, Route, Target};
pub use stack::stack;
pub use tls::{CertificateFiles, CertificateProblem, Certificates, Tls};
pub use upstream::{Answer, Upstream};
pub use upstreams::{Balance, HealthCheck, ServerUrl, UpstreamSettings};
