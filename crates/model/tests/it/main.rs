//! The crate as its users see it, held against the real PocketBase where that is at hand.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test stops and reports"
)]

mod diff;
mod differential;
mod pocketbase;
mod properties;
mod secrets;
mod values;
