//! What clients are told about HTTPS: to come by it, and to keep to it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{HOST, LOCATION, STRICT_TRANSPORT_SECURITY};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use kit::error::ApiError;

use super::around::Around;
use super::before::{Before, bare};
use crate::net::{Peer, Transport};
use crate::refusal::Cause;

/// Where authorities look for the proofs that certificates are given for; they come without TLS.
pub(super) const CHALLENGES: &str = "/.well-known/acme-challenge/";

const DEFAULT_PORT: u16 = 443;

/// What is said about HTTPS; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct HttpsRules {
    /// The port that requests without TLS are sent to.
    pub redirect_to: Option<u16>,
    /// The value of `Strict-Transport-Security`.
    pub hsts: Option<HeaderValue>,
}

/// Answers 308 to what came without TLS, if there is such a rule.
#[derive(Debug, Clone)]
pub(crate) struct RedirectToHttps(pub(crate) Option<u16>);

/// Adds `Strict-Transport-Security` to what goes out by TLS: elsewhere browsers ignore it.
#[derive(Debug, Clone)]
pub(crate) struct Hsts(Option<Arc<HeaderValue>>);

impl Hsts {
    pub(crate) fn new(value: Option<HeaderValue>) -> Self {
        Self(value.map(Arc::new))
    }
}

impl Before for RedirectToHttps {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        let port = self.0?;
        if is_encrypted(request) || request.uri().path().starts_with(CHALLENGES) {
            return None;
        }
        let Some(location) = location(request, port) else {
            return Some(Cause::BadHost.mark(ApiError::bad_request().into_response()));
        };
        let mut response = bare(StatusCode::PERMANENT_REDIRECT);
        response.headers_mut().insert(LOCATION, location);
        Some(response)
    }
}

impl Around for Hsts {
    // Shared by the loop: every request's future has room for it.
    type Noted = Option<Arc<HeaderValue>>;

    fn note(&self, request: &mut Request<Body>) -> Option<Arc<HeaderValue>> {
        self.0.as_ref().filter(|_| is_encrypted(request)).cloned()
    }

    fn finish(hsts: Option<Arc<HeaderValue>>, response: &mut Response<Body>) {
        if let Some(hsts) = hsts {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HeaderValue::clone(&hsts));
        }
    }
}

fn is_encrypted(request: &Request<Body>) -> bool {
    request.extensions().get().is_some_and(|peer: &Peer| peer.transport == Transport::Tls)
}

/// The same place by HTTPS; none if the client does not say which host it means.
fn location(request: &Request<Body>, port: u16) -> Option<HeaderValue> {
    let of_header = || request.headers().get(HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let authority = request.uri().authority().cloned().or_else(of_header)?;
    let port = if port == DEFAULT_PORT { String::new() } else { format!(":{port}") };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let location = format!("https://{}{port}{target}", authority.host());
    // What is no URL is not sent to anybody.
    location.parse::<Uri>().ok()?;
    location.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::layers::around::AroundLayer;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, inner};

    fn request(target: &str, host: Option<&str>, transport: Transport) -> Request<Body> {
        let mut request = Request::get(target).body(Body::empty()).unwrap();
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host.parse().unwrap());
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Peer::new(address, transport));
        request
    }

    /// The status and place that a request gets.
    async fn redirected(port: u16, request: Request<Body>) -> (u16, String) {
        let response = answer(&BeforeLayer(RedirectToHttps(Some(port))), inner(), request).await;
        let location = response.headers().get(LOCATION).map(|location| location.to_str().unwrap().to_owned());
        (response.status().as_u16(), location.unwrap_or_default())
    }

    #[tokio::test]
    async fn what_comes_without_tls_is_sent_to_the_same_place_with_it() {
        let plain = |target, host| request(target, Some(host), Transport::Plain);
        let to = |place: &str| (308, place.to_owned());
        assert_eq!(redirected(443, plain("/a?b=c", "app.example:80")).await, to("https://app.example/a?b=c"));
        assert_eq!(redirected(8443, plain("/", "[::1]:8090")).await, to("https://[::1]:8443/"));
        assert_eq!(
            redirected(443, plain("http://app.example/a", "other")).await,
            to("https://app.example/a")
        );
        assert_eq!(redirected(443, plain("//evil.example", "a")).await, to("https://a//evil.example"));
        assert_eq!(redirected(443, plain("/", "user@evil.example")).await, to("https://evil.example/"));
    }

    #[tokio::test]
    async fn a_request_without_a_host_has_no_place() {
        assert_eq!(redirected(443, request("/", None, Transport::Plain)).await.0, 400);
        assert_eq!(redirected(443, request("/", Some("a b"), Transport::Plain)).await.0, 400);
    }

    #[tokio::test]
    async fn challenges_and_what_has_tls_stay() {
        let challenge = request("/.well-known/acme-challenge/x", Some("a"), Transport::Plain);
        assert_eq!(redirected(443, challenge).await.0, 200);
        assert_eq!(redirected(443, request("/", Some("a"), Transport::Tls)).await.0, 200);
    }

    #[tokio::test]
    async fn only_answers_by_tls_ask_browsers_to_keep_to_it() {
        let layer = AroundLayer(Hsts::new(Some(HeaderValue::from_static("max-age=1"))));
        let by_tls = answer(&layer, inner(), request("/", None, Transport::Tls)).await;
        assert_eq!(by_tls.headers()[STRICT_TRANSPORT_SECURITY], "max-age=1");
        let plain = answer(&layer, inner(), request("/", None, Transport::Plain)).await;
        assert!(!plain.headers().contains_key(STRICT_TRANSPORT_SECURITY));
    }
}
