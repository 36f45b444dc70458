//! `sort` (CONTRACT §1.12).

use std::sync::Arc;

use super::check::{Checker, Target};
use super::expr::{Join, Operand, Query, Row};
use super::{Filter, FilterError, Scope, scope};
use crate::collection::{Collection, index};
use crate::schema::Schema;

/// The contract's bounds.
const MAX_TERMS: usize = 8;
const MAX_TERM_BYTES: usize = 255;

/// A checked sort. Where terms are equal, the order of the rows themselves (`_rowid`) decides.
#[derive(Debug, Clone, Default)]
pub struct Sort {
    /// The terms, the first one first.
    pub terms: Vec<SortTerm>,
    /// What a client's sort asks of the records besides their order: a sort along a relation drops
    /// those whose related record the client may not list (seen). To be joined to the filter by
    /// [`Filter::and`].
    pub condition: Option<Filter>,
    /// Whether of records that are equal in all terms the newest comes first. Otherwise it is the oldest.
    /// So it is where an index read backwards gives the order: it then gives this one too, without sorting.
    pub newest_first: bool,
}

/// One term of a sort.
#[derive(Debug, Clone)]
pub struct SortTerm {
    /// What is compared.
    pub key: SortKey,
    /// Greatest first; NULL is the least.
    pub descending: bool,
}

/// What a sort compares.
#[derive(Debug, Clone)]
pub enum SortKey {
    /// Nothing: any order.
    Random,
    /// The order in which rows were made.
    RowId,
    /// A value of the record.
    Value {
        /// The joins that the operand reads, parents first. Where there are several rows, the first
        /// one counts: of a list its first item.
        joins: Vec<Join>,
        /// The value.
        operand: Operand,
    },
}

pub(super) fn check(
    schema: &Schema,
    collection: &Arc<Collection>,
    text: &str,
    scope: Scope,
) -> Result<Sort, FilterError> {
    if text.is_empty() {
        return Ok(Sort::default());
    }
    let names: Vec<&str> = text.split(',').collect();
    if names.len() > MAX_TERMS {
        return Err(FilterError::new("max sort expressions limit reached"));
    }
    let mut checker = Checker::new(schema, collection, scope);
    let terms: Vec<SortTerm> =
        names.into_iter().map(|name| term(&mut checker, name.trim())).collect::<Result<_, FilterError>>()?;
    let mut conditions = Vec::new();
    checker.list_rules(&mut conditions)?;
    let condition = (!conditions.is_empty()).then(|| {
        let expr = scope::place(super::check::all(conditions), &checker.joins);
        Filter::new(Query { joins: checker.joins.clone(), expr }, Vec::new())
    });
    let newest_first = is_index_backwards(&terms, collection);
    Ok(Sort { terms, condition, newest_first })
}

/// Whether the order is that of one column, greatest first, and an index holds just that column.
fn is_index_backwards(terms: &[SortTerm], collection: &Collection) -> bool {
    let [SortTerm { key: SortKey::Value { joins, operand: Operand::Column(column) }, descending: true }] =
        terms
    else {
        return false;
    };
    joins.is_empty() && column.row == Row::Own && index::has_plain(&collection.indexes, &column.name)
}

fn term(checker: &mut Checker<'_>, text: &str) -> Result<SortTerm, FilterError> {
    let (descending, name) = match text.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if name.len() > MAX_TERM_BYTES {
        return Err(FilterError::new("max sort field length limit reached"));
    }
    let key = match name {
        "@random" => SortKey::Random,
        "@rowid" => SortKey::RowId,
        _ => value(checker, name)?,
    };
    Ok(SortTerm { key, descending })
}

fn value(checker: &mut Checker<'_>, name: &str) -> Result<SortKey, FilterError> {
    let invalid = || FilterError(format!("invalid sort field {name:?}"));
    // The path once among the shared joins, for the list rules, and once for this term alone.
    let shared = checker.path(name, &mut Target::Shared).map_err(|_| invalid())?;
    if matches!(shared.side.operand, Operand::Constant(..) | Operand::Request(_) | Operand::Truth(_)) {
        return Err(invalid());
    }
    let mut joins = Vec::new();
    let operand = checker.path(name, &mut Target::Private(&mut joins))?.side.operand;
    Ok(SortKey::Value { joins, operand })
}

impl Sort {
    /// Whether nothing but the record's own columns is compared.
    pub fn is_own(&self) -> bool {
        self.terms.iter().all(|term| match &term.key {
            SortKey::Random => false,
            SortKey::RowId => true,
            SortKey::Value { joins, operand } => {
                joins.is_empty() && matches!(operand, Operand::Column(column) if column.row == Row::Own)
            }
        })
    }
}
