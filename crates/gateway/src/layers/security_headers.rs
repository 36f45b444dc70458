//! The headers of every routed response that tell browsers to be careful with it, and the one that none has.

use axum::body::Body;
use axum::http::header::{ALLOW, HeaderName, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION};
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use kit::respond::AllowFraming;

use super::around::Around;

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Adds them, unless the response is [`Unrouted`].
#[derive(Debug, Clone)]
pub(crate) struct SecurityHeaders;

/// A response's extension: the request was refused before the router, whose headers it then lacks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unrouted;

impl Around for SecurityHeaders {
    type Noted = ();

    fn note(&self, _: &mut Request<Body>) {}

    fn finish((): (), response: &mut Response<Body>) {
        let may_be_framed = response.extensions().get::<AllowFraming>().is_some();
        let is_routed = response.extensions().get::<Unrouted>().is_none();
        let headers = response.headers_mut();
        // The router names a path's methods; the contract's server knows no such thing.
        headers.remove(ALLOW);
        if is_routed {
            secure(headers, may_be_framed);
        }
    }
}

fn secure(headers: &mut HeaderMap, may_be_framed: bool) {
    headers.insert(X_XSS_PROTECTION, HeaderValue::from_static("1; mode=block"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !may_be_framed {
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    }
    headers.insert(CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::around::AroundLayer;
    use crate::layers::testing::{answer, answering};

    /// The names of the headers of an answer that had `Allow` and this extension.
    async fn headers_with<T: Clone + Send + Sync + 'static>(extension: T) -> String {
        let inner = answering(move || {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            response.extensions_mut().insert(extension.clone());
            response
        });
        let response = answer(&AroundLayer(SecurityHeaders), inner, Request::new(Body::empty())).await;
        response.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn a_service_may_allow_framing_and_a_refusal_has_none_of_them() {
        assert_eq!(
            headers_with(()).await,
            "x-xss-protection x-content-type-options x-frame-options cross-origin-opener-policy"
        );
        assert_eq!(
            headers_with(AllowFraming).await,
            "x-xss-protection x-content-type-options cross-origin-opener-policy"
        );
        assert_eq!(headers_with(Unrouted).await, "");
    }
}
