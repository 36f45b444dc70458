//! Collections and settings as rows of `_collections` and `_params`.

use std::sync::Arc;

use model::collection::Collection;
use model::collection::Rules;
use model::collection::json::{RowHead, StoredCollection};
use model::schema::Schema;
use model::settings::Settings;
use rusqlite::{Connection, OptionalExtension, params};

use super::outbox;

/// Why the stored schema cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("the stored collection {name:?} cannot be read: {detail}")]
    Collection { name: String, detail: String },
    #[error("the stored settings cannot be read: {0}")]
    Settings(String),
}

pub(super) fn load_schema(conn: &Connection) -> Result<Schema, LoadError> {
    let version = outbox::meta(conn, "schema_version")?.unsigned_abs();
    let mut statement = conn.prepare(
        "SELECT `id`, `name`, `type`, `system`, `listRule`, `viewRule`, `createRule`, `updateRule`, `deleteRule`, \
         `created`, `updated`, `fields`, `indexes`, `options` FROM `_collections` ORDER BY rowid",
    )?;
    let rows = statement.query_map([], |row| Ok((row_head(row)?, stored_collection(row)?)))?;
    let mut collections = Vec::new();
    for row in rows {
        let (head, stored) = row?;
        let name = head.name.clone();
        let collection = Collection::from_stored(head, &stored)
            .map_err(|error| LoadError::Collection { name, detail: error.to_string() })?;
        collections.push(Arc::new(collection));
    }
    Ok(Schema::new(version, collections))
}

fn row_head(row: &rusqlite::Row<'_>) -> rusqlite::Result<RowHead> {
    Ok(RowHead {
        id: row.get(0)?,
        name: row.get(1)?,
        type_name: row.get(2)?,
        system: row.get(3)?,
        rules: Rules {
            list: row.get(4)?,
            view: row.get(5)?,
            create: row.get(6)?,
            update: row.get(7)?,
            delete: row.get(8)?,
        },
        created: row.get(9)?,
        updated: row.get(10)?,
    })
}

fn stored_collection(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredCollection> {
    Ok(StoredCollection { fields: row.get(11)?, indexes: row.get(12)?, options: row.get(13)? })
}

/// Writes a collection's row, new or changed.
pub(super) fn save(conn: &Connection, collection: &Collection) -> rusqlite::Result<()> {
    let stored = collection.to_stored();
    let rules = &collection.rules;
    conn.execute(
        "INSERT INTO `_collections` (`id`, `system`, `type`, `name`, `fields`, `indexes`, `listRule`, `viewRule`, \
         `createRule`, `updateRule`, `deleteRule`, `options`, `created`, `updated`) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
         ON CONFLICT (`id`) DO UPDATE SET `system` = ?2, `type` = ?3, `name` = ?4, `fields` = ?5, `indexes` = ?6, \
         `listRule` = ?7, `viewRule` = ?8, `createRule` = ?9, `updateRule` = ?10, `deleteRule` = ?11, \
         `options` = ?12, `created` = ?13, `updated` = ?14",
        params![
            collection.id,
            collection.system,
            collection.type_name(),
            collection.name,
            stored.fields,
            stored.indexes,
            rules.list,
            rules.view,
            rules.create,
            rules.update,
            rules.delete,
            stored.options,
            collection.created,
            collection.updated
        ],
    )?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, id: &str) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM `_collections` WHERE `id` = ?1", [id])?;
    Ok(())
}

/// Counts a change of the schema and returns the new version.
pub(super) fn next_version(conn: &Connection) -> rusqlite::Result<u64> {
    let version: i64 = conn.query_row(
        "UPDATE `_gs_meta` SET `value` = `value` + 1 WHERE `key` = 'schema_version' RETURNING `value`",
        [],
        |row| row.get(0),
    )?;
    Ok(version.unsigned_abs())
}

pub(super) fn load_settings(conn: &Connection) -> Result<Settings, LoadError> {
    let text: Option<String> = conn
        .query_row("SELECT `value` FROM `_params` WHERE `id` = 'settings'", [], |row| row.get(0))
        .optional()?;
    match text {
        None => Ok(Settings::default()),
        Some(text) => Settings::from_stored(&text).map_err(|error| LoadError::Settings(error.to_string())),
    }
}

pub(super) fn save_settings(conn: &Connection, settings: &Settings, now: &str) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT INTO `_params` (`id`, `value`, `created`, `updated`) VALUES ('settings', ?1, ?2, ?2) \
         ON CONFLICT (`id`) DO UPDATE SET `value` = excluded.`value`, `updated` = excluded.`updated`",
        [settings.to_stored().as_str(), now],
    )?;
    Ok(())
}
