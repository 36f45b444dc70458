//! The edge: what every request passes before a service sees it, and every response after.

mod front;
mod layers;
mod loops;
mod net;

pub use front::Front;
pub use layers::Origins;
pub use loops::RequestLoops;
pub use net::{ConnectionServer, accept, bind, raise_open_files};
