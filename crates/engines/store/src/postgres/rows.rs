//! Rows of collections, read and written.

use std::sync::Arc;

use model::collection::Collection;
use model::collection::index::Index;
use model::field::{Field, FieldKind};
use model::json::Json;
use model::record::Record;
use model::record::coerce::coerce;
use model::value::Value;
use tokio_postgres::Row;

use super::error::Error;
use super::layout::{ColumnKind, column_kind, identifier, key_name, push_columns};
use super::sql::{Param, Sql};

/// What is selected of a row: the columns of a table in field order, or a view's row as JSON.
pub(super) fn push_row(collection: &Collection, qualifier: &str, sql: &mut String) {
    if collection.is_view() {
        sql.push_str("row_to_json(");
        sql.push_str(qualifier);
        sql.push_str(")::text");
    } else {
        push_columns(collection, qualifier, sql);
    }
}

/// The record of a row that was selected by [`push_row`], from this column on.
pub(super) fn record(collection: &Arc<Collection>, row: &Row, offset: usize) -> Result<Record, Error> {
    if collection.is_view() {
        let text: &str = row.try_get(offset)?;
        return Ok(view_record(collection, text));
    }
    let mut values = Vec::with_capacity(collection.fields.len());
    for (index, field) in collection.fields.iter().enumerate() {
        values.push(value(field, row, offset + index)?);
    }
    Ok(Record { collection: collection.clone(), values })
}

fn value(field: &Field, row: &Row, column: usize) -> Result<Value, Error> {
    Ok(match column_kind(field) {
        ColumnKind::Text => row.try_get::<_, Option<String>>(column)?.map_or(Value::Null, Value::Text),
        ColumnKind::Json => row.try_get::<_, Option<String>>(column)?.map_or(Value::Null, Value::Json),
        ColumnKind::Number => row.try_get::<_, Option<f64>>(column)?.map_or(Value::Null, Value::Number),
        ColumnKind::Bool => row.try_get::<_, Option<bool>>(column)?.map_or(Value::Null, Value::bool),
    })
}

/// A view's row. A field without a column is empty.
fn view_record(collection: &Arc<Collection>, text: &str) -> Record {
    let row = Json::parse_whole(text).unwrap_or_default();
    let value =
        |field: &Field| row.get(&identifier(&field.name)).map_or(Value::Null, |json| view_value(field, json));
    Record { collection: collection.clone(), values: collection.fields.iter().map(value).collect() }
}

/// A value of a view, which may be anything, as what its field says: as if a client had sent it.
fn view_value(field: &Field, json: &Json) -> Value {
    match (&field.kind, json) {
        (_, Json::Null) | (FieldKind::Password(_), _) => Value::Null,
        (FieldKind::Autodate(_), Json::Text(date)) => Value::Text(date.clone()),
        (_, json) => coerce(field, json),
    }
}

/// Writes a new row.
pub fn insert(record: &Record) -> Sql {
    let collection = &record.collection;
    let mut sql = Sql::new("INSERT INTO ");
    sql.name(&collection.name);
    for (index, field) in collection.fields.iter().enumerate() {
        sql.push(if index > 0 { ", " } else { " (" });
        sql.name(&field.name);
    }
    for (index, (field, value)) in collection.fields.iter().zip(&record.values).enumerate() {
        sql.push(if index > 0 { ", " } else { ") VALUES (" });
        sql.param(Param::of_value(column_kind(field), value));
    }
    sql.push(")");
    sql
}

/// Writes what changed between two forms of a row; none where nothing did.
pub(super) fn update(old: &Record, new: &Record) -> Option<Sql> {
    let collection = &new.collection;
    let mut sql = Sql::new("UPDATE ");
    sql.name(&collection.name);
    let mut before = " SET ";
    for (index, field) in collection.fields.iter().enumerate() {
        if old.values[index] == new.values[index] {
            continue;
        }
        sql.push(before);
        sql.name(&field.name);
        sql.push(" = ");
        sql.param(Param::of_value(column_kind(field), &new.values[index]));
        before = ", ";
    }
    if sql.params.is_empty() {
        return None;
    }
    sql.push(" WHERE \"id\" = ");
    sql.param(Param::from(old.id()));
    Some(sql)
}

/// Removes a row.
pub(super) fn delete(record: &Record) -> Sql {
    let mut sql = Sql::new("DELETE FROM ");
    sql.name(&record.collection.name);
    sql.push(" WHERE \"id\" = ");
    sql.param(Param::from(record.id()));
    sql
}

/// The fields of the unique index that refused a row. Of one on expressions there is no field to report, and
/// the contract reports none.
pub(super) fn fields_of_index(collection: &Collection, index: &str) -> Vec<String> {
    if index == identifier(&key_name(&collection.name)) {
        return vec!["id".to_owned()];
    }
    let found = collection
        .indexes
        .iter()
        .filter_map(|text| Index::parse(text))
        .find(|found| identifier(&found.name) == index);
    let Some(found) = found else { return Vec::new() };
    let columns: Vec<String> = found.columns.into_iter().map(|column| column.name).collect();
    if columns.iter().any(|name| collection.field(name).is_none()) { Vec::new() } else { columns }
}
