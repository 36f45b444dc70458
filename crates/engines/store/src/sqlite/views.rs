//! View collections as views of SQLite: tried, saved, and saved again when what they are made of changed.
//!
//! A view's query is what a superuser wrote. It is made a view and nothing else: one statement, of which
//! SQLite itself lets only a SELECT follow `CREATE VIEW … AS`. What it reads is bounded when it runs
//! ([`super::view_guard`]), and how long its first records may take the writer is, too ([`SAMPLE_TIME`]).

use std::sync::Arc;
use std::time::Duration;

use model::collection::view::{self, Fault, SAMPLE, SelectList, Trial};
use model::collection::{Collection, CollectionKind};
use model::field::Field;
use model::record::Record;
use model::schema::Schema;
use model::step::Why;
use rusqlite::{Connection, ErrorCode};

use crate::batch::Effects;

use super::connection::with_time;
use super::layout::{self, quoted};
use super::transaction::StepFailure;
use super::view_guard::strictly;
use super::{schema_rows, schema_steps};

/// The name of what is not kept. No collection can have it.
pub(super) const TRIAL: &str = "_gs_try";

/// How long the first records of a view may hold up other writes. A query that takes longer is left to
/// the deadline of reads: before a view is saved by itself, its records were asked for as a read.
const SAMPLE_TIME: Duration = Duration::from_millis(300);

/// What came of trying a query.
pub(super) struct Tried {
    /// The fields, and what is wrong.
    pub(super) trial: Trial,
    /// The SELECT that makes the view, its ids as texts; empty where there is none.
    pub(super) select: String,
}

/// Tries a query inside a transaction and keeps nothing of it.
pub(super) fn try_query(conn: &Connection, schema: &Schema, query: &str) -> rusqlite::Result<Tried> {
    let failed = |text: String| Tried { trial: Trial::failed(text), select: String::new() };
    let list = match SelectList::parse(query) {
        Ok(list) => list,
        Err(text) => return Ok(failed(text)),
    };
    conn.prepare_cached("SAVEPOINT view_trial")?.execute([])?;
    let columns = create(conn, TRIAL, list.query()).and_then(|()| columns(conn, TRIAL));
    conn.prepare_cached("ROLLBACK TO view_trial")?.execute([])?;
    conn.prepare_cached("RELEASE view_trial")?.execute([])?;
    let columns = match columns {
        Ok(columns) => columns,
        Err(error) => return refusal(error).map(failed),
    };
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let trial = Trial::of_columns(schema, &list, &names, &mut rand::rng());
    Ok(Tried { trial, select: with_text_id(list.query(), &columns) })
}

/// The first records of a SELECT that was tried; the text says why there are none.
pub(super) fn sample(
    conn: &Connection,
    collection: &Arc<Collection>,
    select: &str,
) -> rusqlite::Result<Result<Vec<Record>, String>> {
    // As a named part of the statement it is held to what a view may read.
    let sql = format!("WITH `{TRIAL}` AS (SELECT * FROM ({select})) SELECT * FROM `{TRIAL}` LIMIT {SAMPLE}");
    let read = || {
        let mut statement = conn.prepare(&sql)?;
        let places = layout::places(collection, &statement);
        let rows = statement.query_map([], |row| layout::record_from_view(collection, row, &places))?;
        rows.collect::<rusqlite::Result<Vec<Record>>>()
    };
    match read() {
        Ok(records) => Ok(Ok(records)),
        Err(error) => refusal(error).map(|text| Err(unreadable(&text))),
    }
}

/// Why a view is refused whose first records cannot be had.
pub(super) fn unreadable(why: &str) -> String {
    format!("failed to retrieve query records: {why}")
}

/// The collection with these fields.
pub(super) fn with_fields(collection: &Collection, fields: &[Field]) -> Arc<Collection> {
    Arc::new(Collection { fields: fields.to_vec(), ..collection.clone() })
}

/// Makes or changes a view as its collection says. Gives the collection with the fields that it has now.
pub(super) fn save(
    conn: &Connection,
    before: Option<&Collection>,
    after: &Arc<Collection>,
    effects: &Effects,
) -> Result<Arc<Collection>, StepFailure> {
    let mut tried = try_query(conn, &effects.schema, query(after))?;
    if let Some(Fault::Query(text)) = tried.trial.fault {
        return Err(Why::Engine(text).into());
    }
    if tried.trial.fault.is_none() {
        check_sample(conn, after, &mut tried)?;
    }
    store(conn, before, after, tried, effects)
}

/// Drops the view of a collection.
pub(super) fn drop_view(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    conn.execute_batch(&format!("DROP VIEW IF EXISTS {}", quoted(name)))
}

/// Gives every view but one the fields that its query has by now: all of them, or none where one of them
/// cannot be made any more. Then the text says why.
pub(super) fn follow(
    conn: &Connection,
    except: &str,
    effects: &mut Effects,
) -> Result<Result<(), String>, StepFailure> {
    if !effects.schema.collections().any(|collection| collection.is_view() && collection.id != except) {
        return Ok(Ok(()));
    }
    conn.prepare_cached("SAVEPOINT views")?.execute([])?;
    let schema = effects.schema.clone();
    let followed = follow_each(conn, except, effects)?;
    if followed.is_err() {
        conn.prepare_cached("ROLLBACK TO views")?.execute([])?;
        effects.schema = schema;
    }
    conn.prepare_cached("RELEASE views")?.execute([])?;
    Ok(followed)
}

/// Runs what alters tables in ways that the views on them would not stand, and makes them anew.
pub(super) fn without_views(
    conn: &Connection,
    work: impl FnOnce() -> Result<(), StepFailure>,
) -> Result<(), StepFailure> {
    let mut statement = conn.prepare("SELECT `name`, `sql` FROM `sqlite_master` WHERE `type` = 'view'")?;
    let views = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    for (name, _) in &views {
        drop_view(conn, name)?;
    }
    work()?;
    for (_, sql) in &views {
        conn.execute_batch(sql)?;
    }
    Ok(())
}

/// What SQLite says of SQL that it refuses, as the contract's clients know it. Any other error stays one.
pub(super) fn refusal(error: rusqlite::Error) -> rusqlite::Result<String> {
    let (code, message) = match error {
        rusqlite::Error::MultipleStatement => return Ok("multiple statements are not supported".to_owned()),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error, msg),
        rusqlite::Error::SqliteFailure(code, Some(message)) => (code, message),
        other => return Err(other),
    };
    let kind = match code.code {
        ErrorCode::Unknown => "SQL logic error",
        ErrorCode::AuthorizationForStatementDenied => "authorization denied",
        _ => return Err(rusqlite::Error::SqliteFailure(code, Some(message))),
    };
    Ok(format!("{kind}: {message} ({})", code.extended_code))
}

/// A column of a view.
struct Column {
    name: String,
    type_name: String,
}

fn query(collection: &Collection) -> &str {
    match &collection.kind {
        CollectionKind::View(options) => &options.query,
        _ => "",
    }
}

/// `execute` takes one statement and no more.
fn create(conn: &Connection, name: &str, select: &str) -> rusqlite::Result<()> {
    conn.execute(&format!("CREATE VIEW {} AS SELECT * FROM ({select})", quoted(name)), []).map(drop)
}

fn columns(conn: &Connection, view: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement = conn.prepare(&format!("PRAGMA table_info({})", quoted(view)))?;
    let column = |row: &rusqlite::Row<'_>| Ok(Column { name: row.get(1)?, type_name: row.get(2)? });
    let columns = statement.query_map([], column)?.collect::<rusqlite::Result<_>>()?;
    // The columns are found without asking whether they may be read.
    strictly(|| conn.prepare(&format!("SELECT * FROM {}", quoted(view))))?;
    Ok(columns)
}

/// The query, around it a SELECT that makes texts of ids which are none.
fn with_text_id(query: &str, columns: &[Column]) -> String {
    let is_text_id = |column: &Column| {
        column.name.eq_ignore_ascii_case("id") && column.type_name.eq_ignore_ascii_case("TEXT")
    };
    if columns.iter().any(is_text_id) {
        return query.to_owned();
    }
    let names = columns.iter().map(|column| match column.name.as_str() {
        "id" => "CAST(`id` as TEXT) `id`".to_owned(),
        name => quoted(name),
    });
    format!("SELECT {} FROM ({query})", names.collect::<Vec<_>>().join(","))
}

fn check_sample(conn: &Connection, after: &Collection, tried: &mut Tried) -> rusqlite::Result<()> {
    let collection = with_fields(after, &tried.trial.fields);
    match with_time(SAMPLE_TIME, || sample(conn, &collection, &tried.select)) {
        Ok(Ok(records)) => tried.trial.check_ids(records.iter().map(Record::id)),
        Ok(Err(text)) => tried.trial.fault = Some(Fault::Records(text)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn store(
    conn: &Connection,
    before: Option<&Collection>,
    after: &Collection,
    tried: Tried,
    effects: &Effects,
) -> Result<Arc<Collection>, StepFailure> {
    let settled = view::settle(&effects.schema, before, after, tried.trial, &mut rand::rng());
    let settled = settled.map_err(Why::Fields)?;
    if let Some(before) = before {
        drop_view(conn, &before.name)?;
    }
    create(conn, &settled.name, &tried.select)?;
    Ok(Arc::new(settled))
}

fn follow_each(
    conn: &Connection,
    except: &str,
    effects: &mut Effects,
) -> Result<Result<(), String>, StepFailure> {
    let views: Vec<Arc<Collection>> = effects
        .schema
        .collections()
        .filter(|collection| collection.is_view() && collection.id != except)
        .cloned()
        .collect();
    for view in views {
        let tried = try_query(conn, &effects.schema, query(&view))?;
        if let Some(fault) = &tried.trial.fault {
            return Ok(Err(fault.to_string()));
        }
        if view::is_same(&view.fields, &tried.trial.fields) {
            continue;
        }
        let after = Collection { updated: effects.now.to_text(), ..(*view).clone() };
        match store(conn, Some(&view), &after, tried, effects) {
            Ok(settled) => {
                schema_rows::save(conn, &settled)?;
                schema_steps::put_one(conn, settled, effects)?;
            }
            Err(StepFailure::Refused(why)) => {
                return Ok(Err(format!("{} cannot follow: {why:?}", view.name)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(()))
}
