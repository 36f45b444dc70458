//! Removing what sign-ins leave behind: codes and half sign-ins that have outlived their time.

use std::sync::Arc;

use contract::jobs::JobError;
use contract::store::{ListRecords, Store, StoreError};
use futures_util::future::join_all;
use kit::app::now;
use model::collection::{AuthOptions, Collection};
use model::context::RequestContext;
use model::json::JsonObject;
use model::record::Record;
use model::schema::Schema;
use model::step::{Access, DeleteRecord, Step, WriteBatch};
use model::time::Timestamp;

/// Records looked at, and then removed, at a time.
const PAGE: u64 = 100;
/// How often the schema may change under it.
const ATTEMPTS: usize = 8;

/// Removes the records of a collection of sign-ins that are older than their auth collection says. One whose
/// auth collection is gone serves nobody, and goes too.
pub(crate) async fn remove(
    store: Arc<dyn Store>,
    collection: &'static str,
    lifetime: fn(&AuthOptions) -> i64,
) -> Result<(), JobError> {
    for _ in 0..ATTEMPTS {
        match remove_all(&*store, collection, lifetime).await {
            Err(StoreError::SchemaChanged) => {}
            result => return result.map_err(|error| JobError::Again(error.to_string())),
        }
    }
    Err(JobError::Again("the schema changes all the time".to_owned()))
}

async fn remove_all(
    store: &dyn Store,
    collection: &str,
    lifetime: fn(&AuthOptions) -> i64,
) -> Result<(), StoreError> {
    let now = now();
    let mut offset = 0;
    loop {
        let schema = store.schema();
        let Some(collection) = schema.by_name(collection) else { return Ok(()) };
        let records = store.list(page(&schema, collection, offset)).await?.records;
        let is_last = (records.len() as u64) < PAGE;
        let (expired, kept): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| is_expired(&schema, record, lifetime, now));
        // Together they take few commits. One that is gone by now is what was wanted.
        for removed in join_all(expired.iter().map(|record| store.write(removal(record, now)))).await {
            let _ = removed?;
        }
        if is_last {
            return Ok(());
        }
        offset += kept.len() as u64;
    }
}

/// A page of all records: there are as many as were made within the last hour or so.
fn page(schema: &Schema, collection: &Arc<Collection>, offset: u64) -> ListRecords {
    ListRecords {
        schema_version: schema.version(),
        collection: collection.clone(),
        conditions: Vec::new(),
        sort: None,
        offset,
        limit: PAGE,
        with_total: false,
    }
}

fn is_expired(schema: &Schema, record: &Record, lifetime: fn(&AuthOptions) -> i64, now: Timestamp) -> bool {
    let options = schema.by_id(record.get("collectionRef").as_str()).and_then(|owner| owner.auth());
    let seconds = options.map_or(0, lifetime);
    let oldest = Timestamp(now.0.saturating_sub(seconds.saturating_mul(1_000)));
    // Dates in this form are in the order of their texts.
    record.get("created").as_str() < oldest.to_text().as_str()
}

fn removal(record: &Record, now: Timestamp) -> WriteBatch {
    WriteBatch::one(Step::Delete(DeleteRecord {
        collection: record.collection.id.clone(),
        id: record.id().to_owned(),
        body: JsonObject::new(),
        access: Access { context: Arc::new(RequestContext::guest(now)), check_rule: false },
    }))
}
