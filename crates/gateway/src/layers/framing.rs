//! Refuses a head that leaves it open where its body ends: two servers in a row might disagree on it. Most never come
//! this far: the parser refuses what it cannot read, and `net/request_target.rs` spoils two framings for it.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Request, Response, StatusCode};

use super::before::{Before, bare};
use crate::refusal::Cause;

/// Answers 400 to `Content-Length` beside `Transfer-Encoding`, and 501 to any coding but one `chunked`.
#[derive(Debug, Clone)]
pub(crate) struct Framing;

impl Before for Framing {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        let headers = request.headers();
        if !headers.contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let (status, cause) = if headers.contains_key(CONTENT_LENGTH) {
            (StatusCode::BAD_REQUEST, Cause::Framing)
        } else if !is_chunked(headers) {
            (StatusCode::NOT_IMPLEMENTED, Cause::Coding)
        } else {
            return None;
        };
        let mut response = bare(status);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Some(cause.mark(response))
    }
}

/// Our parser reads a body of several codings as the last has it, and others may not.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, inner};

    async fn answered(headers: &[(&str, &str)]) -> Response<Body> {
        let request = headers
            .iter()
            .fold(Request::post("/"), |request, (name, value)| request.header(*name, *value))
            .body(Body::empty());
        answer(&BeforeLayer(Framing), inner(), request.unwrap()).await
    }

    #[tokio::test]
    async fn one_framing_passes_and_two_do_not() {
        let framings = [("content-length", "5"), ("transfer-encoding", "chunked")];
        for (headers, status) in
            [(&framings[..0], 200), (&framings[..1], 200), (&framings[1..], 200), (&framings, 400)]
        {
            assert_eq!(answered(headers).await.status(), status, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn no_coding_but_one_chunked_is_taken_and_the_connection_ends() {
        let coding = |value| ("transfer-encoding", value);
        for headers in [
            &[coding("gzip, chunked")][..],
            &[coding("chunked, chunked")],
            &[coding(", chunked")],
            &[coding("chunked"), coding("chunked")],
            &[coding("identity"), coding("chunked")],
        ] {
            let response = answered(headers).await;
            assert_eq!(response.status(), 501, "{headers:?}");
            assert_eq!(response.headers()["connection"], "close");
        }
        assert_eq!(answered(&[coding("Chunked")]).await.status(), 200);
    }
}
