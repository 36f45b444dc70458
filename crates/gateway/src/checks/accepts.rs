//! What a route accepts: which methods, of what types and how much.

use axum::body::{Body, HttpBody as _};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Limited;

use crate::refusal::Cause;

/// What a route accepts; by default everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepts {
    /// Every method where there are none. HEAD goes with GET.
    pub methods: Vec<Method>,
    /// The types that a body may have; every one where there are none.
    pub content_types: Vec<ContentType>,
    /// How large a body may be.
    pub max_body: Option<u64>,
    /// How long the path and query may be, as they come.
    pub max_target: Option<u64>,
}

/// `application/json`, or `image/*` for everything of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    /// With the slash at its end where it is a kind.
    text: String,
}

/// What is said to be allowed where a route names no methods.
const ORDINARY_METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

// === impl Accepts ===

impl Accepts {
    /// The status of a refusal and why, unless the request may go on. A body whose length nobody told is cut where it is too
    /// large.
    pub(crate) fn refuse(&self, request: &mut Request<Body>) -> Option<(StatusCode, Cause)> {
        if !self.takes_method(request.method()) {
            return Some((StatusCode::METHOD_NOT_ALLOWED, Cause::Method));
        }
        if let Some(max) = self.max_target
            && request.uri().path_and_query().is_some_and(|target| target.as_str().len() as u64 > max)
        {
            return Some((StatusCode::URI_TOO_LONG, Cause::TargetSize));
        }
        if request.body().is_end_stream() {
            return None;
        }
        if !self.takes_type(request.headers()) {
            return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, Cause::ContentType));
        }
        self.bound_body(request)
    }

    /// Says in a refusal of the method which are allowed.
    pub(crate) fn tell(&self, refusal: &mut Response<Body>) {
        if refusal.status() != StatusCode::METHOD_NOT_ALLOWED {
            return;
        }
        let mut names: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        if self.methods.contains(&Method::GET) && !self.methods.contains(&Method::HEAD) {
            names.push("HEAD");
        }
        let allowed = match names.is_empty() {
            true => ORDINARY_METHODS,
            false => HeaderValue::from_str(&names.join(", ")).unwrap_or(ORDINARY_METHODS),
        };
        refusal.headers_mut().insert(ALLOW, allowed);
    }

    fn takes_method(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || *method == Method::HEAD && self.methods.contains(&Method::GET)
    }

    fn takes_type(&self, headers: &HeaderMap) -> bool {
        if self.content_types.is_empty() {
            return true;
        }
        let mut lines = headers.get_all(CONTENT_TYPE).iter();
        // Servers differ on which of two counts.
        match (lines.next(), lines.next()) {
            (Some(line), None) => self.content_types.iter().any(|taken| taken.fits(line.as_bytes())),
            _ => false,
        }
    }

    fn bound_body(&self, request: &mut Request<Body>) -> Option<(StatusCode, Cause)> {
        let max = self.max_body?;
        if let Some(length) = request.body().size_hint().exact() {
            return (length > max).then_some((StatusCode::PAYLOAD_TOO_LARGE, Cause::BodySize));
        }
        // A length in the head is exact.
        debug_assert!(!request.headers().contains_key(CONTENT_LENGTH));
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = Body::new(Limited::new(body, usize::try_from(max).unwrap_or(usize::MAX)));
        None
    }
}

// === impl ContentType ===

impl ContentType {
    /// Reads one. None for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        let (kind, name) = text.split_once('/')?;
        let is_type = !kind.is_empty() && kind.bytes().all(is_name);
        match name {
            "*" if is_type => Some(Self { text: format!("{}/", kind.to_ascii_lowercase()) }),
            name if is_type && !name.is_empty() && name.bytes().all(is_name) => {
                Some(Self { text: text.to_ascii_lowercase() })
            }
            _ => None,
        }
    }

    fn fits(&self, line: &[u8]) -> bool {
        let given = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let taken = self.text.as_bytes();
        if taken.ends_with(b"/") {
            given.get(..taken.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(taken))
        } else {
            given.eq_ignore_ascii_case(taken)
        }
    }
}

impl std::fmt::Display for ContentType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.text, if self.text.ends_with('/') { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(accepts: &Accepts, method: Method, lines: &[(&str, &str)], body: &'static str) -> Option<u16> {
        let mut request = Request::builder().method(method).uri("/shop?a=b");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        accepts.refuse(&mut request.body(Body::from(body)).unwrap()).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn a_route_that_names_nothing_accepts_everything() {
        assert_eq!(refused(&Accepts::default(), Method::PUT, &[], "body"), None);
    }

    #[test]
    fn methods_that_are_not_named_are_refused_and_the_others_told() {
        let accepts = Accepts { methods: vec![Method::GET, Method::POST], ..Accepts::default() };
        for (method, status) in
            [(Method::GET, None), (Method::HEAD, None), (Method::POST, None), (Method::PUT, Some(405))]
        {
            assert_eq!(refused(&accepts, method.clone(), &[], ""), status, "{method}");
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        accepts.tell(&mut response);
        assert_eq!(response.headers()[ALLOW], "GET, POST, HEAD");
    }

    #[test]
    fn types_are_asked_of_those_that_send_something() {
        let types = ["application/json", "image/*"].map(|text| ContentType::parse(text).unwrap());
        let accepts = Accepts { content_types: types.to_vec(), ..Accepts::default() };
        for (given, status) in [
            ("application/json", None),
            ("Application/JSON ; charset=utf-8", None),
            ("image/png", None),
            ("application/jsonp", Some(415)),
            ("images/png", Some(415)),
            ("", Some(415)),
        ] {
            assert_eq!(refused(&accepts, Method::POST, &[("content-type", given)], "x"), status, "{given}");
        }
        assert_eq!(refused(&accepts, Method::POST, &[], "x"), Some(415));
        let two = [("content-type", "image/png"), ("content-type", "text/html")];
        assert_eq!(refused(&accepts, Method::POST, &two, "x"), Some(415));
        assert_eq!(refused(&accepts, Method::GET, &[], ""), None);
    }

    #[test]
    fn what_is_no_type_is_none() {
        for text in ["json", "/json", "a/", "a/b/c", "*/*", "a b/c"] {
            assert_eq!(ContentType::parse(text), None, "{text}");
        }
        assert_eq!(ContentType::parse("Image/*").unwrap().to_string(), "image/*");
    }

    #[test]
    fn what_is_too_large_is_refused_by_what_its_head_says() {
        let accepts = Accepts { max_body: Some(3), max_target: Some(9), ..Accepts::default() };
        assert_eq!(refused(&accepts, Method::POST, &[], "abc"), None);
        assert_eq!(refused(&accepts, Method::POST, &[], "abcd"), Some(413));
        let accepts = Accepts { max_target: Some(8), ..Accepts::default() };
        assert_eq!(refused(&accepts, Method::GET, &[], ""), Some(414));
    }
}
