//! Errors that no service answers, in the contract's shape.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};

/// Messages of the contract's table; `File not found.` is the public folder's own.
pub(super) const NOT_FOUND: &str = "The requested resource wasn't found.";
pub(super) const FILE_NOT_FOUND: &str = "File not found.";
pub(super) const TOO_LARGE: &str = "Request entity too large.";
pub(super) const SOMETHING_WRONG: &str = "Something went wrong while processing your request.";

/// An error with empty data. `message` needs no escaping in JSON: it is one of ours.
pub(super) fn response(status: StatusCode, message: &'static str) -> Response<Body> {
    let body = format!(r#"{{"data":{{}},"message":"{message}","status":{}}}"#, status.as_u16());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
