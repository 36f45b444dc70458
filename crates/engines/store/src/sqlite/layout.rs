//! The physical layout: tables, columns, defaults and stored forms of CONTRACT §3.2 and §10.2. View
//! queries, index texts and imported folders see them; our own tables start with `_gs_`.

use std::fmt::Write as _;

use model::collection::Collection;
use model::field::{Field, FieldKind};
use model::json::{self, Json};
use model::record::Record;
use model::record::coerce::coerce;
use model::value::Value;
use rusqlite::types::{ToSqlOutput, ValueRef};

/// What a fresh data file gets before any collection.
pub(super) const BASE_TABLES: &str = "
CREATE TABLE `_params` (
    `id`      TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL,
    `value`   JSON DEFAULT NULL,
    `created` TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL,
    `updated` TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL
);
CREATE TABLE `_collections` (
    `id`         TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL,
    `system`     BOOLEAN DEFAULT FALSE NOT NULL,
    `type`       TEXT DEFAULT 'base' NOT NULL,
    `name`       TEXT UNIQUE NOT NULL,
    `fields`     JSON DEFAULT '[]' NOT NULL,
    `indexes`    JSON DEFAULT '[]' NOT NULL,
    `listRule`   TEXT DEFAULT NULL,
    `viewRule`   TEXT DEFAULT NULL,
    `createRule` TEXT DEFAULT NULL,
    `updateRule` TEXT DEFAULT NULL,
    `deleteRule` TEXT DEFAULT NULL,
    `options`    JSON DEFAULT '{}' NOT NULL,
    `created`    TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL,
    `updated`    TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL
);
CREATE INDEX `idx__collections_type` ON `_collections` (`type`);
CREATE TABLE `_gs_meta` (`key` TEXT PRIMARY KEY NOT NULL, `value` INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO `_gs_meta` VALUES ('format', 4), ('schema_version', 0), ('outbox_floor', 0), ('dead_jobs_dropped', 0);
CREATE TABLE `_gs_consumers` (
    `name`     TEXT PRIMARY KEY NOT NULL,
    `position` INTEGER NOT NULL,
    `interest` TEXT NOT NULL DEFAULT '*'
) WITHOUT ROWID;
CREATE TABLE `_gs_outbox` (
    `sequence`       INTEGER PRIMARY KEY AUTOINCREMENT,
    `batch`          INTEGER NOT NULL,
    `collection`     TEXT NOT NULL,
    `record`         TEXT NOT NULL,
    `action`         TEXT NOT NULL,
    `schema_version` INTEGER NOT NULL,
    `caller`         TEXT NOT NULL,
    `written`        INTEGER NOT NULL,
    `loses_files`    INTEGER NOT NULL,
    `total`          INTEGER NOT NULL,
    `before`         TEXT,
    `after`          TEXT
);
CREATE TABLE `_gs_uploads` (
    `key`     TEXT PRIMARY KEY NOT NULL,
    `written` INTEGER NOT NULL,
    `doomed`  INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE `_gs_jobs` (
    `id`         INTEGER PRIMARY KEY AUTOINCREMENT,
    `queue`      TEXT NOT NULL,
    `payload`    TEXT NOT NULL,
    `created`    INTEGER NOT NULL,
    `due`        INTEGER NOT NULL,
    `attempts`   INTEGER NOT NULL DEFAULT 0,
    `is_running` INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX `_gs_jobs_due` ON `_gs_jobs` (`queue`, `due`);
CREATE TABLE `_gs_dead_jobs` (
    `id`       INTEGER PRIMARY KEY AUTOINCREMENT,
    `queue`    TEXT NOT NULL,
    `payload`  TEXT NOT NULL,
    `created`  INTEGER NOT NULL,
    `attempts` INTEGER NOT NULL,
    `died`     INTEGER NOT NULL,
    `error`    TEXT NOT NULL
);
CREATE TABLE `_gs_attempts` (
    `id`      INTEGER PRIMARY KEY AUTOINCREMENT,
    `queue`   TEXT NOT NULL,
    `job`     INTEGER NOT NULL,
    `attempt` INTEGER NOT NULL,
    `started` INTEGER NOT NULL,
    `took_ms` INTEGER NOT NULL,
    `outcome` TEXT NOT NULL,
    `error`   TEXT NOT NULL,
    `note`    TEXT NOT NULL
);
CREATE INDEX `_gs_attempts_queue` ON `_gs_attempts` (`queue`, `id`);
CREATE TABLE `_gs_hooks` (
    `name`       TEXT PRIMARY KEY NOT NULL,
    `definition` TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE `_gs_secrets` (
    `name`  TEXT PRIMARY KEY NOT NULL,
    `value` TEXT NOT NULL
) WITHOUT ROWID;
";

/// The version of the layout of a data folder that this version reads and writes.
pub const FORMAT: i64 = 4;

/// A name in the quotes that the contract's own index texts use. Names are made of word characters
/// by validation; a stray quote is doubled all the same.
pub(super) fn quoted(name: &str) -> String {
    let mut sql = String::with_capacity(name.len() + 2);
    push_quoted(name, &mut sql);
    sql
}

/// Appends a name as [`quoted`] gives it.
pub(super) fn push_quoted(name: &str, sql: &mut String) {
    sql.push('`');
    for (index, part) in name.split('`').enumerate() {
        if index > 0 {
            sql.push_str("``");
        }
        sql.push_str(part);
    }
    sql.push('`');
}

/// `CREATE TABLE` of a collection, columns in the order of their names.
pub(super) fn create_table(name: &str, fields: &[Field]) -> String {
    let mut sorted: Vec<&Field> = fields.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sql = format!("CREATE TABLE {} (", quoted(name));
    for (index, field) in sorted.into_iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        let _ = write!(sql, "{separator}{} {}", quoted(&field.name), column_type(field));
    }
    sql.push(')');
    sql
}

/// The type and default of a field's column.
pub(super) fn column_type(field: &Field) -> &'static str {
    match &field.kind {
        FieldKind::Text(options) if options.primary_key => {
            "TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL"
        }
        FieldKind::Number(_) => "NUMERIC DEFAULT 0 NOT NULL",
        FieldKind::Bool => "BOOLEAN DEFAULT FALSE NOT NULL",
        FieldKind::Json(_) => "JSON DEFAULT NULL",
        FieldKind::GeoPoint => "JSON DEFAULT '{\"lon\":0,\"lat\":0}' NOT NULL",
        _ if field.is_multiple() => "JSON DEFAULT '[]' NOT NULL",
        _ => "TEXT DEFAULT '' NOT NULL",
    }
}

/// Whether a field's column holds nothing but text.
pub(super) fn is_text(field: &Field) -> bool {
    column_type(field).starts_with("TEXT")
}

/// The columns of a collection in field order, qualified, for a SELECT. Of a view it is all that there
/// are: SQLite renames a view's columns with those of its tables, and nothing tells its collection.
pub(super) fn columns(collection: &Collection, qualifier: &str) -> String {
    if collection.is_view() {
        return format!("{qualifier}.*");
    }
    let mut sql = String::with_capacity(collection.fields.len() * 20);
    for (index, field) in collection.fields.iter().enumerate() {
        if index > 0 {
            sql.push_str(", ");
        }
        sql.push_str(qualifier);
        sql.push('.');
        push_quoted(&field.name, &mut sql);
    }
    sql
}

/// A column's value as the model knows it. A JSON column may hold a number (SQLite gives columns of
/// the type JSON numeric affinity).
pub(super) fn value_from_sql(field: &Field, column: ValueRef<'_>) -> Value {
    let is_json = matches!(field.kind, FieldKind::Json(_) | FieldKind::GeoPoint) || field.is_multiple();
    match column {
        ValueRef::Null | ValueRef::Blob(_) => Value::Null,
        ValueRef::Integer(number) => number_value(number as f64, is_json),
        ValueRef::Real(number) => number_value(number, is_json),
        ValueRef::Text(bytes) => {
            let text = match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => String::from_utf8_lossy(bytes).into_owned(),
            };
            if is_json { Value::Json(text) } else { Value::Text(text) }
        }
    }
}

fn number_value(number: f64, is_json: bool) -> Value {
    if !is_json {
        return Value::Number(number);
    }
    let mut text = String::new();
    json::write_number(number, &mut text);
    Value::Json(text)
}

/// A value of a view, which may be anything, as what its field says: as if a client had sent it.
fn view_value(field: &Field, column: ValueRef<'_>) -> Value {
    let is_json = matches!(field.kind, FieldKind::Json(_));
    let input = match column {
        ValueRef::Null => return Value::Null,
        ValueRef::Integer(number) if is_json => return Value::Json(number.to_string()),
        ValueRef::Integer(number) if is_text(field) => Json::Text(number.to_string()),
        ValueRef::Integer(number) => Json::Number(number as f64),
        ValueRef::Real(number) if number.is_finite() => Json::Number(number),
        ValueRef::Real(_) => return Value::Null,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Json::Text(String::from_utf8_lossy(bytes).into_owned())
        }
    };
    match (&field.kind, input) {
        (FieldKind::Password(_), _) => Value::Null,
        (FieldKind::Autodate(_), Json::Text(date)) => Value::Text(date),
        (_, input) => coerce(field, &input),
    }
}

/// A value as it is bound to a parameter. Whole numbers go in as integers, as the contract stores them.
pub(super) fn value_to_sql(value: &Value) -> ToSqlOutput<'_> {
    match value {
        Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
            ToSqlOutput::Borrowed(ValueRef::Integer(*number as i64))
        }
        Value::Number(number) => ToSqlOutput::Borrowed(ValueRef::Real(*number)),
        Value::Text(text) | Value::Json(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
    }
}

/// A row of a SELECT of [`columns`], starting at column `offset`.
pub(super) fn record_from_row(
    collection: &std::sync::Arc<Collection>,
    row: &rusqlite::Row<'_>,
    offset: usize,
) -> rusqlite::Result<Record> {
    let mut values = Vec::with_capacity(collection.fields.len());
    for (index, field) in collection.fields.iter().enumerate() {
        values.push(value_from_sql(field, row.get_ref(offset + index)?));
    }
    Ok(Record { collection: collection.clone(), values })
}

/// Where a view's statement has the column of each field.
pub(super) fn places(collection: &Collection, statement: &rusqlite::Statement<'_>) -> Vec<Option<usize>> {
    let place = |field: &Field| statement.column_names().into_iter().position(|name| name == field.name);
    collection.fields.iter().map(place).collect()
}

/// A row of a view. A field without a column is empty.
pub(super) fn record_from_view(
    collection: &std::sync::Arc<Collection>,
    row: &rusqlite::Row<'_>,
    places: &[Option<usize>],
) -> rusqlite::Result<Record> {
    let mut values = Vec::with_capacity(collection.fields.len());
    for (field, place) in collection.fields.iter().zip(places) {
        values.push(match place {
            Some(place) => view_value(field, row.get_ref(*place)?),
            None => Value::Null,
        });
    }
    Ok(Record { collection: collection.clone(), values })
}
