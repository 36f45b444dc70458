//! Where a request goes: to the services of this process, to a pool of servers, or somewhere else by a redirect.
//!
//! Of the routes that fit the one that says most wins: a named host before a wildcard before none, then the longest path,
//! then the one that asks for methods or headers, then the one that stands first. What fits none goes to the services.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION};
use axum::http::uri::PathAndQuery;
use axum::http::{Method, Request, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use kit::error::ApiError;

use crate::checks::accepts::Accepts;
use crate::limits::RouteLimits;
use crate::route_auth::RouteAuth;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What counts and logs call it; by default its host and path.
    pub name: Option<String>,
    /// Which requests it is for; every host where there is none.
    pub host: Option<HostPattern>,
    /// The beginning of the path, up to the end of a segment.
    pub path: String,
    /// Every method where there are none.
    pub methods: Vec<Method>,
    /// Headers that a request must have; without a value, whatever theirs is.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Where it leads.
    pub target: Target,
    /// What it takes of whom.
    pub limits: RouteLimits,
    /// What it takes at all.
    pub accepts: Accepts,
    /// What the beginning of the path becomes.
    pub rewrite: Option<String>,
    /// Whether answers are compressed for clients that ask for it.
    pub compress: bool,
    /// What is asked of whoever calls, if anything.
    pub auth: Option<RouteAuth>,
    /// Set in what the server gets; removed where there is no value.
    pub request_headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Set in what the client gets; removed where there is no value.
    pub response_headers: Vec<(HeaderName, Option<HeaderValue>)>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The services of this process.
    Services,
    /// The pool of servers of this name.
    Upstream(String),
    /// Another URL: this, and what follows the route's path.
    Redirect(String),
}

/// `app.example` or `*.app.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// Without the asterisk; with the dot behind it.
    name: String,
    is_wildcard: bool,
}

// === impl Route ===

impl Route {
    /// For every request whose path begins so.
    pub fn new(path: impl Into<String>, target: Target) -> Self {
        Self {
            name: None,
            host: None,
            path: path.into(),
            methods: Vec::new(),
            headers: Vec::new(),
            target,
            limits: RouteLimits::default(),
            accepts: Accepts::default(),
            rewrite: None,
            compress: false,
            auth: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }

    /// What counts and logs call it.
    pub(crate) fn label(&self) -> String {
        match (&self.name, &self.host) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => format!("{host}{}", self.path),
            (None, None) => self.path.clone(),
        }
    }

    /// Whether both are for the same requests.
    pub(crate) fn is_for_the_same(&self, other: &Self) -> bool {
        self.host == other.host
            && self.path == other.path
            && self.methods == other.methods
            && self.headers == other.headers
    }

    fn fits(&self, request: &Request<Body>, path: &str, host: &str) -> bool {
        follows(path, &self.path).is_some()
            && self.host.as_ref().is_none_or(|pattern| pattern.fits(host))
            && (self.methods.is_empty() || self.methods.contains(request.method()))
            && self.headers.iter().all(|(name, value)| match value {
                Some(value) => request.headers().get_all(name).iter().any(|given| given == value),
                None => request.headers().contains_key(name),
            })
    }

    /// The path and query for the server. None where it cannot be said, because it grows too long, or because the path
    /// does not begin as the route has it but by an encoded letter.
    pub(crate) fn rewritten(&self, uri: &Uri) -> Option<PathAndQuery> {
        match &self.rewrite {
            None => Some(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))),
            Some(begins) => {
                let target = joined(begins, follows(uri.path(), &self.path)?, uri.query());
                PathAndQuery::from_maybe_shared(target).ok()
            }
        }
    }

    /// The answer of a redirect. 308: the client does the same there, with the same method.
    pub(crate) fn redirect(&self, to: &str, uri: &Uri) -> Response<Body> {
        // With more than one slash at its beginning the rest could be taken for a host.
        let rest = follows(uri.path(), &self.path).unwrap_or_default().trim_start_matches(['/', '\\']);
        let Ok(location) = HeaderValue::from_str(&joined(to, rest, uri.query())) else {
            return ApiError::bad_request().into_response();
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(LOCATION, location);
        response
    }

    fn rank(&self) -> impl Ord + use<> {
        let of_host = match &self.host {
            Some(pattern) if !pattern.is_wildcard => (2, 0),
            Some(pattern) => (1, pattern.name.len()),
            None => (0, 0),
        };
        Reverse((of_host, self.path.len(), self.headers.len() + usize::from(!self.methods.is_empty())))
    }
}

/// Puts routes into the order in which they are looked at.
pub(crate) fn sort(routes: &mut [Route]) {
    routes.sort_by_key(Route::rank);
}

/// The first that fits a request for this host, and its position.
pub(crate) fn find<'r>(
    routes: &'r [Arc<Route>],
    request: &Request<Body>,
    host: &str,
) -> Option<(usize, &'r Arc<Route>)> {
    let path = decoded(request.uri().path());
    routes.iter().enumerate().find(|(_, route)| route.fits(request, &path, host))
}

/// The host that is asked for, without a port and a dot at its end: of a target that has one that, otherwise of the
/// header. None for a request that names two or none that is text; a request of HTTP/1.0 may name none.
pub(crate) fn host<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let mut named = headers.get_all(HOST).iter();
    let header = named.next();
    if named.next().is_some() {
        return None;
    }
    let given = match (uri.host(), header) {
        (Some(host), _) => host,
        (None, Some(header)) => header.to_str().ok()?,
        (None, None) => "",
    };
    let host = match given.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => given,
    };
    Some(host.strip_suffix('.').unwrap_or(host))
}

/// A path as servers may read it: an encoded letter is the letter.
fn decoded(path: &str) -> Cow<'_, str> {
    if path.contains('%') {
        percent_encoding::percent_decode_str(path).decode_utf8_lossy()
    } else {
        path.into()
    }
}

/// Sets and removes headers.
pub(crate) fn apply(rules: &[(HeaderName, Option<HeaderValue>)], headers: &mut HeaderMap) {
    for (name, value) in rules {
        match value {
            Some(value) => _ = headers.insert(name.clone(), value.clone()),
            None => _ = headers.remove(name),
        }
    }
}

/// What follows a path that ends with a segment.
fn follows<'p>(path: &'p str, begin: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(begin)?;
    (begin.ends_with('/') || rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn joined(begin: &str, rest: &str, query: Option<&str>) -> String {
    let mut target = String::with_capacity(begin.len() + rest.len() + query.map_or(0, str::len) + 2);
    target.push_str(begin);
    match (begin.ends_with('/'), rest.strip_prefix('/')) {
        (true, Some(rest)) => target.push_str(rest),
        (false, None) if !rest.is_empty() => {
            target.push('/');
            target.push_str(rest);
        }
        _ => target.push_str(rest),
    }
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    target
}

// === impl HostPattern ===

impl HostPattern {
    /// Reads one. None for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, is_wildcard) = match text.strip_prefix('*') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let is_name = !name.is_empty() && !name.contains(['*', '/', ':', ' ', '@']);
        let is_whole = !is_wildcard || name.starts_with('.') && name.len() > 1;
        (is_name && is_whole).then(|| Self { name: name.to_ascii_lowercase(), is_wildcard })
    }

    fn fits(&self, host: &str) -> bool {
        let host = host.as_bytes();
        let name = self.name.as_bytes();
        match host.len().checked_sub(name.len()) {
            Some(0) => !self.is_wildcard && host.eq_ignore_ascii_case(name),
            Some(start) => self.is_wildcard && host[start..].eq_ignore_ascii_case(name),
            None => false,
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.is_wildcard { "*" } else { "" }, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: &str, path: &str, target: &str) -> Route {
        Route { host: HostPattern::parse(host), ..Route::new(path, Target::Upstream(target.to_owned())) }
    }

    fn request(target: &str, lines: &[(&str, &str)]) -> Request<Body> {
        let mut request = Request::get(target);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    fn found(routes: &[Route], request: &Request<Body>) -> String {
        let mut routes = routes.to_vec();
        sort(&mut routes);
        let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        let host = host(request.headers(), request.uri()).unwrap();
        match find(&routes, request, host).map(|(_, route)| &route.target) {
            Some(Target::Upstream(name)) => name.clone(),
            _ => "services".to_owned(),
        }
    }

    #[test]
    fn the_route_that_says_most_wins() {
        let routes = [
            route("", "/", "all"),
            route("", "/shop/", "shop"),
            route("", "/shop/admin", "admin"),
            route("*.shop.example", "/", "wild"),
            route("www.shop.example", "/", "named"),
        ];
        for (host, target, expected) in [
            ("a", "/", "all"),
            ("a", "/shop", "all"),
            ("a", "/shop/x", "shop"),
            ("a", "/shop/admin", "admin"),
            ("a", "/shop/admin/x?y", "admin"),
            ("a", "/shop/administrator", "shop"),
            ("www.shop.example:8080", "/shop/x", "named"),
            ("WWW.Shop.Example", "/", "named"),
            ("a.b.shop.example", "/shop/x", "wild"),
            ("shop.example", "/", "all"),
            ("notshop.example", "/", "all"),
            ("www.shop.example.", "/", "named"),
            ("a", "/shop/%61dmin/x", "admin"),
        ] {
            let request = request(target, &[("host", host)]);
            assert_eq!(found(&routes, &request), expected, "{host} {target}");
        }
        assert_eq!(found(&[], &request("/", &[])), "services");
    }

    #[test]
    fn methods_and_headers_must_fit() {
        let mut write = route("", "/", "write");
        write.methods = vec![Method::POST];
        let mut canary = route("", "/", "canary");
        canary.headers = vec![("x-canary".parse().unwrap(), Some("1".parse().unwrap()))];
        let routes = [write, canary];
        assert_eq!(found(&routes, &request("/", &[])), "services");
        assert_eq!(found(&routes, &request("/", &[("x-canary", "0"), ("x-canary", "1")])), "canary");
        let mut post = request("/", &[]);
        *post.method_mut() = Method::POST;
        assert_eq!(found(&routes, &post), "write");
    }

    #[test]
    fn the_beginning_of_a_path_is_rewritten() {
        for (path, rewrite, target, expected) in [
            ("/shop/", "/", "/shop/a/b?c=d", "/a/b?c=d"),
            ("/shop", "/", "/shop", "/"),
            ("/shop", "/", "/shop/a", "/a"),
            ("/shop/", "/v2", "/shop/a", "/v2/a"),
            ("/", "/v2/", "/a%20b", "/v2/a%20b"),
        ] {
            let route = Route { rewrite: Some(rewrite.to_owned()), ..route("", path, "u") };
            assert_eq!(
                route.rewritten(&target.parse().unwrap()).unwrap(),
                expected,
                "{path} {rewrite} {target}"
            );
        }
    }

    #[test]
    fn a_redirect_keeps_what_follows() {
        let route = route("", "/old/", "");
        let response = route.redirect("https://new.example/x/", &"/old/a?b".parse().unwrap());
        assert_eq!(response.status(), 308);
        assert_eq!(response.headers()[LOCATION], "https://new.example/x/a?b");
        let local = super::tests::route("", "/old", "");
        for path in ["/old//evil.example", "/old///evil.example", "/old/\\evil.example"] {
            let mut uri = Uri::builder();
            uri = uri.path_and_query(path);
            let Ok(uri) = uri.build() else { continue };
            assert_eq!(local.redirect("/", &uri).headers()[LOCATION], "/evil.example", "{path}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let named = |target: &str, lines: &[(&str, &str)]| {
            let request = request(target, lines);
            host(request.headers(), request.uri()).map(str::to_owned)
        };
        assert_eq!(named("/", &[("host", "A.example:80")]).unwrap(), "A.example");
        assert_eq!(named("http://b.example/", &[("host", "a.example")]).unwrap(), "b.example");
        assert_eq!(named("/", &[]).unwrap(), "");
        assert_eq!(named("/", &[("host", "a"), ("host", "b")]), None);
    }

    #[test]
    fn a_target_that_cannot_be_rewritten_goes_nowhere() {
        let route = Route { rewrite: Some("/tenant-a".to_owned()), ..route("", "/t", "u") };
        let long = format!("/t/{}", "x".repeat(65_525));
        assert_eq!(route.rewritten(&long.parse().unwrap()), None);
        assert_eq!(route.rewritten(&"/%74/x".parse().unwrap()), None);
    }

    #[test]
    fn a_host_is_a_name_perhaps_with_an_asterisk_before() {
        for text in ["a.example", "*.a.example", "localhost"] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "*", "*.", "*a", "a.*", "a:80", "a/b"] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
