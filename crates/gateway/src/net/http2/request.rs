//! A request of HTTP/2 as one of HTTP/1.1 would be: the layers see no difference.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};

use crate::net::connection::{MAX_HEADERS, Peer};

/// The host goes into its header, and cookies that came one by one into one. What is no request gets a status instead.
pub(super) fn as_http1(request: Request<Incoming>, peer: Peer) -> Result<Request<Body>, StatusCode> {
    let has_body = !request.body().is_end_stream();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    if request.headers().len() > MAX_HEADERS {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    if request.method() == Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = parts.authority {
        name_host(request.headers_mut(), &authority)?;
    }
    let target = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(target);
    join_cookies(request.headers_mut());
    say_length(request.headers_mut(), has_body);
    Ok(request)
}

/// Two that differ are none (RFC 9113 §8.3.1).
fn name_host(headers: &mut HeaderMap, authority: &Authority) -> Result<(), StatusCode> {
    let authority = authority.as_str();
    let is_other = |host: &HeaderValue| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
    if authority.contains('@') || headers.get_all(HOST).iter().any(is_other) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let host = HeaderValue::from_str(authority).map_err(|_| StatusCode::BAD_REQUEST)?;
    headers.insert(HOST, host);
    Ok(())
}

/// A length is said once, and a body of which none is known is in chunks.
fn say_length(headers: &mut HeaderMap, has_body: bool) {
    match headers.get(CONTENT_LENGTH).cloned() {
        // Two that differ did not come this far.
        Some(length) => _ = headers.insert(CONTENT_LENGTH, length),
        None if has_body => _ = headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        None => {}
    }
}

/// Each may come as a header of its own, so that it is compressed (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn cookies_are_joined_in_their_order() {
        let mut given =
            headers(&[("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut given);
        assert_eq!(given, headers(&[("cookie", "a=1; b=2; c=3"), ("accept", "*/*")]));
        let mut one = headers(&[("cookie", "a=1")]);
        join_cookies(&mut one);
        assert_eq!(one, headers(&[("cookie", "a=1")]));
    }

    #[test]
    fn a_length_is_said_once_or_the_body_is_in_chunks() {
        let said = |lines, has_body| {
            let mut headers = headers(lines);
            say_length(&mut headers, has_body);
            headers
        };
        let five = headers(&[("content-length", "5")]);
        assert_eq!(said(&[("content-length", "5"), ("content-length", "5")], true), five);
        assert_eq!(said(&[], true), headers(&[("transfer-encoding", "chunked")]));
        assert_eq!(said(&[], false), headers(&[]));
    }

    #[test]
    fn one_host_is_named_and_no_user() {
        let named = |lines, authority: &'static str| {
            let mut headers = headers(lines);
            name_host(&mut headers, &Authority::from_static(authority)).map(|()| headers)
        };
        assert_eq!(named(&[], "a.example:8443").unwrap(), headers(&[("host", "a.example:8443")]));
        assert_eq!(named(&[("host", "A.example")], "a.example").unwrap(), headers(&[("host", "a.example")]));
        assert!(named(&[("host", "b")], "a").is_err());
        assert!(named(&[("host", "a"), ("host", "b")], "a").is_err());
        assert!(named(&[], "user@a").is_err());
    }
}
