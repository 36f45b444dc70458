//! The store on SQLite as its callers see it.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod contract;
mod folder;
mod log;

use std::future::Future;

use store::sqlite::{Options, SqliteStore};
use tempfile::TempDir;

/// A store over a fresh folder, which lives as long.
fn fresh() -> (TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(Options::new(folder.path().join("data"))).unwrap();
    (folder, store)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}
