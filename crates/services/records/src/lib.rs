//! The `records` service: create, read, update and delete records under their collections' rules
//! (CONTRACT §4).
//!
//! A read asks the store with the conditions that the rules put on it; a write becomes a batch of one
//! step, and everything that depends on the stored row is decided there.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use kit::app::App;

mod batch;
mod before_hooks;
mod collection;
mod create_record;
mod delete_record;
mod list_records;
mod passwords;
mod refusal;
mod update_record;
mod uploads;
mod view_record;

/// The service's routes.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/batch", post(batch::handle))
        .route("/api/collections/{collection}/records", get(list_records::handle).post(create_record::handle))
        .route(
            "/api/collections/{collection}/records/{id}",
            get(view_record::handle).patch(update_record::handle).delete(delete_record::handle),
        )
}
