//! One process takes the place of another over the same data folder, and no request is lost.
//!
//! The new one (`serve --take-over`) asks over the control socket of the folder. What then happens, in order:
//!
//! 1. The old one sends its listening sockets. It goes on as before, and so it does if the new one fails now.
//! 2. The new one prepares all that it can without the folder, and says that it is ready.
//! 3. The old one ends what works in the background, accepts no more, lets no more requests in (they wait, those in new
//!    connections in the kernel's queue), waits for the answers of those that are in, ends its streams and its writer, and
//!    gives the folder up.
//! 4. The new one opens it, accepts, and says that it serves.
//! 5. What waited, and what still comes over connections of the old one, is handed on to the new one over a socket in the
//!    folder ([`gateway::Passage`]). The old one ends when its connections have, at the latest after the drain timeout.
//!
//! After step 3 there is no way back: if the new one fails then, what waits is answered 503, and the old one ends, too.

mod new;
mod old;

pub(crate) use new::{Predecessor, Released};
pub(crate) use old::{Leaving, Listeners, Successor, passage};

/// The line that asks.
pub(crate) const REQUEST: &str = "{\"take_over\":true}\n";

const READY: &str = "ready\n";
const RELEASED: &str = "released\n";
const SERVING: &str = "serving\n";

/// Longest line of either side.
const MAX_LINE_BYTES: usize = 256;

/// The listening sockets, by what they are for. Their names go before them.
const HTTP: &str = "http";
const HTTPS: &str = "https";
const INTERNAL: &str = "internal";
const MANAGEMENT: &str = "management";

/// Most sockets that are sent.
const MAX_SOCKETS: usize = 8;

/// Where in the data folder requests are handed on.
const PASSAGE: &str = ".gs.passage.sock";
