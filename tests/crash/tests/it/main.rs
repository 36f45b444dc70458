//! Crash, disk and concurrency tests of the whole server. `SOAK=1` makes the long ones longer.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod app;
mod concurrency;
mod files;
mod full_disk;
mod kill;
mod schema_changes;
mod secrets;
