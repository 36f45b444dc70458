//! What every handler works with: the store, who callers are, and what is remembered between requests.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::store::{Store, StoreError};
use identity::Identity;
use identity::hash_pool::HashPoolError;
use model::time::Timestamp;

use crate::before_hooks::{BeforeHooks, NoHooks};
use crate::error::ApiError;
use crate::files::Files;
use crate::filters::FilterCache;
use crate::rate_limits::RateLimits;
use crate::record_json::ShapeCache;

/// Shared by the services on one request loop of a node.
pub struct App {
    /// The data.
    pub store: Arc<dyn Store>,
    /// Tokens, passwords, sign-in throttle.
    pub identity: Arc<Identity>,
    /// The bytes of files.
    pub files: Arc<Files>,
    /// Asked before writes.
    pub before_hooks: Arc<dyn BeforeHooks>,
    /// The limits of requests.
    pub rate_limits: Arc<RateLimits>,
    /// How records become JSON, by collection.
    pub shapes: ShapeCache,
    /// Checked filters and sorts of clients.
    pub filters: FilterCache,
}

impl App {
    /// With nothing remembered yet, and no hooks and no limits.
    pub fn new(store: Arc<dyn Store>, identity: Arc<Identity>, files: Arc<Files>) -> App {
        let before_hooks = Arc::new(NoHooks);
        let (rate_limits, shapes, filters) = Default::default();
        App { store, identity, files, before_hooks, rate_limits, shapes, filters }
    }

    /// The same with hooks.
    pub fn with_before_hooks(self, before_hooks: Arc<dyn BeforeHooks>) -> App {
        App { before_hooks, ..self }
    }

    /// The same with these limits.
    pub fn with_rate_limits(self, rate_limits: Arc<RateLimits>) -> App {
        App { rate_limits, ..self }
    }
}

/// Attempts to answer a request that only reads, while the schema is being changed under it.
#[derive(Debug, Default)]
pub struct SchemaAttempts(u32);

impl SchemaAttempts {
    /// Whether to answer again, under the schema that is current by now.
    pub async fn again(&mut self, error: &ApiError) -> bool {
        const MOST: u32 = 8;
        if !error.is_schema_changed() || self.0 >= MOST {
            return false;
        }
        self.0 += 1;
        // A commit takes about a millisecond.
        tokio::time::sleep(Duration::from_millis(self.0.into())).await;
        true
    }
}

/// The current time.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A store call without an answer is not the client's fault, unless it asked for a view that has none: 503 while it may pass, 500 otherwise,
/// and the details stay in the log. A write that may have been done is no 503: clients repeat those.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Busy => ApiError::busy(Duration::from_secs(1)),
            StoreError::SchemaChanged => ApiError::schema_changed(),
            StoreError::Unavailable(_) | StoreError::Closed | StoreError::Deadline(_) => {
                ApiError::unavailable(Duration::from_secs(1))
            }
            StoreError::BrokenView(detail) => {
                tracing::info!(detail, "a view could not be read");
                ApiError::bad_request()
            }
            StoreError::Unknown(detail) | StoreError::Internal(detail) => {
                tracing::error!(detail, "the store failed");
                ApiError::internal()
            }
        }
    }
}

/// Hashing that was not done is asked for again; one that failed is our own mistake.
impl From<HashPoolError> for ApiError {
    fn from(error: HashPoolError) -> ApiError {
        match error {
            HashPoolError::Busy | HashPoolError::GivenUp => ApiError::busy(Duration::from_secs(1)),
            HashPoolError::Failed(failure) => {
                tracing::error!(%failure, "a password could not be hashed");
                ApiError::internal()
            }
        }
    }
}
