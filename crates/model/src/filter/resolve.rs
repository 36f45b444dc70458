//! Filling in what the request decides.

use std::borrow::Cow;

use super::expr::{Class, Comparison, Expr, Join, JoinKind, JoinSet, Key, List, Operand, Query, Row, Side};
use super::judge::Judge;
use super::request::{body_ids, body_list};
use super::scope;
use super::semantics::{Affinity, Cell, like_pattern};
use crate::context::{RequestContext, RuleBody};

pub(super) fn resolve(query: &Query, context: &RequestContext, body: &RuleBody) -> Query {
    let resolver = Resolver { judge: Judge::of_request(query, context, body), body };
    let joins: Vec<Join> = query.joins.iter().map(|join| resolver.join(join)).collect();
    let expr = resolver.expr(&query.expr, &joins);
    Query { joins, expr }
}

/// A comparison after the request is known.
enum Settled {
    /// The request decides it.
    Is(Option<bool>),
    /// What is left of it.
    Not(Comparison),
}

struct Resolver<'a> {
    /// Knows the request and no record: what it can tell, the request decides.
    judge: Judge<'a>,
    body: &'a RuleBody,
}

impl<'a> Resolver<'a> {
    fn expr(&self, expr: &'a Expr, joins: &[Join]) -> Expr {
        match expr {
            Expr::Fixed(value) => Expr::Fixed(*value),
            Expr::Missing(join) => Expr::Missing(*join),
            Expr::All(parts) => {
                let mut left = Vec::with_capacity(parts.len());
                for part in parts {
                    match self.expr(part, joins) {
                        Expr::Fixed(true) => {}
                        Expr::Fixed(false) => return Expr::Fixed(false),
                        other => left.push(other),
                    }
                }
                if left.is_empty() { Expr::Fixed(true) } else { super::check::all(left) }
            }
            Expr::Any(parts) => {
                let mut left = Vec::with_capacity(parts.len());
                for part in parts {
                    match self.expr(part, joins) {
                        Expr::Fixed(false) => {}
                        Expr::Fixed(true) => return Expr::Fixed(true),
                        other => left.push(other),
                    }
                }
                match left.len() {
                    0 => Expr::Fixed(false),
                    1 => left.remove(0),
                    _ => Expr::Any(left),
                }
            }
            Expr::Compare(comparison) => match self.comparison(comparison) {
                Settled::Is(truth) => Expr::Fixed(truth == Some(true)),
                Settled::Not(comparison) => Expr::Compare(comparison),
            },
            Expr::Exists { joins: chosen, body } => match self.expr(body, joins) {
                // Every join has a row, if only of NULLs.
                Expr::Fixed(value) => Expr::Fixed(value),
                body => {
                    let needed = scope::joins_of(&body, joins).and(*chosen);
                    if needed == JoinSet::EMPTY {
                        body
                    } else {
                        Expr::Exists { joins: needed, body: Box::new(body) }
                    }
                }
            },
            Expr::Never { joins: private, violation } => match self.comparison(violation) {
                Settled::Is(truth) => Expr::Fixed(truth != Some(false)),
                Settled::Not(violation) => {
                    Expr::Never { joins: private.iter().map(|join| self.join(join)).collect(), violation }
                }
            },
        }
    }

    /// What the comparison says, or what is left of it.
    fn comparison(&self, comparison: &'a Comparison) -> Settled {
        if let Some(decided) = self.judge.settled(comparison) {
            return Settled::Is(decided);
        }
        let left = self.side(&comparison.left);
        let mut right = self.side(&comparison.right);
        if comparison.operator.is_like() && right.class == Class::Parameter {
            right = self.pattern(&comparison.right);
        }
        let mut left_over = Comparison { left, operator: comparison.operator, right };
        self.judge.shorten_caller_id(&mut left_over);
        Settled::Not(left_over)
    }

    fn pattern(&self, side: &'a Side) -> Side {
        let cell = match self.judge.pattern_text(&side.operand) {
            Some(text) => Cell::Text(Cow::Owned(like_pattern(&text).into_owned())),
            None => Cell::Null,
        };
        Side {
            operand: Operand::Constant(cell, Affinity::None),
            class: Class::Pattern,
            fallback: side.fallback,
        }
    }

    fn side(&self, side: &'a Side) -> Side {
        Side { operand: self.operand(&side.operand), class: side.class, fallback: side.fallback }
    }

    fn operand(&self, operand: &'a Operand) -> Operand {
        if let Some((cell, affinity)) = self.judge.settled_value(operand) {
            return Operand::Constant(cell.into_owned(), affinity);
        }
        match operand {
            Operand::Lower(inner) => Operand::Lower(Box::new(self.operand(inner))),
            // `:changed` names no joins.
            Operand::Truth(expr) => Operand::Truth(Box::new(self.expr(expr, &[]))),
            Operand::GeoDistance(arguments) => {
                Operand::GeoDistance(Box::new([0, 1, 2, 3].map(|index| self.operand(&arguments[index]))))
            }
            Operand::Time(call) => {
                let mut call = call.clone();
                call.time = call.time.as_ref().map(|time| self.operand(time));
                Operand::Time(call)
            }
            other => other.clone(),
        }
    }

    fn join(&self, join: &Join) -> Join {
        let kind = match &join.kind {
            JoinKind::Relation { from, collection } => {
                JoinKind::Relation { from: self.key(from), collection: collection.clone() }
            }
            JoinKind::Back { to, collection, field } => {
                JoinKind::Back { to: self.key(to), collection: collection.clone(), field: field.clone() }
            }
            JoinKind::Items(list) => JoinKind::Items(match list {
                List::Body(key) => List::Constant(body_list(key, self.body)),
                other => self.list(other),
            }),
            JoinKind::Among { list, collection } => JoinKind::Among {
                list: match list {
                    List::Body(key) => List::Constant(body_ids(key, self.body)),
                    other => self.list(other),
                },
                collection: collection.clone(),
            },
            other => other.clone(),
        };
        Join { kind, space: join.space }
    }

    fn key(&self, key: &Key) -> Key {
        match key {
            Key::Column(column) if column.row == Row::Caller => {
                Key::Constant(self.judge.caller_cell(column).into_owned())
            }
            other => other.clone(),
        }
    }

    fn list(&self, list: &List) -> List {
        match list {
            List::Column(column) if column.row == Row::Caller => {
                List::Constant(self.judge.caller_list(column))
            }
            other => other.clone(),
        }
    }
}
