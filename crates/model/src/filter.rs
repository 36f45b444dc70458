//! The filter language (CONTRACT §2).

use std::sync::Arc;

use crate::collection::Collection;
use crate::context::{RequestContext, RuleBody};
use crate::record::Record;
use crate::schema::Schema;

/// Longest filter of a query.
pub const MAX_QUERY_BYTES: usize = 3_500;

/// How often.
pub fn judgements() -> (u64, u64) {
    (0, 0)
}

/// Who wrote the text, which decides what it may name (CONTRACT §2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A rule of a collection, or a filter by a superuser: everything.
    Rule,
    /// A filter or sort by someone else: no hidden fields, only visible emails, and the list rule of
    /// every joined collection applies.
    Client,
}

/// A checked filter: says nothing about how it is judged.
#[derive(Debug, Clone)]
pub struct Filter {}

/// A checked sort.
#[derive(Debug, Clone, Default)]
pub struct Sort {}

/// Why a text is no filter. The message goes into `validation_invalid_rule`; clients' filters only
/// ever get the generic 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(pub String);

/// What the evaluator found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The record passes.
    Yes,
    /// It does not.
    No,
    /// Only the store can tell: other records decide.
    NeedsStore,
}

/// Parses a text and checks it against the schema.
pub fn check(
    _schema: &Schema,
    _collection: &Collection,
    _text: &str,
    _scope: Scope,
) -> Result<Filter, FilterError> {
    Err(FilterError("not built yet".to_owned()))
}

/// Parses and checks a sort text (CONTRACT §1.12).
pub fn check_sort(
    _schema: &Schema,
    _collection: &Arc<Collection>,
    _text: &str,
    _scope: Scope,
) -> Result<Sort, FilterError> {
    Ok(Sort {})
}

impl Filter {
    /// Judges one record in memory. `body` is what `@request.body.*` sees.
    pub fn judge(&self, _record: &Record, _context: &RequestContext, _body: &RuleBody) -> Verdict {
        Verdict::NeedsStore
    }
}
