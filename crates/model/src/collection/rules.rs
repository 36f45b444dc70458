//! Checking a rule's text against the schema that it will live in.

use super::Collection;
use crate::errors::FieldError;
use crate::filter::{self, Scope};
use crate::schema::Schema;

/// Refuses a text that is no filter on the collection, as it will be in `schema`.
pub(super) fn check_rule(schema: &Schema, collection: &Collection, text: &str) -> Result<(), FieldError> {
    if text.is_empty() {
        return Ok(());
    }
    match filter::check(schema, collection, text, Scope::Rule) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!("Invalid rule. Raw error: {error}");
            Err(FieldError::new("validation_invalid_rule", message))
        }
    }
}
