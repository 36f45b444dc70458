//! Small transactions that are no batches.

use contract::store::StoreError;

use super::Inner;
use super::error::Error;
use super::transaction::BatchTransaction;

/// Runs something small in a transaction of its own.
pub(super) async fn run<T>(
    inner: &Inner,
    work: impl AsyncFnOnce(&mut BatchTransaction) -> Result<T, Error>,
) -> Result<T, StoreError> {
    let lease = inner.pools.lease().await.map_err(Error::into_store_error)?;
    let mut transaction =
        BatchTransaction::begin_plain(lease.session().clone(), inner.options.write_deadline)
            .await
            .map_err(Error::into_store_error)?;
    let answer = work(&mut transaction).await.map_err(Error::into_store_error)?;
    match transaction.commit().await {
        Ok(()) => {
            lease.finish();
            Ok(answer)
        }
        Err(Error::Commit(text)) => Err(StoreError::Unknown(text)),
        Err(error) => Err(error.into_store_error()),
    }
}
