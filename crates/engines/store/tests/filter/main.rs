//! The filter language on SQLite: against the evaluator, and against the real PocketBase.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod agreement;
mod differential;
mod pocketbase;
mod postgres;
mod speed;
mod tables;
