//! Any bytes as those of a signed caller, past the signature.

#![no_main]

use libfuzzer_sys::fuzz_target;

// It is private in its crate: the same source is built in here.
#[allow(dead_code, reason = "the signature around it is not tried here")]
#[rustfmt::skip]
#[path = "../../crates/identity/src/signed_caller/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| wire::try_bytes(bytes));
