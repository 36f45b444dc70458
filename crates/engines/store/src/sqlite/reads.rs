//! Reads: one SELECT each, its conditions rendered from checked filters.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use contract::store::{
    FindByField, GetRecord, GetRecords, JudgeRow, ListRecords, RecordPage, ReferringRecords,
};
use model::collection::Collection;
use model::condition::Condition;
use model::filter::{Sort, Verdict};
use model::plan;
use model::record::Record;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::filter_sql::{self, Expected, Fragment, Root, RootKind};
use super::layout::{self, quoted};

/// Records looked for in one statement by id.
const IDS_AT_ONCE: usize = 200;

/// The alias of the collection's table in every SELECT.
const ALIAS: &str = "r";

/// A SELECT being written, with the values of its parameters in order.
struct Select<'a> {
    collection: &'a Arc<Collection>,
    root: Root<'static>,
    sql: String,
    params: Vec<SqlValue>,
}

/// One record by id, if every condition holds. What can be judged in memory is.
pub(super) fn get(conn: &Connection, query: &GetRecord) -> rusqlite::Result<Option<Record>> {
    let Some(record) = super::transaction::load(conn, &query.collection, &query.id)? else { return Ok(None) };
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

/// A page, and the total where it is asked for. Where `among` is given, no other rows can match.
pub(super) fn list(
    conn: &Connection,
    query: &ListRecords,
    among: Option<&[i64]>,
) -> rusqlite::Result<RecordPage> {
    let mut select = Select::among(&query.collection, &layout::columns(&query.collection, ALIAS), among);
    select.conditions(&query.conditions);
    let unsorted = Sort::default();
    let order = filter_sql::order_by(query.sort.as_deref().unwrap_or(&unsorted), select.root);
    if !order.sql.is_empty() {
        select.sql.push_str(" ORDER BY ");
        select.push(order);
    }
    let _ = write!(select.sql, " LIMIT {}", query.limit);
    if query.offset > 0 {
        select.sql.push_str(" OFFSET ?");
        select.params.push(SqlValue::Integer(i64::try_from(query.offset).unwrap_or(i64::MAX)));
    }
    let records = select.run(conn)?;
    let total = if query.with_total { Some(total(conn, query, among, &records)?) } else { None };
    Ok(RecordPage { records, total })
}

/// How many match. A page that is not full is the last one, and says so itself; but a view may hold an id
/// several times, and they count once.
fn total(
    conn: &Connection,
    query: &ListRecords,
    among: Option<&[i64]>,
    page: &[Record],
) -> rusqlite::Result<u64> {
    let on_page = page.len() as u64;
    if query.collection.is_view() {
        let ids: HashSet<&str> = page.iter().map(Record::id).collect();
        let is_whole = query.offset == 0 && on_page < query.limit;
        return if is_whole { Ok(ids.len() as u64) } else { count(conn, query, among) };
    }
    let is_last = on_page < query.limit && (on_page > 0 || query.offset == 0);
    if is_last { Ok(query.offset + on_page) } else { count(conn, query, among) }
}

fn count(conn: &Connection, query: &ListRecords, among: Option<&[i64]>) -> rusqlite::Result<u64> {
    let what = if query.collection.is_view() { "count(DISTINCT r.`id`)" } else { "count(*)" };
    let mut select = Select::among(&query.collection, what, among);
    select.conditions(&query.conditions);
    let params = params_from_iter(&select.params);
    let count: i64 = conn.prepare_cached(&select.sql)?.query_row(params, |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Several records by id.
pub(super) fn get_many(conn: &Connection, query: &GetRecords) -> rusqlite::Result<Vec<Record>> {
    let mut found = Vec::with_capacity(query.ids.len());
    for ids in query.ids.chunks(IDS_AT_ONCE) {
        let mut select = Select::rows(&query.collection);
        select.conditions_of_few(&query.conditions);
        select.and("r.`id` IN (");
        for (index, id) in ids.iter().enumerate() {
            select.sql.push_str(if index > 0 { ", ?" } else { "?" });
            select.params.push(SqlValue::Text(id.clone()));
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
    select.conditions_of_few(&query.conditions);
    let column = format!("r.{}", quoted(&field.name));
    if field.is_multiple() {
        // The text test is quick and drops most rows before their JSON is looked into.
        select.and(&format!("instr({column}, ?) > 0 AND EXISTS "));
        select.params.push(SqlValue::Text(query.id.clone()));
        let _ = write!(select.sql, "(SELECT 1 FROM json_each({column}) AS item WHERE item.value = ?)");
    } else {
        select.and(&format!("{column} = ?"));
    }
    select.params.push(SqlValue::Text(query.id.clone()));
    // The rows of a view have no order of their own.
    let order = if query.collection.is_view() { "" } else { " ORDER BY r.rowid" };
    let _ = write!(select.sql, "{order} LIMIT {}", query.limit);
    select.run(conn)
}

/// Which conditions hold for a row as it is given. Where it is stored so, the stored row is asked.
pub(super) fn judge(conn: &Connection, query: &JudgeRow) -> rusqlite::Result<Vec<bool>> {
    let row = &*query.row;
    let stored = super::transaction::load(conn, &row.collection, row.id())?;
    let is_stored = stored.is_some_and(|stored| is_same_row(&stored, row));
    let holds = |condition: &Condition| match condition.judge(row) {
        Verdict::Yes => Ok(true),
        Verdict::No => Ok(false),
        Verdict::NeedsStore if is_stored => holds_stored(conn, row, condition),
        Verdict::NeedsStore => holds_given(conn, row, condition),
    };
    let all_hold = |conditions: &Vec<Condition>| {
        for condition in conditions {
            if !holds(condition)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    query.questions.iter().map(all_hold).collect()
}

/// Whether two rows of a collection are equal, but for what events leave out.
fn is_same_row(stored: &Record, given: &Record) -> bool {
    let collection = &stored.collection;
    let mut fields = collection.fields.iter().zip(stored.values.iter().zip(&given.values));
    fields.all(|(field, (stored, given))| stored == given || plan::is_secret(collection, field))
}

/// A record by the value of one field; of several the oldest.
pub(super) fn find_by_field(conn: &Connection, query: &FindByField) -> rusqlite::Result<Option<Record>> {
    let collate = if query.ignore_case { " COLLATE NOCASE" } else { "" };
    let mut select = Select::rows(&query.collection);
    select.and(&format!("r.{} = ?{collate}", quoted(&query.field)));
    select.params.push(SqlValue::Text(query.value.clone()));
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
    select.root.expected = Expected::One;
    select.and("r.`id` = ?");
    select.params.push(SqlValue::Text(record.id().to_owned()));
    select.condition(condition);
    select.exists(conn)
}

/// Whether a condition would hold for a row that is not stored.
pub(super) fn holds_virtual(
    conn: &Connection,
    record: &Record,
    condition: &Condition,
) -> rusqlite::Result<bool> {
    holds_for(conn, record, RootKind::NewRow, filter_sql::new_row(record), condition)
}

/// Whether a condition would hold for a row that was stored once.
fn holds_given(conn: &Connection, record: &Record, condition: &Condition) -> rusqlite::Result<bool> {
    holds_for(conn, record, RootKind::View, filter_sql::former_row(record), condition)
}

fn holds_for(
    conn: &Connection,
    record: &Record,
    kind: RootKind,
    row: Fragment,
    condition: &Condition,
) -> rusqlite::Result<bool> {
    let root = Root { alias: ALIAS, kind, expected: Expected::One };
    let mut select =
        Select { collection: &record.collection, root, sql: "SELECT 1 FROM ".to_owned(), params: Vec::new() };
    select.push(row);
    select.sql.push_str(" AS r WHERE 1");
    select.condition(condition);
    select.exists(conn)
}

// === impl Select ===

impl<'a> Select<'a> {
    fn new(collection: &'a Arc<Collection>, what: &str) -> Select<'a> {
        let kind = if collection.is_view() { RootKind::View } else { RootKind::Table };
        let root = Root { alias: ALIAS, kind, expected: Expected::Many };
        let sql = format!("SELECT {what} FROM {} AS r WHERE 1", quoted(&collection.name));
        Select { collection, root, sql, params: Vec::new() }
    }

    /// Of these rows alone, by their row ids.
    fn among(collection: &'a Arc<Collection>, what: &str, row_ids: Option<&[i64]>) -> Select<'a> {
        let mut select = Select::new(collection, what);
        if let Some(row_ids) = row_ids {
            // CROSS: the few rows first, whatever the order that is asked for.
            select.sql = format!(
                "SELECT {what} FROM json_each(?) AS found CROSS JOIN {} AS r ON r.rowid = found.value WHERE 1",
                quoted(&collection.name)
            );
            let list: Vec<String> = row_ids.iter().map(i64::to_string).collect();
            select.params.push(SqlValue::Text(format!("[{}]", list.join(","))));
        }
        select
    }

    fn rows(collection: &'a Arc<Collection>) -> Select<'a> {
        Select::new(collection, &layout::columns(collection, "r"))
    }

    fn conditions(&mut self, conditions: &[Condition]) {
        for condition in conditions {
            self.condition(condition);
        }
    }

    /// Of few records, whose ids are given: the joined rows are looked up for each.
    fn conditions_of_few(&mut self, conditions: &[Condition]) {
        self.root.expected = Expected::One;
        self.conditions(conditions);
    }

    fn condition(&mut self, condition: &Condition) {
        let Condition { filter, context, body } = condition;
        self.sql.push_str(" AND ");
        self.push(filter_sql::condition(filter, context, body, self.root));
    }

    fn push(&mut self, fragment: Fragment) {
        self.sql.push_str(&fragment.sql);
        self.params.extend(fragment.values);
    }

    /// Starts one more thing that must hold.
    fn and(&mut self, sql: &str) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
    }

    fn run(self, conn: &Connection) -> rusqlite::Result<Vec<Record>> {
        let mut statement = conn.prepare_cached(&self.sql)?;
        let params = params_from_iter(&self.params);
        if self.collection.is_view() {
            let places = layout::places(self.collection, &statement);
            let rows =
                statement.query_map(params, |row| layout::record_from_view(self.collection, row, &places))?;
            return rows.collect();
        }
        let rows = statement.query_map(params, |row| layout::record_from_row(self.collection, row, 0))?;
        rows.collect()
    }

    fn exists(self, conn: &Connection) -> rusqlite::Result<bool> {
        let params = params_from_iter(&self.params);
        Ok(conn.prepare_cached(&self.sql)?.query_row(params, |_| Ok(())).optional()?.is_some())
    }
}
