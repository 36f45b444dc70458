//! The `admin` service: collections, settings, health and the server's own state (CONTRACT §3, §8.1,
//! §1.7). What it does not do yet it refuses by name: [`not_yet`].

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post, put};
use kit::app::App;

mod collection_list;
mod collections;
mod health;
mod import;
mod jwks;
mod not_yet;
mod save;
mod settings;
mod status;
mod view;

pub use jwks::answer as jwks_answer;

/// The service's routes.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/health", get(health::handle))
        .route("/api/settings", get(settings::view).patch(settings::update))
        .route("/api/collections", get(collection_list::handle).post(collections::create))
        .route("/api/collections/import", put(import::handle).get(collections::view_import))
        .route("/api/collections/meta/scaffolds", get(collections::scaffolds))
        .route("/api/collections/meta/dry-run-view", post(view::dry_run))
        .route(
            "/api/collections/{collection}",
            get(collections::view).patch(collections::update).delete(collections::remove),
        )
        .route("/api/collections/{collection}/truncate", delete(collections::truncate))
        .route("/api/gs/jwks", get(jwks::handle))
        .route("/api/gs/status", get(status::handle))
        .merge(not_yet::router())
}
