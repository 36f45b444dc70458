//! Who asks, on routes to other servers that want to know. The client's token goes no further than here.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    UPGRADE, WWW_AUTHENTICATE,
};
use axum::http::uri::Authority;
use axum::http::{Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use identity::external::ExternalError;
use identity::jwt;
use kit::app::now;
use kit::error::ApiError;
use metrics::{Counter, counter};
use model::context::Caller;
use model::json::Json;

use super::caller::{CallerLayer, Callers, Decide, Decision};
use crate::caller_tokens::{CallerToken, CallerTokens, audience};
use crate::identity_providers::{KnownTokens, Provider, Unverified};
use crate::proxy::Way;
use crate::refusal::Cause;
use crate::route_auth::{RouteAuth, RouteCaller};
use crate::routes::Route;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Longer cookies are not looked at: browsers keep at most 4 KiB of one.
const MAX_COOKIE_BYTES: usize = 8 << 10;

/// Why a caller was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// There is no token.
    Missing,
    /// The token does not count.
    Invalid,
    /// There are two.
    Ambiguous,
    /// A caller of another collection.
    Collection,
    /// A superuser from an address that is not listed.
    Address,
    /// It could not be found out.
    Unavailable,
    // Why a token of an identity provider does not count.
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYet,
    Issuer,
    Audience,
}

/// What the layer of one request loop goes by.
struct Gate {
    callers: Callers,
    tokens: CallerTokens,
    known: KnownTokens,
    counters: Counters,
}

/// How often each was the reason.
struct Counters([Counter; Refusal::ALL.len()]);

/// The layer that asks `callers`, on routes that say so.
pub(crate) fn layer(callers: Callers) -> CallerLayer<impl Decide> {
    let (tokens, known) = Default::default();
    let gate = Arc::new(Gate { callers, tokens, known, counters: Counters::new() });
    CallerLayer(move |mut request: Request<Body>| {
        let asked = wants_caller(&request).map(|route| (route, gate.clone()));
        async move {
            let Some((route, gate)) = asked else { return Decision::GoOn(request) };
            // Apart, so that the future of a request that nobody asks has no room for it.
            let passing = Box::pin(async move {
                let passed = gate.pass(&route, &mut request).await;
                passed.map(|()| request).inspect_err(|refusal| gate.counters.note(*refusal))
            });
            match passing.await {
                Ok(request) => Decision::GoOn(request),
                Err(refusal) => Decision::Refuse(Cause::Caller.mark(refusal.into_response())),
            }
        }
    })
}

/// The request's route, if it is one that asks.
fn wants_caller(request: &Request<Body>) -> Option<Arc<Route>> {
    match request.extensions().get() {
        Some(Way::Upstream { route, .. }) if route.auth.is_some() => Some(route.clone()),
        _ => None,
    }
}

impl Gate {
    /// Finds out who calls, and notes it and what the server is told among the request's extensions.
    async fn pass(&self, route: &Arc<Route>, request: &mut Request<Body>) -> Result<(), Refusal> {
        let Some(auth) = &route.auth else { return Ok(()) };
        let is_preflight = is_preflight(request);
        let token = take_token(auth, request);
        // Browsers ask without a token whether they may send one. It is for the server to say.
        let token = if is_preflight { None } else { token? };
        let caller = match (&token, &auth.provider) {
            (None, _) if is_preflight || !auth.is_required => RouteCaller::Guest,
            (None, _) => return Err(Refusal::Missing),
            (Some(token), None) => self.caller(auth, token, request).await?,
            (Some(token), Some(provider)) => self.external_caller(auth, provider, token).await?,
        };
        let told = match (&caller, token) {
            (RouteCaller::Guest, _) => None,
            (RouteCaller::External(_), Some(token)) if auth.forwards_original => original(&token),
            (_, token) => {
                let told = match self.callers.keys() {
                    Some(keys) => self.tokens.header(keys, route, auth, &caller, now()),
                    // In a box, so that requests of one process have no room for it.
                    None => Box::pin(self.told_elsewhere(route, auth, &caller, token)).await?,
                };
                Some(told.ok_or(Refusal::Unavailable)?)
            }
        };
        if let Some(told) = told {
            request.extensions_mut().insert(told);
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }

    /// What the server is told where a node that runs the services signs it. Of callers that these do not know it signs
    /// nothing.
    async fn told_elsewhere(
        &self,
        route: &Arc<Route>,
        auth: &RouteAuth,
        caller: &RouteCaller,
        token: Option<String>,
    ) -> Result<Option<CallerToken>, Refusal> {
        let now = now().0 / 1_000;
        if let Some(kept) = self.tokens.kept(route, caller, now) {
            return Ok(Some(kept));
        }
        let (RouteCaller::Record(_), Some(token)) = (caller, token) else { return Ok(None) };
        let audience = audience(route).unwrap_or_default();
        let told = self.callers.told_elsewhere(&token, audience, &auth.fields).await;
        // What counted a moment ago may count no more.
        let (signed, expires_at) = told.map_err(|error| Refusal::of(&error))?.ok_or(Refusal::Invalid)?;
        Ok(self.tokens.keep(route, caller, &signed, now, expires_at))
    }

    /// Whom an identity provider vouches for.
    async fn external_caller(
        &self,
        auth: &RouteAuth,
        provider: &Provider,
        token: &str,
    ) -> Result<RouteCaller, Refusal> {
        let token = jwt::bearer_token(token);
        match provider.verify(&self.known, token, now().0 / 1_000).await {
            Ok(caller) => Ok(RouteCaller::External(caller)),
            Err(Unverified::NoKeys) => Err(Refusal::Unavailable),
            Err(Unverified::Token(why)) if auth.is_required => Err(why.into()),
            Err(Unverified::Token(why)) => {
                self.counters.note(why.into());
                Ok(RouteCaller::Guest)
            }
        }
    }

    /// Whose token of the application this is.
    async fn caller(
        &self,
        auth: &RouteAuth,
        token: &str,
        request: &mut Request<Body>,
    ) -> Result<RouteCaller, Refusal> {
        let caller = self.callers.of_token(token, request.extensions(), request.headers()).await;
        let record = match caller.map_err(|error| Refusal::of(&error))? {
            Caller::Record(record) | Caller::Superuser(record) => record,
            Caller::Guest if auth.is_required => return Err(Refusal::Invalid),
            // As towards the application's own services, a token that does not count is none.
            Caller::Guest => {
                self.counters.note(Refusal::Invalid);
                return Ok(RouteCaller::Guest);
            }
        };
        if !auth.allows(&record.collection) {
            return Err(Refusal::Collection);
        }
        Ok(RouteCaller::Record(record))
    }
}

/// The client's own token, for a server that verifies it itself.
fn original(token: &str) -> Option<CallerToken> {
    let mut header = HeaderValue::from_str(&format!("Bearer {}", jwt::bearer_token(token))).ok()?;
    header.set_sensitive(true);
    Some(CallerToken(header))
}

/// Whether a browser asks what it may ask.
fn is_preflight(request: &Request<Body>) -> bool {
    let headers = request.headers();
    *request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && request.body().is_end_stream()
}

/// Takes the client's token out of the head: that of `Authorization`, or else of the cookie. Both are gone afterwards.
fn take_token(auth: &RouteAuth, request: &mut Request<Body>) -> Result<Option<String>, Refusal> {
    let is_own_page = is_own_page(request);
    let headers = request.headers_mut();
    let is_ambiguous = headers.get_all(AUTHORIZATION).iter().nth(1).is_some();
    let header = headers.remove(AUTHORIZATION);
    let cookie = auth.cookie.as_deref().and_then(|name| take_cookie(headers, name));
    if is_ambiguous {
        return Err(Refusal::Ambiguous);
    }
    let token = match header {
        Some(header) => Some(header.to_str().map_err(|_| Refusal::Invalid)?.to_owned()),
        // A browser sends cookies also when the page is somebody else's.
        None => cookie.filter(|_| is_own_page).and_then(|cookie| cookie_token(&cookie)),
    };
    Ok(token.filter(|token| !token.is_empty()))
}

/// Whether a request can do no harm, or was made by a page of the same origin.
fn is_own_page(request: &Request<Body>) -> bool {
    let headers = request.headers();
    if matches!(*request.method(), Method::GET | Method::HEAD) && !headers.contains_key(UPGRADE) {
        return true;
    }
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 names it in the target.
    let host = request.uri().authority().map(Authority::as_str).or(named);
    match (origin.and_then(|origin| origin.split_once("://")), host) {
        (Some((_, origin)), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Takes a cookie out of the head, and leaves the others.
fn take_cookie(headers: &mut HeaderMap, name: &str) -> Option<String> {
    // As bytes: one cookie that is no text hides no other.
    let value_of_this = |cookie: &[u8]| {
        let is_end = cookie.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (cookie[..is_end].trim_ascii(), cookie[is_end + 1..].trim_ascii());
        (key == name.as_bytes()).then(|| String::from_utf8_lossy(value).into_owned())
    };
    let mut taken = None;
    let mut left = Vec::new();
    for line in headers.get_all(COOKIE) {
        let mut others = Vec::new();
        for cookie in line.as_bytes().split(|byte| *byte == b';') {
            match value_of_this(cookie) {
                Some(value) => taken = taken.or(Some(value)),
                None => others.push(cookie),
            }
        }
        match HeaderValue::from_bytes(others.join(&b';').trim_ascii()) {
            Ok(line) if !line.is_empty() => left.push(line),
            _ => {}
        }
    }
    if taken.is_some() {
        headers.remove(COOKIE);
        for line in left {
            headers.append(COOKIE, line);
        }
    }
    taken
}

/// The token of a cookie: the official SDK writes `{"token": …, "record": …}`, percent-encoded; others the token itself.
fn cookie_token(cookie: &str) -> Option<String> {
    if cookie.len() > MAX_COOKIE_BYTES {
        return None;
    }
    let text: Cow<'_, str> = percent_encoding::percent_decode_str(cookie).decode_utf8().ok()?;
    match Json::parse_whole(&text) {
        Ok(Json::Object(object)) => object.get("token").and_then(Json::as_str).map(str::to_owned),
        _ => Some(text.into_owned()),
    }
}

// === impl Refusal ===

impl Refusal {
    const ALL: [Refusal; 13] = [
        Refusal::Missing,
        Refusal::Invalid,
        Refusal::Ambiguous,
        Refusal::Collection,
        Refusal::Address,
        Refusal::Unavailable,
        Refusal::Algorithm,
        Refusal::UnknownKey,
        Refusal::Signature,
        Refusal::Expired,
        Refusal::NotYet,
        Refusal::Issuer,
        Refusal::Audience,
    ];

    fn of(error: &ApiError) -> Refusal {
        if error.status() == StatusCode::FORBIDDEN { Refusal::Address } else { Refusal::Unavailable }
    }

    fn as_str(self) -> &'static str {
        match self {
            Refusal::Missing => "missing",
            Refusal::Invalid => "invalid",
            Refusal::Ambiguous => "ambiguous",
            Refusal::Collection => "collection",
            Refusal::Address => "address",
            Refusal::Unavailable => "unavailable",
            Refusal::Algorithm => "algorithm",
            Refusal::UnknownKey => "unknown_key",
            Refusal::Signature => "signature",
            Refusal::Expired => "expired",
            Refusal::NotYet => "not_yet",
            Refusal::Issuer => "issuer",
            Refusal::Audience => "audience",
        }
    }

    fn into_response(self) -> Response<Body> {
        let error = match self {
            Refusal::Ambiguous => ApiError::bad_request(),
            Refusal::Collection => ApiError::not_allowed(),
            Refusal::Address => ApiError::forbidden(),
            Refusal::Unavailable => ApiError::unavailable(std::time::Duration::from_secs(1)),
            _ => ApiError::token_required(),
        };
        let mut response = error.into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = match self {
                Refusal::Missing => "Bearer",
                _ => "Bearer error=\"invalid_token\"",
            };
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<ExternalError> for Refusal {
    fn from(why: ExternalError) -> Self {
        match why {
            ExternalError::Malformed => Refusal::Invalid,
            ExternalError::Algorithm => Refusal::Algorithm,
            ExternalError::UnknownKey => Refusal::UnknownKey,
            ExternalError::Signature => Refusal::Signature,
            ExternalError::Expired => Refusal::Expired,
            ExternalError::NotYet => Refusal::NotYet,
            ExternalError::Issuer => Refusal::Issuer,
            ExternalError::Audience => Refusal::Audience,
        }
    }
}

// === impl Counters ===

impl Counters {
    fn new() -> Self {
        let of =
            |refusal: Refusal| counter!("groundswell_tokens_refused_total", "reason" => refusal.as_str());
        Self(Refusal::ALL.map(of))
    }

    fn note(&self, refusal: Refusal) {
        self.0[refusal as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, lines: &[(&str, &str)]) -> Request<Body> {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    fn with_cookie() -> RouteAuth {
        RouteAuth { cookie: Some("pb_auth".to_owned()), ..RouteAuth::default() }
    }

    #[test]
    fn a_refusal_is_counted_as_itself() {
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(place, refusal as usize);
        }
    }

    #[test]
    fn a_token_leaves_the_head() {
        let mut asked = request("GET", &[("authorization", "Bearer t"), ("cookie", "a=1; pb_auth=c; b=2")]);
        assert_eq!(take_token(&with_cookie(), &mut asked), Ok(Some("Bearer t".to_owned())));
        assert!(!asked.headers().contains_key(AUTHORIZATION));
        assert_eq!(asked.headers()[COOKIE], "a=1; b=2");
        let mut asked = request("GET", &[("cookie", "pb_auth=c")]);
        assert_eq!(take_token(&with_cookie(), &mut asked), Ok(Some("c".to_owned())));
        assert!(!asked.headers().contains_key(COOKIE));
        let mut asked = request("GET", &[("cookie", "pb_auth=c")]);
        assert_eq!(take_token(&RouteAuth::default(), &mut asked), Ok(None));
        assert_eq!(asked.headers()[COOKIE], "pb_auth=c");
    }

    #[test]
    fn a_cookie_that_is_no_text_hides_no_token() {
        let mut asked = request("GET", &[]);
        let line = HeaderValue::from_bytes(b"name=J\xc3\xb6rg; pb_auth=c; b=\xff").unwrap();
        asked.headers_mut().insert(COOKIE, line);
        assert_eq!(take_token(&with_cookie(), &mut asked), Ok(Some("c".to_owned())));
        assert_eq!(asked.headers()[COOKIE].as_bytes(), b"name=J\xc3\xb6rg; b=\xff");
    }

    #[test]
    fn two_tokens_are_none() {
        let mut asked = request("GET", &[("authorization", "a"), ("authorization", "b")]);
        assert_eq!(take_token(&with_cookie(), &mut asked), Err(Refusal::Ambiguous));
        assert!(!asked.headers().contains_key(AUTHORIZATION));
    }

    #[test]
    fn a_cookie_counts_only_for_pages_of_its_own() {
        let token = |method: &str, lines: &[(&str, &str)]| {
            let mut asked =
                request(method, &[&[("host", "app.example"), ("cookie", "pb_auth=c")], lines].concat());
            take_token(&with_cookie(), &mut asked).unwrap().is_some()
        };
        assert!(token("GET", &[]) && token("HEAD", &[("sec-fetch-site", "cross-site")]));
        assert!(token("POST", &[("sec-fetch-site", "same-origin")]));
        assert!(token("POST", &[("origin", "https://App.example")]));
        for lines in [
            &[][..],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
        ] {
            assert!(!token("POST", lines), "{lines:?}");
        }
        assert!(!token("GET", &[("upgrade", "websocket"), ("origin", "https://evil.example")]));
    }

    #[test]
    fn the_cookie_of_the_sdk_holds_its_token() {
        let of_sdk = "%7B%22token%22%3A%22a.b.c%22%2C%22record%22%3A%7B%22id%22%3A%22r1%22%7D%7D";
        for (cookie, token) in [
            (of_sdk, Some("a.b.c")),
            ("a.b.c", Some("a.b.c")),
            ("%7B%7D", None),
            ("%7B%22token%22%3A1%7D", None),
            ("%ff", None),
        ] {
            assert_eq!(cookie_token(cookie).as_deref(), token, "{cookie}");
        }
        assert_eq!(cookie_token(&"x".repeat(MAX_COOKIE_BYTES + 1)), None);
    }
}
