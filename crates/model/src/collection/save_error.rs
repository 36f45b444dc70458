//! Why a collection is not saved.

use crate::errors::FieldErrors;
use crate::json::shape::Misshapen;

/// Why a submitted collection is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SaveError {
    /// No collection has the submitted id. The answer is 404.
    #[error("The requested resource wasn't found.")]
    NotFound,
    /// Type and name cannot be read. Bytes that are no JSON count as this, too, on create.
    #[error("Failed to load the collection type data due to invalid formatting.")]
    UnreadableType,
    /// Something else cannot be read. Bytes that are no JSON count as this, too, on update.
    #[error("Failed to load the submitted data due to invalid formatting.")]
    Unreadable,
    /// What was read is refused. The message is that of the endpoint.
    #[error("Failed to save collection.")]
    Invalid(FieldErrors),
}

impl From<Misshapen> for SaveError {
    fn from(_: Misshapen) -> SaveError {
        SaveError::Unreadable
    }
}
