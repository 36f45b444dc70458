//! The `auth` service: signing in and what follows from it (CONTRACT §5).
//!
//! Whoever signs in is looked up by an identity field, proven by a password in the hash pool, judged by
//! the collection's auth rule, and answered with a token and the record as its owner sees it.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use kit::app::App;

mod answer;
mod auth_methods;
mod auth_refresh;
mod auth_with_password;
mod collection;
mod impersonate;
mod not_yet;

/// The service's routes.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/collections/{collection}/auth-methods", get(auth_methods::handle))
        .route("/api/collections/{collection}/auth-with-password", post(auth_with_password::handle))
        .route("/api/collections/{collection}/auth-refresh", post(auth_refresh::handle))
        .route("/api/collections/{collection}/impersonate/{id}", post(impersonate::handle))
        .merge(not_yet::router())
}
