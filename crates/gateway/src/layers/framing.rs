//! Refuses a head that says twice where its body ends: two servers in a row might disagree on it. Most never come
//! this far (`net/request_target.rs` spoils them).

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::{Request, Response, StatusCode};

use super::before::{Before, bare};

/// Answers 400 to `Content-Length` beside `Transfer-Encoding`.
#[derive(Debug, Clone)]
pub(crate) struct Framing;

impl Before for Framing {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        let headers = request.headers();
        let is_framed_twice = headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
        is_framed_twice.then(|| bare(StatusCode::BAD_REQUEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, inner};

    #[tokio::test]
    async fn one_framing_passes_and_two_do_not() {
        let framings = [("content-length", "5"), ("transfer-encoding", "chunked")];
        for (headers, status) in
            [(&framings[..0], 200), (&framings[..1], 200), (&framings[1..], 200), (&framings, 400)]
        {
            let request = headers
                .iter()
                .fold(Request::post("/"), |request, (name, value)| request.header(*name, *value))
                .body(Body::empty());
            let response = answer(&BeforeLayer(Framing), inner(), request.unwrap()).await;
            assert_eq!(response.status(), status, "{headers:?}");
        }
    }
}
