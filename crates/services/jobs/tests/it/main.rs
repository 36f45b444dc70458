//! The worker and the routes' work on a real store.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod expired;
mod queues;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jobs::Wakeup;
use store::sqlite::{Options, SqliteStore};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store over a fresh folder, which lives as long, and what it tells of jobs.
fn fresh() -> (TempDir, Arc<SqliteStore>, Arc<Wakeup>) {
    let folder = tempfile::tempdir().unwrap();
    let wakeup = Arc::new(Wakeup::default());
    let options = Options { observers: vec![wakeup.clone()], ..Options::new(folder.path().join("data")) };
    let store = Arc::new(SqliteStore::open(options).unwrap());
    (folder, store, wakeup)
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
