//! View collections as views of PostgreSQL: tried, saved, and saved again when what they are made of changed.
//!
//! A view's query is what a superuser wrote, in PostgreSQL's own SQL. Around it stands a SELECT that gives its
//! columns the types that a table's have. It reads the tables of collections, and nothing of the server's own:
//! what the database's catalogue says that the view reads is looked at before it is kept. Tables with secret
//! columns are read through a named part of the statement in which those are NULL.

use std::fmt::Write as _;
use std::sync::Arc;

use model::collection::view::{self, Fault, SAMPLE, SelectList, Trial};
use model::collection::{Collection, CollectionKind};
use model::field::Field;
use model::plan;
use model::record::Record;
use model::schema::Schema;
use model::step::Why;

use crate::batch::Effects;

use super::error::{Error, Kind, kind, told};
use super::layout::{ColumnKind, FUNCTIONS, ROW_ID, column_kind, identifier, json_column, quoted};
use super::sql::{Param, Sql};
use super::transaction::{BatchTransaction, StepFailure, texts};
use super::{rows, schema_rows, schema_steps};

/// The name of what is not kept. No collection can have it.
const TRIAL: &str = "_gs_try";

/// How long the first records of a view may hold up other writes. A query that takes longer is left to
/// the deadline of reads: before a view is saved by itself, its records were asked for as a read.
const SAMPLE_TIME: &str = "300ms";

/// Functions that a view may call though they give something else every time.
const VOLATILE: &str = "'random', 'clock_timestamp', 'timeofday', 'gen_random_uuid'";

/// Functions of the server about itself that tell nothing of it. The others show settings, and what others run.
const HARMLESS: &str = "'pg_typeof', 'pg_column_size', 'pg_collation_for'";

/// What came of trying a query.
pub(super) struct Tried {
    /// The fields, and what is wrong.
    pub(super) trial: Trial,
    /// The SELECT that makes the view; empty where there is none.
    pub(super) select: String,
}

/// Tries a query inside a transaction and keeps nothing of it.
pub(super) async fn try_query(
    transaction: &mut BatchTransaction,
    schema: &Schema,
    query: &str,
) -> Result<Tried, Error> {
    let failed = |text: String| Tried { trial: Trial::failed(text), select: String::new() };
    let list = match SelectList::parse(query) {
        Ok(list) => list,
        Err(text) => return Ok(failed(text)),
    };
    transaction.tell(Sql::new("SAVEPOINT view_trial")).await?;
    let found = find_columns(transaction, schema, list.query()).await?;
    transaction.tell(Sql::new("ROLLBACK TO view_trial")).await?;
    transaction.tell(Sql::new("RELEASE view_trial")).await?;
    let columns = match found {
        Ok(columns) => columns,
        Err(text) => return Ok(failed(text)),
    };
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let trial = Trial::of_columns(schema, &list, &names, &mut rand::rng());
    let select = typed_select(&with_shadows(schema, list.query()), &columns, &trial.fields);
    Ok(Tried { trial, select })
}

/// The first records of a SELECT that was tried; the text says why there are none.
pub(super) fn sample(collection: &Collection, select: &str) -> Sql {
    let mut sql = Sql::new("SELECT ");
    rows::push_row(collection, "r", &mut sql.text);
    let _ = write!(sql.text, " FROM ({select}) AS r LIMIT {SAMPLE}");
    sql
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
pub(super) async fn save(
    transaction: &mut BatchTransaction,
    before: Option<&Collection>,
    after: &Arc<Collection>,
    effects: &Effects,
) -> Result<Arc<Collection>, StepFailure> {
    let mut tried = try_query(transaction, &effects.schema, query(after)).await?;
    if let Some(Fault::Query(text)) = tried.trial.fault {
        return Err(Why::Engine(text).into());
    }
    if tried.trial.fault.is_none() {
        check_sample(transaction, after, &mut tried).await?;
    }
    store(transaction, before, after, tried, effects).await
}

/// Drops the view of a collection.
pub(super) async fn drop_view(transaction: &mut BatchTransaction, name: &str) -> Result<(), Error> {
    transaction.ask(Sql::new(format!("DROP VIEW IF EXISTS {} CASCADE", quoted(name)))).await.map(drop)
}

/// Gives every view but one the fields that its query has by now: all of them, or none where one of them
/// cannot be made any more. Then the text says why.
pub(super) async fn follow(
    transaction: &mut BatchTransaction,
    except: &str,
    effects: &mut Effects,
) -> Result<Result<(), String>, StepFailure> {
    if !effects.schema.collections().any(|collection| collection.is_view() && collection.id != except) {
        return Ok(Ok(()));
    }
    transaction.tell(Sql::new("SAVEPOINT views")).await?;
    let schema = effects.schema.clone();
    let followed = follow_each(transaction, except, effects).await?;
    if followed.is_err() {
        transaction.tell(Sql::new("ROLLBACK TO views")).await?;
        effects.schema = schema;
    }
    transaction.tell(Sql::new("RELEASE views")).await?;
    Ok(followed)
}

/// Drops all views, since PostgreSQL drops and replaces no column that a view reads. Gives those that were there.
pub(super) async fn drop_all(
    transaction: &mut BatchTransaction,
    schema: &Schema,
) -> Result<Vec<Arc<Collection>>, Error> {
    let there = there(transaction).await?;
    let is_there = |collection: &Arc<Collection>| {
        collection.is_view() && there.iter().any(|name| *name == identifier(&collection.name))
    };
    let views: Vec<Arc<Collection>> =
        schema.collections().filter(|collection| is_there(collection)).cloned().collect();
    for view in &views {
        drop_view(transaction, &view.name).await?;
    }
    Ok(views)
}

/// The views of these names that are there no more.
pub(super) async fn gone(
    transaction: &mut BatchTransaction,
    schema: &Schema,
    before: &[String],
) -> Result<Vec<Arc<Collection>>, Error> {
    if before.is_empty() {
        return Ok(Vec::new());
    }
    let there = there(transaction).await?;
    let is_gone = |view: &&Arc<Collection>| {
        let name = identifier(&view.name);
        view.is_view() && before.iter().any(|had| *had == name) && there.iter().all(|has| *has != name)
    };
    Ok(schema.collections().filter(is_gone).cloned().collect())
}

/// The views that the database has.
pub(super) async fn there(transaction: &mut BatchTransaction) -> Result<Vec<String>, Error> {
    let sql = Sql::new("SELECT viewname::text FROM pg_catalog.pg_views WHERE schemaname = current_schema()");
    texts(&transaction.ask(sql).await?.rows)
}

/// Makes views anew that were dropped, whichever of them reads another. The text says which cannot be made any
/// more.
pub(super) async fn make_all(
    transaction: &mut BatchTransaction,
    schema: &Schema,
    mut views: Vec<Arc<Collection>>,
) -> Result<Result<(), String>, Error> {
    while !views.is_empty() {
        let mut left = Vec::new();
        let mut refused = String::new();
        for view in &views {
            if let Err(text) = make(transaction, schema, view).await? {
                if refused.is_empty() {
                    refused = format!("error in view {}: {text}", view.name);
                }
                left.push(view.clone());
            }
        }
        if left.len() == views.len() {
            return Ok(Err(refused));
        }
        views = left;
    }
    Ok(Ok(()))
}

async fn make(
    transaction: &mut BatchTransaction,
    schema: &Schema,
    view: &Collection,
) -> Result<Result<(), String>, Error> {
    let tried = try_query(transaction, schema, query(view)).await?;
    if let Some(Fault::Query(text)) = tried.trial.fault {
        return Ok(Err(text));
    }
    match transaction.attempt(create(&view.name, &tried.select)).await? {
        Ok(_) => Ok(Ok(())),
        Err(error) if matches!(kind(&error), Kind::Statement | Kind::Other) => Ok(Err(told(&error))),
        Err(error) => Err(error.into()),
    }
}

/// A column that the database found in a query.
struct Column {
    name: String,
    /// The name of its type, such as `int8`.
    type_name: String,
}

fn query(collection: &Collection) -> &str {
    match &collection.kind {
        CollectionKind::View(options) => &options.query,
        _ => "",
    }
}

fn create(name: &str, select: &str) -> Sql {
    Sql::new(format!("CREATE VIEW {} AS {select}", quoted(name)))
}

/// The columns of a query; the text says why it is none that a view may have.
async fn find_columns(
    transaction: &mut BatchTransaction,
    schema: &Schema,
    query: &str,
) -> Result<Result<Vec<Column>, String>, Error> {
    let select = format!("SELECT * FROM {} AS q", with_shadows(schema, query));
    if let Err(error) = transaction.attempt(create(TRIAL, &select)).await? {
        return match kind(&error) {
            Kind::Statement | Kind::Other => Ok(Err(told(&error))),
            _ => Err(error.into()),
        };
    }
    if let Some(text) = forbidden(transaction, schema, query).await? {
        return Ok(Err(text));
    }
    let mut sql = Sql::new(
        "SELECT attname::text, typname::text FROM pg_catalog.pg_attribute \
         JOIN pg_catalog.pg_type ON pg_type.oid = atttypid WHERE attrelid = ",
    );
    sql.param(Param::from(TRIAL));
    sql.push("::regclass AND attnum > 0 ORDER BY attnum");
    let found = transaction.ask(sql).await?;
    let column = |row: &tokio_postgres::Row| -> Result<Column, Error> {
        Ok(Column { name: row.try_get(0)?, type_name: row.try_get(1)? })
    };
    Ok(Ok(found.rows.iter().map(column).collect::<Result<_, _>>()?))
}

/// What of the trial's view is not for views: the server's own tables, the catalogue, secret columns past
/// their shadow, functions that do things.
async fn forbidden(
    transaction: &mut BatchTransaction,
    schema: &Schema,
    query: &str,
) -> Result<Option<String>, Error> {
    // Dependencies leave out what comes with the database; the view's own tree names all that it reads.
    let tree = "(SELECT ev_action::text FROM pg_catalog.pg_rewrite WHERE ev_class = '_gs_try'::regclass)";
    let tables = format!(
        "SELECT c.relname::text, c.relnamespace = current_schema()::regnamespace \
         FROM regexp_matches({tree}, ':relid ([0-9]+)', 'g') AS found \
         JOIN pg_catalog.pg_class AS c ON c.oid = found[1]::oid AND c.relname <> '{TRIAL}'"
    );
    let names: Vec<(String, bool)> = transaction
        .ask(Sql::new(tables))
        .await?
        .rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, Error>>()?;
    for (name, is_here) in &names {
        if !is_here || is_internal(name) {
            return Ok(Some(format!("a view cannot read {name}")));
        }
    }
    for collection in shadowed(schema, query) {
        let name = identifier(&collection.name);
        if names.iter().filter(|(found, _)| *found == name).count() > 1 {
            return Ok(Some(format!("a view must name {name} without its schema, and under one name")));
        }
    }
    for collection in schema.collections().filter(|collection| has_secrets(collection)) {
        let name = identifier(&collection.name);
        let is_shadowed = shadowed(schema, query).any(|shadowed| shadowed.id == collection.id);
        if !is_shadowed && names.iter().any(|(found, _)| *found == name) {
            return Ok(Some(format!("a view must name {name} as it is")));
        }
    }
    let functions = format!(
        "SELECT p.proname::text FROM regexp_matches({tree}, ':funcid ([0-9]+)', 'g') AS found \
         JOIN pg_catalog.pg_proc AS p ON p.oid = found[1]::oid \
         WHERE (p.provolatile = 'v' AND p.proname NOT IN ({VOLATILE})) OR p.proname LIKE '%\\_to\\_xml%' \
         OR (p.proname LIKE 'pg\\_%' AND p.proname NOT IN ({HARMLESS})) OR p.proname = 'current_setting' LIMIT 1"
    );
    let found = transaction.ask(Sql::new(functions)).await?;
    let function: Option<String> = found.rows.first().map(|row| row.try_get(0)).transpose()?;
    Ok(function.map(|name| format!("a view cannot call {name}")))
}

/// The server's own tables.
fn is_internal(table: &str) -> bool {
    table.starts_with("_gs_") || matches!(table, "_collections" | "_params")
}

fn has_secrets(collection: &Collection) -> bool {
    !collection.is_view() && !secrets(collection).is_empty()
}

/// The names of the fields that no view shows.
pub(super) fn secrets(collection: &Collection) -> Vec<&str> {
    let secret = collection.fields.iter().filter(|field| plan::is_secret(collection, field));
    secret.map(|field| field.name.as_str()).collect()
}

/// The collections with secret columns that a query seems to name.
fn shadowed<'s>(schema: &'s Schema, query: &str) -> impl Iterator<Item = &'s Arc<Collection>> {
    let query = query.to_lowercase();
    schema
        .collections()
        .filter(move |collection| has_secrets(collection) && query.contains(&collection.name.to_lowercase()))
}

/// The query as a FROM item, in which tables with secrets show none.
fn with_shadows(schema: &Schema, query: &str) -> String {
    let mut sql = String::from("(");
    let mut before = "WITH ";
    for collection in shadowed(schema, query) {
        let _ = write!(sql, "{before}{} AS NOT MATERIALIZED (SELECT {ROW_ID}", quoted(&collection.name));
        for field in &collection.fields {
            let name = quoted(&field.name);
            if plan::is_secret(collection, field) {
                let _ = write!(sql, ", NULL::text AS {name}");
            } else {
                let _ = write!(sql, ", {name}");
            }
            if column_kind(field) == ColumnKind::Json {
                let _ = write!(sql, ", {}", quoted(&json_column(&field.name)));
            }
        }
        let _ = write!(sql, " FROM {})", quoted(&collection.name));
        before = ", ";
    }
    if before == ", " {
        let _ = write!(sql, " SELECT * FROM ({query}) AS inside)");
    } else {
        sql.push_str(query);
        sql.push(')');
    }
    sql
}

/// The SELECT of a view: each column in the type that its field has in a table.
fn typed_select(from: &str, columns: &[Column], fields: &[Field]) -> String {
    let mut sql = String::new();
    for column in columns {
        let name = quoted(&column.name);
        let Some(field) = fields.iter().find(|field| field.name == column.name) else { continue };
        sql.push_str(if sql.is_empty() { "SELECT " } else { ", " });
        match column_kind(field) {
            ColumnKind::Text => {
                let _ = write!(sql, "q.{name}::text COLLATE \"C\" AS {name}");
            }
            ColumnKind::Number => {
                let _ = write!(sql, "q.{name}::double precision AS {name}");
            }
            ColumnKind::Bool => {
                let _ = write!(sql, "q.{name}::boolean AS {name}");
            }
            ColumnKind::Json => {
                // As a number has it in JSON, without the noughts that a decimal carries.
                let is_decimal = matches!(column.type_name.as_str(), "numeric" | "float4");
                let number = if is_decimal { "::double precision" } else { "" };
                let text = format!("q.{name}{number}::text COLLATE \"C\"");
                let json = quoted(&json_column(&column.name));
                let _ = write!(sql, "{text} AS {name}, {FUNCTIONS}.json_of({text}) AS {json}");
            }
        }
    }
    if sql.is_empty() {
        sql.push_str("SELECT q.*");
    }
    let _ = write!(sql, " FROM {from} AS q");
    sql
}

async fn check_sample(
    transaction: &mut BatchTransaction,
    after: &Collection,
    tried: &mut Tried,
) -> Result<(), Error> {
    let collection = with_fields(after, &tried.trial.fields);
    transaction.tell(Sql::new(format!("SET LOCAL statement_timeout = '{SAMPLE_TIME}'"))).await?;
    let read = transaction.attempt(sample(&collection, &tried.select)).await?;
    transaction.tell(Sql::new("SET LOCAL statement_timeout = 0")).await?;
    match read {
        Ok(outcome) => {
            let records: Vec<Record> =
                outcome.rows.iter().map(|row| rows::record(&collection, row, 0)).collect::<Result<_, _>>()?;
            tried.trial.check_ids(records.iter().map(Record::id));
        }
        Err(error) if kind(&error) == Kind::Cancelled => {}
        Err(error) if matches!(kind(&error), Kind::Statement | Kind::Other) => {
            tried.trial.fault = Some(Fault::Records(unreadable(&told(&error))));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn store(
    transaction: &mut BatchTransaction,
    before: Option<&Collection>,
    after: &Collection,
    tried: Tried,
    effects: &Effects,
) -> Result<Arc<Collection>, StepFailure> {
    let settled = view::settle(&effects.schema, before, after, tried.trial, &mut rand::rng());
    let settled = settled.map_err(Why::Fields)?;
    if let Some(before) = before {
        drop_view(transaction, &before.name).await?;
    }
    match transaction.attempt(create(&settled.name, &tried.select)).await? {
        Ok(_) => Ok(Arc::new(settled)),
        Err(error) if matches!(kind(&error), Kind::Statement | Kind::Other) => {
            Err(Why::Engine(told(&error)).into())
        }
        Err(error) => Err(Error::Postgres(error).into()),
    }
}

async fn follow_each(
    transaction: &mut BatchTransaction,
    except: &str,
    effects: &mut Effects,
) -> Result<Result<(), String>, StepFailure> {
    let views: Vec<Arc<Collection>> = effects
        .schema
        .collections()
        .filter(|collection| collection.is_view() && collection.id != except)
        .cloned()
        .collect();
    let there = there(transaction).await?;
    for view in views {
        let tried = try_query(transaction, &effects.schema, query(&view)).await?;
        if let Some(fault) = &tried.trial.fault {
            return Ok(Err(fault.to_string()));
        }
        if view::is_same(&view.fields, &tried.trial.fields) {
            // One that went with what it reads is there again with it.
            if !there.contains(&identifier(&view.name).into_owned()) {
                let _ = transaction.attempt(create(&view.name, &tried.select)).await?;
            }
            continue;
        }
        let after = Collection { updated: effects.now.to_text(), ..(*view).clone() };
        match store(transaction, Some(&view), &after, tried, effects).await {
            Ok(settled) => {
                transaction.tell(schema_rows::save(&settled)).await?;
                schema_steps::put_one(transaction, settled, effects).await?;
            }
            Err(StepFailure::Refused(why)) => {
                return Ok(Err(format!("{} cannot follow: {why:?}", view.name)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(()))
}
