//! Refuses a head that does not say which host it is for, or says it in a way that servers read differently.

use axum::body::Body;
use axum::http::header::{CONNECTION, HOST};
use axum::http::{HeaderValue, Request, Response, StatusCode, Version};

use super::before::{Before, bare};
use crate::refusal::Cause;

/// Answers 400 to two `Host` headers, to one that is no host, and in HTTP/1.1 to none (RFC 9112, section 3.2).
#[derive(Debug, Clone)]
pub(crate) struct OneHost;

impl Before for OneHost {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        let mut named = request.headers().get_all(HOST).iter();
        let is_good = match (named.next(), named.next()) {
            (Some(host), None) => host.as_bytes().iter().all(may_be_in_a_host),
            (None, _) => request.version() != Version::HTTP_11,
            (Some(_), Some(_)) => false,
        };
        if is_good {
            return None;
        }
        let mut response = bare(StatusCode::BAD_REQUEST);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Some(Cause::BadHost.mark(response))
    }
}

/// What stands in names, addresses and ports (RFC 3986, section 3.2.2): no slash, no `@`, no space.
fn may_be_in_a_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, inner};

    async fn status(version: Version, hosts: &[&[u8]]) -> StatusCode {
        let request = hosts
            .iter()
            .fold(Request::get("/").version(version), |request, host| request.header(HOST, *host));
        answer(&BeforeLayer(OneHost), inner(), request.body(Body::empty()).unwrap()).await.status()
    }

    #[tokio::test]
    async fn a_request_names_one_host() {
        for host in ["a.example", "a.example:8090", "[::1]:80", "127.0.0.1", "", "a_b"] {
            assert_eq!(status(Version::HTTP_11, &[host.as_bytes()]).await, 200, "{host}");
        }
        for hosts in
            [&[][..], &[b"a".as_slice(), b"b"], &[b"a", b"a"], &[b"a/b"], &[b"a@b"], &[b"a b"], &[b"\xe9"]]
        {
            assert_eq!(status(Version::HTTP_11, hosts).await, 400, "{hosts:?}");
        }
        assert_eq!(status(Version::HTTP_10, &[]).await, 200);
    }
}
