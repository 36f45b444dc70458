//! Gives every request an id, by which its answer, logs and traces name it.

use axum::body::Body;
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use kit::request::RequestId;

use super::around::Around;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request id of a client is kept if it is no longer than this.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// Puts a request's [`RequestId`] into the response's `X-Request-Id`.
#[derive(Debug, Clone)]
pub(crate) struct RequestIds;

impl Around for RequestIds {
    type Noted = HeaderValue;

    fn note(&self, request: &mut Request<Body>) -> HeaderValue {
        give(request)
    }

    fn finish(id: HeaderValue, response: &mut Response<Body>) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
}

/// The id among a request's extensions, where there is one from here on.
pub(crate) fn give(request: &mut Request<Body>) -> HeaderValue {
    if let Some(RequestId(id)) = request.extensions().get() {
        return id.clone();
    }
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(id.clone()));
    id
}

/// The request's id: its own if it looks like one, otherwise a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_id = |own: &&HeaderValue| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&own.len())
            && own.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
    };
    headers.get(X_REQUEST_ID).filter(is_id).cloned().unwrap_or_else(new_request_id)
}

fn new_request_id() -> HeaderValue {
    let id: u64 = rand::random();
    // Each request has one, and `format!` would take several times as long.
    let text: [u8; 16] =
        std::array::from_fn(|digit| b"0123456789abcdef"[(id >> (60 - 4 * digit)) as usize & 15]);
    HeaderValue::from_bytes(&text).expect("hexadecimal digits are a header value")
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::layers::around::AroundLayer;
    use crate::layers::testing::{answer, text};

    /// The id that the answer names, having seen that the service was told the same.
    async fn id_for(own: &str) -> String {
        let told = service_fn(|request: Request<Body>| async move {
            let id = request.extensions().get::<RequestId>().unwrap();
            Ok(Response::new(Body::from(id.as_str().to_owned())))
        });
        let request = Request::get("/").header(X_REQUEST_ID, own).body(Body::empty());
        let response = answer(&AroundLayer(RequestIds), told, request.unwrap()).await;
        let id = response.headers()[X_REQUEST_ID].to_str().unwrap().to_owned();
        assert_eq!(text(response).await, id);
        id
    }

    #[tokio::test]
    async fn a_clients_id_is_kept_if_it_looks_like_one() {
        assert_eq!(id_for("a-B_1.2:3").await, "a-B_1.2:3");
        let longest = "a".repeat(MAX_REQUEST_ID_BYTES);
        assert_eq!(id_for(&longest).await, longest);
        for other in ["", "a b", "a\"b", &"a".repeat(MAX_REQUEST_ID_BYTES + 1)] {
            let id = id_for(other).await;
            assert!(id != other && id.len() == 16, "{id}");
        }
    }
}
