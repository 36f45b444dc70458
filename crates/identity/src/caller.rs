//! From an `Authorization` header to who the caller is.

use std::sync::Arc;

use contract::store::{GetRecord, Store};
use model::context::Caller;
use model::record::Record;
use model::time::Timestamp;

use crate::Identity;
use crate::cache::Remembered;
use crate::jwt::{self, Claims, Purpose, SigningKey, TokenKind, Unverified};

impl Identity {
    /// Who an auth token speaks for. What is not valid, whatever the reason, is a guest (CONTRACT §1.3).
    pub async fn caller(&self, store: &dyn Store, header: &str, now: Timestamp) -> Caller {
        let token = jwt::bearer_token(header);
        let now = now.0 / 1_000;
        if token.is_empty() {
            return Caller::Guest;
        }
        if let Some(remembered) = self.tokens.get(token, now) {
            return caller_of(remembered.record);
        }
        self.verify(store, token, now).await.map_or(Caller::Guest, caller_of)
    }

    async fn verify(&self, store: &dyn Store, token: &str, now: i64) -> Option<Arc<Record>> {
        let unverified = jwt::read(token).ok()?;
        let ticket = self.tokens.begin();
        let record = Arc::new(load(store, unverified.claims()).await?);
        let claims = check(unverified, &record, now)?;
        let Purpose::Auth { refreshable } = claims.purpose else { return None };
        let remembered = Remembered { record: record.clone(), expires_at: claims.expires_at, refreshable };
        self.tokens.insert(ticket, token, remembered, now);
        Some(record)
    }
}

/// The record that a token claims to be of. A store that does not answer makes the caller a guest: it
/// cannot answer what the guest asks either.
async fn load(store: &dyn Store, claims: &Claims) -> Option<Record> {
    if claims.purpose.kind() != TokenKind::Auth {
        return None;
    }
    let collection = store.schema().by_id(&claims.collection_id)?.clone();
    if !collection.is_auth() {
        return None;
    }
    let query = GetRecord { collection, id: claims.record_id.clone(), conditions: Vec::new() };
    store.get(query).await.ok()?
}

fn check(unverified: Unverified<'_>, record: &Record, now: i64) -> Option<Claims> {
    let key = SigningKey::of(record, TokenKind::Auth)?;
    unverified.verify(&key, now).ok()
}

fn caller_of(record: Arc<Record>) -> Caller {
    if record.collection.is_superusers() { Caller::Superuser(record) } else { Caller::Record(record) }
}
