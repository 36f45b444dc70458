//! Choosing rows in memory: the items of lists.

use super::super::Verdict;
use super::super::expr::{Comparison, Expr, Join, JoinId, JoinKind, JoinSet, List, Row};
use super::super::semantics::{Cell, json_cell, json_items};
use super::Judge;
use crate::json::Json;
use crate::value::Value;

/// The item that a join is at; the innermost first.
pub(super) struct Bound<'a, 'b> {
    join: JoinId,
    cell: Cell<'a>,
    next: Option<&'b Bound<'a, 'b>>,
}

/// The joins that are still to be chosen from.
#[derive(Clone, Copy)]
enum Pending<'a> {
    Shared(JoinSet),
    Private(&'a [Join], usize),
}

impl<'a> Judge<'a> {
    /// Whether some rows make the body true.
    pub(super) fn some_row(&self, joins: JoinSet, body: &'a Expr, rows: Option<&Bound<'a, '_>>) -> Verdict {
        let mut found = Verdict::No;
        self.choose(Pending::Shared(joins), rows, &mut |rows| {
            match self.verdict(body, rows) {
                Verdict::No => {}
                other => found = if found == Verdict::Yes { found } else { other },
            }
            found != Verdict::Yes
        });
        if found == Verdict::No && self.budget.get() == 0 { Verdict::NeedsStore } else { found }
    }

    /// Whether no rows make the comparison false.
    pub(super) fn no_row_violates(
        &self,
        joins: &'a [Join],
        violation: &'a Comparison,
        rows: Option<&Bound<'a, '_>>,
    ) -> Verdict {
        let mut kept = Verdict::Yes;
        self.choose(Pending::Private(joins, 0), rows, &mut |rows| {
            let truth = match self.comparison(violation, rows) {
                // The row whose id is the caller's; any other may be one of NULLs, which violates nothing.
                None => match self.caller_among(violation, rows, joins) {
                    Some(true) => Some(Some(true)),
                    _ => None,
                },
                known => known,
            };
            match truth {
                Some(Some(false)) => kept = Verdict::No,
                Some(_) => {}
                None if kept == Verdict::Yes => kept = Verdict::NeedsStore,
                None => {}
            }
            kept != Verdict::No
        });
        if kept == Verdict::Yes && self.budget.get() == 0 { Verdict::NeedsStore } else { kept }
    }

    /// Calls `visit` for every choice of rows until it answers false. Rows of tables are not known and
    /// stay unbound: whatever reads them cannot be told.
    fn choose(
        &self,
        pending: Pending<'a>,
        rows: Option<&Bound<'a, '_>>,
        visit: &mut dyn FnMut(Option<&Bound<'a, '_>>) -> bool,
    ) -> bool {
        let Some((id, join, rest)) = self.next_join(pending) else {
            let left = self.budget.get().saturating_sub(1);
            self.budget.set(left);
            return left > 0 && visit(rows);
        };
        let JoinKind::Items(list) = &join.kind else { return self.choose(rest, rows, visit) };
        let known = self.each_item(list, &mut |cell| {
            let bound = Bound { join: id, cell, next: rows };
            self.choose(rest, Some(&bound), visit)
        });
        match known {
            Some(go_on) => go_on,
            None => self.choose(rest, rows, visit),
        }
    }

    fn next_join(&self, pending: Pending<'a>) -> Option<(JoinId, &'a Join, Pending<'a>)> {
        match pending {
            Pending::Shared(set) => {
                let id = set.iter().next()?;
                let join = id.find(self.joins, &[])?;
                Some((id, join, Pending::Shared(set.without(JoinSet::of(id)))))
            }
            Pending::Private(joins, at) => {
                let join = joins.get(at)?;
                let id = JoinId(JoinId::PRIVATE + at as u16);
                Some((id, join, Pending::Private(joins, at + 1)))
            }
        }
    }

    /// Calls `visit` with each item, with NULL when there is none, until it answers false. `None` when
    /// the list is not known; otherwise whether every call answered true.
    fn each_item(&self, list: &'a List, visit: &mut dyn FnMut(Cell<'a>) -> bool) -> Option<bool> {
        match list {
            List::Column(column) => {
                let value = match column.row {
                    Row::Own => self.own_value(column)?,
                    Row::Caller => self.caller_value(column),
                    Row::Joined(_) => return None,
                };
                Some(match value {
                    Value::Json(text) => each_json_item(text, visit),
                    Value::Text(text) if is_array(text) => each_json_item(text, visit),
                    Value::Text(text) => visit(Cell::Text(text.into())),
                    Value::Number(number) => visit(Cell::stored(*number)),
                    Value::Null => visit(Cell::Null),
                })
            }
            List::Body(key) => Some(match self.body.values.get(key) {
                None | Some(Json::Null) => visit(Cell::Null),
                Some(Json::Array(items)) if items.is_empty() => visit(Cell::Null),
                Some(Json::Array(items)) => items.iter().all(|item| visit(super::values::json_value(item))),
                Some(one) => visit(super::values::json_value(one)),
            }),
            List::Constant(text) => Some(each_json_item(text, visit)),
        }
    }

    pub(super) fn value_of_item(&self, item: JoinId, rows: Option<&Bound<'a, '_>>) -> Option<Cell<'a>> {
        let mut next = rows;
        while let Some(bound) = next {
            if bound.join == item {
                return Some(bound.cell.clone());
            }
            next = bound.next;
        }
        None
    }
}

fn each_json_item<'a>(text: &'a str, visit: &mut dyn FnMut(Cell<'a>) -> bool) -> bool {
    let mut any = false;
    for item in json_items(text) {
        any = true;
        if !visit(json_cell(item)) {
            return false;
        }
    }
    any || visit(Cell::Null)
}

/// Whether the text of a single-valued field would be read as a list.
pub(super) fn is_array(text: &str) -> bool {
    text.trim_start().starts_with('[') && Json::parse_whole(text).is_ok()
}
