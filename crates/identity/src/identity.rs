//! Everything about identity that a node keeps between requests.

use contract::store::{Commit, CommitObserver};
use model::record::Record;
use model::time::Timestamp;

use crate::cache::TokenCache;
use crate::caller_keys::CallerKeys;
use crate::hash_pool::{HashPool, HashPoolError};
use crate::jwt::{self, Claims, Purpose, SigningKey, TokenKind};
use crate::throttle::{SignInThrottle, ThrottleLimits};

/// Verified tokens that are remembered.
const TOKENS: usize = 65_536;

/// Tokens, passwords and the sign-in throttle of a node.
#[derive(Debug)]
pub struct Identity {
    pub(crate) tokens: TokenCache,
    hashes: HashPool,
    throttle: SignInThrottle,
    caller_keys: CallerKeys,
}

impl Identity {
    /// Starts the hash pool; nothing is remembered yet.
    pub fn start() -> std::io::Result<Identity> {
        Ok(Identity {
            tokens: TokenCache::new(TOKENS),
            hashes: HashPool::start()?,
            throttle: SignInThrottle::new(ThrottleLimits::default()),
            caller_keys: CallerKeys::default(),
        })
    }

    /// Hashes a new password.
    pub async fn hash(&self, password: String) -> Result<String, HashPoolError> {
        self.hashes.hash(password).await
    }

    /// Whether a password is the one of a hash. Without a hash the same work is done for nothing, so
    /// that its time tells nobody which accounts there are.
    pub async fn verify_or_pretend(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, HashPoolError> {
        match hash {
            Some(hash) => Ok(self.hashes.verify(password, hash).await?.is_right),
            None => self.hashes.dummy_verify(password).await.map(|()| false),
        }
    }

    /// What signs tokens for other servers.
    pub fn caller_keys(&self) -> &CallerKeys {
        &self.caller_keys
    }

    /// Counts failed sign-ins.
    pub fn throttle(&self) -> &SignInThrottle {
        &self.throttle
    }

    /// A token by which a record is signed in for `duration` seconds. None for a record that cannot sign in.
    pub fn auth_token(
        &self,
        record: &Record,
        duration: i64,
        refreshable: bool,
        now: Timestamp,
    ) -> Option<String> {
        let key = SigningKey::of(record, TokenKind::Auth)?;
        let claims = Claims {
            collection_id: record.collection.id.clone(),
            record_id: record.id().to_owned(),
            expires_at: (now.0 / 1_000).saturating_add(duration),
            purpose: Purpose::Auth { refreshable },
        };
        Some(jwt::sign(&claims, &key))
    }

    /// A token by which a record reads protected files. None for a record that cannot sign in.
    pub fn file_token(&self, record: &Record, now: Timestamp) -> Option<String> {
        let key = SigningKey::of(record, TokenKind::File)?;
        let duration = record.collection.auth()?.file_token.duration;
        let claims = Claims {
            collection_id: record.collection.id.clone(),
            record_id: record.id().to_owned(),
            expires_at: (now.0 / 1_000).saturating_add(duration),
            purpose: Purpose::File,
        };
        Some(jwt::sign(&claims, &key))
    }

    /// Whether a token, verified already, may be exchanged for a newer one.
    pub fn is_refreshable(&self, token: &str) -> bool {
        let claims = jwt::read(token).map(|token| token.claims().clone());
        claims.is_ok_and(|claims| matches!(claims.purpose, Purpose::Auth { refreshable: true }))
    }
}

/// What a commit may have made wrong is forgotten before the commit is acknowledged.
impl CommitObserver for Identity {
    fn committed(&self, commit: &Commit) {
        if commit.schema_changed {
            self.tokens.forget_all();
        }
        for (collection, record) in &commit.auth_records {
            self.tokens.forget_record(collection, record);
        }
    }
}
