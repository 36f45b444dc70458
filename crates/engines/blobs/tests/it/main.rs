//! The blobs' adapters as their callers see them.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod contract;
mod encrypted;
mod folder;

use std::sync::Arc;

use ::contract::blobs::BlobKey;
use blobs::{FolderBlobs, Options};
use tempfile::TempDir;

/// Blobs in a fresh folder, which lives as long.
fn fresh() -> (TempDir, Arc<FolderBlobs>) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(Options::new(folder.path().join("blobs"))).unwrap();
    (folder, Arc::new(blobs))
}

fn key(text: &str) -> BlobKey {
    BlobKey::parse(text).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}
