//! Any bytes as those of a connection, cut in two.

#![no_main]

use libfuzzer_sys::fuzz_target;

// It is private in its crate: the same source is built in here.
#[allow(dead_code, reason = "the stream around it is not tried here")]
#[rustfmt::skip]
#[path = "../../crates/gateway/src/net/request_target.rs"]
mod request_target;

fuzz_target!(|bytes: &[u8]| request_target::try_bytes(bytes));
