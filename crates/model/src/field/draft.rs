//! A field as it was submitted, before its options are checked.

use super::Field;

/// A submitted field. [`Field`] cannot hold a negative number where the contract wants none, so such
/// numbers wait here to be refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldDraft {
    /// The field; negative sizes are 0 in it.
    pub(crate) field: Field,
    negative: Vec<(&'static str, i64)>,
}

impl FieldDraft {
    /// A field whose sizes are as they were submitted.
    pub(crate) fn new(field: Field) -> FieldDraft {
        FieldDraft { field, negative: Vec::new() }
    }

    /// A field some of whose options were submitted as negative numbers.
    pub(super) fn with_negative(field: Field, negative: Vec<(&'static str, i64)>) -> FieldDraft {
        FieldDraft { field, negative }
    }

    /// An option as it was submitted; `stored` is what the field holds.
    pub(super) fn size(&self, option: &str, stored: u64) -> i64 {
        let submitted = self.negative.iter().find(|(name, _)| *name == option);
        submitted.map_or(i64::try_from(stored).unwrap_or(i64::MAX), |(_, number)| *number)
    }
}

impl From<Field> for FieldDraft {
    fn from(field: Field) -> FieldDraft {
        FieldDraft::new(field)
    }
}
