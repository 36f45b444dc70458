//! Planning of a step: what a write does to a row, decided on plain data, one code for every adapter.
//!
//! The adapter loads and locks the row, calls [`create`], [`patch`] or [`delete`], answers the
//! questions that the plan has for the store, and [`Pending::decide`] gives the row to write or why
//! not. The order is the contract's: rule, form checks, field checks, the row.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;

use crate::collection::Collection;
use crate::condition::{Condition, Demand};
use crate::context::RuleBody;
use crate::errors::{FieldError, FieldErrors};
use crate::field::{Field, FieldKind};
use crate::filter::Verdict;
use crate::json::JsonObject;
use crate::record::forms::{self, FormChecks};
use crate::record::{self, Lookup, Record, Resolved};
use crate::schema::{RuleKind, Schema};
use crate::step::{Access, CreateRecord, DeleteRecord, Guard, PatchRecord, Why};
use crate::time::Timestamp;
use crate::value::Value;

/// What planning needs from outside.
pub struct Environment<'a> {
    /// As the steps before this one left it.
    pub schema: &'a Schema,
    /// The instant of the write.
    pub now: Timestamp,
    /// Makes ids and keys.
    pub rng: &'a mut dyn Rng,
}

/// What only the store can tell. Every answer is yes or no.
#[derive(Debug, Clone)]
pub enum Question {
    /// Does the condition hold for this row? The row is judged as given; it need not be stored.
    Holds {
        /// The row with its collection.
        row: Box<Record>,
        /// Whether a stored row with this id is meant, which is equal to `row`.
        is_stored: bool,
        /// What must hold.
        condition: Condition,
    },
    /// Do all these records exist?
    AllExist {
        /// Where to look.
        collection_id: String,
        /// Without duplicates.
        ids: Vec<String>,
    },
    /// Does no record have this id?
    IdIsFree {
        /// Where to look.
        collection: Arc<Collection>,
        /// The id.
        id: String,
        /// Whether ids that differ only in case count.
        ignore_case: bool,
    },
    /// Has the collection a record with another id?
    HasOther {
        /// Where to look.
        collection: Arc<Collection>,
        /// The id that does not count.
        id: String,
    },
}

/// A planned step that waits for the answers to its questions.
pub struct Pending {
    questions: Vec<Question>,
    rule: Decision,
    denied: Why,
    manager: Decision,
    forms: Option<FormChecks>,
    field_errors: FieldErrors,
    lookups: Vec<(usize, Lookup)>,
    needs_other: Option<usize>,
    row: Record,
}

/// Known already, or the answer to a question.
#[derive(Debug, Clone, Copy)]
enum Decision {
    Known(bool),
    Asked(usize),
}
