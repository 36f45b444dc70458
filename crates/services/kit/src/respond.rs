//! Answers that are not errors.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// A JSON answer from its text. The type has no charset, as in the contract.
pub fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    // Room for those that the gateway adds.
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.headers_mut() = headers;
    response
}

/// Marks an answer that must not be compressed, because it carries a secret: the length of a
/// compressed answer tells about what else is in it.
#[derive(Debug, Clone, Copy)]
pub struct NoCompression;

/// Marks an answer that other sites' pages may frame: it goes without `X-Frame-Options`.
#[derive(Debug, Clone, Copy)]
pub struct AllowFraming;

/// A JSON answer that carries a token.
pub fn secret_json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = json(status, body);
    response.extensions_mut().insert(NoCompression);
    response
}

/// 204: no body and no type.
pub fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
