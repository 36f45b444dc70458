//! Paths that no route may see: those that a cleaner path stands for are redirected to it, and those that do not
//! decode are refused, both without the headers of a routed response. The others are spelt as routes are.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::before::Before;
use crate::refusal::Cause;

/// Answers what has no clean path, and rewrites the rest.
#[derive(Debug, Clone)]
pub(crate) struct CleanPath;

impl Before for CleanPath {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        let answer = unclean(request.method(), request.uri());
        if answer.is_none() {
            decode(request);
        }
        answer
    }
}

/// The answer to a request whose path is not clean.
fn unclean(method: &Method, uri: &Uri) -> Option<Response<Body>> {
    let path = uri.path();
    if !is_escaped_well(path) {
        return Some(Cause::BadPath.mark(bad_request()));
    }
    let Cow::Owned(clean) = clean(path) else {
        return None;
    };
    let target = match uri.query() {
        Some(query) => format!("{clean}?{query}"),
        None => clean,
    };
    redirect(method, &target)
}

/// Rewrites escapes that need not be: routes are matched on the text, and `%68` is an `h` (RFC 3986, section
/// 2.3). Bytes that are no UTF-8 become U+FFFD, which names nothing.
fn decode(request: &mut Request<Body>) {
    let uri = request.uri();
    if !uri.path().contains('%') {
        return;
    }
    // A slash that was escaped is part of a segment and must stay escaped.
    let segments = uri.path().split('/').map(decode_segment);
    let path = segments.collect::<Vec<_>>().join("/");
    if path == uri.path() {
        return;
    }
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    if let Ok(target) = target.parse() {
        *request.uri_mut() = target;
    }
}

/// A segment with only those bytes escaped that have to be.
fn decode_segment(segment: &str) -> String {
    const ESCAPED: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
    if decoded == segment {
        return segment.to_owned();
    }
    percent_encoding::utf8_percent_encode(&decoded, ESCAPED).to_string()
}

fn redirect(method: &Method, target: &str) -> Option<Response<Body>> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(target).ok()?);
    if is_read {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
        let link = format!("<a href=\"{}\">Temporary Redirect</a>.\n\n", escape_html(target));
        *response.body_mut() = Body::from(link);
    }
    Some(response)
}

fn bad_request() -> Response<Body> {
    let mut response = Response::new(Body::from("400 Bad Request"));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// `path` without empty, `.` and `..` segments; borrowed when it has none. Escaped dots are ordinary text.
fn clean(path: &str) -> Cow<'_, str> {
    if is_clean(path) {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => (),
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for segment in &kept {
        clean.push('/');
        clean.push_str(segment);
    }
    if kept.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    Cow::Owned(clean)
}

fn is_clean(path: &str) -> bool {
    // A server-wide OPTIONS has no path.
    if path == "*" || path.is_empty() {
        return true;
    }
    let Some(segments) = path.strip_prefix('/') else {
        return false;
    };
    // The common path has neither an empty segment nor one that begins with a dot.
    let bytes = path.as_bytes();
    if !bytes.windows(2).any(|pair| pair[0] == b'/' && matches!(pair[1], b'/' | b'.')) {
        return true;
    }
    let last = segments.rsplit('/').next().map_or(0, str::len);
    let before_last = &segments[..segments.len() - last];
    let is_dotted = segments.split('/').any(|segment| segment == "." || segment == "..");
    !is_dotted && !before_last.starts_with('/') && !before_last.contains("//")
}

fn is_escaped_well(path: &str) -> bool {
    let bytes = path.as_bytes();
    memchr::memchr_iter(b'%', bytes).all(|at| {
        matches!(bytes.get(at + 1..at + 3), Some([high, low])
            if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '\'' => escaped.push_str("&#39;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, text};

    /// The status of a target's answer, and where it points to, or else the target as the service sees it.
    async fn passed(target: &str) -> (u16, String) {
        let seen = service_fn(|request: Request<Body>| async move {
            Ok(Response::new(Body::from(request.uri().to_string())))
        });
        let request = Request::get(target).body(Body::empty()).unwrap();
        let response = answer(&BeforeLayer(CleanPath), seen, request).await;
        let location = response.headers().get(LOCATION).map(|location| location.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        (status, if let Some(location) = location { location } else { text(response).await })
    }

    #[tokio::test]
    async fn an_unclean_path_is_answered_and_escapes_that_need_not_be_are_undone() {
        assert_eq!(passed("/a//b?c").await, (307, "/a/b?c".to_owned()));
        assert_eq!(passed("/a%zz").await, (400, "400 Bad Request".to_owned()));
        assert_eq!(passed("/%68%2f%20?%68").await, (200, "/h%2F%20?%68".to_owned()));
        assert_eq!(passed("/a%20b").await, (200, "/a%20b".to_owned()));
    }

    #[test]
    fn paths_are_cleaned_as_the_real_server_cleans_them() {
        for (path, expected) in [
            ("/api//health", "/api/health"),
            ("/a/../b", "/b"),
            ("/dir/..", "/"),
            ("/./file.txt", "/file.txt"),
            ("/dir/.", "/dir"),
            ("//a//", "/a/"),
            ("//", "/"),
            ("/..", "/"),
            ("/a%2f%2fb//x", "/a%2f%2fb/x"),
            ("/a/b/../", "/a/"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn clean_paths_are_left_alone() {
        for path in ["/", "/api/health", "/.hid", "/a/..b/...", "/a/", "/%2e%2e/x", "*", "/a.b/.c/"] {
            assert!(matches!(clean(path), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn half_an_escape_is_refused() {
        assert!(is_escaped_well("/a%20%C3%a9"));
        assert!(!is_escaped_well("/a%zz"));
        assert!(!is_escaped_well("/a%2"));
        assert!(!is_escaped_well("/a%"));
    }
}
