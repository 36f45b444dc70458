//! What a handler knows of its request besides the body: who asks, from where, and what rules may see.
//! What is not always needed (the query, the maps for rules) is worked out when it is asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, HeaderName, HeaderValue, Method, request::Parts};
use model::context::{Caller, Origin, RequestContext};
use model::json::JsonObject;
use model::time::Timestamp;

use crate::body::{self, BodyError, BodyLimits, Submitted, TakeFiles};
use crate::error::ApiError;
use crate::query::Query;
use crate::spool::Spool;

/// What the gateway found out about a request, put among its extensions.
#[derive(Debug, Clone)]
pub struct CallInfo {
    /// Where the request came from, past the trusted proxies.
    pub client_ip: IpAddr,
    /// What logs and traces name the request by.
    pub request_id: RequestId,
    /// Who asks, as verified.
    pub caller: Caller,
}

/// What logs and traces name a request by, as it stands in the answer's `X-Request-Id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub HeaderValue);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// A request: its head, what the gateway knows of it, and its body until that is read.
#[derive(Debug)]
pub struct Call {
    parts: Parts,
    info: CallInfo,
    /// Behind a lock that is never taken: only `&mut self` reaches it, and the lock makes a call [`Sync`].
    body: Mutex<Body>,
    query: OnceLock<Query>,
}

// === impl Call ===

impl Call {
    /// A request of which this is known.
    pub fn new(request: Request, info: CallInfo) -> Call {
        let (parts, body) = request.into_parts();
        Call { parts, info, body: Mutex::new(body), query: OnceLock::new() }
    }

    /// What the gateway knows of the request; the requests within a batch share it.
    pub fn info(&self) -> &CallInfo {
        &self.info
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.info.caller
    }

    /// 401 for a guest, 403 for a caller that is no superuser.
    pub fn require_superuser(&self) -> Result<(), ApiError> {
        match &self.info.caller {
            Caller::Superuser(_) => Ok(()),
            Caller::Record(_) => Err(ApiError::not_allowed()),
            Caller::Guest => Err(ApiError::token_required()),
        }
    }

    /// Where the request came from.
    pub fn client_ip(&self) -> IpAddr {
        self.info.client_ip
    }

    /// The address as the contract prints it: IPv6 in full.
    pub fn client_ip_text(&self) -> String {
        ip_text(self.info.client_ip)
    }

    /// What logs name the request by.
    pub fn request_id(&self) -> &RequestId {
        &self.info.request_id
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The path, still percent-encoded.
    pub fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The query.
    pub fn query(&self) -> &Query {
        self.query.get_or_init(|| Query::parse(self.parts.uri.query().unwrap_or_default()))
    }

    /// Reads the body, once: a second reading finds it empty.
    pub async fn read_body(&mut self, limits: BodyLimits) -> Result<Submitted, BodyError> {
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        body::read(&self.parts.headers, self.query(), body, limits, TakeFiles::Not).await
    }

    /// The same; the files in it wait in the spool.
    pub async fn read_body_with_files(
        &mut self,
        limits: BodyLimits,
        spool: &Arc<Spool>,
    ) -> Result<Submitted, BodyError> {
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        let files = TakeFiles::Into(spool, self.info.client_ip);
        body::read(&self.parts.headers, self.query(), body, limits, files).await
    }

    /// The body of a request that needs none, as rules see it. One that cannot be read is a bad request.
    pub async fn read_rule_body(&mut self) -> Result<JsonObject, ApiError> {
        let is_empty = {
            let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
            body.size_hint().exact() == Some(0)
        };
        if is_empty {
            return Ok(JsonObject::new());
        }
        let submitted = self.read_body(BodyLimits::default()).await.map_err(BodyError::into_record_error)?;
        submitted.into_object().map_err(BodyError::into_record_error)
    }

    /// What rules see of the request. It is built anew each time: a handler asks once, and only when a
    /// rule or a filter needs it.
    pub fn context(&self, origin: Origin, now: Timestamp) -> RequestContext {
        RequestContext {
            origin,
            method: method_name(&self.parts.method),
            query: self.query().for_rules(),
            headers: headers_for_rules(&self.parts.headers),
            caller: self.info.caller.clone(),
            now,
        }
    }
}

/// Fails with 500 when the gateway's word is missing, which is a mistake in the wiring.
impl<S: Sync> FromRequest<S> for Call {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, _state: &S) -> Result<Call, ApiError> {
        let info = request.extensions_mut().remove::<CallInfo>().ok_or_else(ApiError::internal)?;
        Ok(Call::new(request, info))
    }
}

/// What rules see as `@request.headers.*`: the first value of each header, its name in lower case with
/// single underscores between words. `Host` is none of them.
pub fn headers_for_rules(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for name in headers.keys() {
        if name == http::header::HOST || name == http::header::TRANSFER_ENCODING {
            continue;
        }
        if let Some(value) = headers.get(name) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            map.entry(rule_name(name)).or_insert(value);
        }
    }
    map
}

fn rule_name(name: &HeaderName) -> String {
    let words = name.as_str().split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// An address as the contract prints it: IPv6 in full, as in `2001:0db8:0000:…:0001`.
pub fn ip_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => expanded(ip),
    }
}

fn expanded(ip: Ipv6Addr) -> String {
    ip.segments().map(|segment| format!("{segment:04x}")).join(":")
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> CallInfo {
        CallInfo {
            client_ip: IpAddr::from([127, 0, 0, 1]),
            request_id: RequestId(HeaderValue::from_static("r1")),
            caller: Caller::Guest,
        }
    }

    #[test]
    fn rules_see_headers_and_query_as_seen() {
        let request = Request::get("/api/x?a=1&a=2&b=x+y")
            .header("Host", "h")
            .header("X-Test", "v")
            .header("X--Two-", "w")
            .header("X.Three", "z")
            .header("X-Test", "second")
            .body(Body::empty())
            .unwrap();
        let context = Call::new(request, info()).context(Origin::Default, Timestamp(0));
        let pairs = |map: &BTreeMap<String, String>| {
            map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(pairs(&context.headers), "x_test=v x_three=z x_two=w");
        assert_eq!(pairs(&context.query), "a=1 b=x y");
        assert_eq!(context.method, "GET");
    }

    #[test]
    fn addresses_are_printed_in_full() {
        assert_eq!(ip_text("127.0.0.1".parse().unwrap()), "127.0.0.1");
        assert_eq!(ip_text("2001:db8::1".parse().unwrap()), "2001:0db8:0000:0000:0000:0000:0000:0001");
    }

    #[tokio::test]
    async fn a_body_is_read_once() {
        let request =
            Request::post("/").header("content-type", "application/json").body(Body::from(r#"{"a":1}"#));
        let mut call = Call::new(request.unwrap(), info());
        assert!(!call.read_body(BodyLimits::default()).await.unwrap().is_empty());
        assert!(call.read_body(BodyLimits::default()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_request_past_the_gateway_is_refused() {
        let bare = Request::get("/").body(Body::empty()).unwrap();
        assert_eq!(Call::from_request(bare, &()).await.unwrap_err().status(), 500);
        let mut told = Request::get("/").body(Body::empty()).unwrap();
        told.extensions_mut().insert(info());
        let call = Call::from_request(told, &()).await.unwrap();
        assert_eq!(call.require_superuser().unwrap_err().status(), 401);
    }
}
