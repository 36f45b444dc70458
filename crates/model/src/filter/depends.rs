//! What an answer depends on, seen from the text alone.

use std::collections::BTreeSet;

use super::Filter;
use super::expr::{Column, Comparison, Expr, Join, JoinKind, Key, List, Operand, Query, Row};
use super::request::{CallerKey, RequestPart, RequestValue};

/// What the answer to a filter depends on, besides the schema. Two requests that agree in all of this
/// get the same answer for the same record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Depends {
    /// The record's own fields.
    pub fields: BTreeSet<String>,
    /// Keys and fields of the signed-in record; guests have none of them.
    pub caller: BTreeSet<String>,
    /// Ids of collections whose records decide too.
    pub collections: BTreeSet<String>,
    /// The clock.
    pub time: bool,
    /// Names of request headers.
    pub headers: BTreeSet<String>,
    /// Names of query parameters.
    pub query: BTreeSet<String>,
    /// Keys of the body.
    pub body: BTreeSet<String>,
    /// `@request.context` or `@request.method`.
    pub kind_of_request: bool,
}

pub(super) fn of(filter: &Filter) -> Depends {
    let mut depends = Depends::default();
    for query in filter.queries() {
        depends.query(query);
    }
    depends
}

impl Depends {
    /// Whether one record and one caller's fields decide, whatever else the request holds.
    pub fn is_local(&self) -> bool {
        self.collections.is_empty()
            && !self.time
            && self.headers.is_empty()
            && self.query.is_empty()
            && self.body.is_empty()
            && !self.kind_of_request
    }

    fn query(&mut self, query: &Query) {
        self.joins(&query.joins);
        self.expr(&query.expr);
    }

    fn joins(&mut self, joins: &[Join]) {
        for join in joins {
            if let Some(collection) = join.kind.collection() {
                self.collections.insert(collection.id.clone());
            }
            match &join.kind {
                JoinKind::Relation { from: Key::Column(column), .. }
                | JoinKind::Back { to: Key::Column(column), .. } => self.column(column),
                JoinKind::Items(list) | JoinKind::Among { list, .. } => match list {
                    List::Column(column) => self.column(column),
                    List::Body(key) => {
                        self.body.insert(key.clone());
                    }
                    List::Constant(_) => {}
                },
                _ => {}
            }
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Fixed(_) | Expr::Missing(_) => {}
            Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| self.expr(part)),
            Expr::Compare(comparison) => self.comparison(comparison),
            Expr::Exists { body, .. } => self.expr(body),
            Expr::Never { joins, violation } => {
                self.joins(joins);
                self.comparison(violation);
            }
        }
    }

    fn comparison(&mut self, comparison: &Comparison) {
        self.operand(&comparison.left.operand);
        self.operand(&comparison.right.operand);
    }

    fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Constant(..) | Operand::Item(_) => {}
            Operand::Request(value) => self.value(value),
            Operand::Column(column) | Operand::Json(column, _) | Operand::Length(column) => {
                self.column(column);
            }
            Operand::Lower(inner) => self.operand(inner),
            Operand::Truth(expr) => self.expr(expr),
            Operand::GeoDistance(arguments) => {
                arguments.iter().for_each(|argument| self.operand(argument));
            }
            Operand::Time(call) => {
                let is_now = match &call.time {
                    None => true,
                    Some(operand) => !matches!(operand, Operand::Column(_)),
                };
                self.time |= is_now;
                if let Some(time) = &call.time {
                    self.operand(time);
                }
            }
        }
    }

    fn column(&mut self, column: &Column) {
        match column.row {
            Row::Own => self.fields.insert(column.name.clone()),
            Row::Caller => self.caller.insert(column.name.clone()),
            Row::Joined(_) => false,
        };
    }

    fn value(&mut self, value: &RequestValue) {
        match value {
            RequestValue::Macro(_) => self.time = true,
            RequestValue::Caller(key) => {
                self.caller.insert(key.name().to_owned());
            }
            RequestValue::Field { part, path, .. } => {
                let key = path.first().cloned().unwrap_or_default();
                match part {
                    RequestPart::Context | RequestPart::Method => self.kind_of_request = true,
                    RequestPart::Query => {
                        self.query.insert(key);
                    }
                    RequestPart::Headers => {
                        self.headers.insert(key);
                    }
                    RequestPart::Body(_) => {
                        self.body.insert(key);
                    }
                }
            }
        }
    }
}

impl CallerKey {
    /// The contract's name of the key.
    pub fn name(self) -> &'static str {
        match self {
            CallerKey::Id => "id",
            CallerKey::CollectionId => "collectionId",
            CallerKey::CollectionName => "collectionName",
            CallerKey::Email => "email",
            CallerKey::EmailVisibility => "emailVisibility",
            CallerKey::Verified => "verified",
        }
    }
}
