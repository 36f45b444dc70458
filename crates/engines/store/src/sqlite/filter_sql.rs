//! Filters and sorts as SQL.
//!
//! A filter becomes one boolean expression over the collection's table, to stand in a WHERE; rows are
//! never multiplied, whatever it joins. What the request decides is decided before ([`Filter::resolve`]),
//! so for a signed-in caller `owner = @request.auth.id` is `owner = ?` and can use an index. The text
//! holds no value of the request, and two requests that agree in which values are empty get the same
//! text: prepared statements are reused.
//!
//! Joined rows are found in one of two ways ([`joins`]): by a subquery for each record, or by one
//! subquery run once whose result the record's column is looked up in.

mod functions;
mod joins;
mod nulls;
mod operands;
mod order;

use model::context::{RequestContext, RuleBody};
use model::field::{Field, FieldKind};
use model::filter::expr::{Expr, Join, JoinId};
use model::filter::semantics::Cell;
use model::filter::{Filter, Query};
use model::record::Record;
use model::value::Value;
use rusqlite::types::Value as SqlValue;

use super::layout::column_type;

pub use functions::add_functions;
pub(crate) use operands::with_patterns;
pub use order::order_by;

/// A piece of SQL and what its `?` stand for, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fragment {
    /// The text.
    pub sql: String,
    /// One value for each `?`.
    pub values: Vec<SqlValue>,
}

/// The rows that a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root<'a> {
    /// The table's name or alias in the query, not quoted.
    pub alias: &'a str,
    /// What is behind it.
    pub kind: RootKind,
    /// How many of its rows are looked at.
    pub expected: Expected,
}

/// What is behind the root's alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootKind {
    /// The collection's table.
    Table,
    /// The view of a view collection: any column may be NULL.
    View,
    /// A row that is in no table, made by [`new_row`].
    NewRow,
}

/// How many rows of the root are looked at, which decides how joined rows are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// One, by its id.
    One,
    /// A list.
    Many,
}

/// The condition that a filter is for this request.
pub fn condition(filter: &Filter, context: &RequestContext, body: &RuleBody, root: Root<'_>) -> Fragment {
    query_condition(&filter.resolve(context, body), root)
}

/// The condition of a query from which the request is already gone.
pub fn query_condition(query: &Query, root: Root<'_>) -> Fragment {
    let mut writer = Writer::new(&query.joins, root);
    match root.kind {
        RootKind::NewRow if query.looks_back() => writer.text("0"),
        _ => writer.expr(&query.expr, &[]),
    }
    writer.done()
}

/// The row of a record that is in no table yet, as a table for a FROM: `(SELECT ? AS "id", …)`. Its
/// columns have no affinity; a create rule sees them so.
pub fn new_row(record: &Record) -> Fragment {
    row_of(record, |_| "?")
}

/// The row of a record that was in the table, as [`new_row`] gives one. Its columns have the affinity of the
/// table's, but for those of JSON: a cast would change their values.
pub(super) fn former_row(record: &Record) -> Fragment {
    row_of(record, |field| match column_type(field) {
        kind if kind.starts_with("TEXT") => "CAST(? AS TEXT)",
        kind if kind.starts_with("JSON") => "?",
        _ => "CAST(? AS NUMERIC)",
    })
}

fn row_of(record: &Record, parameter: impl Fn(&Field) -> &'static str) -> Fragment {
    let mut row = Fragment::default();
    row.sql.push_str("(SELECT ");
    for (position, (field, value)) in record.collection.fields.iter().zip(&record.values).enumerate() {
        if position > 0 {
            row.sql.push_str(", ");
        }
        row.sql.push_str(parameter(field));
        row.sql.push_str(" AS ");
        push_name(&mut row.sql, &field.name);
        let is_bool = matches!(field.kind, FieldKind::Bool);
        row.values.push(match value {
            Value::Null => SqlValue::Null,
            Value::Number(number) if is_bool => SqlValue::Integer(i64::from(*number != 0.0)),
            Value::Number(number) => SqlValue::Real(*number),
            Value::Text(text) | Value::Json(text) => SqlValue::Text(text.clone()),
        });
    }
    row.sql.push(')');
    row
}

/// Writes one condition from left to right, so that values stand in the order of their `?`.
struct Writer<'a> {
    joins: &'a [Join],
    root: Root<'a>,
    out: Fragment,
    /// The joins around whose rows are really there, not rows of NULLs.
    solid: Vec<JoinId>,
}

impl<'a> Writer<'a> {
    fn new(joins: &'a [Join], root: Root<'a>) -> Writer<'a> {
        Writer { joins, root, out: Fragment::default(), solid: Vec::new() }
    }

    fn done(self) -> Fragment {
        self.out
    }

    fn text(&mut self, text: &str) {
        self.out.sql.push_str(text);
    }

    fn name(&mut self, name: &str) {
        push_name(&mut self.out.sql, name);
    }

    fn value(&mut self, cell: &Cell<'_>) {
        self.out.sql.push('?');
        self.out.values.push(match cell {
            Cell::Null => SqlValue::Null,
            Cell::Integer(number) => SqlValue::Integer(*number),
            Cell::Real(number) => SqlValue::Real(*number),
            Cell::Text(text) => SqlValue::Text(text.to_string()),
        });
    }

    fn expr(&mut self, expr: &Expr, private: &[Join]) {
        match expr {
            Expr::Fixed(value) => self.text(if *value { "1" } else { "0" }),
            Expr::All(parts) => self.parts(parts, " AND ", private),
            Expr::Any(parts) => self.parts(parts, " OR ", private),
            Expr::Compare(comparison) => self.comparison(comparison, private),
            Expr::Exists { joins, body } => self.exists(*joins, body),
            Expr::Never { joins, violation } => self.never(joins, violation),
            Expr::Missing(join) => {
                self.alias(*join);
                self.text(".\"id\" IS NULL");
            }
        }
    }

    fn parts(&mut self, parts: &[Expr], between: &str, private: &[Join]) {
        self.text("(");
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                self.text(between);
            }
            self.expr(part, private);
        }
        self.text(")");
    }

    /// The alias of a join. Private joins of different conditions share names: their scopes never meet.
    fn alias(&mut self, join: JoinId) {
        let number = join.0;
        let letter = if join.is_shared() { 'j' } else { 'n' };
        self.out.sql.push_str(&format!("_{letter}{number}"));
    }
}

/// Appends a quoted name.
fn push_name(sql: &mut String, name: &str) {
    sql.push('"');
    sql.push_str(&name.replace('"', "\"\""));
    sql.push('"');
}
