//! Sign-in by code and by other services cannot be switched on in this version, so that these routes
//! answer as the contract does where they are off; what needs mail says that there is none.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use kit::app::App;
use kit::error::ApiError;

use crate::collection;

/// The refusing routes.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/collections/{collection}/request-otp", post(otp_is_off))
        .route("/api/collections/{collection}/auth-with-otp", post(otp_is_off))
        .route("/api/collections/{collection}/auth-with-oauth2", post(oauth2_is_off))
        .route("/api/collections/{collection}/request-verification", post(mail_is_missing))
        .route("/api/collections/{collection}/confirm-verification", post(mail_is_missing))
        .route("/api/collections/{collection}/request-password-reset", post(mail_is_missing))
        .route("/api/collections/{collection}/confirm-password-reset", post(mail_is_missing))
        .route("/api/collections/{collection}/request-email-change", post(mail_is_missing))
        .route("/api/collections/{collection}/confirm-email-change", post(mail_is_missing))
}

async fn otp_is_off(app: State<Arc<App>>, name: Path<String>) -> ApiError {
    refuse(&app, &name, "The collection is not configured to allow OTP authentication.")
}

async fn oauth2_is_off(app: State<Arc<App>>, name: Path<String>) -> ApiError {
    refuse(&app, &name, "The collection is not configured to allow OAuth2 authentication.")
}

fn refuse(app: &App, name: &str, message: &'static str) -> ApiError {
    match collection::of_path(app, name) {
        Ok(_) => ApiError::forbidden_with(message),
        Err(error) => error,
    }
}

async fn mail_is_missing(app: State<Arc<App>>, name: Path<String>) -> ApiError {
    match collection::of_path(&app, &name) {
        Ok(_) => ApiError::bad_request_with("Sending mail is not available in this version."),
        Err(error) => error,
    }
}
