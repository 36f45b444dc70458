//! The limits of requests that the settings have (CONTRACT §1.13).

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response};
use axum::response::IntoResponse;
use contract::store::Store;
use kit::app::now;
use kit::error::ApiError;
use kit::rate_limits::{Action, Asked, RateLimits};
use kit::request::CallInfo;
use percent_encoding::percent_decode_str;

use super::before::Before;
use crate::refusal::Cause;

/// Answers 429 to a request that is one too many.
#[derive(Clone)]
pub struct RateLimit(Option<Limited>);

#[derive(Clone)]
struct Limited {
    store: Arc<dyn Store>,
    limits: Arc<RateLimits>,
}

/// A route that has to do with one collection.
#[derive(Debug, PartialEq, Eq)]
struct Route<'a> {
    /// Its name or id.
    collection: Cow<'a, str>,
    names: &'static [&'static str],
}

impl RateLimit {
    /// With the limits of the application in `store`.
    pub fn new(store: Arc<dyn Store>, limits: Arc<RateLimits>) -> Self {
        Self(Some(Limited { store, limits }))
    }

    /// None at all: another node counts.
    pub fn elsewhere() -> Self {
        Self(None)
    }
}

impl Limited {
    fn allow(&self, request: &Request<Body>) -> bool {
        // Missing only by a mistake in the wiring, which services refuse.
        let Some(info) = request.extensions().get::<CallInfo>() else { return true };
        let path = request.uri().path();
        let mut asked = Asked {
            method: request.method().as_str(),
            path,
            action: None,
            caller: &info.caller,
            client_ip: info.client_ip,
        };
        let Some(Route { collection, names }) = route(request.method(), path) else {
            return self.limits.allow(&asked, now());
        };
        let schema = self.store.schema();
        // What is refused before it is known what it is about is not counted.
        let Some(collection) = schema.find(&collection) else { return true };
        if collection.is_view() && matches!(names, ["create" | "update" | "delete"]) {
            return true;
        }
        asked.action = Some(Action { collection, names, is_in_batch: false });
        self.limits.allow(&asked, now())
    }
}

impl Before for RateLimit {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        let limited = self.0.as_ref()?;
        if !limited.limits.are_on() || limited.allow(request) {
            return None;
        }
        Some(Cause::RateLimit.mark(ApiError::too_many_requests().into_response()))
    }
}

/// What a request does to which collection. None for one that only looks so: what no route wants is an ordinary request.
fn route<'a>(method: &Method, path: &'a str) -> Option<Route<'a>> {
    let mut segments = path.strip_prefix("/api/")?.split('/');
    let (kind, collection) = (segments.next()?, segments.next()?);
    let rest = (segments.next(), segments.next(), segments.next());
    // HEAD is a GET of which only the head is sent.
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let names: &[&str] = match (kind, method, rest) {
        ("files", "GET", (Some(record), Some(name), None)) if is_there(record) && is_there(name) => &["file"],
        ("collections", _, (Some("records"), None, _)) => of_records(method)?,
        ("collections", _, (Some("records"), Some(id), None)) if is_there(id) => of_record(method)?,
        ("collections", _, (Some(action), None, _)) => of_auth(method, action)?,
        _ => return None,
    };
    let collection = percent_decode_str(collection).decode_utf8_lossy();
    is_there(&collection).then_some(Route { collection, names })
}

fn is_there(segment: &str) -> bool {
    !segment.is_empty()
}

fn of_records(method: &str) -> Option<&'static [&'static str]> {
    match method {
        "GET" => Some(&["list"]),
        "POST" => Some(&["create"]),
        _ => None,
    }
}

fn of_record(method: &str) -> Option<&'static [&'static str]> {
    match method {
        "GET" => Some(&["view"]),
        "PATCH" => Some(&["update"]),
        "DELETE" => Some(&["delete"]),
        _ => None,
    }
}

fn of_auth(method: &str, action: &str) -> Option<&'static [&'static str]> {
    match (method, action) {
        ("GET", "auth-methods") => Some(&["listAuthMethods"]),
        ("POST", "auth-refresh") => Some(&["authRefresh"]),
        ("POST", "auth-with-password") => Some(&["authWithPassword", "auth"]),
        ("POST", "auth-with-oauth2") => Some(&["authWithOAuth2", "auth"]),
        ("POST", "auth-with-otp") => Some(&["authWithOTP", "auth"]),
        ("POST", "request-otp") => Some(&["requestOTP"]),
        ("POST", "request-password-reset") => Some(&["requestPasswordReset"]),
        ("POST", "confirm-password-reset") => Some(&["confirmPasswordReset"]),
        ("POST", "request-verification") => Some(&["requestVerification"]),
        ("POST", "confirm-verification") => Some(&["confirmVerification"]),
        ("POST", "request-email-change") => Some(&["requestEmailChange"]),
        ("POST", "confirm-email-change") => Some(&["confirmEmailChange"]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::http::HeaderValue;
    use kit::request::RequestId;
    use model::context::Caller;
    use model::settings::{RateLimitRule, Settings};
    use store::sqlite::{self, SqliteStore};

    use super::*;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, inner, text};

    /// The collection and the names of a request's action, as `cats list`.
    fn action(method: &str, path: &str) -> Option<String> {
        let route = route(&method.parse().unwrap(), path)?;
        Some(format!("{} {}", route.collection, route.names.join(" ")))
    }

    #[test]
    fn requests_for_collections_have_names() {
        for (method, path, expected) in [
            ("GET", "/api/collections/cats/records", "cats list"),
            ("HEAD", "/api/collections/cats/records", "cats list"),
            ("GET", "/api/collections/c%C3%A4ts/records/x", "cäts view"),
            ("POST", "/api/collections/cats/records", "cats create"),
            ("PATCH", "/api/collections/cats/records/x", "cats update"),
            ("DELETE", "/api/collections/cats/records/x%2Fy", "cats delete"),
            ("GET", "/api/files/cats/x/a.png", "cats file"),
            ("HEAD", "/api/files/cats/x/a.png", "cats file"),
            ("GET", "/api/collections/users/auth-methods", "users listAuthMethods"),
            ("POST", "/api/collections/users/auth-refresh", "users authRefresh"),
            ("POST", "/api/collections/users/auth-with-password", "users authWithPassword auth"),
            ("POST", "/api/collections/users/auth-with-oauth2", "users authWithOAuth2 auth"),
            ("POST", "/api/collections/users/auth-with-otp", "users authWithOTP auth"),
            ("POST", "/api/collections/users/request-otp", "users requestOTP"),
            ("POST", "/api/collections/users/request-password-reset", "users requestPasswordReset"),
            ("POST", "/api/collections/users/confirm-password-reset", "users confirmPasswordReset"),
            ("POST", "/api/collections/users/request-verification", "users requestVerification"),
            ("POST", "/api/collections/users/confirm-verification", "users confirmVerification"),
            ("POST", "/api/collections/users/request-email-change", "users requestEmailChange"),
            ("POST", "/api/collections/users/confirm-email-change", "users confirmEmailChange"),
        ] {
            assert_eq!(action(method, path).as_deref(), Some(expected), "{method} {path}");
        }
    }

    #[test]
    fn all_other_requests_are_ordinary() {
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/api"),
            ("GET", "/api/health"),
            ("GET", "/api/collections"),
            ("GET", "/api/collections/cats"),
            ("GET", "/api/collections/cats/"),
            ("GET", "/api/collections/cats/records/"),
            ("GET", "/api/collections//records"),
            ("GET", "/api/collections/cats/records/x/y"),
            ("PUT", "/api/collections/cats/records"),
            ("POST", "/api/collections/cats/records/x"),
            ("DELETE", "/api/collections/cats/truncate"),
            ("GET", "/api/collections/users/auth-with-password"),
            ("POST", "/api/collections/users/auth-methods"),
            ("POST", "/api/collections/users/impersonate/x"),
            ("POST", "/api/files/token"),
            ("GET", "/api/files/cats/x"),
            ("GET", "/api/files/cats/x/"),
            ("POST", "/api/files/cats/x/a.png"),
            ("POST", "/api/batch"),
            ("GET", "/api/realtime"),
            ("GET", "/pages/api/collections/cats/records"),
        ] {
            assert_eq!(action(method, path), None, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn the_request_after_the_last_is_answered_429() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(sqlite::Options::new(folder.path().to_owned())).unwrap();
        let limits = Arc::new(RateLimits::default());
        let layer = BeforeLayer(RateLimit::new(Arc::new(store), limits.clone()));
        let ask = async |path: &str| {
            let mut request = Request::get(path).body(Body::empty()).unwrap();
            let request_id = RequestId(HeaderValue::from_static("r1"));
            let client_ip = IpAddr::from([10, 0, 0, 1]);
            request.extensions_mut().insert(CallInfo { client_ip, request_id, caller: Caller::Guest });
            let response = answer(&layer, inner(), request).await;
            (response.status().as_u16(), text(response).await)
        };
        assert_eq!(ask("/api/x").await.0, 200);
        let mut settings = Settings::default();
        settings.rate_limits.enabled = true;
        let (label, audience) = ("/api/".to_owned(), String::new());
        settings.rate_limits.rules =
            vec![RateLimitRule { label, audience, max_requests: 1, duration: 100_000_000 }];
        limits.take(&settings);
        assert_eq!(ask("/api/x").await.0, 200);
        let body = r#"{"data":{},"message":"Too Many Requests.","status":429}"#;
        assert_eq!(ask("/api/y").await, (429, body.to_owned()));
        // One of no collection is for the service to refuse.
        for _ in 0..3 {
            assert_eq!(ask("/api/collections/nope/records").await.0, 200);
        }
        assert_eq!(ask("/api/collections/users/records").await.0, 200);
        assert_eq!(ask("/api/collections/users/records").await.0, 429);
    }
}
