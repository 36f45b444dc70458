//! SQL of filters and sorts (stub until the filter branch lands).

use model::condition::Condition;
use model::filter::Sort;
use model::record::Record;
use model::value::Value;

/// Appends the condition as one SQL boolean expression over the row `root`.
pub(super) fn condition(_condition: &Condition, _root: &str, sql: &mut String, _params: &mut Vec<Value>) {
    sql.push('1');
}

/// Appends the terms of ORDER BY.
pub(super) fn order(_sort: &Sort, _context: &model::context::RequestContext, _root: &str, sql: &mut String, _params: &mut Vec<Value>) {
    sql.push_str("rowid");
}

/// Appends a sub-select that stands for a table with this one row.
pub(super) fn virtual_row(_record: &Record, _sql: &mut String, _params: &mut Vec<Value>) {}
