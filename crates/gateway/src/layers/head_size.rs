//! Refuses a head above its bound, however its bytes arrived.

use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, StatusCode};

use super::before::{Before, bare};
use crate::refusal::Cause;

/// How large a request's head may be.
pub(crate) const MAX_HEAD_BYTES: usize = 128 * 1024;

/// Answers 431 to a larger one.
#[derive(Debug, Clone)]
pub(crate) struct HeadSize;

impl Before for HeadSize {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        if !is_too_large(request) {
            return None;
        }
        let mut response = bare(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Some(Cause::HeadSize.mark(response))
    }
}

/// hyper looks at its bound only between two reads, and one that begins just below it may go past it by as much
/// again: whether it refuses a head of that size depends on how the client's bytes happen to arrive.
fn is_too_large(request: &Request<Body>) -> bool {
    let lines = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    target + lines.sum::<usize>() > MAX_HEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, inner};

    async fn status_of(value_bytes: usize) -> StatusCode {
        let request = Request::get("/").header("x-large", "a".repeat(value_bytes)).body(Body::empty());
        answer(&BeforeLayer(HeadSize), inner(), request.unwrap()).await.status()
    }

    #[tokio::test]
    async fn a_head_may_be_as_large_as_the_bound_and_no_larger() {
        let rest = "/".len() + "x-large".len() + 4;
        assert_eq!(status_of(MAX_HEAD_BYTES - rest).await, 200);
        assert_eq!(status_of(MAX_HEAD_BYTES - rest + 1).await, 431);
    }

    #[tokio::test]
    async fn the_connection_of_a_refused_head_ends() {
        let request = Request::get("/").header("x-large", "a".repeat(MAX_HEAD_BYTES)).body(Body::empty());
        let response = answer(&BeforeLayer(HeadSize), inner(), request.unwrap()).await;
        assert_eq!(response.headers()["connection"], "close");
    }
}
