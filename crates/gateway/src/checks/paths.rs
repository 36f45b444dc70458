//! Targets that servers read differently, and that therefore lead to none.

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{Method, Request, StatusCode, Uri};

/// Why a request cannot go to another server, if it cannot.
pub(crate) fn refusal(request: &Request<Body>) -> Option<StatusCode> {
    let uri = request.uri();
    if leads_past_servers(request.method()) {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let is_good = !has_user(uri) && is_spelt_well(uri.path()) && !may_leave_its_route(uri);
    (!is_good).then_some(StatusCode::BAD_REQUEST)
}

/// CONNECT asks for a tunnel, and TRACE to be sent back what proxies add to a head.
fn leads_past_servers(method: &Method) -> bool {
    matches!(*method, Method::CONNECT | Method::TRACE)
}

/// `http://user@host/`: what stands before the `@` looks like a host (RFC 9110, section 4.2.4).
fn has_user(uri: &Uri) -> bool {
    uri.authority().map(Authority::as_str).is_some_and(|authority| authority.contains('@'))
}

/// Whether every `%` begins an escape, and what they stand for is UTF-8 without control characters: an encoding
/// that is longer than need be is one of a slash or a dot to some, and a zero the end of a name.
fn is_spelt_well(path: &str) -> bool {
    if !path.contains('%') {
        return true;
    }
    let bytes = path.as_bytes();
    let is_escape = |at: usize| {
        matches!(bytes.get(at + 1..at + 3), Some([high, low])
            if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    };
    memchr::memchr_iter(b'%', bytes).all(is_escape)
        && percent_encoding::percent_decode_str(path)
            .decode_utf8()
            .is_ok_and(|path| !path.bytes().any(|byte| byte.is_ascii_control()))
}

/// Whether a server could take a path for one outside of its route: by a segment of dots, or by something that it might
/// decode to one, or to the end of a segment.
fn may_leave_its_route(uri: &Uri) -> bool {
    let path = uri.path();
    if !path.contains(['.', '%', '\\', ';']) {
        return false;
    }
    let decoded = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    let has_more_segments = |byte: &u8| matches!(byte, b'/' | b'\\');
    // Some servers drop what follows a semicolon before they look at the dots.
    let name = |segment: &[u8]| segment.split(|byte| *byte == b';').next().unwrap_or_default().to_vec();
    decoded.split(has_more_segments).any(|segment| matches!(name(segment).as_slice(), b"." | b".."))
        || decoded.iter().filter(|byte| has_more_segments(byte)).count() != path.matches('/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: Method, target: &str) -> Option<u16> {
        let request = Request::builder().method(method).uri(target).body(Body::empty()).unwrap();
        refusal(&request).map(|status| status.as_u16())
    }

    #[test]
    fn a_path_that_may_lead_elsewhere_is_refused() {
        for path in
            ["/a/../b", "/a/.", "/a/%2e%2E/b", "/a/..%2fb", "/a%2Fb", "/a%5c..%5cb", "/a/%2e.", "/a/..;/b"]
        {
            assert_eq!(refused(Method::GET, path), Some(400), "{path}");
        }
        for path in ["/", "/a.b/..c/d..", "/a%20b/c%2eb", "/%252e%252e/"] {
            assert_eq!(refused(Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn a_path_is_utf8_in_whole_escapes_and_without_controls() {
        for path in
            ["/a%zz", "/a%2", "/a%", "/%ff", "/%c0%af", "/%ed%a0%80", "/a%00.png", "/a%0d%0aX:y", "/%7f"]
        {
            assert_eq!(refused(Method::GET, path), Some(400), "{path}");
        }
        for path in ["/%C3%A9", "/100%25", "/a?b=%zz&c=%ff"] {
            assert_eq!(refused(Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn what_names_a_user_or_asks_for_a_tunnel_is_refused() {
        assert_eq!(refused(Method::GET, "http://user:pass@host/"), Some(400));
        assert_eq!(refused(Method::GET, "http://host/@"), None);
        assert_eq!(refused(Method::CONNECT, "/a"), Some(405));
        assert_eq!(refused(Method::TRACE, "/a"), Some(405));
    }
}
