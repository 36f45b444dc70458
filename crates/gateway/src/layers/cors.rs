//! Which browsers' pages may read our answers.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");

/// The origins that are allowed.
#[derive(Debug, Clone)]
pub enum Origins {
    /// All of them.
    Any,
    /// Those that match one of these patterns.
    Matching(Vec<OriginPattern>),
}

/// An origin, in which `*` stands for any characters and `?` for any one.
#[derive(Debug, Clone)]
pub struct OriginPattern(String);

// === impl Origins ===

impl Origins {
    /// From the list in the configuration.
    pub fn new(patterns: &[String]) -> Self {
        if patterns.iter().any(|pattern| pattern == "*") {
            return Self::Any;
        }
        Self::Matching(patterns.iter().cloned().map(OriginPattern).collect())
    }

    /// What to say about the request's origin, if it has one and it is allowed.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        match self {
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Matching(patterns) => {
                let text = origin.as_bytes();
                patterns.iter().any(|pattern| pattern.matches(text)).then(|| origin.clone())
            }
        }
    }

    /// The answer to any OPTIONS request.
    pub(crate) fn preflight(&self, headers: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
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
pub(crate) fn vary_by_origin(headers: &mut HeaderMap) {
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
