//! The auth collection that a path names.

use std::sync::Arc;

use kit::app::App;
use kit::error::ApiError;
use model::collection::{AuthOptions, Collection};

/// 404 when there is none, or when its records do not sign in.
pub(crate) fn of_path(app: &App, name: &str) -> Result<Arc<Collection>, ApiError> {
    let collection =
        app.store.schema().find(name).cloned().ok_or_else(ApiError::missing_or_invalid_collection)?;
    if collection.is_auth() { Ok(collection) } else { Err(ApiError::not_an_auth_collection()) }
}

/// The options of a collection of which [`of_path`] made sure.
pub(crate) fn options(collection: &Collection) -> Result<&AuthOptions, ApiError> {
    collection.auth().ok_or_else(ApiError::not_an_auth_collection)
}
