//! One attempt of something that may fail in every way.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use contract::jobs::JobError;
use futures_util::FutureExt as _;

/// Waits for the work until the deadline. A panic is a failure of this attempt alone.
pub(crate) async fn attempt<T: From<Result<(), JobError>>>(
    work: impl Future<Output = T>,
    deadline: Duration,
) -> T {
    let failure = match tokio::time::timeout(deadline, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(finished)) => return finished,
        Ok(Err(_)) => "the handler panicked".to_owned(),
        Err(_) => format!("not done in {deadline:?}"),
    };
    T::from(Err(JobError::Again(failure)))
}
