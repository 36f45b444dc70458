//! Whether a collection may be deleted (CONTRACT §3.4).

use super::Collection;
use crate::schema::Schema;

/// Why a collection stays. The texts are the answers' messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// It is one of the server's own.
    #[error("Failed to delete collection.")]
    System,
    /// Relation fields of these collections point to it.
    #[error("Failed to delete collection probably due to existing reference in {}.", .0.join(", "))]
    Referenced(Vec<String>),
}

/// Refuses to delete a system collection, and one that others point to.
pub fn check_delete(schema: &Schema, collection: &Collection) -> Result<(), DeleteError> {
    let references = schema.references_to(&collection.id);
    let mut names: Vec<String> = Vec::new();
    for reference in references {
        let name = &reference.collection.name;
        if reference.collection.id != collection.id && !names.contains(name) {
            names.push(name.clone());
        }
    }
    if !names.is_empty() {
        return Err(DeleteError::Referenced(names));
    }
    if collection.system { Err(DeleteError::System) } else { Ok(()) }
}
