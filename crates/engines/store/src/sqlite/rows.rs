//! Writing rows of collections.

use std::fmt::Write as _;

use model::record::Record;
use model::record::unique::unique_errors;
use model::step::Why;
use model::value::Value;
use rusqlite::{Connection, ErrorCode, ffi};

use super::layout::{push_quoted, quoted};
use super::transaction::{StepFailure, execute};

/// Writes a new row.
pub(super) fn insert(conn: &Connection, record: &Record) -> Result<(), StepFailure> {
    let collection = &record.collection;
    let mut sql = String::from("INSERT INTO ");
    push_quoted(&collection.name, &mut sql);
    for (index, field) in collection.fields.iter().enumerate() {
        sql.push_str(if index > 0 { ", " } else { " (" });
        push_quoted(&field.name, &mut sql);
    }
    sql.push_str(") VALUES (?");
    for _ in 1..collection.fields.len() {
        sql.push_str(", ?");
    }
    sql.push(')');
    let values: Vec<&Value> = record.values.iter().collect();
    execute(conn, &sql, &values).map_err(write_failure)?;
    Ok(())
}

/// Writes what changed between two forms of a row.
pub(super) fn update(conn: &Connection, old: &Record, new: &Record) -> Result<(), StepFailure> {
    let collection = &new.collection;
    let mut sql = format!("UPDATE {} SET ", quoted(&collection.name));
    let mut values: Vec<&Value> = Vec::new();
    for (index, field) in collection.fields.iter().enumerate() {
        if old.values[index] == new.values[index] {
            continue;
        }
        let separator = if values.is_empty() { "" } else { ", " };
        let _ = write!(sql, "{separator}{} = ?", quoted(&field.name));
        values.push(&new.values[index]);
    }
    if values.is_empty() {
        return Ok(());
    }
    sql.push_str(" WHERE `id` = ?");
    values.push(old.get("id"));
    execute(conn, &sql, &values).map_err(write_failure)?;
    Ok(())
}

/// Removes a row; false when it was not there.
pub(super) fn delete(conn: &Connection, record: &Record) -> rusqlite::Result<bool> {
    let sql = format!("DELETE FROM {} WHERE `id` = ?", quoted(&record.collection.name));
    Ok(execute(conn, &sql, &[record.get("id")])? > 0)
}

/// Sets the hash of a password, if the row still holds the old one.
pub(super) fn replace_password_hash(
    conn: &Connection,
    table: &str,
    id: &str,
    from: &str,
    to: &str,
) -> rusqlite::Result<()> {
    let sql = format!("UPDATE {} SET `password` = ?1 WHERE `id` = ?2 AND `password` = ?3", quoted(table));
    conn.execute(&sql, [to, id, from])?;
    Ok(())
}

/// A violated unique index is the client's fault: `validation_not_unique` on each of its fields.
fn write_failure(error: rusqlite::Error) -> StepFailure {
    match unique_columns(&error) {
        Some(columns) => Why::Fields(unique_errors(&columns)).into(),
        None => error.into(),
    }
}

/// The columns in `UNIQUE constraint failed: items.a, items.b`. For an index on expressions SQLite
/// names the index instead: there is no field to report, and the contract reports none.
fn unique_columns(error: &rusqlite::Error) -> Option<Vec<String>> {
    let rusqlite::Error::SqliteFailure(code, Some(message)) = error else { return None };
    let is_unique = code.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE
        || code.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY;
    if code.code != ErrorCode::ConstraintViolation || !is_unique {
        return None;
    }
    let list = message.split_once("failed: ")?.1;
    Some(list.split(", ").filter_map(|column| Some(column.rsplit_once('.')?.1.to_owned())).collect())
}
