//! The filter language (CONTRACT §2): the texts of rules, of `filter` and of `sort`.
//!
//! A text goes through [`check`] once: it is parsed and every name is looked up in the schema, which
//! gives a [`Filter`], cheap to clone and to share. From there it goes two ways. [`Filter::judge`]
//! looks at one record in memory and answers yes, no, or that only the store can tell.
//! [`Filter::resolve`] fills in what a request decides and leaves a [`Query`] over columns, which a
//! store adapter renders. Both follow [`semantics`], and tests hold them to agree.

mod check;
mod combine;
mod depends;
pub mod expr;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod judge;
mod paths;
mod request;
mod resolve;
mod scope;
pub mod semantics;
mod sort;
mod strftime;
mod syntax;

use std::sync::Arc;

use crate::collection::Collection;
use crate::context::{RequestContext, RuleBody};
use crate::schema::Schema;

pub use depends::Depends;
pub use expr::Query;
pub use judge::{JudgeCounts, judge_counts};
pub use request::{Aspect, BodyField, CallerKey, Macro, RequestPart, RequestValue};
pub use sort::{Sort, SortKey, SortTerm};
pub use strftime::TimeFormat;

/// The most bytes of a `filter` query parameter. Rules have no such bound.
pub const MAX_FILTER_BYTES: usize = 3500;
/// The most comparisons of one text.
pub const MAX_COMPARISONS: usize = 200;
/// The most hops of a path before its last field.
pub const MAX_HOPS: usize = 6;
/// The most joined tables of one query: SQLite's 64 with the collection's own.
pub const MAX_JOINS: usize = 63;

/// Who wrote the text, which decides what it may name (CONTRACT §2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A rule of a collection, or a filter by a superuser: everything.
    Rule,
    /// A filter or sort by someone else: no hidden fields, only visible emails, and the list rule of
    /// every joined collection applies.
    Client,
}

/// What a sign asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Operator {
    Equal,
    NotEqual,
    Like,
    NotLike,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A checked filter: says nothing about how it is judged. Cloning it shares it.
#[derive(Debug, Clone)]
pub struct Filter {
    variants: Arc<Variants>,
}

/// A filter may name fields of the signed-in record, and which fields that has depends on its
/// collection: then there is one query for each auth collection.
#[derive(Debug)]
struct Variants {
    /// For guests; for everyone when there are no others.
    guest: Query,
    /// By the id of the caller's collection.
    callers: Vec<(String, Query)>,
}

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

/// Parses a text and checks it against the schema. `collection` may be newer than the schema's own
/// copy: a rule is checked before its collection is saved.
pub fn check(
    schema: &Schema,
    collection: &Collection,
    text: &str,
    scope: Scope,
) -> Result<Filter, FilterError> {
    check::check(schema, collection, text, scope)
}

/// Parses and checks a sort text (CONTRACT §1.12).
pub fn check_sort(
    schema: &Schema,
    collection: &Arc<Collection>,
    text: &str,
    scope: Scope,
) -> Result<Sort, FilterError> {
    sort::check(schema, collection, text, scope)
}

/// The contract's 403 for a `filter` or `sort` of someone who is no superuser: these words may not be
/// in the text, not even inside quotes. Asked before anything else is checked.
pub fn forbidden_for_clients(text: &str) -> Option<&'static str> {
    if text.contains("@collection.") {
        return Some("Only superusers can filter by @collection.");
    }
    text.contains("@request.").then_some("Only superusers can filter by @request.")
}

// === impl Filter ===

impl Filter {
    fn new(guest: Query, callers: Vec<(String, Query)>) -> Filter {
        Filter { variants: Arc::new(Variants { guest, callers }) }
    }

    /// The same number for every clone of this filter, for as long as one of them lives.
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.variants) as usize
    }

    /// Both, as one query would ask it: where both follow the same path, the same joined row has to
    /// fit them. This is how the contract's lists treat a rule and a filter.
    pub fn and(&self, other: &Filter) -> Result<Filter, FilterError> {
        combine::and(self, other)
    }

    /// Whether [`Filter::and`] says more than each of the two: whether both speak of the same joined
    /// rows.
    pub fn shares_rows_with(&self, other: &Filter) -> bool {
        combine::share_rows(self, other)
    }

    /// The query with every value of the request filled in, and what these decide already taken out.
    pub fn resolve(&self, context: &RequestContext, body: &RuleBody) -> Query {
        resolve::resolve(self.query(context), context, body)
    }

    /// What the answer depends on.
    pub fn depends(&self) -> Depends {
        depends::of(self)
    }

    /// The query for whoever asks, before the values of the request are filled in.
    pub fn query(&self, context: &RequestContext) -> &Query {
        let Variants { guest, callers } = &*self.variants;
        if callers.is_empty() {
            return guest;
        }
        let Some(record) = context.caller.record() else { return guest };
        callers.iter().find(|(id, _)| *id == record.collection.id).map_or(guest, |(_, query)| query)
    }

    fn queries(&self) -> impl Iterator<Item = &Query> {
        std::iter::once(&self.variants.guest).chain(self.variants.callers.iter().map(|(_, query)| query))
    }
}

// === impl FilterError ===

impl FilterError {
    fn new(message: &str) -> FilterError {
        FilterError(message.to_owned())
    }
}

// === impl Operator ===

impl Operator {
    /// Whether this is `=` or `!=`.
    pub fn is_equality(self) -> bool {
        matches!(self, Operator::Equal | Operator::NotEqual)
    }

    /// Whether this is `~` or `!~`.
    pub fn is_like(self) -> bool {
        matches!(self, Operator::Like | Operator::NotLike)
    }
}

#[cfg(test)]
mod tests;
