//! Which browsers' pages may read our answers.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::around::Around;
use super::before::{Before, bare};

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");

/// The origins that are allowed.
#[derive(Debug, Clone)]
pub struct Origins(Allowed);

#[derive(Debug, Clone)]
enum Allowed {
    /// All of them.
    Any,
    /// Those that match one of these patterns.
    Matching(Arc<[OriginPattern]>),
}

/// An origin, in which `*` stands for any characters and `?` for any one.
#[derive(Debug, Clone)]
struct OriginPattern(String);

/// Answers every OPTIONS request: what a page asks before it sends one that is out of the ordinary. The server-wide
/// one is nobody's.
#[derive(Debug, Clone)]
pub(crate) struct Preflight(pub(crate) Origins);

/// Says on every response whose pages may read it.
#[derive(Debug, Clone)]
pub(crate) struct Cors(pub(crate) Origins);

// === impl Preflight ===

impl Before for Preflight {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        if request.method() != Method::OPTIONS {
            return None;
        }
        if request.uri().path() == "*" {
            return Some(bare(StatusCode::OK));
        }
        Some(self.0.preflight(request.headers()))
    }
}

// === impl Cors ===

impl Around for Cors {
    type Noted = Option<HeaderValue>;

    fn note(&self, request: &mut Request<Body>) -> Option<HeaderValue> {
        self.0.allowed(request.headers())
    }

    fn finish(origin: Option<HeaderValue>, response: &mut Response<Body>) {
        vary_by_origin(response.headers_mut());
        if let Some(origin) = origin {
            response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
}

// === impl Origins ===

impl Origins {
    /// From the list in the configuration.
    pub fn new(patterns: &[String]) -> Self {
        if patterns.iter().any(|pattern| pattern == "*") {
            return Self(Allowed::Any);
        }
        Self(Allowed::Matching(patterns.iter().cloned().map(OriginPattern).collect()))
    }

    /// What to say about the request's origin, if it has one and it is allowed.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        match &self.0 {
            Allowed::Any => Some(HeaderValue::from_static("*")),
            Allowed::Matching(patterns) => {
                let text = origin.as_bytes();
                patterns.iter().any(|pattern| pattern.matches(text)).then(|| origin.clone())
            }
        }
    }

    /// The answer to an OPTIONS request.
    fn preflight(&self, headers: &HeaderMap) -> Response<Body> {
        let mut response = bare(StatusCode::NO_CONTENT);
        let answer = response.headers_mut();
        vary_by_origin(answer);
        let Some(origin) = self.allowed(headers) else {
            return response;
        };
        answer.append(VARY, HeaderValue::from_static("Access-Control-Request-Method"));
        answer.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|wanted| !wanted.is_empty())
        {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        response
    }
}

/// Every routed response depends on the origin, allowed or not.
fn vary_by_origin(headers: &mut HeaderMap) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

// === impl OriginPattern ===

impl OriginPattern {
    /// Compares byte by byte; on a mismatch the last `*` takes one byte more.
    fn matches(&self, origin: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut at, mut in_pattern) = (0, 0);
        let mut last_star = None;
        while at < origin.len() {
            match pattern.get(in_pattern) {
                Some(b'*') => {
                    last_star = Some((in_pattern, at));
                    in_pattern += 1;
                }
                Some(&byte) if byte == b'?' || byte == origin[at] => {
                    at += 1;
                    in_pattern += 1;
                }
                _ => {
                    let Some((star, taken)) = last_star else {
                        return false;
                    };
                    last_star = Some((star, taken + 1));
                    at = taken + 1;
                    in_pattern = star + 1;
                }
            }
        }
        pattern[in_pattern..].iter().all(|&byte| byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::around::AroundLayer;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, inner};

    fn origins() -> Origins {
        Origins::new(&["https://a.de".to_owned()])
    }

    fn request(method: Method, target: &str, origin: &str) -> Request<Body> {
        Request::builder().method(method).uri(target).header(ORIGIN, origin).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn only_options_is_answered_before_the_service() {
        let preflight = BeforeLayer(Preflight(origins()));
        for (method, target, status) in
            [(Method::OPTIONS, "/a", 204), (Method::OPTIONS, "*", 200), (Method::GET, "/a", 200)]
        {
            let response = answer(&preflight, inner(), request(method, target, "https://a.de")).await;
            assert_eq!(response.status(), status, "{target}");
            let has_methods = response.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS);
            assert_eq!(has_methods, status == 204, "{target}");
        }
    }

    #[tokio::test]
    async fn every_response_varies_and_an_allowed_origin_is_named() {
        let cors = AroundLayer(Cors(origins()));
        for (origin, named) in [("https://a.de", true), ("https://b.de", false)] {
            let response = answer(&cors, inner(), request(Method::GET, "/", origin)).await;
            assert_eq!(response.headers()[VARY], "Origin");
            assert_eq!(response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), named, "{origin}");
        }
    }

    fn matches(pattern: &str, origin: &str) -> bool {
        OriginPattern(pattern.to_owned()).matches(origin.as_bytes())
    }

    #[test]
    fn a_star_takes_any_run_and_a_question_mark_one() {
        assert!(matches("https://*.example.com", "https://a.b.example.com"));
        assert!(!matches("https://*.example.com", "https://example.com"));
        assert!(!matches("https://*.example.com", "https://a.example.com:8"));
        assert!(!matches("https://*.example.com", "https://a.example.com.evil.org"));
        assert!(matches("http://b?.de:80", "http://b1.de:80"));
        assert!(!matches("http://b?.de:80", "http://b.de:80"));
        assert!(!matches("http://b?.de:80", "http://B1.de:81"));
        assert!(matches("http://*:*", "http://localhost:3000"));
        assert!(matches("**a*", "a"));
        assert!(!matches("", "a"));
    }
}
