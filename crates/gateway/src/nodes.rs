//! One application on several nodes: a gateway before a node that runs the services and owns the store.
//!
//! On the gateway the stack is the same, and its foot is a [`Remote`]: it signs who asks (`identity::signed_caller`) and
//! sends the request to a node that runs the services. There the [`internal`] stack, behind a listener of its own, takes
//! only what a node signed, decides with the client's token who asks, counts the limits of requests, and calls the
//! services. What the contract has of an edge besides (clean paths, CORS, the headers of routed answers, compression) the
//! gateway does; what an answer says to those layers crosses in a header ([`marks`]).
//!
//! Whose token is whose a gateway asks, once for each token: it has no secret of a collection. It remembers the answer
//! until the token may count no more, of which a stream of [`Notices`] tells it (`link.rs`), together with the settings
//! that the edge goes by. While a stream is silent nothing that is remembered is believed. The services
//! verify the token of every request by themselves, so a token that was revoked counts nowhere from then on, whatever a
//! gateway remembers.
//!
//! What servers behind routes are told of a caller the services sign for it, too: their keys stay there.
//!
//! A client of realtime is at the node whose code its id begins with (`client_id.rs`).

mod client_id;
mod door;
mod foot;
mod internal;
mod link;
mod marks;
mod message;
mod notices;
mod remote;
mod service_nodes;

pub use door::Doors;
pub use foot::Foot;
pub use internal::{Internal, internal};
pub use notices::Notices;
pub use remote::Remote;
pub use service_nodes::ServiceNodes;
pub(crate) use service_nodes::TOLD_AS;

pub(crate) use remote::CameFrom;

/// Where a gateway asks whose a token is.
const CALLER_PATH: &str = "/internal/caller";
/// Where it has signed what other servers are told of a caller.
const TOKEN_PATH: &str = "/internal/token";
/// Where it follows what it must know.
const EVENTS_PATH: &str = "/internal/events";
