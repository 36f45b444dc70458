//! Where rows are chosen.
//!
//! A record passes when some choice of joined rows makes the whole condition true. `∃` goes through
//! "or" as it is, and through "and" where the parts have no join in common; so each choice moves down
//! to the smallest part that needs it, and what needs none stays outside, where an index can serve it.

use super::expr::{Column, Comparison, Expr, Join, JoinId, JoinKind, JoinSet, Key, List, Operand, Row};

/// Puts an [`Expr::Exists`] wherever rows are to be chosen.
pub(super) fn place(expr: Expr, joins: &[Join]) -> Expr {
    place_in(expr, JoinSet::EMPTY, joins)
}

/// The condition as it was before [`place`].
pub(super) fn unplace(expr: Expr) -> Expr {
    match expr {
        Expr::Exists { body, .. } => unplace(*body),
        Expr::All(parts) => Expr::All(parts.into_iter().map(unplace).collect()),
        Expr::Any(parts) => Expr::Any(parts.into_iter().map(unplace).collect()),
        other => other,
    }
}

fn place_in(expr: Expr, bound: JoinSet, joins: &[Join]) -> Expr {
    match expr {
        Expr::Any(parts) => Expr::Any(parts.into_iter().map(|part| place_in(part, bound, joins)).collect()),
        Expr::All(parts) => {
            let mut flat = Vec::with_capacity(parts.len());
            flatten(parts, &mut flat);
            let mut placed: Vec<Expr> = groups(flat, bound, joins)
                .into_iter()
                .map(|group| place_group(group, bound, joins))
                .collect();
            if placed.len() == 1 { placed.remove(0) } else { Expr::All(placed) }
        }
        leaf => {
            let free = joins_of(&leaf, joins).without(bound);
            if free.is_empty() { leaf } else { Expr::Exists { joins: free, body: Box::new(leaf) } }
        }
    }
}

fn flatten(parts: Vec<Expr>, flat: &mut Vec<Expr>) {
    for part in parts {
        match part {
            Expr::All(inner) => flatten(inner, flat),
            other => flat.push(other),
        }
    }
}

/// Parts that have joins in common, with these joins.
struct Group {
    parts: Vec<Expr>,
    all: JoinSet,
    common: JoinSet,
}

fn groups(parts: Vec<Expr>, bound: JoinSet, joins: &[Join]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for part in parts {
        let free = joins_of(&part, joins).without(bound);
        let mut merged = Group { parts: Vec::new(), all: JoinSet::EMPTY, common: JoinSet::EMPTY };
        let mut apart = Vec::with_capacity(groups.len() + 1);
        let mut place = None;
        for group in groups {
            if group.all.and(free).is_empty() {
                apart.push(group);
            } else {
                place.get_or_insert(apart.len());
                merged.common = merged.common.or(group.common).or(group.all.and(free));
                merged.all = merged.all.or(group.all);
                merged.parts.extend(group.parts);
            }
        }
        merged.all = merged.all.or(free);
        merged.parts.push(part);
        // A group stays where its first part stood.
        apart.insert(place.unwrap_or(apart.len()), merged);
        groups = apart;
    }
    groups
}

fn place_group(mut group: Group, bound: JoinSet, joins: &[Join]) -> Expr {
    if group.parts.len() == 1 {
        return place_in(group.parts.remove(0), bound, joins);
    }
    let body = place_in(Expr::All(group.parts), bound.or(group.common), joins);
    Expr::Exists { joins: group.common, body: Box::new(body) }
}

/// The shared joins that a condition speaks of, with those that they hang from.
pub(super) fn joins_of(expr: &Expr, joins: &[Join]) -> JoinSet {
    match expr {
        Expr::Fixed(_) => JoinSet::EMPTY,
        Expr::All(parts) | Expr::Any(parts) => {
            parts.iter().fold(JoinSet::EMPTY, |set, part| set.or(joins_of(part, joins)))
        }
        Expr::Compare(comparison) => joins_of_comparison(comparison, joins),
        // What is chosen within is not free.
        Expr::Exists { joins: chosen, body } => joins_of(body, joins).without(*chosen),
        Expr::Missing(join) => with_parents(*join, joins),
        Expr::Never { joins: private, violation } => private
            .iter()
            .filter_map(|join| join.kind.parent())
            .fold(joins_of_comparison(violation, joins), |set, row| set.or(joins_of_row(row, joins))),
    }
}

/// The same of a comparison.
pub(super) fn joins_of_comparison(comparison: &Comparison, joins: &[Join]) -> JoinSet {
    joins_of_operand(&comparison.left.operand, joins).or(joins_of_operand(&comparison.right.operand, joins))
}

/// The same of an operand.
pub(super) fn joins_of_operand(operand: &Operand, joins: &[Join]) -> JoinSet {
    match operand {
        Operand::Constant(..) | Operand::Request(_) => JoinSet::EMPTY,
        Operand::Column(column) | Operand::Json(column, _) | Operand::Length(column) => {
            joins_of_row(column.row, joins)
        }
        Operand::Item(join) => with_parents(*join, joins),
        Operand::Lower(inner) => joins_of_operand(inner, joins),
        Operand::Truth(expr) => joins_of(expr, joins),
        Operand::GeoDistance(arguments) => {
            arguments.iter().fold(JoinSet::EMPTY, |set, argument| set.or(joins_of_operand(argument, joins)))
        }
        Operand::Time(call) => {
            call.time.as_ref().map_or(JoinSet::EMPTY, |time| joins_of_operand(time, joins))
        }
    }
}

fn joins_of_row(row: Row, joins: &[Join]) -> JoinSet {
    match row {
        Row::Joined(join) => with_parents(join, joins),
        Row::Own | Row::Caller => JoinSet::EMPTY,
    }
}

/// A join and those that it hangs from.
pub(super) fn with_parents(join: JoinId, joins: &[Join]) -> JoinSet {
    let mut set = JoinSet::EMPTY;
    let mut next = Some(join).filter(|join| join.is_shared());
    while let Some(join) = next {
        set = set.or(JoinSet::of(join));
        next = match join.find(joins, &[]).and_then(|join| join.kind.parent()) {
            Some(Row::Joined(parent)) => Some(parent),
            _ => None,
        };
    }
    set
}

/// Gives every join of a condition another number. Joins of an [`Expr::Never`] keep theirs unless
/// `to` renumbers those as well.
pub(super) fn renumber(expr: &mut Expr, to: &mut dyn FnMut(JoinId) -> JoinId) {
    match expr {
        Expr::Fixed(_) => {}
        Expr::All(parts) | Expr::Any(parts) => parts.iter_mut().for_each(|part| renumber(part, to)),
        Expr::Compare(comparison) => renumber_comparison(comparison, to),
        Expr::Exists { joins, body } => {
            *joins = joins.iter().fold(JoinSet::EMPTY, |set, join| set.or(JoinSet::of(to(join))));
            renumber(body, to);
        }
        Expr::Never { joins, violation } => {
            joins.iter_mut().for_each(|join| renumber_join(join, to));
            renumber_comparison(violation, to);
        }
        Expr::Missing(join) => *join = to(*join),
    }
}

fn renumber_comparison(comparison: &mut Comparison, to: &mut dyn FnMut(JoinId) -> JoinId) {
    renumber_operand(&mut comparison.left.operand, to);
    renumber_operand(&mut comparison.right.operand, to);
}

pub(super) fn renumber_operand(operand: &mut Operand, to: &mut dyn FnMut(JoinId) -> JoinId) {
    match operand {
        Operand::Constant(..) | Operand::Request(_) => {}
        Operand::Column(column) | Operand::Json(column, _) | Operand::Length(column) => {
            renumber_column(column, to);
        }
        Operand::Item(join) => *join = to(*join),
        Operand::Lower(inner) => renumber_operand(inner, to),
        Operand::Truth(expr) => renumber(expr, to),
        Operand::GeoDistance(arguments) => {
            arguments.iter_mut().for_each(|argument| renumber_operand(argument, to));
        }
        Operand::Time(call) => {
            if let Some(time) = &mut call.time {
                renumber_operand(time, to);
            }
        }
    }
}

pub(super) fn renumber_join(join: &mut Join, to: &mut dyn FnMut(JoinId) -> JoinId) {
    match &mut join.kind {
        JoinKind::Relation { from: Key::Column(column), .. }
        | JoinKind::Back { to: Key::Column(column), .. }
        | JoinKind::Items(List::Column(column)) => renumber_column(column, to),
        JoinKind::Record { item, .. } => *item = to(*item),
        JoinKind::Relation { .. }
        | JoinKind::Back { .. }
        | JoinKind::Items(_)
        | JoinKind::Every { .. }
        | JoinKind::Among { .. } => {}
    }
}

fn renumber_column(column: &mut Column, to: &mut dyn FnMut(JoinId) -> JoinId) {
    if let Row::Joined(join) = &mut column.row {
        *join = to(*join);
    }
}
