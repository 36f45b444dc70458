//! The evaluator: one record, in memory.
//!
//! It knows the record, the request, the signed-in record and the items of their lists. Whatever asks
//! for another record it leaves to the store, unless the rest decides: `a || b` is yes when `a` is,
//! whatever `b`. It runs for every record of realtime and every view, so it borrows what it can.

mod rows;
mod values;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use super::expr::{Class, Comparison, Equality, Expr, Join, JoinId, JoinKind, Operand, Query, Row};
use super::request::{CallerKey, RequestValue, pattern_text};
use super::semantics::{self, Affinity, Cell, contains_pattern, like, like_pattern};
use super::{Filter, Operator, Verdict};
use crate::context::{RequestContext, RuleBody};
use crate::record::Record;

use rows::Bound;

static DECIDED: AtomicU64 = AtomicU64::new(0);
static PASSED: AtomicU64 = AtomicU64::new(0);

/// How often the evaluator was asked since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgeCounts {
    /// It said yes or no.
    pub decided: u64,
    /// It left the answer to the store.
    pub passed: u64,
}

/// How often the evaluator was asked since the process began.
pub fn judge_counts() -> JudgeCounts {
    JudgeCounts { decided: DECIDED.load(Ordering::Relaxed), passed: PASSED.load(Ordering::Relaxed) }
}

impl Filter {
    /// Judges a stored record in memory. `body` is what `@request.body.*` sees.
    pub fn judge(&self, record: &Record, context: &RequestContext, body: &RuleBody) -> Verdict {
        self.judge_row(record, RowKind::Stored, context, body)
    }

    /// Judges the row that a create rule sees. Its values stand in no table: they are compared as
    /// they are, so `n = '1'` is false of a new record and true of a stored one (seen).
    pub fn judge_new(&self, record: &Record, context: &RequestContext, body: &RuleBody) -> Verdict {
        self.judge_row(record, RowKind::New, context, body)
    }

    /// Judges without any record: what the request alone decides, such as `@request.auth.id != ''`.
    pub fn judge_request(&self, context: &RequestContext, body: &RuleBody) -> Verdict {
        let query = self.query(context);
        Judge::of_request(query, context, body).verdict(&query.expr, None)
    }

    fn judge_row(
        &self,
        record: &Record,
        kind: RowKind,
        context: &RequestContext,
        body: &RuleBody,
    ) -> Verdict {
        let query = self.query(context);
        if kind == RowKind::New && query.looks_back() {
            DECIDED.fetch_add(1, Ordering::Relaxed);
            return Verdict::No;
        }
        let judge = Judge { record: Some(record), kind, ..Judge::of_request(query, context, body) };
        let verdict = judge.verdict(&query.expr, None);
        let counter = if verdict == Verdict::NeedsStore { &PASSED } else { &DECIDED };
        counter.fetch_add(1, Ordering::Relaxed);
        verdict
    }
}

/// Where a record's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowKind {
    /// In a table, whose columns have affinities.
    Stored,
    /// In the query itself.
    New,
}

/// One record and one request.
pub(super) struct Judge<'a> {
    joins: &'a [Join],
    context: &'a RequestContext,
    body: &'a RuleBody,
    record: Option<&'a Record>,
    kind: RowKind,
    /// How many more choices of rows are looked at.
    budget: std::cell::Cell<u32>,
}

/// Choices of list items that one judgement may try. Past it the store decides.
const MAX_CHOICES: u32 = 20_000;

impl<'a> Judge<'a> {
    /// Knows no record.
    pub(super) fn of_request(query: &'a Query, context: &'a RequestContext, body: &'a RuleBody) -> Judge<'a> {
        Judge {
            joins: &query.joins,
            context,
            body,
            record: None,
            kind: RowKind::Stored,
            budget: std::cell::Cell::new(MAX_CHOICES),
        }
    }

    fn verdict(&self, expr: &'a Expr, rows: Option<&Bound<'a, '_>>) -> Verdict {
        match expr {
            Expr::Fixed(value) => yes_if(*value),
            Expr::All(parts) => {
                let mut all = Verdict::Yes;
                for part in parts {
                    match self.verdict(part, rows) {
                        Verdict::No => return Verdict::No,
                        Verdict::NeedsStore => all = Verdict::NeedsStore,
                        Verdict::Yes => {}
                    }
                }
                all
            }
            Expr::Any(parts) => {
                let mut any = Verdict::No;
                for part in parts {
                    match self.verdict(part, rows) {
                        Verdict::Yes => return Verdict::Yes,
                        Verdict::NeedsStore => any = Verdict::NeedsStore,
                        Verdict::No => {}
                    }
                }
                any
            }
            Expr::Compare(comparison) => match self.comparison(comparison, rows) {
                Some(truth) => yes_if(truth == Some(true)),
                None => self.caller_among(comparison, rows, &[]).map_or(Verdict::NeedsStore, yes_if),
            },
            Expr::Exists { joins, body } => self.some_row(*joins, body, rows),
            Expr::Never { joins, violation } => self.no_row_violates(joins, violation, rows),
            Expr::Missing(_) => Verdict::NeedsStore,
        }
    }

    /// The truth of a comparison that needs no rows; `None` when it takes records to tell.
    pub(super) fn settled(&self, comparison: &'a Comparison) -> Option<Option<bool>> {
        self.comparison(comparison, None)
    }

    /// The value of an operand that needs no rows, and its affinity.
    pub(super) fn settled_value(&self, operand: &'a Operand) -> Option<(Cell<'a>, Affinity)> {
        self.value(operand, None)
    }

    /// The truth of a comparison; `None` when it takes other records to tell.
    fn comparison(&self, comparison: &'a Comparison, rows: Option<&Bound<'a, '_>>) -> Option<Option<bool>> {
        let (right, right_affinity) = match comparison.operator.is_like() {
            true => (self.pattern(comparison, rows)?, Affinity::None),
            false => self.value(&comparison.right.operand, rows)?,
        };
        let (left, left_affinity) = self.value(&comparison.left.operand, rows)?;
        Some(decide(comparison, (&left, left_affinity), (&right, right_affinity)))
    }

    fn pattern(&self, comparison: &'a Comparison, rows: Option<&Bound<'a, '_>>) -> Option<Cell<'a>> {
        let operand = &comparison.right.operand;
        match comparison.right.class {
            Class::Pattern => self.value(operand, rows).map(|(cell, _)| cell),
            Class::Parameter => Some(match self.pattern_text(operand) {
                Some(text) => Cell::Text(Cow::Owned(like_pattern(&text).into_owned())),
                None => Cell::Null,
            }),
            // The contract makes patterns of a function's own literals there.
            _ if matches!(operand, Operand::Time(_) | Operand::GeoDistance(_)) => None,
            _ => {
                let (cell, _) = self.value(operand, rows)?;
                Some(match cell.to_text() {
                    Some(text) => Cell::Text(Cow::Owned(contains_pattern(&text))),
                    None => Cell::Null,
                })
            }
        }
    }

    /// The text of a parameter on the right of `~`.
    pub(super) fn pattern_text(&self, operand: &'a Operand) -> Option<Cow<'a, str>> {
        match operand {
            Operand::Request(value) => value.pattern_text(self.context, self.body),
            Operand::Constant(cell, _) => pattern_text(cell.borrowed()),
            _ => None,
        }
    }

    /// Whether `list.id = <the caller's id>` holds of the row that the list is at, where the list
    /// points to the caller's collection: the caller is a record, so its id is an id there. `None`
    /// when that is not what is asked, or cannot be told: another id may belong to no record, and then
    /// its row is one of NULLs.
    fn caller_among(
        &self,
        comparison: &'a Comparison,
        rows: Option<&Bound<'a, '_>>,
        private: &'a [Join],
    ) -> Option<bool> {
        let item = self.caller_item(comparison, private)?;
        let id = self.context.caller.record()?.id();
        let cell = self.value_of_item(item, rows)?;
        Some(matches!(&cell, Cell::Text(text) if text == id))
    }

    /// The items join of a comparison that asks for the caller's id among the ids of a list.
    fn caller_item(&self, comparison: &Comparison, private: &[Join]) -> Option<JoinId> {
        if comparison.operator != Operator::Equal {
            return None;
        }
        let sides = [
            (&comparison.left.operand, &comparison.right.operand),
            (&comparison.right.operand, &comparison.left.operand),
        ];
        sides.into_iter().find_map(|(one, other)| {
            let Operand::Column(column) = one else { return None };
            let Row::Joined(row) = column.row else { return None };
            let JoinKind::Record { item, collection } = &row.find(self.joins, private)?.kind else {
                return None;
            };
            let caller = self.context.caller.record()?;
            let is_id = match other {
                Operand::Request(RequestValue::Caller(CallerKey::Id)) => true,
                Operand::Constant(Cell::Text(id), _) => id == caller.id(),
                _ => false,
            };
            (is_id && column.is_id && caller.collection.id == collection.id).then_some(*item)
        })
    }

    /// Compares the item itself where [`Judge::caller_among`] could: no record need be fetched.
    pub(super) fn shorten_caller_id(&self, comparison: &mut Comparison) {
        let Some(item) = self.caller_item(comparison, &[]) else { return };
        for side in [&mut comparison.left, &mut comparison.right] {
            if matches!(side.operand, Operand::Column(_)) {
                side.operand = Operand::Item(item);
            }
        }
    }
}

/// What a comparison says of two values. For `~` the right one is the finished pattern.
fn decide(
    comparison: &Comparison,
    left: (&Cell<'_>, Affinity),
    right: (&Cell<'_>, Affinity),
) -> Option<bool> {
    match comparison.operator {
        Operator::Like | Operator::NotLike => {
            let matched = like(&left.0.to_text()?, &right.0.to_text()?);
            Some(matched == (comparison.operator == Operator::Like))
        }
        Operator::Equal => equal(comparison, left, right, true),
        Operator::NotEqual => equal(comparison, left, right, false),
        operator => semantics::compare(operator, left, right),
    }
}

fn equal(
    comparison: &Comparison,
    left: (&Cell<'_>, Affinity),
    right: (&Cell<'_>, Affinity),
    wanted: bool,
) -> Option<bool> {
    const NOTHING: Cell<'static> = Cell::Text(Cow::Borrowed(""));
    let nothing = (&NOTHING, Affinity::None);
    match comparison.equality(left.0, right.0) {
        Equality::Is => Some(semantics::is_same(left, right) == wanted),
        Equality::BothEmpty => Some(wanted),
        Equality::Direct { left_empty, right_empty } => plainly_equal(
            if left_empty { nothing } else { left },
            if right_empty { nothing } else { right },
            wanted,
        ),
        Equality::LeftEmpty if *right.0 == Cell::Null => Some(wanted),
        Equality::RightEmpty if *left.0 == Cell::Null => Some(wanted),
        Equality::LeftEmpty => plainly_equal(nothing, right, wanted),
        Equality::RightEmpty => plainly_equal(left, nothing, wanted),
        Equality::Coalesce => plainly_equal(
            if *left.0 == Cell::Null { nothing } else { (left.0, Affinity::None) },
            if *right.0 == Cell::Null { nothing } else { (right.0, Affinity::None) },
            wanted,
        ),
    }
}

/// `=`, or `IS NOT`.
fn plainly_equal(left: (&Cell<'_>, Affinity), right: (&Cell<'_>, Affinity), wanted: bool) -> Option<bool> {
    if wanted {
        semantics::compare(Operator::Equal, left, right)
    } else {
        Some(!semantics::is_same(left, right))
    }
}

fn yes_if(value: bool) -> Verdict {
    if value { Verdict::Yes } else { Verdict::No }
}
