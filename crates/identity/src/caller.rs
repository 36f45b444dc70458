//! From an `Authorization` header to who the caller is.

use std::sync::Arc;

use contract::store::{GetRecord, Store, StoreError};
use model::context::Caller;
use model::record::Record;
use model::time::Timestamp;

use crate::Identity;
use crate::cache::Remembered;
use crate::jwt::{self, Claims, Purpose, SigningKey, TokenKind, Unverified};

/// How often a record is looked for again while the schema is being changed.
const SCHEMA_ATTEMPTS: usize = 3;

impl Identity {
    /// Who an auth token speaks for. What is not valid, whatever the reason, is a guest (CONTRACT §1.3).
    /// An error says that the store did not answer, which makes nobody a guest.
    pub async fn caller(
        &self,
        store: &dyn Store,
        header: &str,
        now: Timestamp,
    ) -> Result<Caller, StoreError> {
        let token = jwt::bearer_token(header);
        let now = now.0 / 1_000;
        if token.is_empty() {
            return Ok(Caller::Guest);
        }
        if let Some(remembered) = self.tokens.get(token, now) {
            return Ok(caller_of(remembered.record));
        }
        let Ok(unverified) = jwt::read(token) else { return Ok(Caller::Guest) };
        let ticket = self.tokens.begin();
        let Some(record) = load(store, unverified.claims(), TokenKind::Auth).await? else {
            return Ok(Caller::Guest);
        };
        let record = Arc::new(record);
        let Some((expires_at, refreshable)) = check(unverified, &record, now) else {
            return Ok(Caller::Guest);
        };
        let remembered = Remembered { record: record.clone(), expires_at, refreshable };
        self.tokens.insert(ticket, token, remembered, now);
        Ok(caller_of(record))
    }

    /// Who a file token speaks for; what is not valid is a guest (CONTRACT §6.3).
    pub async fn file_caller(
        &self,
        store: &dyn Store,
        token: &str,
        now: Timestamp,
    ) -> Result<Caller, StoreError> {
        let Ok(unverified) = jwt::read(token) else { return Ok(Caller::Guest) };
        let Some(record) = load(store, unverified.claims(), TokenKind::File).await? else {
            return Ok(Caller::Guest);
        };
        let key = SigningKey::of(&record, TokenKind::File);
        let is_right = key.is_some_and(|key| unverified.verify(&key, now.0 / 1_000).is_ok());
        Ok(if is_right { caller_of(Arc::new(record)) } else { Caller::Guest })
    }
}

/// The record that a token claims to be of, if it is of this kind.
async fn load(store: &dyn Store, claims: &Claims, kind: TokenKind) -> Result<Option<Record>, StoreError> {
    if claims.purpose.kind() != kind {
        return Ok(None);
    }
    for _ in 0..SCHEMA_ATTEMPTS {
        let schema = store.schema();
        let collection = schema.find(&claims.collection_id).filter(|collection| collection.is_auth());
        let Some(collection) = collection else { return Ok(None) };
        let query = GetRecord {
            schema_version: schema.version(),
            collection: collection.clone(),
            id: claims.record_id.clone(),
            conditions: Vec::new(),
        };
        match store.get(query).await {
            Err(StoreError::SchemaChanged) => {}
            result => return result,
        }
    }
    Err(StoreError::SchemaChanged)
}

/// When the token expires and whether it can be refreshed, if it is right.
fn check(unverified: Unverified<'_>, record: &Record, now: i64) -> Option<(i64, bool)> {
    let key = SigningKey::of(record, TokenKind::Auth)?;
    let claims = unverified.verify(&key, now).ok()?;
    let Purpose::Auth { refreshable } = claims.purpose else { return None };
    Some((claims.expires_at, refreshable))
}

fn caller_of(record: Arc<Record>) -> Caller {
    if record.collection.is_superusers() { Caller::Superuser(record) } else { Caller::Record(record) }
}
