//! What a row of NULLs does to a condition.
//!
//! A join without rows yields one row of NULLs. Where that row cannot make the condition true, the
//! join need not yield it, and the planner is free to begin at the joined table.

use model::filter::Operator;
use model::filter::expr::{Class, Comparison, Equality, Expr, Join, JoinId, Operand, Row};
use model::filter::semantics::Cell;

use super::{RootKind, Writer};

impl Writer<'_> {
    /// Whether the condition cannot be true while this join's row is one of NULLs.
    pub(super) fn rejects(&self, expr: &Expr, join: JoinId) -> bool {
        match expr {
            Expr::Fixed(value) => !value,
            Expr::All(parts) => parts.iter().any(|part| self.rejects(part, join)),
            Expr::Any(parts) => parts.iter().all(|part| self.rejects(part, join)),
            Expr::Exists { body, .. } => self.rejects(body, join),
            Expr::Never { .. } | Expr::Missing(_) => false,
            Expr::Compare(comparison) => self.comparison_rejects(comparison, join),
        }
    }

    fn comparison_rejects(&self, comparison: &Comparison, join: JoinId) -> bool {
        let (left, right) = (&comparison.left.operand, &comparison.right.operand);
        let left_null = self.is_null_with(left, join, &[]);
        let right_null = self.is_null_with(right, join, &[]);
        if !left_null && !right_null {
            return false;
        }
        let other = if left_null { right } else { left };
        match comparison.operator {
            Operator::Equal => match equality(comparison) {
                Equality::Is => matches!(other, Operand::Constant(cell, _) if *cell != Cell::Null),
                Equality::Direct { .. } => true,
                Equality::Coalesce => left_null != right_null && self.is_never_empty(other),
                _ => false,
            },
            Operator::NotEqual => match equality(comparison) {
                Equality::LeftEmpty => right_null,
                Equality::RightEmpty => left_null,
                _ => false,
            },
            Operator::Like | Operator::NotLike if right_null => comparison.right.class != Class::Pattern,
            _ => true,
        }
    }

    /// Whether the comparison cannot be *false* while this join's row is one of NULLs.
    pub(super) fn cannot_violate(&self, violation: &Comparison, join: JoinId, private: &[Join]) -> bool {
        let (left, right) = (&violation.left.operand, &violation.right.operand);
        let left_null = self.is_null_with(left, join, private);
        let right_null = self.is_null_with(right, join, private);
        if !left_null && !right_null {
            return false;
        }
        let other = if left_null { right } else { left };
        let other_is_known = matches!(other, Operand::Constant(cell, _) if *cell != Cell::Null);
        match violation.operator {
            Operator::Equal => match equality(violation) {
                Equality::Direct { .. } => true,
                Equality::LeftEmpty => right_null,
                Equality::RightEmpty => left_null,
                _ => false,
            },
            Operator::NotEqual => match equality(violation) {
                Equality::Direct { .. } | Equality::Is => other_is_known,
                _ => false,
            },
            _ => true,
        }
    }

    /// Whether an operand is NULL while this join's row is one of NULLs.
    fn is_null_with(&self, operand: &Operand, join: JoinId, private: &[Join]) -> bool {
        match operand {
            Operand::Column(column) | Operand::Json(column, _) => match column.row {
                Row::Joined(row) => self.hangs_from(row, join, private),
                Row::Own | Row::Caller => false,
            },
            Operand::Item(row) => self.hangs_from(*row, join, private),
            Operand::Lower(inner) => self.is_null_with(inner, join, private),
            Operand::GeoDistance(arguments) => {
                arguments.iter().any(|argument| self.is_null_with(argument, join, private))
            }
            Operand::Time(call) => {
                call.time.as_ref().is_some_and(|time| self.is_null_with(time, join, private))
            }
            Operand::Constant(..) | Operand::Request(_) | Operand::Length(_) | Operand::Truth(_) => false,
        }
    }

    /// Whether a row is the join's own or hangs from it: without the one there is not the other.
    pub(super) fn hangs_from(&self, row: JoinId, join: JoinId, private: &[Join]) -> bool {
        let mut next = Some(row);
        while let Some(row) = next {
            if row == join {
                return true;
            }
            next = match row.find(self.joins, private).and_then(|found| found.kind.parent()) {
                Some(Row::Joined(parent)) => Some(parent),
                _ => None,
            };
        }
        false
    }

    fn is_never_empty(&self, operand: &Operand) -> bool {
        match operand {
            Operand::Constant(cell, _) => !cell.is_empty(),
            Operand::Column(column) if column.is_id => match column.row {
                Row::Own => self.root.kind != RootKind::View,
                Row::Joined(join) => self.solid.contains(&join),
                Row::Caller => false,
            },
            _ => false,
        }
    }
}

fn equality(comparison: &Comparison) -> Equality {
    let cell = |operand: &Operand| match operand {
        Operand::Constant(cell, _) => cell.borrowed().into_owned(),
        _ => Cell::Null,
    };
    comparison.equality(&cell(&comparison.left.operand), &cell(&comparison.right.operand))
}
