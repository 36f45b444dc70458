//! Joined rows.
//!
//! *For each record*: `EXISTS (SELECT 1 FROM … WHERE …)`, with every join that cannot do without its
//! row as an inner one. *Once*: where the rows are tied to the record by one value and by nothing
//! else, `column IN (SELECT … )`, which SQLite runs once and may even start from. The second is for
//! lists, where the first would read lists of ids, or all of another table, for every record.

use model::collection::Collection;
use model::filter::Operator;
use model::filter::expr::{
    Class, Column, Comparison, Equality, Expr, Join, JoinId, JoinKind, JoinSet, Key, List, Operand, Row,
};
use model::filter::semantics::{Affinity, Cell};

use super::{Expected, RootKind, Writer};

/// A single value of a list as a list.
const ONE_ITEM: &str = "json_array({})";

/// The joins of one FROM.
struct Rows<'a> {
    /// Parents first.
    all: Vec<JoinId>,
    /// Those that need no row of NULLs; parents first, and the parents of each among them.
    inner: Vec<JoinId>,
    private: &'a [Join],
}

impl Writer<'_> {
    /// Whether some rows of these joins make the body true.
    pub(super) fn exists(&mut self, joins: JoinSet, body: &Expr) {
        let all: Vec<JoinId> = joins.iter().collect();
        let inner = self.inner(&all, &[], |writer, join| writer.rejects(body, join));
        let rows = Rows { all, inner, private: &[] };
        if self.root.expected == Expected::Many && self.once(&rows, joins, body) {
            return;
        }
        self.text("EXISTS (SELECT 1 FROM ");
        self.from(&rows);
        self.text(" WHERE ");
        self.first_link(&rows);
        self.filter_items(&rows, body);
        self.with_solid(&rows.inner, |writer| writer.expr(body, &[]));
        self.text(")");
    }

    /// That no rows of these joins make the comparison false.
    pub(super) fn never(&mut self, private: &[Join], violation: &Comparison) {
        let all: Vec<JoinId> =
            (0..private.len()).map(|position| JoinId(JoinId::PRIVATE + position as u16)).collect();
        let inner = self.inner(&all, private, |writer, join| writer.cannot_violate(violation, join, private));
        let rows = Rows { all, inner, private };
        self.text("NOT EXISTS (SELECT 1 FROM ");
        self.from(&rows);
        self.text(" WHERE ");
        self.first_link(&rows);
        self.text("NOT (");
        self.with_solid(&rows.inner, |writer| writer.comparison(violation, private));
        self.text("))");
    }

    /// The joins of a sort term after FROM, with their rows of NULLs.
    pub(super) fn all_rows(&mut self, all: Vec<JoinId>, private: &[Join]) {
        self.from(&Rows { all, inner: Vec::new(), private });
    }

    fn inner(
        &self,
        all: &[JoinId],
        private: &[Join],
        needs_no_nulls: impl Fn(&Self, JoinId) -> bool,
    ) -> Vec<JoinId> {
        let sure: Vec<JoinId> = all.iter().copied().filter(|join| needs_no_nulls(self, *join)).collect();
        all.iter()
            .copied()
            .filter(|join| sure.iter().any(|row| self.hangs_from(*row, *join, private)))
            .collect()
    }

    fn with_solid(&mut self, inner: &[JoinId], write: impl FnOnce(&mut Self)) {
        let before = self.solid.len();
        self.solid.extend(inner);
        write(self);
        self.solid.truncate(before);
    }

    /// The joins after FROM. What ties the first inner one is left to WHERE.
    fn from(&mut self, rows: &Rows<'_>) {
        let mut first = true;
        for join in &rows.inner {
            if first {
                self.table(*join, rows.private);
            } else {
                self.text(" JOIN ");
                self.table(*join, rows.private);
                self.text(" ON ");
                self.link(*join, rows.private);
            }
            first = false;
        }
        for join in rows.all.iter().filter(|join| !rows.inner.contains(join)) {
            if first {
                self.text("(SELECT 1)");
            }
            self.text(" LEFT JOIN ");
            self.table(*join, rows.private);
            self.text(" ON ");
            self.link(*join, rows.private);
            first = false;
        }
    }

    fn first_link(&mut self, rows: &Rows<'_>) {
        if let Some(join) = rows.inner.first() {
            self.link(*join, rows.private);
            self.text(" AND ");
        }
    }

    fn table(&mut self, join: JoinId, private: &[Join]) {
        let Some(found) = join.find(self.joins, private) else { return self.text("(SELECT 1)") };
        match &found.kind {
            JoinKind::Items(list) => {
                self.text("json_each(");
                self.items(list);
                self.text(")");
            }
            other => {
                let name = other.collection().map_or("", |collection| collection.name.as_str());
                self.name(name);
            }
        }
        self.text(" AS ");
        self.alias(join);
    }

    fn items(&mut self, list: &List) {
        match list {
            List::Column(column) => self.list(column, ONE_ITEM),
            List::Constant(text) => self.value(&Cell::Text(text.into())),
            // Lists of the body are constants once the request is resolved.
            List::Body(_) => self.text("'[]'"),
        }
    }

    /// What ties a row to the one that it hangs from.
    fn link(&mut self, join: JoinId, private: &[Join]) {
        let Some(found) = join.find(self.joins, private) else { return self.text("0") };
        match &found.kind {
            JoinKind::Items(_) | JoinKind::Every { .. } => self.text("1"),
            JoinKind::Relation { from, .. } => {
                self.alias(join);
                self.text(".\"id\" = ");
                self.key(from);
            }
            JoinKind::Record { item, .. } => {
                self.alias(join);
                self.text(".\"id\" = ");
                self.alias(*item);
                self.text(".value");
            }
            JoinKind::Back { to, field, .. } => {
                let mut column = field.clone();
                column.row = Row::Joined(join);
                if field.multiple {
                    self.key(to);
                    self.text(" IN (SELECT value FROM json_each(");
                    self.list(&column, ONE_ITEM);
                    self.text("))");
                } else {
                    self.column(&column);
                    self.text(" = ");
                    self.key(to);
                }
            }
            JoinKind::Among { list, .. } => {
                self.alias(join);
                self.text(".\"id\" IN (SELECT value FROM json_each(");
                self.items(list);
                self.text("))");
            }
        }
    }

    fn key(&mut self, key: &Key) {
        match key {
            Key::Column(column) => self.column(column),
            Key::Constant(cell) => self.value(cell),
        }
    }

    /// A quick look at the text of a list before it is taken apart: an item that has to be this id
    /// stands in it, in quotes.
    fn filter_items(&mut self, rows: &Rows<'_>, body: &Expr) {
        for join in &rows.inner {
            let Some(Join { kind: JoinKind::Items(List::Column(column)), .. }) =
                join.find(self.joins, rows.private)
            else {
                continue;
            };
            if column.multiple
                && let Some(id) = wanted_item(body, *join)
            {
                self.text("instr(");
                self.column(column);
                self.text(", ");
                self.value(&Cell::Text(format!("\"{id}\"").into()));
                self.text(") AND ");
            }
        }
    }

    /// Writes the condition as one subquery that is run once, if it can be.
    fn once(&mut self, rows: &Rows<'_>, joins: JoinSet, body: &Expr) -> bool {
        if self.stands_alone(rows) {
            return self.tied_once(rows, joins, body);
        }
        let Some((top, below)) = rows.all.split_first() else { return false };
        let single_rooted = below.iter().all(|join| self.hangs_from(*join, *top, &[]));
        if !single_rooted || !rows.inner.contains(top) {
            return false;
        }
        let Some(found) = top.find(self.joins, &[]) else { return false };
        match &found.kind {
            JoinKind::Relation { from: Key::Column(column), collection } => {
                let pays = self.is_slow(below) || self.starts_at_index(body, *top, collection);
                if !pays || !self.is_apart(body, joins) {
                    return false;
                }
                self.column(column);
                self.text(" IN (SELECT ");
                self.alias(*top);
                self.text(".\"id\"");
                self.finish_once(rows, body);
                true
            }
            JoinKind::Back { to: Key::Column(to), collection, field } => {
                let indexed = !field.multiple && has_index(collection, &field.name);
                let pays = !indexed || self.starts_at_index(body, *top, collection);
                if !pays || !self.is_apart(body, joins) {
                    return false;
                }
                self.column(to);
                self.text(" IN (SELECT ");
                if field.multiple {
                    self.text("_l.value");
                } else {
                    let mut column = field.clone();
                    column.row = Row::Joined(*top);
                    self.column(&column);
                }
                self.finish_once(rows, body);
                true
            }
            JoinKind::Items(List::Column(_)) => self.items_once(rows, joins, body),
            _ => false,
        }
    }

    /// FROM and WHERE of a subquery that does not name the record.
    fn finish_once(&mut self, rows: &Rows<'_>, body: &Expr) {
        self.text(" FROM ");
        let top = rows.all[0];
        self.table(top, &[]);
        if let Some(Join { kind: JoinKind::Back { field, .. }, .. }) = top.find(self.joins, &[])
            && field.multiple
        {
            let mut column = field.clone();
            column.row = Row::Joined(top);
            self.text(" JOIN json_each(");
            self.list(&column, ONE_ITEM);
            self.text(") AS _l");
        }
        for join in &rows.all[1..] {
            let inner = rows.inner.contains(join);
            self.text(if inner { " JOIN " } else { " LEFT JOIN " });
            self.table(*join, &[]);
            self.text(" ON ");
            self.link(*join, &[]);
        }
        self.text(" WHERE ");
        self.filter_items(rows, body);
        self.with_solid(&rows.inner, |writer| writer.expr(body, &[]));
        self.text(")");
    }

    /// `list.field`: the records that fit are found once, the record's items are looked up in them.
    fn items_once(&mut self, rows: &Rows<'_>, joins: JoinSet, body: &Expr) -> bool {
        let [item, record, rest @ ..] = rows.all.as_slice() else { return false };
        let Some(Join { kind: JoinKind::Record { item: of, collection }, .. }) = record.find(self.joins, &[])
        else {
            return false;
        };
        let below = Rows {
            all: rows.all[1..].to_vec(),
            inner: rows.inner.iter().copied().filter(|join| join != item).collect(),
            private: &[],
        };
        let fits = of == item
            && below.inner.contains(record)
            && rest.iter().all(|join| self.hangs_from(*join, *record, &[]))
            && (self.is_slow(rest) || self.starts_at_index(body, *record, collection))
            && self.is_apart(body, joins.without(JoinSet::of(*item)));
        if !fits {
            return false;
        }
        self.text("EXISTS (SELECT 1 FROM ");
        self.table(*item, &[]);
        self.text(" WHERE ");
        self.alias(*item);
        self.text(".value IN (SELECT ");
        self.alias(*record);
        self.text(".\"id\"");
        self.finish_once(&below, body);
        self.text(")");
        true
    }

    /// Whether the rows are the same for every record: whether none hangs from it.
    fn stands_alone(&self, rows: &Rows<'_>) -> bool {
        rows.all.iter().all(|join| match join.find(self.joins, &[]).and_then(|join| join.kind.parent()) {
            None => true,
            Some(Row::Joined(parent)) => rows.all.contains(&parent),
            Some(Row::Own | Row::Caller) => false,
        })
    }

    /// Rows that are the same for every record, tied to it by one equality alone:
    /// `@collection.x.y ?= id`, `@request.auth.teams.id ?= team`.
    fn tied_once(&mut self, rows: &Rows<'_>, joins: JoinSet, body: &Expr) -> bool {
        let parts = match body {
            Expr::All(parts) => parts.as_slice(),
            one => std::slice::from_ref(one),
        };
        let Some((position, (outer, inner))) =
            parts.iter().enumerate().find_map(|(position, part)| Some((position, self.tie(part, joins)?)))
        else {
            return false;
        };
        let mut rest: Vec<Expr> = parts.to_vec();
        rest.remove(position);
        let rest = if rest.is_empty() { Expr::Fixed(true) } else { Expr::All(rest) };
        if self.has_own_index(inner, &rest, rows) || !self.is_apart(&rest, joins) {
            return false;
        }
        self.operand(outer);
        self.text(" IN (SELECT COALESCE(");
        self.operand(inner);
        self.text(", '') FROM ");
        self.from(rows);
        self.text(" WHERE ");
        self.first_link(rows);
        self.filter_items(rows, &rest);
        self.with_solid(&rows.inner, |writer| writer.expr(&rest, &[]));
        self.text(")");
        true
    }

    /// Whether the tied column of a whole collection has an index and nothing else does: then the row
    /// is looked up for each record.
    fn has_own_index(&self, inner: &Operand, rest: &Expr, rows: &Rows<'_>) -> bool {
        let Operand::Column(Column { row: Row::Joined(row), name, .. }) = inner else { return false };
        match row.find(self.joins, &[]).map(|join| &join.kind) {
            Some(JoinKind::Every { collection, .. }) => {
                rows.inner.contains(row)
                    && has_index(collection, name)
                    && !self.starts_at_index(rest, *row, collection)
            }
            _ => false,
        }
    }

    /// The two sides of an equality of a text column of the record, never NULL, and a text of the joined
    /// rows: NULL counts as empty there.
    fn tie<'e>(&self, part: &'e Expr, joins: JoinSet) -> Option<(&'e Operand, &'e Operand)> {
        let Expr::Compare(comparison @ Comparison { operator: Operator::Equal, left, right }) = part else {
            return None;
        };
        if comparison.equality(&Cell::Null, &Cell::Null) != Equality::Coalesce {
            return None;
        }
        let is_outer = |operand: &Operand| {
            matches!(operand, Operand::Column(column)
                if column.row == Row::Own
                    && self.root.kind == RootKind::Table
                    && !column.nullable
                    && column.affinity == Affinity::Text)
        };
        let is_inner = |operand: &Operand| match operand {
            Operand::Column(column) => {
                !column.nullable
                    && column.affinity == Affinity::Text
                    && matches!(column.row, Row::Joined(join) if joins.contains(join))
            }
            // Lists hold text only.
            Operand::Item(join) => joins.contains(*join),
            _ => false,
        };
        match (&left.operand, &right.operand) {
            (outer, inner) if is_outer(outer) && is_inner(inner) => Some((outer, inner)),
            (inner, outer) if is_outer(outer) && is_inner(inner) => Some((outer, inner)),
            _ => None,
        }
    }

    /// Whether these joins take a list apart, or read a whole table, for each row above them.
    fn is_slow(&self, joins: &[JoinId]) -> bool {
        joins.iter().any(|join| match join.find(self.joins, &[]).map(|join| &join.kind) {
            Some(JoinKind::Items(_)) => true,
            Some(JoinKind::Back { collection, field, .. }) => {
                field.multiple || !has_index(collection, &field.name)
            }
            _ => false,
        })
    }

    /// Whether the body asks an indexed column of the row for one value.
    fn starts_at_index(&self, body: &Expr, row: JoinId, collection: &Collection) -> bool {
        match body {
            Expr::All(parts) => parts.iter().any(|part| self.starts_at_index(part, row, collection)),
            Expr::Compare(Comparison { left, operator: Operator::Equal, right }) => {
                [(left, right), (right, left)].into_iter().any(|(one, other)| {
                    matches!(&one.operand, Operand::Column(column)
                        if column.row == Row::Joined(row) && has_index(collection, &column.name))
                        && matches!(&other.operand, Operand::Constant(cell, _) if *cell != Cell::Null)
                        && other.class != Class::Pattern
                })
            }
            _ => false,
        }
    }

    /// Whether the condition speaks of these joins and constants alone.
    fn is_apart(&self, expr: &Expr, joins: JoinSet) -> bool {
        let row_inside = |row: Option<Row>, joins: JoinSet, private: usize| match row {
            None | Some(Row::Caller) => true,
            Some(Row::Own) => false,
            Some(Row::Joined(join)) if join.is_shared() => joins.contains(join),
            Some(Row::Joined(join)) => usize::from(join.0 - JoinId::PRIVATE) < private,
        };
        match expr {
            Expr::Fixed(_) => true,
            Expr::Missing(join) => joins.contains(*join),
            Expr::All(parts) | Expr::Any(parts) => parts.iter().all(|part| self.is_apart(part, joins)),
            Expr::Compare(comparison) => {
                self.comparison_is_apart(comparison, &|row| row_inside(row, joins, 0))
            }
            Expr::Exists { joins: chosen, body } => {
                let inside = joins.or(*chosen);
                chosen.iter().all(|join| {
                    let parent = join.find(self.joins, &[]).and_then(|join| join.kind.parent());
                    row_inside(parent, inside, 0)
                }) && self.is_apart(body, inside)
            }
            Expr::Never { joins: private, violation } => {
                let inside = |row| row_inside(row, joins, private.len());
                private.iter().all(|join| inside(join.kind.parent()))
                    && self.comparison_is_apart(violation, &inside)
            }
        }
    }

    fn comparison_is_apart(&self, comparison: &Comparison, inside: &dyn Fn(Option<Row>) -> bool) -> bool {
        operand_is_apart(&comparison.left.operand, inside)
            && operand_is_apart(&comparison.right.operand, inside)
    }
}

fn operand_is_apart(operand: &Operand, inside: &dyn Fn(Option<Row>) -> bool) -> bool {
    match operand {
        Operand::Constant(..) | Operand::Request(_) => true,
        Operand::Column(column) | Operand::Json(column, _) | Operand::Length(column) => {
            inside(Some(column.row))
        }
        Operand::Item(join) => inside(Some(Row::Joined(*join))),
        Operand::Lower(inner) => operand_is_apart(inner, inside),
        Operand::Truth(_) => false,
        Operand::GeoDistance(arguments) => {
            arguments.iter().all(|argument| operand_is_apart(argument, inside))
        }
        Operand::Time(call) => call.time.as_ref().is_none_or(|time| operand_is_apart(time, inside)),
    }
}

/// The id that an items join has to be at for the body to hold, if it is one that JSON writes as it is.
fn wanted_item(body: &Expr, item: JoinId) -> Option<&str> {
    match body {
        Expr::All(parts) => parts.iter().find_map(|part| wanted_item(part, item)),
        Expr::Compare(Comparison { left, operator: Operator::Equal, right }) => {
            [(left, right), (right, left)].into_iter().find_map(|(one, other)| {
                match (&one.operand, &other.operand) {
                    (Operand::Item(join), Operand::Constant(Cell::Text(id), _)) if *join == item => {
                        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
                        plain.then_some(&**id)
                    }
                    _ => None,
                }
            })
        }
        _ => None,
    }
}

/// Whether an index begins with this column.
fn has_index(collection: &Collection, column: &str) -> bool {
    column == "id"
        || collection.indexes.iter().any(|index| {
            let columns = index.split_once('(').map_or("", |(_, rest)| rest);
            let first = columns.split([',', ')']).next().unwrap_or("");
            let name = first.split_whitespace().next().unwrap_or("");
            name.trim_matches(['`', '"', '[', ']', '\'']) == column
                && !columns.to_ascii_uppercase().contains(" WHERE ")
        })
}
