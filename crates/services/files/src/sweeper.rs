//! Removes files that were stored for a write that did not come: their notes grow old
//! (`Step::NoteUploads`). What a request can remove itself, it has removed; this is for requests that were
//! cut off, and for processes that died.

use std::sync::Arc;
use std::time::Duration;

use contract::blobs::{BlobKey, Blobs};
use contract::store::{Store, StoreError};
use kit::app::now;
use model::step::{Step, StepResult, WriteBatch};
use model::time::Timestamp;
use tokio_util::sync::CancellationToken;

/// How old a note must be: far longer than a request may take from its note to its write.
pub const GRACE: Duration = Duration::from_secs(3_600);
/// How often notes are looked at.
const INTERVAL: Duration = Duration::from_secs(300);
/// Files of one round of calls.
const BATCH: usize = 100;

/// Sweeps until it is told to stop: at once, and then every few minutes.
pub async fn run(store: Arc<dyn Store>, blobs: Arc<dyn Blobs>, stop: CancellationToken) {
    loop {
        let grace = i64::try_from(GRACE.as_millis()).unwrap_or(i64::MAX);
        let swept = sweep(&*store, &*blobs, Timestamp(now().0.saturating_sub(grace)));
        tokio::select! {
            swept = swept => match swept {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "removed files that no record names"),
                Err(error) => tracing::warn!(%error, "files that no record names could not be removed"),
            },
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Removes the files whose note was made before an instant, or that were given up. Returns how many.
pub async fn sweep(store: &dyn Store, blobs: &dyn Blobs, before: Timestamp) -> Result<usize, StoreError> {
    let mut count = 0;
    loop {
        let stale = store.stale_uploads(before, BATCH).await?;
        if stale.is_empty() {
            return Ok(count);
        }
        // Only what is given up may be removed: until then a write may come and name it.
        let results = store.write(WriteBatch::one(Step::GiveUpUploads(stale))).await?;
        let Ok(Some(StepResult::GivenUp(keys))) = results.map(|mut results| results.pop()) else {
            return Ok(count);
        };
        for key in keys.iter().filter_map(|key| BlobKey::parse(key)) {
            if let Err(error) = blobs.delete(key).await {
                return Err(StoreError::Unavailable(error.to_string()));
            }
        }
        count += keys.len();
        let _ = store.write(WriteBatch::one(Step::ForgetUploads(keys))).await?;
    }
}
