//! Why the edge itself refused a request. It is counted by its cause, and the access log names it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use metrics::{Counter, counter};

/// A refusal, among the extensions of the response that tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    /// What of the configuration it goes by, where that has a name. It is not counted by it.
    pub(crate) rule: Option<Arc<str>>,
}

/// The causes, each with what it is called outside.
macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident => $name:literal,)*) => {
        /// What a request was refused for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Cause { $($(#[$doc])* $cause,)* }

        const NAMES: &[&str] = &[$($name,)*];
    };
}

causes! {
    /// The head is too large.
    HeadSize => "head_size",
    /// The head is no HTTP.
    BadHead => "bad_head",
    /// Its body has two ends.
    Framing => "framing",
    /// Its path does not decode.
    BadPath => "bad_path",
    /// It names two hosts, or one that is no text.
    BadHost => "bad_host",
    /// Its method is not for its route, or for no other server.
    Method => "method",
    /// Its path may lead out of its route.
    LeavesRoute => "leaves_route",
    /// Its client may not come in.
    Address => "address",
    /// Its route does not take bodies of its type.
    ContentType => "content_type",
    /// Its body is larger than its route takes.
    BodySize => "body_size",
    /// Its target is longer than its route takes.
    TargetSize => "target_size",
    /// Its route does not let its client in.
    RouteAddress => "route_address",
    /// There is no room for it in a bucket of all requests.
    Rate => "rate",
    /// There is no room for it in a bucket of its route.
    RouteRate => "route_rate",
    /// There are too many unanswered requests.
    Overload => "overload",
    /// There are too many unanswered requests of its route.
    RouteOverload => "route_overload",
    /// A rule of the configuration, or one that is built in, fits it.
    Rule => "rule",
    /// It is one too many for the limits of the settings.
    RateLimit => "rate_limit",
    /// A superuser's address is not listed.
    SuperuserAddress => "superuser_address",
    /// Its route wants another caller.
    Caller => "caller",
    /// Its body is coded in a way that is not known.
    Coding => "transfer_coding",
    /// The path grows too long on its way.
    LongPath => "long_path",
    /// All servers have as much to do as they may.
    Full => "upstream_full",
    /// No server could be reached, or all were lost.
    Unanswered => "upstream_unanswered",
    /// No server answered in time.
    Late => "upstream_late",
    /// The client broke off what it sent.
    ClientLeft => "client_left",
    /// The client did not go on with what it sent.
    ClientLate => "client_late",
    /// A server switched protocols, and nobody had asked.
    Switched => "upstream_switched",
}

/// The counters of one request loop.
pub(crate) struct Refusals(Vec<Counter>);

// === impl Cause ===

impl Cause {
    pub(crate) fn as_str(self) -> &'static str {
        NAMES[self as usize]
    }

    /// A response that says so.
    pub(crate) fn mark(self, mut response: Response<Body>) -> Response<Body> {
        response.extensions_mut().insert(Refusal { cause: self, rule: None });
        response
    }
}

// === impl Refusals ===

impl Refusals {
    pub(crate) fn new() -> Self {
        Self(NAMES.iter().map(|name| counter!("groundswell_refused_total", "cause" => *name)).collect())
    }

    pub(crate) fn count(&self, cause: Cause) {
        self.0[cause as usize].increment(1);
    }
}
