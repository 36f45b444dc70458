//! Reads: one SELECT each, its conditions rendered from checked filters.

use std::fmt::Write as _;
use std::sync::Arc;

use contract::store::{FindByField, GetRecord, GetRecords, ListRecords, RecordPage, ReferringRecords};
use model::collection::Collection;
use model::condition::Condition;
use model::filter::Verdict;
use model::record::Record;
use model::value::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::filter_sql;
use super::layout::{self, quoted, value_to_sql};

/// Records looked for in one statement by id.
const IDS_AT_ONCE: usize = 200;

/// A SELECT being written, with the values of its parameters in order.
struct Select<'a> {
    collection: &'a Arc<Collection>,
    sql: String,
    params: Vec<Value>,
}

/// One record by id, if every condition holds. What can be judged in memory is.
pub(super) fn get(conn: &Connection, query: &GetRecord) -> rusqlite::Result<Option<Record>> {
    let Some(record) = super::apply::load(conn, &query.collection, &query.id)? else { return Ok(None) };
    for condition in &query.conditions {
        match condition.judge(&record) {
            Verdict::Yes => {}
            Verdict::No => return Ok(None),
            Verdict::NeedsStore => {
                if !holds_stored(conn, &record, condition)? {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(record))
}

/// A page, and the total where it is asked for.
pub(super) fn list(conn: &Connection, query: &ListRecords) -> rusqlite::Result<RecordPage> {
    let total = if query.with_total { Some(count(conn, query)?) } else { None };
    let mut select = Select::rows(&query.collection);
    select.conditions(&query.conditions);
    select.sql.push_str(" ORDER BY ");
    if let Some(sort) = &query.sort {
        filter_sql::order(sort, &query.context, "r", &mut select.sql, &mut select.params);
        select.sql.push_str(", ");
    }
    let _ = write!(select.sql, "r.rowid LIMIT {}", query.limit);
    if query.offset > 0 {
        select.sql.push_str(" OFFSET ?");
        select.params.push(Value::Number(query.offset as f64));
    }
    Ok(RecordPage { records: select.run(conn)?, total })
}

fn count(conn: &Connection, query: &ListRecords) -> rusqlite::Result<u64> {
    let mut select = Select::new(&query.collection, "count(*)");
    select.conditions(&query.conditions);
    let params = params_from_iter(select.params.iter().map(value_to_sql));
    let count: i64 = conn.prepare_cached(&select.sql)?.query_row(params, |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Several records by id.
pub(super) fn get_many(conn: &Connection, query: &GetRecords) -> rusqlite::Result<Vec<Record>> {
    let mut found = Vec::with_capacity(query.ids.len());
    for ids in query.ids.chunks(IDS_AT_ONCE) {
        let mut select = Select::rows(&query.collection);
        select.conditions(&query.conditions);
        select.and("r.`id` IN (");
        for (index, id) in ids.iter().enumerate() {
            select.sql.push_str(if index > 0 { ", ?" } else { "?" });
            select.params.push(Value::Text(id.clone()));
        }
        select.sql.push(')');
        found.extend(select.run(conn)?);
    }
    Ok(found)
}

/// Records whose relation field lists an id.
pub(super) fn referring(conn: &Connection, query: &ReferringRecords) -> rusqlite::Result<Vec<Record>> {
    let Some(field) = query.collection.field(&query.field) else { return Ok(Vec::new()) };
    let mut select = Select::rows(&query.collection);
    select.conditions(&query.conditions);
    let column = format!("r.{}", quoted(&field.name));
    if field.is_multiple() {
        // The text test is quick and drops most rows before their JSON is looked into.
        select.and(&format!("instr({column}, ?) > 0 AND EXISTS "));
        select.params.push(Value::Text(query.id.clone()));
        let _ = write!(select.sql, "(SELECT 1 FROM json_each({column}) AS item WHERE item.value = ?)");
    } else {
        select.and(&format!("{column} = ?"));
    }
    select.params.push(Value::Text(query.id.clone()));
    let _ = write!(select.sql, " ORDER BY r.rowid LIMIT {}", query.limit);
    select.run(conn)
}

/// A record by the value of one field; of several the oldest.
pub(super) fn find_by_field(conn: &Connection, query: &FindByField) -> rusqlite::Result<Option<Record>> {
    let collate = if query.ignore_case { " COLLATE NOCASE" } else { "" };
    let mut select = Select::rows(&query.collection);
    select.and(&format!("r.{} = ?{collate}", quoted(&query.field)));
    select.params.push(Value::Text(query.value.clone()));
    select.sql.push_str(" ORDER BY r.rowid LIMIT 1");
    Ok(select.run(conn)?.pop())
}

/// Whether a condition holds for a stored row.
pub(super) fn holds_stored(
    conn: &Connection,
    record: &Record,
    condition: &Condition,
) -> rusqlite::Result<bool> {
    let mut select = Select::new(&record.collection, "1");
    select.and("r.`id` = ?");
    select.params.push(record.get("id").clone());
    select.condition(condition);
    select.exists(conn)
}

/// Whether a condition would hold for a row that is not stored.
pub(super) fn holds_virtual(
    conn: &Connection,
    record: &Record,
    condition: &Condition,
) -> rusqlite::Result<bool> {
    let mut select = Select { collection: &record.collection, sql: "SELECT 1 FROM ".to_owned(), params: Vec::new() };
    filter_sql::virtual_row(record, &mut select.sql, &mut select.params);
    select.sql.push_str(" AS r WHERE 1");
    select.condition(condition);
    select.exists(conn)
}

// === impl Select ===

impl<'a> Select<'a> {
    fn new(collection: &'a Arc<Collection>, what: &str) -> Select<'a> {
        let sql = format!("SELECT {what} FROM {} AS r WHERE 1", quoted(&collection.name));
        Select { collection, sql, params: Vec::new() }
    }

    fn rows(collection: &'a Arc<Collection>) -> Select<'a> {
        Select::new(collection, &layout::columns(collection, "r"))
    }

    fn conditions(&mut self, conditions: &[Condition]) {
        for condition in conditions {
            self.condition(condition);
        }
    }

    fn condition(&mut self, condition: &Condition) {
        self.sql.push_str(" AND ");
        filter_sql::condition(condition, "r", &mut self.sql, &mut self.params);
    }

    /// Starts one more thing that must hold.
    fn and(&mut self, sql: &str) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
    }

    fn run(self, conn: &Connection) -> rusqlite::Result<Vec<Record>> {
        let mut statement = conn.prepare_cached(&self.sql)?;
        let params = params_from_iter(self.params.iter().map(value_to_sql));
        let rows = statement.query_map(params, |row| layout::record_from_row(self.collection, row, 0))?;
        rows.collect()
    }

    fn exists(self, conn: &Connection) -> rusqlite::Result<bool> {
        let params = params_from_iter(self.params.iter().map(value_to_sql));
        Ok(conn.prepare_cached(&self.sql)?.query_row(params, |_| Ok(())).optional()?.is_some())
    }
}
