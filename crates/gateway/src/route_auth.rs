//! What a route to other servers asks of whoever calls, and who that was.

use std::sync::Arc;
use std::time::Duration;

use model::collection::Collection;
use model::record::Record;

use crate::identity_providers::{ExternalCaller, Provider};

/// What a route asks of whoever calls. A route without it looks at no token: `Authorization` goes on as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteAuth {
    /// Whether a guest is refused.
    pub is_required: bool,
    /// The auth collections whose records may call, by name or id; all of them where there are none.
    pub collections: Vec<String>,
    /// The cookie whose token counts where there is no `Authorization`.
    pub cookie: Option<String>,
    /// Who vouches for callers, if it is not the application itself.
    pub provider: Option<Arc<Provider>>,
    /// Whether the server gets the client's own token, of a provider, and none of ours.
    pub forwards_original: bool,
    /// Fields of the caller's record, or claims of his own token, that the server is told of.
    pub fields: Vec<String>,
    /// How it is told.
    pub tokens: TokenRules,
}

/// What the tokens are like by which servers know who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// Who says so.
    pub issuer: String,
    /// How long a token counts.
    pub lifetime: Duration,
}

/// Who asks, on a route with [`RouteAuth`], among the request's extensions.
#[derive(Debug, Clone)]
pub(crate) enum RouteCaller {
    /// Nobody signed in.
    Guest,
    /// A record of an auth collection, superusers among them.
    Record(Arc<Record>),
    /// Somebody whom an identity provider vouches for.
    External(Arc<ExternalCaller>),
}

// === impl RouteAuth ===

impl RouteAuth {
    /// Whether records of this collection may call.
    pub(crate) fn allows(&self, collection: &Collection) -> bool {
        self.collections.is_empty()
            || self.collections.iter().any(|one| *one == collection.name || *one == collection.id)
    }
}

// === impl TokenRules ===

impl Default for TokenRules {
    fn default() -> Self {
        Self { issuer: "groundswell".to_owned(), lifetime: Duration::from_secs(60) }
    }
}

// === impl RouteCaller ===

impl RouteCaller {
    /// What tells one caller from another: where he is known, and his id there. None for guests.
    pub(crate) fn key(&self) -> Option<(&str, &str)> {
        match self {
            RouteCaller::Guest => None,
            RouteCaller::Record(record) => Some((&record.collection.id, record.id())),
            RouteCaller::External(caller) => Some((&caller.provider, &caller.claims.subject)),
        }
    }
}
