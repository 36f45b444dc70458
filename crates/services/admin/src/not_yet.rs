//! Routes of the contract that this version does not serve. Each answers 400 and says so, past the
//! contract's own guard; none answers as if it had done something.

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get, post};
use kit::app::App;
use kit::error::ApiError;
use kit::request::Call;

macro_rules! refuse {
    ($what:literal) => {
        async || ApiError::bad_request_with(concat!($what, " not available in this version."))
    };
}

macro_rules! refuse_superuser {
    ($what:literal) => {
        async |call: Call| match call.require_superuser() {
            Ok(()) => ApiError::bad_request_with(concat!($what, " not available in this version.")),
            Err(error) => error,
        }
    };
}

/// The refusing routes.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/realtime", get(refuse!("Realtime is")).post(refuse!("Realtime is")))
        .route("/api/oauth2-redirect", any(refuse!("OAuth2 sign-in is")))
        .route("/api/settings/test/s3", post(refuse_superuser!("S3 storage is")))
        .route("/api/settings/test/email", post(refuse_superuser!("Sending mail is")))
        .route("/api/settings/apple/generate-client-secret", post(refuse_superuser!("OAuth2 sign-in is")))
        .route("/api/collections/meta/oauth2-providers", get(refuse_superuser!("OAuth2 sign-in is")))
        .route(
            "/api/logs",
            get(refuse_superuser!("The log API is")).delete(refuse_superuser!("The log API is")),
        )
        .route("/api/logs/stats", get(refuse_superuser!("The log API is")))
        .route("/api/logs/{id}", get(refuse_superuser!("The log API is")))
        .route("/api/backups", get(refuse_superuser!("Backups are")).post(refuse_superuser!("Backups are")))
        .route("/api/backups/upload", post(refuse_superuser!("Backups are")))
        .route("/api/backups/{key}", get(refuse!("Backups are")).delete(refuse_superuser!("Backups are")))
        .route("/api/backups/{key}/restore", post(refuse_superuser!("Backups are")))
        .route("/api/sql", post(refuse_superuser!("The SQL console is")))
}
