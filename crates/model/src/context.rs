//! What a rule may know about the request besides records: `@request.*` and the clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::json::JsonObject;
use crate::record::Record;
use crate::time::Timestamp;

/// Who asks, as verified.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Nobody signed in.
    Guest,
    /// A record of an auth collection.
    Record(Arc<Record>),
    /// A record of `_superusers`: past every rule.
    Superuser(Arc<Record>),
}

/// What rules see of a request. The body is that of the record being written, after modifiers and
/// without what the caller may not set; empty otherwise.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// `@request.context`.
    pub origin: Origin,
    /// `@request.method`, such as `GET`.
    pub method: &'static str,
    /// `@request.query.*`: the first value of each.
    pub query: BTreeMap<String, String>,
    /// `@request.headers.*`: names in lower case, every non-word character an underscore.
    pub headers: BTreeMap<String, String>,
    /// `@request.auth.*`.
    pub caller: Caller,
    /// What `@now` and its like are computed from.
    pub now: Timestamp,
}

/// The body that rules see through `@request.body.*`, with what `:changed` needs.
#[derive(Debug, Clone, Default)]
pub struct RuleBody {
    /// Values by field name, after modifiers and coercion.
    pub values: JsonObject,
}

/// What kind of request asks: the values of `@request.context`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's words; nothing to add")]
pub enum Origin {
    Default,
    OAuth2,
    Otp,
    Password,
    Realtime,
    ProtectedFile,
    Expand,
    Batch,
}

// === impl Caller ===

impl Caller {
    /// The signed-in record, superuser or not.
    pub fn record(&self) -> Option<&Arc<Record>> {
        match self {
            Caller::Guest => None,
            Caller::Record(record) | Caller::Superuser(record) => Some(record),
        }
    }

    /// Whether rules do not apply.
    pub fn is_superuser(&self) -> bool {
        matches!(self, Caller::Superuser(_))
    }
}

// === impl RequestContext ===

impl RequestContext {
    /// A guest's request without query, headers or body.
    pub fn guest(now: Timestamp) -> RequestContext {
        RequestContext {
            origin: Origin::Default,
            method: "GET",
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
            caller: Caller::Guest,
            now,
        }
    }
}

// === impl Origin ===

impl Origin {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::OAuth2 => "oauth2",
            Origin::Otp => "otp",
            Origin::Password => "password",
            Origin::Realtime => "realtime",
            Origin::ProtectedFile => "protectedFile",
            Origin::Expand => "expand",
            Origin::Batch => "batch",
        }
    }
}
