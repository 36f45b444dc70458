//! Any bytes as those of a connection, through the parser and the first layers.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| gateway::fuzz::try_connection(bytes));
