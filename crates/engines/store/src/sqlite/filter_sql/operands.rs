//! Operands and comparisons.

use std::borrow::Cow;

use model::filter::Operator;
use model::filter::TimeFormat;
use model::filter::expr::{Class, Column, Comparison, Equality, Join, Operand, Row, Side};
use model::filter::semantics::{Affinity, Cell, JsonStep, like_pattern};

use super::{RootKind, Writer};

impl Writer<'_> {
    pub(super) fn comparison(&mut self, comparison: &Comparison, private: &[Join]) {
        let Comparison { left, operator, right } = comparison;
        match operator {
            Operator::Like => self.like(left, " LIKE ", right),
            Operator::NotLike => self.like(left, " NOT LIKE ", right),
            Operator::Equal | Operator::NotEqual => self.equality(comparison, private),
            Operator::Less => self.infix(&left.operand, " < ", &right.operand),
            Operator::LessOrEqual => self.infix(&left.operand, " <= ", &right.operand),
            Operator::Greater => self.infix(&left.operand, " > ", &right.operand),
            Operator::GreaterOrEqual => self.infix(&left.operand, " >= ", &right.operand),
        }
    }

    fn infix(&mut self, left: &Operand, operator: &str, right: &Operand) {
        self.operand(left);
        self.text(operator);
        self.operand(right);
    }

    fn like(&mut self, left: &Side, operator: &str, right: &Side) {
        self.operand(&left.operand);
        self.text(operator);
        match (&right.operand, right.class) {
            (operand, Class::Pattern) => self.operand(operand),
            (operand, _) => match with_patterns(operand) {
                Some(operand) => self.operand(&operand),
                None => {
                    self.text("('%' || ");
                    self.operand(operand);
                    self.text(" || '%')");
                }
            },
        }
        self.text(" ESCAPE '\\'");
    }

    fn equality(&mut self, comparison: &Comparison, private: &[Join]) {
        let (left, right) = (&comparison.left.operand, &comparison.right.operand);
        let wanted = comparison.operator == Operator::Equal;
        let plain = if wanted { " = " } else { " IS NOT " };
        match comparison.equality(&constant(left), &constant(right)) {
            Equality::Is => self.infix(left, if wanted { " IS " } else { " IS NOT " }, right),
            Equality::BothEmpty => self.text(if wanted { "1" } else { "0" }),
            Equality::Direct { left_empty, right_empty } => {
                self.or_empty(left, left_empty);
                self.text(plain);
                self.or_empty(right, right_empty);
            }
            Equality::LeftEmpty => self.emptiness(right, wanted),
            Equality::RightEmpty => self.emptiness(left, wanted),
            Equality::Coalesce => {
                let same_class = self.compares_plainly(left, right);
                for (side, between) in [(left, plain), (right, "")] {
                    if same_class && !self.may_be_null(side) {
                        self.operand_plain(side);
                    } else {
                        self.text("COALESCE(");
                        self.operand_plain(side);
                        self.text(", '')");
                    }
                    self.text(between);
                }
            }
        }
        let _ = private;
    }

    fn or_empty(&mut self, operand: &Operand, empty: bool) {
        if empty { self.text("''") } else { self.operand(operand) }
    }

    /// Whether a column is empty, NULL or not.
    fn emptiness(&mut self, operand: &Operand, wanted: bool) {
        if !self.may_be_null(operand) {
            self.operand(operand);
            self.text(if wanted { " = ''" } else { " <> ''" });
            return;
        }
        let (first, second, end) =
            if wanted { ("", " = '' OR ", " IS NULL)") } else { ("", " <> '' AND ", " IS NOT NULL)") };
        self.text("(");
        self.text(first);
        self.operand(operand);
        self.text(second);
        self.operand(operand);
        self.text(end);
    }

    /// Whether two sides without affinity compare as they do with their own: both text columns, both
    /// number columns, or a column and a value of its class.
    fn compares_plainly(&self, left: &Operand, right: &Operand) -> bool {
        let affinity = |operand: &Operand| match operand {
            Operand::Column(column) if self.has_affinity(column) => Some(column.affinity),
            Operand::Constant(Cell::Text(_), _) => Some(Affinity::Text),
            Operand::Constant(Cell::Integer(_) | Cell::Real(_), _) => Some(Affinity::Numeric),
            _ => None,
        };
        affinity(left).is_some_and(|class| affinity(right) == Some(class))
    }

    fn has_affinity(&self, column: &Column) -> bool {
        !column.multiple
            && match column.row {
                Row::Own => self.root.kind == RootKind::Table,
                Row::Joined(_) => !column.nullable,
                Row::Caller => false,
            }
    }

    /// Whether an operand can be NULL.
    pub(super) fn may_be_null(&self, operand: &Operand) -> bool {
        match operand {
            Operand::Constant(cell, _) => *cell == Cell::Null,
            Operand::Column(column) => match column.row {
                Row::Own => self.root.kind == RootKind::View || column.nullable,
                Row::Joined(join) => column.nullable || !self.solid.contains(&join),
                Row::Caller => true,
            },
            Operand::Length(_) => false,
            _ => true,
        }
    }

    /// An operand with its affinity.
    pub(super) fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Constant(cell @ Cell::Text(_), Affinity::Text) => {
                self.text("CAST(");
                self.value(cell);
                self.text(" AS TEXT)");
            }
            Operand::Constant(cell @ (Cell::Integer(_) | Cell::Real(_)), Affinity::Numeric) => {
                self.text("CAST(");
                self.value(cell);
                self.text(" AS NUMERIC)");
            }
            other => self.operand_plain(other),
        }
    }

    /// An operand where its affinity does not matter.
    fn operand_plain(&mut self, operand: &Operand) {
        match operand {
            Operand::Constant(cell, _) => self.value(cell),
            // Values of the request are constants once it is resolved.
            Operand::Request(_) => self.text("NULL"),
            Operand::Column(column) => self.column(column),
            Operand::Json(column, path) => self.json(column, path),
            Operand::Length(column) => self.length(column),
            Operand::Item(join) => {
                self.alias(*join);
                self.text(".value");
            }
            Operand::Lower(inner) => {
                self.text("LOWER(");
                self.operand(inner);
                self.text(")");
            }
            Operand::Truth(expr) => {
                self.text("(");
                self.expr(expr, &[]);
                self.text(")");
            }
            Operand::GeoDistance(arguments) => self.geo_distance(arguments),
            Operand::Time(call) => self.time(call),
        }
    }

    pub(super) fn column(&mut self, column: &Column) {
        match column.row {
            Row::Own => {
                let alias = self.root.alias;
                self.name(alias);
            }
            Row::Joined(join) => self.alias(join),
            Row::Caller => return self.text("NULL"),
        }
        self.text(".");
        self.name(&column.name);
    }

    fn json(&mut self, column: &Column, path: &[JsonStep]) {
        self.text("(CASE WHEN json_valid(");
        self.column(column);
        self.text(") THEN json_extract(");
        self.column(column);
        self.text(", '$");
        for step in path {
            match step {
                JsonStep::Key(key) => {
                    self.text(".");
                    self.text(&key.replace('\'', "''"));
                }
                JsonStep::Index(index) => self.text(&format!("[{index}]")),
            }
        }
        self.text("') ELSE ");
        // A column of a view may hold plain text; that is the whole value then, and has no inside.
        if path.is_empty() {
            self.column(column)
        } else {
            self.text("NULL")
        }
        self.text(" END)");
    }

    fn length(&mut self, column: &Column) {
        self.text("json_array_length(");
        self.list(column, "(CASE WHEN {} = '' OR {} IS NULL THEN '[]' ELSE json_array({}) END)");
        self.text(")");
    }

    /// A column as a JSON array: what is none becomes `otherwise`, in which `{}` is the column.
    pub(super) fn list(&mut self, column: &Column, otherwise: &str) {
        let start = self.out.sql.len();
        self.column(column);
        let name = self.out.sql.split_off(start);
        self.text(&format!(
            "CASE WHEN iif(json_valid({name}), json_type({name}) = 'array', 0) THEN {name} ELSE "
        ));
        self.text(&otherwise.replace("{}", &name));
        self.text(" END");
    }

    fn geo_distance(&mut self, arguments: &[Operand; 4]) {
        let mut before = "_gs_distance(";
        for argument in arguments {
            self.text(before);
            self.operand(argument);
            before = ", ";
        }
        self.text(")");
    }

    fn time(&mut self, call: &TimeFormat) {
        self.text("strftime(");
        self.value(&Cell::Text(Cow::Borrowed(&call.format)));
        if let Some(time) = &call.time {
            self.text(", ");
            self.operand(time);
        }
        for modifier in &call.modifiers {
            self.text(", ");
            self.value(&Cell::Text(Cow::Borrowed(modifier)));
        }
        self.text(")");
    }
}

fn constant(operand: &Operand) -> Cell<'_> {
    match operand {
        Operand::Constant(cell, _) => cell.borrowed(),
        _ => Cell::Null,
    }
}

/// On the right of `~` the contract makes patterns of a function's own literals; one that has none is
/// matched as a column is.
pub(crate) fn with_patterns(operand: &Operand) -> Option<Operand> {
    let pattern = |text: &str| like_pattern(text).into_owned();
    match operand {
        Operand::Time(call) => {
            let mut call = call.clone();
            call.format = pattern(&call.format);
            call.modifiers.iter_mut().for_each(|modifier| *modifier = pattern(modifier));
            if let Some(Operand::Constant(cell, affinity)) = &call.time {
                call.time = cell
                    .to_text()
                    .map(|text| Operand::Constant(Cell::Text(Cow::Owned(pattern(&text))), *affinity));
            }
            Some(Operand::Time(call))
        }
        Operand::GeoDistance(arguments) => {
            let mut any = false;
            let arguments = [0, 1, 2, 3].map(|index| match &arguments[index] {
                Operand::Constant(Cell::Real(number), affinity) => {
                    any = true;
                    Operand::Constant(Cell::Text(Cow::Owned(pattern(&number.to_string()))), *affinity)
                }
                other => other.clone(),
            });
            any.then(|| Operand::GeoDistance(Box::new(arguments)))
        }
        _ => None,
    }
}
