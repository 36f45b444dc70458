//! The values of operands in memory.

use std::borrow::Cow;

use super::super::expr::{Column, Operand, Row};
use super::super::semantics::{
    Affinity, Cell, JsonStep, geo_distance, json_at, json_cell, json_items, lower,
};
use super::rows::{Bound, is_array};
use super::{Judge, RowKind, Verdict};
use crate::field::FieldKind;
use crate::json::Json;
use crate::record::Record;
use crate::value::Value;

impl<'a> Judge<'a> {
    /// The value of an operand and the affinity that it has; `None` when it takes other records.
    pub(super) fn value(
        &self,
        operand: &'a Operand,
        rows: Option<&Bound<'a, '_>>,
    ) -> Option<(Cell<'a>, Affinity)> {
        let plain = |cell| Some((cell, Affinity::None));
        match operand {
            Operand::Constant(cell, affinity) => Some((cell.borrowed(), *affinity)),
            Operand::Request(value) => plain(value.cell(self.context, self.body)),
            Operand::Column(column) => self.column(column),
            Operand::Json(column, path) => plain(json_value_at(self.value_of(column)?, path)?),
            Operand::Length(column) => plain(Cell::Integer(length(self.value_of(column)?))),
            Operand::Item(join) => Some((self.value_of_item(*join, rows)?, Affinity::Blob)),
            Operand::Lower(inner) => plain(lower(&self.value(inner, rows)?.0)),
            Operand::Truth(expr) => match self.verdict(expr, rows) {
                Verdict::Yes => plain(Cell::Integer(1)),
                Verdict::No => plain(Cell::Integer(0)),
                Verdict::NeedsStore => None,
            },
            Operand::GeoDistance(arguments) => {
                let mut numbers = [None; 4];
                for (number, argument) in numbers.iter_mut().zip(arguments.iter()) {
                    *number = self.value(argument, rows)?.0.to_number();
                }
                let distance = match numbers {
                    [Some(lon_a), Some(lat_a), Some(lon_b), Some(lat_b)] => {
                        geo_distance(lon_a, lat_a, lon_b, lat_b)
                    }
                    _ => None,
                };
                plain(distance.map_or(Cell::Null, Cell::Real))
            }
            Operand::Time(call) => {
                let (time, _) = self.value(call.time.as_ref()?, rows)?;
                plain(call.plain(&time)?)
            }
        }
    }

    fn column(&self, column: &'a Column) -> Option<(Cell<'a>, Affinity)> {
        match column.row {
            Row::Own => {
                let cell = match (self.own_value(column)?, self.kind) {
                    // A number that stands in no table was never made an integer.
                    (Value::Number(number), RowKind::New) if !self.is_boolean(column) => Cell::Real(*number),
                    (value, _) => cell_of(value),
                };
                let affinity = match self.kind {
                    RowKind::Stored => column.affinity,
                    RowKind::New => Affinity::None,
                };
                Some((cell, affinity))
            }
            Row::Caller => Some((self.caller_cell(column), column.affinity)),
            Row::Joined(_) => None,
        }
    }

    fn value_of(&self, column: &'a Column) -> Option<&'a Value> {
        match column.row {
            Row::Own => self.own_value(column),
            Row::Caller => Some(self.caller_value(column)),
            Row::Joined(_) => None,
        }
    }

    fn is_boolean(&self, column: &Column) -> bool {
        let field = self.record.and_then(|record| record.collection.field(&column.name));
        field.is_some_and(|field| matches!(field.kind, FieldKind::Bool))
    }

    /// The record's own value. What stands in a view may be anything: the store decides there.
    pub(super) fn own_value(&self, column: &Column) -> Option<&'a Value> {
        let record = self.record.filter(|record| !record.collection.is_view())?;
        Some(value_in(record, column))
    }

    /// The signed-in record's value; NULL for guests.
    pub(super) fn caller_value(&self, column: &Column) -> &'a Value {
        const NULL: &Value = &Value::Null;
        self.context.caller.record().map_or(NULL, |record| value_in(record, column))
    }

    pub(in super::super) fn caller_cell(&self, column: &Column) -> Cell<'a> {
        cell_of(self.caller_value(column))
    }

    /// What a column of the signed-in record lists, as JSON text.
    pub(in super::super) fn caller_list(&self, column: &Column) -> String {
        match self.caller_value(column) {
            Value::Json(text) => text.clone(),
            Value::Text(text) if is_array(text) => text.clone(),
            Value::Text(text) => {
                let mut list = String::from("[");
                crate::json::write_string(text, &mut list);
                list.push(']');
                list
            }
            Value::Null | Value::Number(_) => "[null]".to_owned(),
        }
    }
}

/// A value at the column's position, or by its name when the record is of another version.
fn value_in<'a>(record: &'a Record, column: &Column) -> &'a Value {
    let fits = record.collection.fields.get(column.index).is_some_and(|field| field.name == column.name);
    match record.values.get(column.index) {
        Some(value) if fits => value,
        _ => record.get(&column.name),
    }
}

fn cell_of(value: &Value) -> Cell<'_> {
    match value {
        Value::Null => Cell::Null,
        Value::Number(number) => Cell::stored(*number),
        Value::Text(text) | Value::Json(text) => Cell::Text(Cow::Borrowed(text)),
    }
}

/// A JSON value of a body as SQL takes it out of a list.
pub(super) fn json_value(value: &Json) -> Cell<'_> {
    match value {
        Json::Null => Cell::Null,
        Json::Bool(value) => Cell::Integer(i64::from(*value)),
        Json::Number(number) => Cell::stored(*number),
        Json::Text(text) => Cell::Text(Cow::Borrowed(text)),
        other => Cell::Text(Cow::Owned(other.to_string())),
    }
}

fn json_value_at<'a>(value: &'a Value, path: &[JsonStep]) -> Option<Cell<'a>> {
    match value {
        Value::Null => Some(Cell::Null),
        Value::Json(text) => Some(json_at(text, path).map_or(Cell::Null, json_cell)),
        Value::Number(number) if path.is_empty() => Some(Cell::stored(*number)),
        Value::Number(_) => Some(Cell::Null),
        Value::Text(_) => None,
    }
}

fn length(value: &Value) -> i64 {
    match value {
        Value::Json(text) => json_items(text).count() as i64,
        Value::Text(text) if is_array(text) => json_items(text).count() as i64,
        Value::Text(text) => i64::from(!text.is_empty()),
        Value::Number(_) => 1,
        Value::Null => 0,
    }
}
