//! The `files` service: downloads, file tokens and thumbs (CONTRACT §6), and the removal of files that
//! nobody names, or names any more ([`cleanup`]). Files come in through the `records` service, as parts of a record.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use kit::app::App;

pub mod cleanup;
mod content_type;
mod download;
pub mod sweeper;
mod token;

/// The service's routes.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/files/token", post(token::handle))
        .route("/api/files/{collection}/{record}/{name}", get(download::handle))
}
