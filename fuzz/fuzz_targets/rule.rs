//! Any bytes as a condition of `[[gateway.rules]]`, and as a request that it is asked for.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| gateway::fuzz::try_rule(bytes));
