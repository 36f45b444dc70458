//! Two filters as one.

use super::check::all;
use super::expr::{Expr, Join, JoinId, Query};
use super::{Filter, FilterError, MAX_JOINS, scope};

pub(super) fn and(one: &Filter, two: &Filter) -> Result<Filter, FilterError> {
    let (left, right) = (&one.variants, &two.variants);
    let guest = and_queries(&left.guest, &right.guest)?;
    let mut callers = Vec::new();
    let of = |queries: &'_ [(String, Query)], id: &str| queries.iter().position(|(other, _)| other == id);
    let ids = left.callers.iter().chain(&right.callers).map(|(id, _)| id);
    for id in ids {
        if callers.iter().any(|(known, _): &(String, Query)| known == id) {
            continue;
        }
        let one = of(&left.callers, id).map_or(&left.guest, |position| &left.callers[position].1);
        let two = of(&right.callers, id).map_or(&right.guest, |position| &right.callers[position].1);
        callers.push((id.clone(), and_queries(one, two)?));
    }
    Ok(Filter::new(guest, callers))
}

pub(super) fn share_rows(one: &Filter, two: &Filter) -> bool {
    let joins = |filter: &'_ Filter| filter.queries().flat_map(|query| &query.joins).count();
    if joins(one) == 0 || joins(two) == 0 {
        return false;
    }
    one.queries().flat_map(|query| &query.joins).any(|join| {
        let same = |other: &Join| join.space == 0 && other.space == 0 && join.kind.is_same(&other.kind);
        two.queries().flat_map(|query| &query.joins).any(same)
    })
}

fn and_queries(one: &Query, two: &Query) -> Result<Query, FilterError> {
    let mut joins = one.joins.clone();
    // The spaces of the two texts' list rules are different ones.
    let spaces = joins.iter().map(|join| join.space).max().unwrap_or(0);
    let mut numbers: Vec<JoinId> = Vec::with_capacity(two.joins.len());
    for join in &two.joins {
        let mut join = join.clone();
        if join.space != 0 {
            join.space += spaces;
        }
        scope::renumber_join(&mut join, &mut |id| numbers[usize::from(id.0)]);
        numbers.push(find_or_add(&mut joins, join)?);
    }
    let mut other = scope::unplace(two.expr.clone());
    scope::renumber(&mut other, &mut |id| if id.is_shared() { numbers[usize::from(id.0)] } else { id });
    let expr: Expr = all(vec![scope::unplace(one.expr.clone()), other]);
    let expr = scope::place(expr, &joins);
    Ok(Query { joins, expr })
}

fn find_or_add(joins: &mut Vec<Join>, join: Join) -> Result<JoinId, FilterError> {
    let same = |other: &Join| other.space == join.space && other.kind.is_same(&join.kind);
    let position = match joins.iter().position(same) {
        Some(position) => position,
        None if joins.len() >= MAX_JOINS => {
            return Err(FilterError::new("too many joined collections"));
        }
        None => {
            joins.push(join);
            joins.len() - 1
        }
    };
    Ok(JoinId(position as u16))
}
