//! Filters and sorts as PostgreSQL's SQL, with the meaning that they have on SQLite ([`model::filter::semantics`]).
//!
//! What is compared with its own kind is compared plainly, so that indexes are used. Anything else goes through
//! *cells* (`groundswell.cell`): a value with its class, as SQLite has them, made and compared by functions
//! (`filter_sql/functions.sql`).

use model::collection::Collection;
use model::context::{RequestContext, RuleBody};
use model::filter::expr::{
    Class, Column, Comparison, Equality, Expr, Join, JoinId, JoinKind, JoinSet, Key, List, Operand, Row, Side,
};
use model::filter::semantics::{Affinity, Cell, JsonStep};
use model::filter::{Filter, Operator, Query, Sort, SortKey};
use model::record::Record;
use model::value::Value;

use super::indexes;
use super::layout::{ColumnKind, ROW_ID, column_kind, json_column, quoted};
use super::sql::{Param, Sql};

pub use crate::sqlite::filter_sql::{Expected, Root, RootKind};

/// The functions. Their meaning never changes under a name: nodes of two versions use one database.
pub const FUNCTIONS_SQL: &str = include_str!("filter_sql/functions.sql");

/// The version of the functions: grows with each change of them.
pub const FUNCTIONS_VERSION: i64 = 1;

/// Appends the condition that a filter is for this request.
pub fn push_filter(
    filter: &Filter,
    request: (&RequestContext, &RuleBody),
    collection: &Collection,
    root: Root<'_>,
    sql: &mut Sql,
) {
    let query = filter.resolve(request.0, request.1);
    push_condition(&query, collection, root, sql);
}

/// Appends the condition of a query from which the request is already gone.
pub fn push_condition(query: &Query, collection: &Collection, root: Root<'_>, sql: &mut Sql) {
    let mut writer = Writer { joins: &query.joins, collection, root, private: &[], out: sql };
    match root.kind {
        RootKind::NewRow if query.looks_back() => writer.text("false"),
        _ => writer.expr(&query.expr),
    }
}

/// Appends the terms after ORDER BY. The last one is the order in which rows were made, where there is one: a view
/// has none.
pub fn push_order_by(sort: &Sort, collection: &Collection, root: Root<'_>, sql: &mut Sql) {
    let mut writer = Writer { joins: &[], collection, root, private: &[], out: sql };
    let mut last = root.kind == RootKind::Table;
    for (position, term) in sort.terms.iter().enumerate() {
        if position > 0 {
            writer.text(", ");
        }
        let order = if term.descending { " DESC NULLS LAST" } else { " ASC NULLS FIRST" };
        match &term.key {
            SortKey::Random => writer.text("random()"),
            SortKey::RowId => {
                writer.row_id();
                writer.text(order);
                last = false;
            }
            SortKey::Value { joins, operand } => writer.sort_term(joins, operand, order),
        }
    }
    if last {
        if !sort.terms.is_empty() {
            writer.text(", ");
        }
        writer.row_id();
        writer.text(if sort.newest_first && !sort.terms.is_empty() { " DESC" } else { "" });
    }
}

/// The row of a record that is in no table yet, as an item of a FROM.
pub fn new_row(record: &Record) -> Sql {
    row_of(record)
}

/// The row of a record that was in the table.
pub fn former_row(record: &Record) -> Sql {
    row_of(record)
}

fn row_of(record: &Record) -> Sql {
    let mut sql = Sql::new("(SELECT ");
    for (position, (field, value)) in record.collection.fields.iter().zip(&record.values).enumerate() {
        if position > 0 {
            sql.push(", ");
        }
        let kind = column_kind(field);
        sql.param(match value {
            Value::Text(text) | Value::Json(text) => Param::Text(without_nul(text.clone())),
            _ if kind == ColumnKind::Bool => Param::Bool(value.as_bool()),
            Value::Number(number) => Param::Number(*number),
            Value::Null => Param::Null,
        });
        sql.push(match (kind, value) {
            (ColumnKind::Number, Value::Null) => "::double precision AS ",
            (ColumnKind::Bool | ColumnKind::Number, _) => " AS ",
            (ColumnKind::Text | ColumnKind::Json, _) => " COLLATE \"C\" AS ",
        });
        sql.name(&field.name);
        if kind == ColumnKind::Json {
            let number = sql.params.len();
            sql.push(&format!(", groundswell.json_of(${number}) AS {}", quoted(&json_column(&field.name))));
        }
    }
    sql.push(")");
    sql
}

/// What an operand is before there is a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Bool,
    /// Any of them.
    Cell,
}

/// Writes one condition from left to right, so that values stand in the order of their parameters.
struct Writer<'a> {
    joins: &'a [Join],
    collection: &'a Collection,
    root: Root<'a>,
    /// The joins of the [`Expr::Never`] around.
    private: &'a [Join],
    out: &'a mut Sql,
}

impl Writer<'_> {
    fn text(&mut self, text: &str) {
        self.out.push(text);
    }

    fn param(&mut self, param: Param) {
        self.out.param(match param {
            Param::Text(text) => Param::Text(without_nul(text)),
            other => other,
        });
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Fixed(value) => self.text(if *value { "true" } else { "false" }),
            Expr::All(parts) => self.parts(parts, " AND ", "true"),
            Expr::Any(parts) => self.parts(parts, " OR ", "false"),
            Expr::Compare(comparison) => self.comparison(comparison),
            Expr::Exists { joins, body } => self.exists(*joins, body),
            Expr::Never { joins, violation } => self.never(joins, violation),
            Expr::Missing(join) => {
                self.alias(*join);
                self.text(".\"id\" IS NULL");
            }
        }
    }

    fn parts(&mut self, parts: &[Expr], between: &str, none: &str) {
        if parts.is_empty() {
            return self.text(none);
        }
        self.text("(");
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                self.text(between);
            }
            self.expr(part);
        }
        self.text(")");
    }

    /// Private joins of different conditions share names: their scopes never meet.
    fn alias(&mut self, join: JoinId) {
        let letter = if join.is_shared() { 'j' } else { 'n' };
        let alias = format!("_{letter}{}", join.0);
        self.text(&alias);
    }

    // === joined rows ===

    /// Whether some rows of these joins make the body true.
    fn exists(&mut self, joins: JoinSet, body: &Expr) {
        self.text("EXISTS (SELECT 1 FROM ");
        self.from(joins.iter());
        self.text(" WHERE ");
        self.expr(body);
        self.text(")");
    }

    /// That no rows of these joins make the comparison false.
    fn never(&mut self, private: &[Join], violation: &Comparison) {
        let mut inner = Writer {
            joins: self.joins,
            collection: self.collection,
            root: self.root,
            private,
            out: self.out,
        };
        inner.text("NOT EXISTS (SELECT 1 FROM ");
        inner.from((0..private.len()).map(|position| JoinId(JoinId::PRIVATE + position as u16)));
        inner.text(" WHERE NOT (");
        inner.comparison(violation);
        inner.text("))");
    }

    /// The joins after FROM; each yields a row of NULLs where it has none.
    fn from(&mut self, joins: impl Iterator<Item = JoinId>) {
        self.text("(SELECT) AS _one");
        for join in joins {
            self.text(" LEFT JOIN ");
            self.table(join);
            self.text(" ON ");
            self.link(join);
        }
    }

    fn find(&self, join: JoinId) -> Option<&Join> {
        join.find(self.joins, self.private)
    }

    fn table(&mut self, join: JoinId) {
        let Some(found) = self.find(join).cloned() else { return self.text("(SELECT) AS _none") };
        match &found.kind {
            JoinKind::Items(list) => {
                self.text("jsonb_array_elements(");
                self.items(list);
                self.text(") WITH ORDINALITY AS ");
                self.alias(join);
                self.text("(value, place)");
            }
            other => {
                let name = other.collection().map_or("", |collection| collection.name.as_str());
                self.out.name(name);
                self.text(" AS ");
                self.alias(join);
            }
        }
    }

    fn items(&mut self, list: &List) {
        match list {
            List::Column(column) => self.list(column),
            List::Constant(text) => {
                self.text("groundswell.json_of(");
                self.param(Param::Text(text.clone()));
                self.text(")");
            }
            // Lists of the body are constants once the request is resolved.
            List::Body(_) => self.text("'[]'::jsonb"),
        }
    }

    /// What ties a row to the one that it hangs from.
    fn link(&mut self, join: JoinId) {
        let Some(found) = self.find(join).cloned() else { return self.text("false") };
        match &found.kind {
            JoinKind::Items(_) | JoinKind::Every { .. } => self.text("true"),
            JoinKind::Relation { from, .. } => {
                self.alias(join);
                self.text(".\"id\" = ");
                self.key(from);
            }
            JoinKind::Record { item, .. } => {
                self.alias(join);
                self.text(".\"id\" = ");
                self.alias(*item);
                self.text(".value #>> '{}'");
            }
            JoinKind::Back { to, field, .. } => {
                let mut column = field.clone();
                column.row = Row::Joined(join);
                if field.multiple {
                    self.json_of_column(&column);
                    self.text(" ? ");
                    self.key(to);
                } else {
                    self.column(&column);
                    self.text(" = ");
                    self.key(to);
                }
            }
            JoinKind::Among { list, .. } => {
                self.text("(");
                self.items(list);
                self.text(") ? ");
                self.alias(join);
                self.text(".\"id\"");
            }
        }
    }

    fn key(&mut self, key: &Key) {
        match key {
            Key::Column(column) => {
                let operand = Operand::Column(column.clone());
                self.as_text(&operand);
            }
            Key::Constant(cell) => match cell.to_text() {
                Some(text) => self.param(Param::Text(text.into_owned())),
                None => self.text("NULL::text"),
            },
        }
    }

    // === operands ===

    fn kind_of_column(&self, column: &Column) -> ColumnKind {
        let collection = match column.row {
            Row::Own => Some(self.collection),
            Row::Joined(join) => {
                self.find(join).and_then(|join| join.kind.collection()).map(|found| &**found)
            }
            Row::Caller => None,
        };
        let field = collection.and_then(|collection| collection.field(&column.name));
        field.map_or(ColumnKind::Text, column_kind)
    }

    fn kind(&self, operand: &Operand) -> Kind {
        match operand {
            Operand::Constant(Cell::Text(_), _) => Kind::Text,
            Operand::Constant(Cell::Integer(_) | Cell::Real(_), _) => Kind::Number,
            Operand::Column(column) => match self.kind_of_column(column) {
                ColumnKind::Text => Kind::Text,
                ColumnKind::Number => Kind::Number,
                ColumnKind::Bool => Kind::Bool,
                ColumnKind::Json => Kind::Cell,
            },
            Operand::Lower(_) | Operand::Time(_) => Kind::Text,
            Operand::Length(_) | Operand::Truth(_) | Operand::GeoDistance(_) => Kind::Number,
            Operand::Constant(Cell::Null, _) | Operand::Request(_) | Operand::Json(..) | Operand::Item(_) => {
                Kind::Cell
            }
        }
    }

    fn affinity(&self, operand: &Operand) -> Affinity {
        match operand {
            Operand::Constant(_, affinity) => *affinity,
            Operand::Column(column) => match (column.row, self.root.kind) {
                (Row::Own, RootKind::NewRow) | (Row::Caller, _) => Affinity::None,
                _ => column.affinity,
            },
            Operand::Item(_) => Affinity::Blob,
            _ => Affinity::None,
        }
    }

    fn may_be_null(&self, operand: &Operand) -> bool {
        match operand {
            Operand::Constant(cell, _) => *cell == Cell::Null,
            Operand::Column(column) => {
                column.row != Row::Own || self.root.kind == RootKind::View || column.nullable
            }
            Operand::Length(_) => false,
            _ => true,
        }
    }

    /// The plain value of an operand that is no cell.
    fn plain(&mut self, operand: &Operand) {
        match operand {
            Operand::Constant(Cell::Text(text), _) => self.param(Param::Text(text.to_string())),
            Operand::Constant(Cell::Integer(number), _) => self.param(Param::Number(*number as f64)),
            Operand::Constant(Cell::Real(number), _) => self.param(Param::Number(*number)),
            Operand::Column(column) => self.column(column),
            Operand::Lower(inner) => {
                self.text("lower(");
                self.as_text(inner);
                self.text(" COLLATE \"C\")");
            }
            Operand::Length(column) => self.length(column),
            Operand::Truth(expr) => {
                self.text("(");
                self.expr(expr);
                self.text(")::int::double precision");
            }
            Operand::GeoDistance(arguments) => self.geo_distance(arguments),
            Operand::Time(call) => {
                self.text("groundswell.strftime(");
                self.param(Param::Text(call.format.clone()));
                self.text(", ");
                match &call.time {
                    Some(time) => self.as_text(time),
                    None => self.text("'now'"),
                }
                self.text(", ");
                self.param(Param::Texts(call.modifiers.clone()));
                self.text(")");
            }
            Operand::Constant(Cell::Null, _) | Operand::Request(_) | Operand::Json(..) | Operand::Item(_) => {
                self.text("NULL");
            }
        }
    }

    /// An operand as a number, of one that is a number or a truth.
    fn as_number(&mut self, operand: &Operand) {
        if self.kind(operand) == Kind::Bool {
            self.text("(");
            self.plain(operand);
            self.text(")::int::double precision");
        } else {
            self.plain(operand);
        }
    }

    /// Any operand as a cell.
    fn cell(&mut self, operand: &Operand) {
        match operand {
            Operand::Constant(cell @ (Cell::Integer(_) | Cell::Real(_)), _) => {
                let text = cell.to_text().unwrap_or_default().into_owned();
                self.text("ROW(");
                self.plain(operand);
                self.text(", ");
                self.param(Param::Text(text));
                self.text(")::groundswell.cell");
            }
            Operand::Constant(Cell::Null, _) | Operand::Request(_) => self.text("NULL::groundswell.cell"),
            Operand::Column(column) if column.row == Row::Caller => self.text("NULL::groundswell.cell"),
            Operand::Column(column) if self.kind_of_column(column) == ColumnKind::Json => {
                self.text("groundswell.cell_of_json_column(");
                self.column(column);
                self.text(")");
            }
            Operand::Column(column)
                if column.row == Row::Own
                    && self.root.kind == RootKind::NewRow
                    && self.kind_of_column(column) == ColumnKind::Number =>
            {
                // A number that stands in no table was never made an integer.
                self.text("groundswell.cell_of_real(");
                self.column(column);
                self.text(")");
            }
            Operand::Json(column, path) => self.json(column, path),
            Operand::Item(join) => {
                self.text("groundswell.cell_of_json(");
                self.alias(*join);
                self.text(".value)");
            }
            Operand::GeoDistance(_) => {
                self.text("groundswell.cell_of_real(");
                self.plain(operand);
                self.text(")");
            }
            other if self.kind(other) == Kind::Text => {
                self.text("groundswell.cell_of_text(");
                self.plain(other);
                self.text(")");
            }
            other => {
                self.text("groundswell.cell_of_number(");
                self.as_number(other);
                self.text(")");
            }
        }
    }

    /// The text of an operand; NULL for NULL.
    fn as_text(&mut self, operand: &Operand) {
        match operand {
            Operand::Constant(cell, _) => match cell.to_text() {
                Some(text) => self.param(Param::Text(text.into_owned())),
                None => self.text("NULL::text"),
            },
            other if self.kind(other) == Kind::Text => self.plain(other),
            other => {
                self.text("(");
                self.cell(other);
                self.text(").t");
            }
        }
    }

    fn column(&mut self, column: &Column) {
        match column.row {
            Row::Own => {
                let alias = self.root.alias;
                self.out.name(alias);
            }
            Row::Joined(join) => self.alias(join),
            Row::Caller => return self.text("NULL::text"),
        }
        self.text(".");
        self.out.name(&column.name);
    }

    /// A column of JSON text as `jsonb`; of any other what its text is as JSON.
    fn json_of_column(&mut self, column: &Column) {
        match (column.row, self.kind_of_column(column)) {
            (Row::Caller, _) => self.text("NULL::jsonb"),
            (_, ColumnKind::Json) => {
                let mut json = column.clone();
                json.name = json_column(&column.name);
                self.column(&json);
            }
            (_, ColumnKind::Text) => {
                self.text("groundswell.json_of(");
                self.column(column);
                self.text(")");
            }
            (_, ColumnKind::Number | ColumnKind::Bool) => {
                self.text("to_jsonb(");
                self.column(column);
                self.text(")");
            }
        }
    }

    /// A column as an array: a single value is a list of itself.
    fn list(&mut self, column: &Column) {
        self.text("groundswell.list(");
        if self.kind_of_column(column) == ColumnKind::Text {
            self.column(column);
            return self.text(")");
        }
        self.json_of_column(column);
        self.text(", ");
        self.as_text(&Operand::Column(column.clone()));
        self.text(")");
    }

    fn length(&mut self, column: &Column) {
        self.text("groundswell.list_length(");
        self.json_of_column(column);
        self.text(", ");
        self.as_text(&Operand::Column(column.clone()));
        self.text(")");
    }

    fn json(&mut self, column: &Column, path: &[JsonStep]) {
        self.text("groundswell.cell_at(");
        self.column(column);
        self.text(", ");
        for _ in path.iter().filter(|step| matches!(step, JsonStep::Index(_))) {
            self.text("groundswell.item(");
        }
        self.json_of_column(column);
        if path.is_empty() {
            return self.text(")");
        }
        for step in path {
            match step {
                JsonStep::Key(key) => {
                    self.text(" -> ");
                    self.param(Param::Text(key.clone()));
                }
                JsonStep::Index(index) => {
                    // No array has more.
                    let step = format!(", {})", i32::try_from(*index).unwrap_or(i32::MAX));
                    self.text(&step);
                }
            }
        }
        self.text(", ARRAY[");
        for (position, step) in path.iter().enumerate() {
            if position > 0 {
                self.text(", ");
            }
            self.param(match step {
                JsonStep::Key(key) => Param::Text(key.clone()),
                JsonStep::Index(index) => Param::Text(index.to_string()),
            });
        }
        self.text("])");
    }

    fn geo_distance(&mut self, arguments: &[Operand; 4]) {
        let mut before = "groundswell.distance(";
        for argument in arguments {
            self.text(before);
            self.text("groundswell.number_of(");
            self.cell(argument);
            self.text(")");
            before = ", ";
        }
        self.text(")");
    }

    // === comparisons ===

    fn comparison(&mut self, comparison: &Comparison) {
        let Comparison { left, operator, right } = comparison;
        match operator {
            Operator::Like => self.like(left, right, true),
            Operator::NotLike => self.like(left, right, false),
            Operator::Equal | Operator::NotEqual => self.equality(comparison),
            Operator::Less => self.order(&left.operand, "<", &right.operand),
            Operator::LessOrEqual => self.order(&left.operand, "<=", &right.operand),
            Operator::Greater => self.order(&left.operand, ">", &right.operand),
            Operator::GreaterOrEqual => self.order(&left.operand, ">=", &right.operand),
        }
    }

    fn like(&mut self, left: &Side, right: &Side, wanted: bool) {
        self.text(if wanted { "groundswell.like_(" } else { "NOT groundswell.like_(" });
        self.as_text(&left.operand);
        self.text(", ");
        match (&right.operand, right.class) {
            (operand, Class::Pattern) => self.as_text(operand),
            (operand, _) => match crate::sqlite::filter_sql::with_patterns(operand) {
                Some(operand) => self.as_text(&operand),
                None => {
                    self.text("'%' || ");
                    self.as_text(operand);
                    self.text(" || '%'");
                }
            },
        }
        self.text(")");
    }

    /// Whether both are compared as they are: both texts, or both numbers.
    fn are_plain(&self, left: &Operand, right: &Operand) -> bool {
        let is_number = |kind| matches!(kind, Kind::Number | Kind::Bool);
        match (self.kind(left), self.kind(right)) {
            (Kind::Text, other) => other == Kind::Text,
            (one, other) => is_number(one) && is_number(other),
        }
    }

    fn order(&mut self, left: &Operand, operator: &str, right: &Operand) {
        let operator = format!(" {operator} ");
        if self.are_plain(left, right) {
            return self.infix(left, &operator, right);
        }
        self.text("groundswell.compare(");
        self.converted(left, right);
        self.text(", ");
        self.converted(right, left);
        self.text(")");
        self.text(&operator);
        self.text("0");
    }

    /// Two sides that [`Writer::are_plain`].
    fn infix(&mut self, left: &Operand, operator: &str, right: &Operand) {
        let by_beginning = operator == " = "
            && [(left, right), (right, left)]
                .into_iter()
                .any(|(one, other)| self.finds_by_beginning(one, other));
        if by_beginning {
            self.text("(");
            self.beginning(left);
            self.text(" = ");
            self.beginning(right);
            self.text(" AND ");
        }
        self.plainly(left, operator, right);
        if by_beginning {
            self.text(")");
        }
    }

    /// Whether an index has the beginnings of this column's texts, and one is looked for.
    fn finds_by_beginning(&self, one: &Operand, other: &Operand) -> bool {
        let Operand::Column(column) = one else { return false };
        let collection = match column.row {
            Row::Own if self.root.kind == RootKind::Table => self.collection,
            Row::Joined(join) => match self.find(join).and_then(|join| join.kind.collection()) {
                Some(collection) => collection,
                None => return false,
            },
            _ => return false,
        };
        matches!(other, Operand::Constant(Cell::Text(_), _))
            && indexes::is_indexed_by_beginning(collection, &column.name)
    }

    fn beginning(&mut self, operand: &Operand) {
        self.text("\"left\"(");
        self.one_plain(operand);
        let end = format!(", {})", indexes::INDEXED_LETTERS);
        self.text(&end);
    }

    fn plainly(&mut self, left: &Operand, operator: &str, right: &Operand) {
        if let (Kind::Bool, Some(value)) = (self.kind(left), truth(right)) {
            self.plain(left);
            self.text(operator);
            return self.text(if value { "true" } else { "false" });
        }
        self.one_plain(left);
        self.text(operator);
        self.one_plain(right);
    }

    fn one_plain(&mut self, operand: &Operand) {
        match operand {
            // Two parameters beside each other have no collation.
            Operand::Constant(Cell::Text(_), _) => {
                self.plain(operand);
                self.text(" COLLATE \"C\"");
            }
            _ if self.kind(operand) == Kind::Text => self.plain(operand),
            _ => self.as_number(operand),
        }
    }

    /// A cell with what the other side's affinity makes of it.
    fn converted(&mut self, operand: &Operand, other: &Operand) {
        let end = match (self.affinity(operand), self.affinity(other)) {
            (Affinity::Text | Affinity::None | Affinity::Blob, Affinity::Numeric) => {
                self.text("groundswell.as_number(");
                ")"
            }
            (Affinity::None, Affinity::Text) => {
                self.text("groundswell.as_text(");
                ")"
            }
            _ => "",
        };
        self.cell(operand);
        self.text(end);
    }

    fn equality(&mut self, comparison: &Comparison) {
        let (left, right) = (&comparison.left.operand, &comparison.right.operand);
        let wanted = comparison.operator == Operator::Equal;
        match comparison.equality(&constant(left), &constant(right)) {
            Equality::Is => self.same(left, right, wanted),
            Equality::BothEmpty => self.text(if wanted { "true" } else { "false" }),
            Equality::Direct { left_empty, right_empty } => {
                let nothing = Operand::Constant(Cell::Text("".into()), Affinity::None);
                let left = if left_empty { &nothing } else { left };
                let right = if right_empty { &nothing } else { right };
                if wanted { self.order(left, "=", right) } else { self.same(left, right, false) }
            }
            Equality::LeftEmpty => self.emptiness(right, wanted),
            Equality::RightEmpty => self.emptiness(left, wanted),
            Equality::Coalesce => self.coalesced(left, right, wanted),
        }
    }

    /// `IS` or `IS NOT`.
    fn same(&mut self, left: &Operand, right: &Operand, wanted: bool) {
        if self.are_plain(left, right) {
            let is_sure = !self.may_be_null(left) && !self.may_be_null(right);
            let operator = match (is_sure, wanted) {
                (true, true) => " = ",
                (true, false) => " <> ",
                (false, true) => " IS NOT DISTINCT FROM ",
                (false, false) => " IS DISTINCT FROM ",
            };
            return self.infix(left, operator, right);
        }
        self.text(if wanted { "groundswell.same(" } else { "NOT groundswell.same(" });
        self.converted(left, right);
        self.text(", ");
        self.converted(right, left);
        self.text(")");
    }

    /// Whether an operand is empty, NULL or not.
    fn emptiness(&mut self, operand: &Operand, wanted: bool) {
        if self.kind(operand) == Kind::Text && !self.may_be_null(operand) {
            self.plain(operand);
            return self.text(if wanted { " = ''" } else { " <> ''" });
        }
        self.text(if wanted { "groundswell.is_empty(" } else { "NOT groundswell.is_empty(" });
        self.cell(operand);
        self.text(")");
    }

    /// Two columns, each with NULL as `''` and without affinity.
    fn coalesced(&mut self, left: &Operand, right: &Operand, wanted: bool) {
        let operator = if wanted { " = " } else { " <> " };
        let is_text = self.kind(left) == Kind::Text && self.kind(right) == Kind::Text;
        let is_sure = !self.may_be_null(left) && !self.may_be_null(right);
        if is_sure && self.are_plain(left, right) {
            return self.infix(left, operator, right);
        }
        if is_text {
            for (side, after) in [(left, operator), (right, "")] {
                if self.may_be_null(side) {
                    self.text("COALESCE(");
                    self.plain(side);
                    self.text(", '')");
                } else {
                    self.plain(side);
                }
                self.text(after);
            }
            return;
        }
        self.text(if wanted { "groundswell.same_or_empty(" } else { "NOT groundswell.same_or_empty(" });
        self.cell(left);
        self.text(", ");
        self.cell(right);
        self.text(")");
    }

    // === order ===

    fn row_id(&mut self) {
        let alias = self.root.alias;
        self.out.name(alias);
        self.text(".");
        self.text(ROW_ID);
    }

    /// The operand at the first of the joined rows.
    fn sort_term(&mut self, joins: &[Join], operand: &Operand, order: &str) {
        let mut writer = Writer {
            joins: self.joins,
            collection: self.collection,
            root: self.root,
            private: joins,
            out: self.out,
        };
        let keys: &[&str] =
            if writer.kind(operand) == Kind::Cell { &["class_of", "n_of", "t_of"] } else { &[""] };
        for (position, key) in keys.iter().enumerate() {
            if position > 0 {
                writer.text(", ");
            }
            writer.first_value(operand, key);
            writer.text(order);
        }
    }

    fn first_value(&mut self, operand: &Operand, key: &str) {
        let is_joined = !self.private.is_empty();
        if is_joined {
            self.text("(SELECT ");
        }
        if key.is_empty() {
            self.one_plain(operand);
        } else {
            self.text("groundswell.");
            self.text(key);
            self.text("(");
            self.cell(operand);
            self.text(if key == "t_of" { ") COLLATE \"C\"" } else { ")" });
        }
        if is_joined {
            self.text(" FROM ");
            let joins: Vec<JoinId> =
                (0..self.private.len()).map(|position| JoinId(JoinId::PRIVATE + position as u16)).collect();
            self.from(joins.iter().copied());
            self.in_their_order(&joins);
            self.text(" LIMIT 1)");
        }
    }
}

/// U+0000 can be in no text that is stored, so nothing equals one that has it. Nor does anything hold the last code
/// point of all, which stands for it.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{10FFFF}") } else { text }
}

impl Writer<'_> {
    /// Joined rows as they come: items by their place, records as they were made.
    fn in_their_order(&mut self, joins: &[JoinId]) {
        let mut before = " ORDER BY ";
        for join in joins {
            let place = match self.find(*join).map(|found| &found.kind) {
                Some(JoinKind::Items(_)) => ".place",
                Some(kind) if kind.collection().is_some_and(|collection| !collection.is_view()) => "._rowid",
                _ => continue,
            };
            self.text(before);
            self.alias(*join);
            self.text(place);
            before = ", ";
        }
    }
}

/// The truth that a number stands for beside a column of booleans, so that its index is used.
fn truth(operand: &Operand) -> Option<bool> {
    match operand {
        Operand::Constant(Cell::Integer(0), _) => Some(false),
        Operand::Constant(Cell::Integer(1), _) => Some(true),
        _ => None,
    }
}

fn constant(operand: &Operand) -> Cell<'_> {
    match operand {
        Operand::Constant(cell, _) => cell.borrowed(),
        _ => Cell::Null,
    }
}
