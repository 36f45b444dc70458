//! The model against the real PocketBase, where there is one.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops and reports")]

mod pocketbase;
mod values;
