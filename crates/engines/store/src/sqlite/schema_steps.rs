//! Steps that change collections: their rows in `_collections` and their tables.

use std::sync::Arc;

use model::collection::diff::{SchemaChange, diff};
use model::collection::{Collection, store_errors};
use model::errors::FieldErrors;
use model::field::Field;
use model::schema::Schema;
use model::step::Why;
use rusqlite::{Connection, OptionalExtension};

use crate::batch::Effects;

use super::layout::{self, quoted};
use super::transaction::StepFailure;
use super::{schema_rows, views};

/// Makes or changes a collection.
pub(super) fn save(
    conn: &Connection,
    before: Option<&Collection>,
    after: &Arc<Collection>,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    refuse_taken_table(conn, before, after)?;
    let after = if after.is_view() { views::save(conn, before, after, effects)? } else { after.clone() };
    apply_all(conn, &diff(before, Some(&after)))?;
    schema_rows::save(conn, &after)?;
    let id = after.id.clone();
    put_one(conn, after, effects)?;
    // As in the contract: a view that cannot follow stays as it is, for its query to be changed.
    if let Err(why) = views::follow(conn, &id, effects)? {
        tracing::info!(collection = id, why, "the views stay as they are");
    }
    Ok(())
}

/// Removes a collection and its table or view, perhaps only if every view still is one.
pub(super) fn delete(
    conn: &Connection,
    collection: &Arc<Collection>,
    check_views: bool,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    if collection.is_view() {
        views::drop_view(conn, &collection.name)?;
    }
    for change in diff(Some(collection), None) {
        apply(conn, &change)?;
    }
    schema_rows::delete(conn, &collection.id)?;
    let collections = effects.schema.collections().filter(|other| other.id != collection.id).cloned();
    let collections = collections.collect();
    put(conn, collections, effects)?;
    if check_views {
        views::follow(conn, &collection.id, effects)?.map_err(Why::Engine)?;
    }
    Ok(())
}

/// Puts a collection into the schema, in the place of the one with its id.
pub(super) fn put_one(
    conn: &Connection,
    saved: Arc<Collection>,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    let mut collections: Vec<_> = effects.schema.collections().cloned().collect();
    match collections.iter_mut().find(|collection| collection.id == saved.id) {
        Some(place) => *place = saved,
        None => collections.push(saved),
    }
    put(conn, collections, effects)
}

fn put(
    conn: &Connection,
    collections: Vec<Arc<Collection>>,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    let version = schema_rows::next_version(conn)?;
    effects.change_schema(Schema::new(version, collections));
    Ok(())
}

/// A table of this name that is no collection's is one of the server's own.
fn refuse_taken_table(
    conn: &Connection,
    before: Option<&Collection>,
    after: &Collection,
) -> Result<(), StepFailure> {
    if before.is_some_and(|before| before.name.eq_ignore_ascii_case(&after.name)) {
        return Ok(());
    }
    let taken = conn
        .query_row(
            "SELECT 1 FROM `sqlite_master` WHERE `name` = ?1 COLLATE NOCASE AND `type` IN ('table', 'view')",
            [&after.name],
            |_| Ok(()),
        )
        .optional()?;
    match taken {
        Some(()) => Err(Why::Fields(store_errors::internal_table_exists()).into()),
        None => Ok(()),
    }
}

/// Every change; of indexes that are refused all are reported.
fn apply_all(conn: &Connection, changes: &[SchemaChange]) -> Result<(), StepFailure> {
    let mut errors = FieldErrors::new();
    for change in changes {
        match apply(conn, change) {
            Err(StepFailure::Refused(Why::Fields(refused))) => errors.merge_deep(refused),
            other => other?,
        }
    }
    errors.into_result().map_err(|errors| Why::Fields(errors).into())
}

/// A change of one of our own collections, which SQLite has no reason to refuse.
pub(super) fn apply_own(conn: &Connection, change: &SchemaChange) -> rusqlite::Result<()> {
    match apply(conn, change) {
        Ok(()) => Ok(()),
        Err(StepFailure::Engine(error)) => Err(error),
        Err(StepFailure::Refused(why)) => {
            tracing::error!(?why, "a system collection was refused");
            Err(rusqlite::Error::InvalidQuery)
        }
        Err(StepFailure::TooManyJobs) => Err(rusqlite::Error::InvalidQuery),
    }
}

fn apply(conn: &Connection, change: &SchemaChange) -> Result<(), StepFailure> {
    let sql = match change {
        SchemaChange::CreateTable { table, fields } => layout::create_table(table, fields),
        SchemaChange::DropTable { table } => format!("DROP TABLE {}", quoted(table)),
        SchemaChange::RenameTable { from, to } => return rename_table(conn, from, to),
        SchemaChange::DropIndex { name } => format!("DROP INDEX IF EXISTS {}", quoted(name)),
        SchemaChange::DropColumn { table, column } => {
            format!("ALTER TABLE {} DROP COLUMN {}", quoted(table), quoted(column))
        }
        SchemaChange::RenameColumn { table, from, to } => {
            format!("ALTER TABLE {} RENAME COLUMN {} TO {}", quoted(table), quoted(from), quoted(to))
        }
        SchemaChange::AddColumn { table, field } => add_column(table, field, &field.name),
        SchemaChange::SingleToMultiple { table, field } => {
            return replace_column(
                conn,
                table,
                field,
                "CASE WHEN coalesce(COLUMN, '') = '' THEN '[]' \
                 WHEN json_valid(COLUMN) AND json_type(COLUMN) = 'array' THEN COLUMN ELSE json_array(COLUMN) END",
            );
        }
        SchemaChange::MultipleToSingle { table, field } => {
            return replace_column(
                conn,
                table,
                field,
                "CASE WHEN json_valid(COLUMN) AND json_type(COLUMN) = 'array' \
                 THEN coalesce(json_extract(COLUMN, '$[#-1]'), '') ELSE COLUMN END",
            );
        }
        SchemaChange::CreateIndex { position, index } => {
            return create_index(conn, *position, &index.name, &index.render());
        }
    };
    let what = match change {
        SchemaChange::DropColumn { column, .. } => format!("failed to drop column {column} - "),
        SchemaChange::RenameColumn { from, .. } => format!("failed to rename column {from} - "),
        _ => String::new(),
    };
    alter(conn, &sql, &what)
}

/// SQLite looks at all views when it alters a table, and refuses what one of them would not stand.
fn alter(conn: &Connection, sql: &str, what: &str) -> Result<(), StepFailure> {
    conn.execute_batch(sql).or_else(|error| {
        let text = views::refusal(error)?;
        Err(Why::Engine(format!("{what}{text}")).into())
    })
}

fn add_column(table: &str, field: &Field, column: &str) -> String {
    format!("ALTER TABLE {} ADD COLUMN {} {}", quoted(table), quoted(column), layout::column_type(field))
}

/// SQLite takes a change of case alone for the name of a table that is there.
fn rename_table(conn: &Connection, from: &str, to: &str) -> Result<(), StepFailure> {
    let between = format!("_gs_rename_{to}");
    let sql = format!(
        "ALTER TABLE {0} RENAME TO {1}; ALTER TABLE {1} RENAME TO {2}",
        quoted(from),
        quoted(&between),
        quoted(to)
    );
    alter(conn, &sql, "")
}

/// Gives a column another type, its values converted by `expression` (of `COLUMN`).
fn replace_column(
    conn: &Connection,
    table: &str,
    field: &Field,
    expression: &str,
) -> Result<(), StepFailure> {
    let (table_name, old) = (quoted(table), format!("_gs_old_{}", field.name));
    let expression = expression.replace("COLUMN", &quoted(&old));
    let sql = format!(
        "ALTER TABLE {table_name} RENAME COLUMN {column} TO {old}; {add}; \
         UPDATE {table_name} SET {column} = {expression}; ALTER TABLE {table_name} DROP COLUMN {old}",
        column = quoted(&field.name),
        old = quoted(&old),
        add = add_column(table, field, &field.name),
    );
    views::without_views(conn, || alter(conn, &sql, ""))
}

fn create_index(conn: &Connection, position: usize, name: &str, statement: &str) -> Result<(), StepFailure> {
    if let Some(table) = index_owner(conn, name)? {
        return Err(Why::Fields(store_errors::existing_index_name(position, &table)).into());
    }
    // `execute` takes one statement: the text is a client's, and must not carry another after a `;`.
    let (code, message) = match conn.execute(statement, []) {
        Ok(_) => return Ok(()),
        Err(rusqlite::Error::MultipleStatement) => {
            let detail = "only one statement is allowed";
            return Err(Why::Fields(store_errors::refused_index(position, name, detail)).into());
        }
        Err(rusqlite::Error::SqliteFailure(code, Some(message))) if is_refusal(code) => (code, message),
        Err(rusqlite::Error::SqlInputError { error, msg, .. }) => (error, msg),
        Err(error) => return Err(error.into()),
    };
    let kind = if code.code == rusqlite::ErrorCode::ConstraintViolation {
        "constraint failed"
    } else {
        "SQL logic error"
    };
    let detail = format!("{kind}: {message} ({})", code.extended_code);
    Err(Why::Fields(store_errors::refused_index(position, name, &detail)).into())
}

/// SQLite refused the statement, or the rows violate a unique index.
fn is_refusal(code: rusqlite::ffi::Error) -> bool {
    matches!(code.code, rusqlite::ErrorCode::Unknown | rusqlite::ErrorCode::ConstraintViolation)
}

/// The table of an existing index.
fn index_owner(conn: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    conn.query_row(
        "SELECT `tbl_name` FROM `sqlite_master` WHERE `type` = 'index' AND `name` = ?1 COLLATE NOCASE",
        [name],
        |row| row.get(0),
    )
    .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn things() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE things (a TEXT); INSERT INTO things VALUES ('kept')").unwrap();
        conn
    }

    #[test]
    fn what_follows_the_statement_of_an_index_is_refused_and_not_run() {
        for tail in ["DELETE FROM things", "DROP TABLE things; --", "nonsense"] {
            let conn = things();
            let statement = format!("CREATE INDEX `idx` ON `things` (`a`) WHERE 1=1; {tail}");
            let Err(StepFailure::Refused(Why::Fields(errors))) = create_index(&conn, 2, "idx", &statement)
            else {
                panic!("{tail:?} was not refused");
            };
            let mut text = String::new();
            errors.write(&mut text);
            assert!(text.contains("validation_invalid_index_expression"), "{text}");
            let rows: i64 = conn.query_row("SELECT count(*) FROM things", [], |row| row.get(0)).unwrap();
            assert_eq!((rows, index_owner(&conn, "idx").unwrap()), (1, None), "{tail:?}");
        }
    }

    #[test]
    fn one_statement_may_end_in_a_semicolon_and_a_comment() {
        let conn = things();
        let statement = "CREATE INDEX `idx` ON `things` (`a`) WHERE `a` != ';'; -- by name";
        assert!(create_index(&conn, 0, "idx", statement).is_ok());
        assert_eq!(index_owner(&conn, "idx").unwrap().as_deref(), Some("things"));
    }
}
