//! From a submitted body to a changed collection (CONTRACT §3.4).

use rand::Rng;

use super::Collection;
use super::create::schema_with;
use super::defaults::random_secret;
use super::draft::Draft;
use super::save_error::SaveError;
use super::validate::{self, Validation};
use super::view::Trial;
use crate::errors::{FieldError, FieldErrors};
use crate::json::Json;
use crate::schema::Schema;
use crate::time::Timestamp;

/// The answer's message when fields are refused.
pub const FAILED: &str = "Failed to update collection.";

/// The collection with a body merged onto it. `null` is what a client sent, not the absence of a body: it
/// empties the whole collection, of which the name must not be empty. `trial` is what came of a view's
/// [`submitted_query`](super::view::submitted_query).
pub fn update(
    schema: &Schema,
    old: &Collection,
    body: &Json,
    trial: Option<&Trial>,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Result<Collection, SaveError> {
    let mut draft = Draft::of(old);
    match body {
        Json::Null => return Err(SaveError::Invalid(FieldErrors::one("name", FieldError::required()))),
        Json::Object(object) => draft.load(object)?,
        _ => return Err(SaveError::Unreadable),
    }
    if draft.id != old.id && schema.find(&draft.id).is_none() {
        return Err(SaveError::NotFound);
    }
    draft.updated = now.to_text();
    draft.complete();
    let trial = trial.cloned().unwrap_or_else(|| draft.untried(schema, rng));
    draft.take_fields(&trial);
    let next = schema_with(schema, draft.clone().into_collection());
    let validation = Validation {
        draft: &draft,
        old: Some(old),
        existing: Some(old),
        around: schema,
        next: &next,
        fault: trial.fault.as_ref(),
    };
    validate::validate(&validation, rng).map_err(SaveError::Invalid)?;
    rotate_secret(old, &mut draft, rng);
    Ok(draft.into_collection())
}

/// A changed auth rule ends all sessions.
pub(super) fn rotate_secret(old: &Collection, draft: &mut Draft, rng: &mut impl Rng) {
    let old_rule = old.auth().and_then(|auth| auth.auth_rule.as_deref()).unwrap_or_default();
    if draft.auth.auth_rule.as_deref().unwrap_or_default() != old_rule {
        draft.auth.auth_token.secret = random_secret(rng);
    }
}
