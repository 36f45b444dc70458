//! Steps that change collections: their rows in `_collections` and their tables. All of it is one transaction.

use std::sync::Arc;

use model::collection::diff::{SchemaChange, diff};
use model::collection::index::Index;
use model::collection::{Collection, store_errors};
use model::errors::FieldErrors;
use model::field::Field;
use model::schema::Schema;
use model::step::Why;

use crate::batch::Effects;

use super::error::{Error, Kind, kind, told};
use super::layout::{self, identifier, json_column, quoted};
use super::sql::{Param, Sql};
use super::transaction::{BatchTransaction, StepFailure};
use super::{indexes, schema_rows, views};

/// Makes or changes a collection.
pub(super) async fn save(
    transaction: &mut BatchTransaction,
    before: Option<&Collection>,
    after: &Arc<Collection>,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    refuse_taken_table(transaction, before, after).await?;
    // What reads a view goes with it when it is made anew.
    let there = if after.is_view() { views::there(transaction).await? } else { Vec::new() };
    let after =
        if after.is_view() { views::save(transaction, before, after, effects).await? } else { after.clone() };
    let changes = if after.is_view() { Vec::new() } else { diff(before, Some(&after)) };
    let takes_columns_away = changes.iter().any(|change| {
        use SchemaChange::{DropColumn, MultipleToSingle, SingleToMultiple};
        matches!(change, DropColumn { .. } | SingleToMultiple { .. } | MultipleToSingle { .. })
    });
    // A view that reads whole rows would show a secret that is new among them.
    let has_new_secrets = before.is_some_and(|before| views::secrets(before) != views::secrets(&after));
    let dropped = if takes_columns_away || has_new_secrets {
        views::drop_all(transaction, &effects.schema).await?
    } else {
        Vec::new()
    };
    apply_all(transaction, &after, &changes).await?;
    transaction.tell(schema_rows::save(&after)).await?;
    let id = after.id.clone();
    put_one(transaction, after, effects).await?;
    views::make_all(transaction, &effects.schema, dropped).await?.map_err(Why::Engine)?;
    let gone = views::gone(transaction, &effects.schema, &there).await?;
    if let Err(why) = views::make_all(transaction, &effects.schema, gone).await? {
        tracing::info!(collection = id, why, "a view cannot be made any more");
    }
    // As in the contract: a view that cannot follow stays as it is, for its query to be changed.
    if let Err(why) = views::follow(transaction, &id, effects).await? {
        tracing::info!(collection = id, why, "the views stay as they are");
    }
    Ok(())
}

/// Removes a collection and its table or view, perhaps only if every view still is one.
pub(super) async fn delete(
    transaction: &mut BatchTransaction,
    collection: &Arc<Collection>,
    check_views: bool,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    if collection.is_view() {
        views::drop_view(transaction, &collection.name).await?;
    } else {
        // Views that read it go with it, and are missing until their queries are changed.
        let drop = format!("DROP TABLE {} CASCADE", quoted(&collection.name));
        alter(transaction, Sql::new(drop), "").await?;
    }
    transaction.tell(schema_rows::delete(&collection.id)).await?;
    let collections = effects.schema.collections().filter(|other| other.id != collection.id).cloned();
    put(transaction, collections.collect(), effects).await?;
    if check_views {
        views::follow(transaction, &collection.id, effects).await?.map_err(Why::Engine)?;
    }
    Ok(())
}

/// Puts a collection into the schema, in the place of the one with its id.
pub(super) async fn put_one(
    transaction: &mut BatchTransaction,
    saved: Arc<Collection>,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    let mut collections: Vec<_> = effects.schema.collections().cloned().collect();
    match collections.iter_mut().find(|collection| collection.id == saved.id) {
        Some(place) => *place = saved,
        None => collections.push(saved),
    }
    put(transaction, collections, effects).await
}

async fn put(
    transaction: &mut BatchTransaction,
    collections: Vec<Arc<Collection>>,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    let counted = transaction.ask(schema_rows::next_version()).await?;
    let version: i64 = match counted.rows.first() {
        Some(row) => row.try_get(0).map_err(Error::Postgres)?,
        None => return Err(Error::Unexpected("_gs_versions has no row".to_owned()).into()),
    };
    effects.change_schema(Schema::new(version.unsigned_abs(), collections));
    Ok(())
}

/// A table of this name that is no collection's is one of the server's own, or of somebody else.
async fn refuse_taken_table(
    transaction: &mut BatchTransaction,
    before: Option<&Collection>,
    after: &Collection,
) -> Result<(), StepFailure> {
    if before.is_some_and(|before| before.name.eq_ignore_ascii_case(&after.name)) {
        return Ok(());
    }
    let mut sql = Sql::new(
        "SELECT 1 FROM pg_catalog.pg_class WHERE relnamespace = current_schema()::regnamespace \
         AND relkind <> 'i' AND lower(relname) = lower(",
    );
    sql.param(Param::from(&*identifier(&after.name)));
    sql.push(")");
    match transaction.ask(sql).await?.rows.is_empty() {
        true => Ok(()),
        false => Err(Why::Fields(store_errors::internal_table_exists()).into()),
    }
}

/// Every change; of indexes that are refused all are reported.
pub(super) async fn apply_all(
    transaction: &mut BatchTransaction,
    collection: &Collection,
    changes: &[SchemaChange],
) -> Result<(), StepFailure> {
    let mut errors = FieldErrors::new();
    for change in changes {
        match apply(transaction, collection, change).await {
            Err(StepFailure::Refused(Why::Fields(refused))) => errors.merge_deep(refused),
            other => other?,
        }
    }
    errors.into_result().map_err(|errors| Why::Fields(errors).into())
}

async fn apply(
    transaction: &mut BatchTransaction,
    collection: &Collection,
    change: &SchemaChange,
) -> Result<(), StepFailure> {
    match change {
        SchemaChange::CreateTable { table, fields } => {
            alter(transaction, Sql::new(layout::create_table(table, fields)), "").await
        }
        SchemaChange::DropTable { table } => {
            alter(transaction, Sql::new(format!("DROP TABLE {}", quoted(table))), "").await
        }
        SchemaChange::RenameTable { from, to } => {
            let sql = format!("ALTER TABLE {} RENAME TO {}", quoted(from), quoted(to));
            alter(transaction, Sql::new(sql), "").await?;
            rename_key(transaction, from, to).await
        }
        SchemaChange::DropIndex { name } => {
            let sql = format!("DROP INDEX IF EXISTS {}", quoted(name));
            alter(transaction, Sql::new(sql), "").await
        }
        SchemaChange::DropColumn { table, column } => {
            let sql = format!(
                "ALTER TABLE {0} DROP COLUMN IF EXISTS {1}, DROP COLUMN {2}",
                quoted(table),
                quoted(&json_column(column)),
                quoted(column)
            );
            alter(transaction, Sql::new(sql), &format!("failed to drop column {column} - ")).await
        }
        SchemaChange::RenameColumn { table, from, to } => rename_column(transaction, table, from, to).await,
        SchemaChange::AddColumn { table, field } => add_column(transaction, table, field).await,
        SchemaChange::SingleToMultiple { table, field } => {
            let expression = "CASE WHEN coalesce(COLUMN, '') = '' THEN '[]' \
                 WHEN jsonb_typeof(groundswell.json_of(COLUMN)) = 'array' THEN COLUMN \
                 ELSE json_build_array(COLUMN)::text END";
            replace_column(transaction, table, field, expression).await
        }
        SchemaChange::MultipleToSingle { table, field } => {
            let expression = "CASE WHEN jsonb_typeof(groundswell.json_of(COLUMN)) = 'array' \
                 THEN coalesce(groundswell.json_of(COLUMN) ->> -1, '') ELSE COLUMN END";
            replace_column(transaction, table, field, expression).await
        }
        SchemaChange::CreateIndex { position, index } => {
            create_index(transaction, collection, *position, index).await
        }
    }
}

/// What the server does not do for a superuser's schema is told in its own words.
async fn alter(transaction: &mut BatchTransaction, sql: Sql, what: &str) -> Result<(), StepFailure> {
    match transaction.attempt(sql).await? {
        Ok(_) => Ok(()),
        Err(error) if matches!(kind(&error), Kind::Statement | Kind::Other) => {
            Err(Why::Engine(format!("{what}{}", told(&error))).into())
        }
        Err(error) => Err(Error::Postgres(error).into()),
    }
}

/// The index behind the primary key is named for its table, so that two tables never want one name.
async fn rename_key(transaction: &mut BatchTransaction, from: &str, to: &str) -> Result<(), StepFailure> {
    let key = |table: &str| quoted(&layout::key_name(table));
    let sql = format!("ALTER INDEX IF EXISTS {} RENAME TO {}", key(from), key(to));
    alter(transaction, Sql::new(sql), "").await
}

async fn add_column(
    transaction: &mut BatchTransaction,
    table: &str,
    field: &Field,
) -> Result<(), StepFailure> {
    alter(transaction, Sql::new(added_columns(table, field)), "").await
}

fn added_columns(table: &str, field: &Field) -> String {
    let added: Vec<String> =
        layout::columns_of(field).into_iter().map(|column| format!("ADD COLUMN {column}")).collect();
    format!("ALTER TABLE {} {}", quoted(table), added.join(", "))
}

async fn rename_column(
    transaction: &mut BatchTransaction,
    table: &str,
    from: &str,
    to: &str,
) -> Result<(), StepFailure> {
    let what = format!("failed to rename column {from} - ");
    let rename = |from: &str, to: &str| {
        Sql::new(format!("ALTER TABLE {} RENAME COLUMN {} TO {}", quoted(table), quoted(from), quoted(to)))
    };
    alter(transaction, rename(from, to), &what).await?;
    let mut has_json = Sql::new(
        "SELECT 1 FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class ON pg_class.oid = attrelid \
         WHERE relnamespace = current_schema()::regnamespace AND relname = ",
    );
    has_json.param(Param::from(&*identifier(table)));
    has_json.push(" AND NOT attisdropped AND attname = ");
    has_json.param(Param::from(&*identifier(&json_column(from))));
    if transaction.ask(has_json).await?.rows.is_empty() {
        return Ok(());
    }
    alter(transaction, rename(&json_column(from), &json_column(to)), &what).await
}

/// Gives a column another type, its values converted by `expression` (of `COLUMN`).
async fn replace_column(
    transaction: &mut BatchTransaction,
    table: &str,
    field: &Field,
    expression: &str,
) -> Result<(), StepFailure> {
    let old = format!("{}$old", field.name);
    let (table_name, column, old_name) = (quoted(table), quoted(&field.name), quoted(&old));
    let mut statements = vec![
        format!("ALTER TABLE {table_name} DROP COLUMN IF EXISTS {}", quoted(&json_column(&field.name))),
        format!("ALTER TABLE {table_name} RENAME COLUMN {column} TO {old_name}"),
    ];
    statements.push(added_columns(table, field));
    statements
        .push(format!("UPDATE {table_name} SET {column} = {}", expression.replace("COLUMN", &old_name)));
    statements.push(format!("ALTER TABLE {table_name} DROP COLUMN {old_name}"));
    for statement in statements {
        alter(transaction, Sql::new(statement), "").await?;
    }
    Ok(())
}

async fn create_index(
    transaction: &mut BatchTransaction,
    collection: &Collection,
    position: usize,
    index: &Index,
) -> Result<(), StepFailure> {
    if let Some(table) = index_owner(transaction, &index.name).await? {
        return Err(Why::Fields(store_errors::existing_index_name(position, &table)).into());
    }
    let statement = match indexes::statement(collection, index) {
        Ok(statement) => statement,
        Err(detail) => {
            return Err(Why::Fields(store_errors::refused_index(position, &index.name, &detail)).into());
        }
    };
    match transaction.attempt(Sql::new(statement)).await? {
        Ok(_) => Ok(()),
        Err(error) if matches!(kind(&error), Kind::Statement | Kind::NotUnique | Kind::Other) => {
            Err(Why::Fields(store_errors::refused_index(position, &index.name, &told(&error))).into())
        }
        Err(error) => Err(Error::Postgres(error).into()),
    }
}

/// The table of an existing index.
async fn index_owner(transaction: &mut BatchTransaction, name: &str) -> Result<Option<String>, StepFailure> {
    let mut sql = Sql::new(
        "SELECT tablename::text FROM pg_catalog.pg_indexes WHERE schemaname = current_schema() \
         AND lower(indexname) = lower(",
    );
    sql.param(Param::from(&*identifier(name)));
    sql.push(")");
    let found = transaction.ask(sql).await?;
    Ok(found.rows.first().map(|row| row.try_get(0)).transpose().map_err(Error::Postgres)?)
}
