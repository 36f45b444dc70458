//! The slow part of writing a password, before the write: hashes enter a step as values, with a guard.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::store::GetRecord;
use kit::app::App;
use kit::error::ApiError;
use kit::viewer::Viewer;
use model::collection::Collection;
use model::field::FieldKind;
use model::json::JsonObject;
use model::record::coerce;
use model::record::validate::validate_password;

/// The hashes of the passwords in a body, by field name. What the form checks will refuse anyway is
/// not hashed.
pub(crate) async fn hash_all(
    app: &App,
    collection: &Collection,
    body: &JsonObject,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut hashes = BTreeMap::new();
    for field in &collection.fields {
        let FieldKind::Password(options) = &field.kind else { continue };
        let plain = text_at(body, &field.name);
        let is_confirmed = !collection.is_auth() || text_at(body, "passwordConfirm") == plain;
        if plain.is_empty() || !is_confirmed || validate_password(options, &plain).is_err() {
            continue;
        }
        hashes.insert(field.name.clone(), app.identity.hash(plain).await?);
    }
    Ok(hashes)
}

/// Whether the body's `oldPassword` is right: the hash that it was verified against. Only looked at
/// where the form checks ask for it: a change of the password of an auth record.
pub(crate) async fn verify_old(
    viewer: &Viewer<'_>,
    collection: &Arc<Collection>,
    id: &str,
    body: &JsonObject,
) -> Result<Option<String>, ApiError> {
    let is_asked = collection.is_auth()
        && !viewer.caller().is_superuser()
        && (!text_at(body, "password").is_empty() || !text_at(body, "passwordConfirm").is_empty());
    let old = text_at(body, "oldPassword");
    if !is_asked || old.is_empty() {
        return Ok(None);
    }
    let query = GetRecord {
        schema_version: viewer.schema.version(),
        collection: collection.clone(),
        id: id.to_owned(),
        conditions: Vec::new(),
    };
    let Some(record) = viewer.app.store.get(query).await? else { return Ok(None) };
    let hash = record.get("password").as_str().to_owned();
    let is_right = viewer.app.identity.verify_or_pretend(old, Some(hash.clone())).await?;
    Ok(is_right.then_some(hash))
}

/// A value of the body as a password field takes it.
fn text_at(body: &JsonObject, name: &str) -> String {
    body.get(name).map(coerce::text).unwrap_or_default()
}
