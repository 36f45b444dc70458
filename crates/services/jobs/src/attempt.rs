//! One attempt of something that may fail in every way.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use contract::jobs::JobError;
use futures_util::FutureExt as _;

/// Waits for the work until the deadline. A panic is a failure of this attempt alone.
pub(crate) async fn attempt(
    work: impl Future<Output = Result<(), JobError>>,
    deadline: Duration,
) -> Result<(), JobError> {
    match tokio::time::timeout(deadline, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(JobError::Again("the handler panicked".to_owned())),
        Err(_) => Err(JobError::Again(format!("not done in {deadline:?}"))),
    }
}
