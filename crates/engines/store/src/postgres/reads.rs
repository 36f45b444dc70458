//! Reads: one SELECT each, its conditions rendered from checked filters.
//!
//! Beside what is asked for each gives the schema's version: it stands first, so that its table is locked first,
//! as it is by those who change the schema. A read waits for such a change, and none deadlocks with it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use contract::store::{FindByField, GetRecord, GetRecords, JudgeRow, ListRecords, ReferringRecords};
use model::collection::Collection;
use model::condition::Condition;
use model::filter::Sort;
use model::record::Record;

use super::error::Error;
use super::filter_sql::{self, Expected, Root, RootKind};
use super::indexes;
use super::layout::{ROW_ID, json_column, quoted};
use super::rows;
use super::session::Outcome;
use super::sql::{Param, Sql};

/// The alias of the collection's table in every SELECT.
const ALIAS: &str = "r";

/// A SELECT being written.
struct Select<'a> {
    collection: &'a Arc<Collection>,
    root: Root<'static>,
    sql: Sql,
}

/// What a read found, and the schema's version then.
pub(super) struct Found {
    pub(super) schema: i64,
    pub(super) records: Vec<Record>,
}

/// One record by id.
pub(super) fn get(query: &GetRecord) -> Sql {
    by_id(&query.collection, &query.id)
}

/// A stored row by id.
pub(super) fn by_id(collection: &Arc<Collection>, id: &str) -> Sql {
    let mut sql = Sql::new("SELECT v.schema, r.\"id\" IS NOT NULL, ");
    rows::push_row(collection, ALIAS, &mut sql.text);
    sql.push(" FROM _gs_versions AS v LEFT JOIN ");
    sql.name(&collection.name);
    sql.push(" AS r ON r.\"id\" = ");
    sql.param(Param::from(id));
    sql
}

/// A page of records.
pub(super) fn list(query: &ListRecords) -> Result<Sql, Error> {
    let mut select = Select::rows(&query.collection);
    select.conditions(&query.conditions)?;
    let unsorted = Sort::default();
    select.order_by(query.sort.as_deref().unwrap_or(&unsorted))?;
    let _ = write!(select.sql.text, " LIMIT {}", query.limit);
    if query.offset > 0 {
        select.sql.push(" OFFSET ");
        select.sql.param(Param::Integer(i64::try_from(query.offset).unwrap_or(i64::MAX)));
    }
    Ok(select.with_version())
}

/// How many match. A view may hold an id several times, and they count once.
pub(super) fn count(query: &ListRecords) -> Result<Sql, Error> {
    let what = if query.collection.is_view() { "count(DISTINCT r.\"id\")" } else { "count(*)" };
    let mut select = Select::new(&query.collection, what);
    select.conditions(&query.conditions)?;
    Ok(select.sql)
}

/// The total where the page itself tells: one that is not full is the last.
pub(super) fn total_of_page(query: &ListRecords, page: &[Record]) -> Option<u64> {
    let on_page = page.len() as u64;
    if query.collection.is_view() {
        let ids: HashSet<&str> = page.iter().map(Record::id).collect();
        return (query.offset == 0 && on_page < query.limit).then_some(ids.len() as u64);
    }
    let is_last = on_page < query.limit && (on_page > 0 || query.offset == 0);
    is_last.then_some(query.offset + on_page)
}

/// Several records by id.
pub(super) fn get_many(query: &GetRecords) -> Result<Sql, Error> {
    let mut select = Select::rows(&query.collection);
    select.conditions_of_few(&query.conditions)?;
    select.sql.push(" AND r.\"id\" = ANY(");
    let ids = query.ids.iter().filter(|id| !id.contains('\0')).cloned();
    select.sql.param(Param::Texts(ids.collect()));
    select.sql.push(")");
    Ok(select.with_version())
}

/// Records whose relation field lists an id; none when there is no such field.
pub(super) fn referring(query: &ReferringRecords) -> Result<Option<Sql>, Error> {
    let Some(field) = query.collection.field(&query.field) else { return Ok(None) };
    let mut select = Select::rows(&query.collection);
    select.conditions_of_few(&query.conditions)?;
    select.sql.push(" AND r.");
    if field.is_multiple() {
        select.sql.name(&json_column(&field.name));
        select.sql.push(" ? ");
    } else {
        select.sql.name(&field.name);
        select.sql.push(" = ");
    }
    select.sql.param(Param::from(query.id.as_str()));
    if !query.collection.is_view() {
        let _ = write!(select.sql.text, " ORDER BY r.{ROW_ID}");
    }
    let _ = write!(select.sql.text, " LIMIT {}", query.limit);
    Ok(Some(select.with_version()))
}

/// A record by the value of one field; of several the oldest.
pub(super) fn find_by_field(query: &FindByField) -> Sql {
    let mut select = Select::rows(&query.collection);
    let column = format!("r.{}", quoted(&query.field));
    select.sql.push(" AND ");
    select.sql.param(Param::from(query.value.as_str()));
    let value = "$1 COLLATE \"C\"".to_owned();
    let (column, value) = match query.ignore_case {
        true => (format!("lower({column})"), format!("lower({value})")),
        false => (column, format!("({value})")),
    };
    let _ = write!(select.sql.text, " IS NOT NULL AND {column} = {value}");
    if query.collection.field(&query.field).is_some_and(indexes::may_be_long) {
        let letters = indexes::INDEXED_LETTERS;
        let _ = write!(select.sql.text, " AND \"left\"({column}, {letters}) = \"left\"({value}, {letters})");
    }
    let _ = write!(select.sql.text, " ORDER BY r.{ROW_ID} LIMIT 1");
    select.with_version()
}

/// A row if a condition holds for a record: for the stored one, or for one that is not stored.
pub(super) fn holds(record: &Record, is_stored: bool, condition: &Condition) -> Result<Sql, Error> {
    if is_stored {
        holds_stored(record, condition)
    } else {
        holds_for(record, RootKind::NewRow, filter_sql::new_row(record), condition)
    }
}

/// A row if a condition holds for a stored record.
pub(super) fn holds_stored(record: &Record, condition: &Condition) -> Result<Sql, Error> {
    let mut select = Select::new(&record.collection, "1");
    select.root.expected = Expected::One;
    select.sql.push(" AND r.\"id\" = ");
    select.sql.param(Param::from(record.id()));
    select.condition(condition)?;
    Ok(select.sql)
}

/// A row if a condition holds for a record that was stored once.
pub(super) fn holds_given(query: &JudgeRow, condition: &Condition) -> Result<Sql, Error> {
    holds_for(&query.row, RootKind::View, filter_sql::former_row(&query.row), condition)
}

fn holds_for(record: &Record, kind: RootKind, row: Sql, condition: &Condition) -> Result<Sql, Error> {
    let root = Root { alias: ALIAS, kind, expected: Expected::One };
    let mut sql = Sql::new("SELECT 1 FROM ");
    sql.append(row);
    sql.push(" AS r WHERE true");
    let mut select = Select { collection: &record.collection, root, sql };
    select.condition(condition)?;
    Ok(select.sql)
}

/// The records of a SELECT with the version.
pub(super) fn found(collection: &Arc<Collection>, outcome: &Outcome) -> Result<Found, Error> {
    let Some(first) = outcome.rows.first() else {
        return Err(Error::Unexpected("_gs_versions has no row".to_owned()));
    };
    let schema = first.try_get(0)?;
    let mut records = Vec::with_capacity(outcome.rows.len());
    for row in &outcome.rows {
        if row.try_get::<_, Option<bool>>(1)?.unwrap_or(false) {
            records.push(rows::record(collection, row, 2)?);
        }
    }
    Ok(Found { schema, records })
}

// === impl Select ===

impl<'a> Select<'a> {
    fn new(collection: &'a Arc<Collection>, what: &str) -> Select<'a> {
        let kind = if collection.is_view() { RootKind::View } else { RootKind::Table };
        let root = Root { alias: ALIAS, kind, expected: Expected::Many };
        let sql = Sql::new(format!("SELECT {what} FROM {} AS r WHERE true", quoted(&collection.name)));
        Select { collection, root, sql }
    }

    fn rows(collection: &'a Arc<Collection>) -> Select<'a> {
        let mut what = String::from("true AS found, ");
        rows::push_row(collection, ALIAS, &mut what);
        if collection.is_view() {
            what.push_str(" AS row");
        }
        Select::new(collection, &what)
    }

    /// The rows beside the version: one row at least, without a record where none is found.
    fn with_version(self) -> Sql {
        let Sql { text, params } = self.sql;
        let mut whole = String::with_capacity(text.len() + 100);
        whole.push_str("SELECT v.schema, f.found, ");
        if self.collection.is_view() {
            whole.push_str("f.row");
        } else {
            rows::push_row(self.collection, "f", &mut whole);
        }
        let _ = write!(whole, " FROM _gs_versions AS v LEFT JOIN LATERAL ({text}) AS f ON true");
        Sql { text: whole, params }
    }

    fn conditions(&mut self, conditions: &[Condition]) -> Result<(), Error> {
        conditions.iter().try_for_each(|condition| self.condition(condition))
    }

    /// Of few records, whose ids are given: the joined rows are looked up for each.
    fn conditions_of_few(&mut self, conditions: &[Condition]) -> Result<(), Error> {
        self.root.expected = Expected::One;
        self.conditions(conditions)
    }

    fn condition(&mut self, condition: &Condition) -> Result<(), Error> {
        let Condition { filter, context, body } = condition;
        self.sql.push(" AND ");
        filter_sql::push_filter(filter, (context, body), self.collection, self.root, &mut self.sql);
        Ok(())
    }

    fn order_by(&mut self, sort: &Sort) -> Result<(), Error> {
        let start = self.sql.text.len();
        self.sql.push(" ORDER BY ");
        let before = self.sql.text.len();
        filter_sql::push_order_by(sort, self.collection, self.root, &mut self.sql);
        if self.sql.text.len() == before {
            self.sql.text.truncate(start);
        }
        Ok(())
    }
}
