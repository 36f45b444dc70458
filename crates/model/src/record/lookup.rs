//! Questions that the checks of a row leave to the store, and what each answer means.

use crate::errors::FieldError;

/// A question to the store. The write may go on when the store says yes to all.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// Do all these records exist? The ids differ from each other. If the collection itself does not
    /// exist, the error is [`missing_collection`].
    RecordsExist {
        /// The relation field.
        field: String,
        /// The collection that it points to.
        collection_id: String,
        /// The ids, none of them twice.
        ids: Vec<String>,
    },
    /// Is there no record whose id is this one but for the case of ASCII letters? Asked for new records
    /// with an id pattern of their own. A no comes before any other error of the id.
    NoIdTwin {
        /// The id in lower case.
        id: String,
    },
    /// Is there no record with this id in any other auth collection? A no counts only if nothing else
    /// is wrong.
    NoAuthTwin {
        /// The id of the new record.
        id: String,
    },
}

// === impl Lookup ===

impl Lookup {
    /// The field that is wrong when the answer is no.
    pub fn field(&self) -> &str {
        match self {
            Lookup::RecordsExist { field, .. } => field,
            Lookup::NoIdTwin { .. } | Lookup::NoAuthTwin { .. } => "id",
        }
    }

    /// What is wrong with it when the answer is no.
    pub fn error(&self) -> FieldError {
        match self {
            Lookup::RecordsExist { .. } => FieldError::new(
                "validation_missing_rel_records",
                "Failed to find all relation records with the provided ids.",
            ),
            Lookup::NoIdTwin { .. } => FieldError::new(
                "validation_pk_invalid",
                "The record primary key is invalid or already exists.",
            ),
            Lookup::NoAuthTwin { .. } => {
                FieldError::new("validation_invalid_auth_id", "Invalid or duplicated auth record id.")
            }
        }
    }
}

/// The error of a relation field whose collection does not exist.
pub fn missing_collection() -> FieldError {
    FieldError::new(
        "validation_missing_rel_collection",
        "Relation connection is missing or cannot be accessed.",
    )
}
