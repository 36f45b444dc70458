//! From a submitted body to a new collection (CONTRACT §3.4).

use rand::Rng;

use super::defaults::{auth_options, complete_auth_indexes, complete_fields};
use super::draft::Draft;
use super::save_error::SaveError;
use super::validate::{self, Validation};
use super::view::Trial;
use super::{AuthOptions, Collection, Rules, ViewOptions};
use crate::json::shape::{Names, load_member};
use crate::json::{Json, JsonObject};
use crate::schema::Schema;
use crate::time::Timestamp;

/// The answer's message when fields are refused.
pub const FAILED: &str = "Failed to create collection.";

/// A new collection. `body` is what was submitted; `null` is as good as nothing. `trial` is what came of
/// its [`submitted_query`](super::view::submitted_query).
pub fn create(
    schema: &Schema,
    body: &Json,
    trial: Option<&Trial>,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Result<Collection, SaveError> {
    let empty = JsonObject::new();
    let object = match body {
        Json::Null => &empty,
        Json::Object(object) => object,
        _ => return Err(SaveError::UnreadableType),
    };
    let mut draft = draft(schema, object, None, now, rng)?;
    let trial = trial.cloned().unwrap_or_else(|| draft.untried(schema, rng));
    draft.take_fields(&trial);
    let next = schema_with(schema, draft.clone().into_collection());
    let fault = trial.fault.as_ref();
    let validation =
        Validation { draft: &draft, old: None, existing: None, around: schema, next: &next, fault };
    validate::validate(&validation, rng).map_err(SaveError::Invalid)?;
    Ok(draft.into_collection())
}

/// A new collection before its checks. The names of an auth collection's indexes hold `index_key`, or
/// else the id that it would have if it were given none.
pub(super) fn draft(
    schema: &Schema,
    body: &JsonObject,
    index_key: Option<&str>,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Result<Draft, SaveError> {
    let (mut type_name, mut name) = (String::new(), String::new());
    load_member(body, "type", Names::AnyCase, &mut type_name).map_err(|_| SaveError::UnreadableType)?;
    load_member(body, "name", Names::AnyCase, &mut name).map_err(|_| SaveError::UnreadableType)?;
    let mut draft = blank(&type_name, name, rng);
    let given_by_us = draft.id.clone();
    if let Some(key) = index_key.filter(|_| draft.is_auth()) {
        draft.indexes.clear();
        complete_auth_indexes(&mut draft.indexes, &draft.name, key);
    }
    draft.load(body)?;
    let is_generated = draft.id.is_empty() || draft.id == given_by_us;
    if draft.id.is_empty() {
        draft.id = draft.deterministic_id();
    }
    draft.created = now.to_text();
    draft.updated.clone_from(&draft.created);
    draft.complete();
    if is_generated {
        let id = free_id(schema, &draft);
        draft.rename_id(id);
    }
    Ok(draft)
}

/// A collection of a type with what every such collection has.
pub(super) fn blank(type_name: &str, name: String, rng: &mut impl Rng) -> Draft {
    let is_auth = type_name == "auth";
    let type_name = if is_auth || type_name == "view" { type_name } else { "base" };
    let mut draft = Draft {
        id: String::new(),
        name,
        type_name: type_name.to_owned(),
        system: false,
        rules: Rules::default(),
        fields: Vec::new(),
        indexes: Vec::new(),
        created: String::new(),
        updated: String::new(),
        auth: if is_auth { auth_options(rng) } else { AuthOptions::default() },
        view: ViewOptions::default(),
    };
    draft.id = draft.deterministic_id();
    if type_name != "view" {
        complete_fields(&mut draft.fields, is_auth);
    }
    if is_auth {
        complete_auth_indexes(&mut draft.indexes, &draft.name, &draft.id);
    }
    draft
}

/// The deterministic id, with the first free number behind it if it is taken.
fn free_id(schema: &Schema, draft: &Draft) -> String {
    let base = draft.deterministic_id();
    let numbered = (2..1000).map(|number| format!("{base}{number}"));
    let mut candidates = std::iter::once(base.clone()).chain(numbered);
    candidates.find(|id| schema.by_id(id).is_none()).unwrap_or(base)
}

/// The schema with this collection in it, replacing the one with its id.
pub(super) fn schema_with(schema: &Schema, collection: Collection) -> Schema {
    let mut collections: Vec<_> = schema.collections().cloned().collect();
    let collection = std::sync::Arc::new(collection);
    match collections.iter_mut().find(|other| other.id == collection.id) {
        Some(place) => *place = collection,
        None => collections.push(collection),
    }
    Schema::new(schema.version(), collections)
}
