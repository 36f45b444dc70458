//! Whom streams speak for. A stream is bound to the record that its topics were set by, until that record can no
//! longer sign in as it did: it is gone, its token key is another, or its collection's secret is.
//!
//! Events tell of it in time. The task that sends them reads a record anew before it judges the record's own event
//! or any later one, and all records before it judges the first event of another schema version. What it reads is
//! at least as new as the event, so that nobody is told of the change that took the right to know from them.

use std::collections::HashMap;
use std::sync::Arc;

use contract::store::{GetRecords, Store, StoreError};
use identity::jwt::{SigningKey, TokenKind};
use model::context::Caller;
use model::record::Record;

use crate::hub::AuthKey;

/// How often records are read again while the schema is being changed.
const SCHEMA_ATTEMPTS: usize = 8;

/// Records as they are stored by now; who is gone is missing.
pub(crate) async fn load(
    store: &dyn Store,
    keys: &[AuthKey],
) -> Result<HashMap<AuthKey, Arc<Record>>, StoreError> {
    let mut by_collection: HashMap<&str, Vec<String>> = HashMap::new();
    for (collection, id) in keys {
        by_collection.entry(collection).or_default().push(id.clone());
    }
    let mut found = HashMap::with_capacity(keys.len());
    for (collection, ids) in by_collection {
        for ids in ids.chunks(GetRecords::MAX_IDS) {
            for record in load_some(store, collection, ids).await? {
                found.insert((collection.to_owned(), record.id().to_owned()), Arc::new(record));
            }
        }
    }
    Ok(found)
}

async fn load_some(store: &dyn Store, collection: &str, ids: &[String]) -> Result<Vec<Record>, StoreError> {
    for _ in 0..SCHEMA_ATTEMPTS {
        let schema = store.schema();
        let Some(collection) = schema.by_id(collection).filter(|collection| collection.is_auth()) else {
            return Ok(Vec::new());
        };
        let query = GetRecords {
            schema_version: schema.version(),
            collection: collection.clone(),
            ids: ids.to_vec(),
            conditions: Vec::new(),
        };
        match store.get_many(query).await {
            Err(StoreError::SchemaChanged) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            result => return result,
        }
    }
    Err(StoreError::SchemaChanged)
}

/// Who a stream speaks for that spoke for `before`, whose record is `now`.
pub(crate) fn caller_by_now(before: &Record, now: Option<&Arc<Record>>) -> Caller {
    match now {
        Some(now) if signs_alike(before, now) && now.collection.is_superusers() => {
            Caller::Superuser(now.clone())
        }
        Some(now) if signs_alike(before, now) => Caller::Record(now.clone()),
        _ => Caller::Guest,
    }
}

/// Whether the tokens of both are the same.
fn signs_alike(before: &Record, now: &Record) -> bool {
    let key = SigningKey::of(before, TokenKind::Auth);
    key.is_some() && key == SigningKey::of(now, TokenKind::Auth)
}

/// Whether two callers are one.
pub(crate) fn is_same(one: &Caller, other: &Caller) -> bool {
    match (one.record(), other.record()) {
        (Some(one), Some(other)) => one.collection.id == other.collection.id && one.id() == other.id(),
        (None, None) => true,
        _ => false,
    }
}
