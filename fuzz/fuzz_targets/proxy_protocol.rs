//! Any bytes as the beginning of a proxy's connection.

#![no_main]

use libfuzzer_sys::fuzz_target;

// It is private in its crate: the same source is built in here.
#[allow(dead_code, reason = "the reading of a stream is not tried here")]
#[rustfmt::skip]
#[path = "../../crates/gateway/src/net/proxy_protocol.rs"]
mod proxy_protocol;

fuzz_target!(|bytes: &[u8]| proxy_protocol::try_bytes(bytes));
