//! The crate as its users see it, held against the reference binary where that is at hand.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics has failed")]

mod diff;
mod differential;
mod properties;
mod reference_server;
mod secrets;
