//! Any bytes as a rule, a client's filter, and a sort.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model::filter::fuzz::Trial;

static TRIAL: LazyLock<Trial> = LazyLock::new(Trial::new);

fuzz_target!(|bytes: &[u8]| TRIAL.try_bytes(bytes));
