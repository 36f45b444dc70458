//! The field errors of what only a store can tell while it changes its tables.

use crate::errors::{FieldError, FieldErrors};

/// The store has a table of this name that is no collection's.
pub fn internal_table_exists() -> FieldErrors {
    FieldErrors::one("name", internal_table())
}

/// The store refused an index. `detail` is the store's own text; the contract's clients know SQLite's.
pub fn refused_index(position: usize, index_name: &str, detail: &str) -> FieldErrors {
    let message = format!("Failed to create index {index_name} - {detail}.");
    let mut errors = FieldErrors::new();
    errors.add_at(
        &["indexes", &position.to_string()],
        FieldError::new("validation_invalid_index_expression", message),
    );
    errors
}

/// An index of this name belongs to another table.
pub fn existing_index_name(position: usize, table: &str) -> FieldErrors {
    let message = format!("The index name is already used in {table} collection.");
    let mut errors = FieldErrors::new();
    errors.add_at(
        &["indexes", &position.to_string()],
        FieldError::new("validation_existing_index_name", message).with("usedTableName", table),
    );
    errors
}

pub(super) fn internal_table() -> FieldError {
    FieldError::new(
        "validation_collection_name_invalid",
        "The name shouldn't match with an existing internal table.",
    )
}

pub(super) fn unreadable_index() -> FieldError {
    FieldError::new("validation_invalid_index_expression", "Invalid CREATE INDEX expression.")
}
