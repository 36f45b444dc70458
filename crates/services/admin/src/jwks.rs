//! `GET /api/gs/jwks`: the keys by which other servers verify what they are told of callers. For everybody.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use identity::caller_keys::KeySet;
use kit::app::App;
use kit::error::ApiError;
use kit::respond;

/// A key is published a quarter of its time, or a day, before it signs: servers may well remember the set.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

pub(crate) async fn handle(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let keys = app.identity.caller_keys().current().ok_or_else(ApiError::not_found)?;
    Ok(answer(&keys))
}

/// The set as an answer.
pub fn answer(keys: &KeySet) -> Response {
    let mut response = respond::json(StatusCode::OK, keys.jwks().to_owned());
    response.headers_mut().insert(CACHE_CONTROL, CACHED);
    response
}
