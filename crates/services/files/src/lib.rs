//! The `files` service: downloads, file tokens and thumbs (CONTRACT §6), and the removal of files that
//! nobody names, or names any more ([`cleanup`]). Files come in through the `records` service, as parts of a record.

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Router};
use kit::app::App;

pub mod cleanup;
mod content_type;
mod download;
mod sending;
pub mod sweeper;
pub mod thumb;
mod thumbs;
mod token;

use sending::Sending;
use thumbs::Thumbs;

/// What downloads share, for the whole process.
#[derive(Default)]
pub struct Downloads {
    thumbs: Thumbs,
    sending: Sending,
}

/// The service's routes. `downloads` is one for the process.
pub fn router(downloads: Arc<Downloads>) -> Router<Arc<App>> {
    Router::new()
        .route("/api/files/token", post(token::handle))
        .route("/api/files/{collection}/{record}/{name}", get(download::handle))
        .layer(Extension(downloads))
}
