//! Real servers for tests: each a child process in a temporary folder on a free loopback port.
//!
//! [`PocketBase::start`] and [`Groundswell::start`] both give a [`Server`] that already answers, has
//! the superuser [`ROOT_EMAIL`] / [`ROOT_PASSWORD`], and ends when dropped. [`Client`] sends any bytes
//! to it, also such as a decent client would never send. [`postgres::Postgres`] is the store's server. What the answers ought to be is left to the
//! suites that use this crate.
//!
//! [`store_suite!`] is the store's contract as tests, [`blob_suite!`] that of the blobs, [`broker_suite!`] the broker's,
//! for any adapter.

pub mod blob_suite;
pub mod broker_suite;
mod client;
mod groundswell;
mod pocketbase;
pub mod postgres;
pub mod receiver;
mod server;
pub mod store_suite;
mod stream;
mod supervisor;
pub mod wire;

use std::path::{Path, PathBuf};

pub use client::{Client, Request, Response};
pub use groundswell::Groundswell;
pub use pocketbase::PocketBase;
pub use server::Server;
pub use stream::Stream;

/// The superuser that every started server has.
pub const ROOT_EMAIL: &str = "root@example.com";
/// The password of [`ROOT_EMAIL`].
pub const ROOT_PASSWORD: &str = "password1234";

/// The folder of the workspace's `Cargo.toml`.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies in crates/testkit")
}

/// Whether this is a run that must not skip anything (`CI=true`).
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}
