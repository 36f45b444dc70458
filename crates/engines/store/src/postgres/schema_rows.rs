//! Collections and settings as rows of `_collections` and `_params`.

use std::sync::Arc;

use model::collection::json::{RowHead, StoredCollection};
use model::collection::{Collection, Rules};
use model::schema::Schema;
use model::settings::Settings;
use model::time::Timestamp;
use tokio_postgres::Row;

use super::error::Error;
use super::sql::{Param, Sql};

/// All collections, oldest first.
pub(super) const SELECT_COLLECTIONS: &str = "SELECT id, name, type, system, \"listRule\", \"viewRule\", \"createRule\", \
     \"updateRule\", \"deleteRule\", created, updated, fields, indexes, options FROM _collections ORDER BY _rowid";

/// The settings, as they are stored.
pub(super) const SELECT_SETTINGS: &str = "SELECT value FROM _params WHERE id = 'settings'";

pub(super) fn schema(version: i64, rows: &[Row]) -> Result<Schema, Error> {
    let collections = rows.iter().map(|row| collection(row).map(Arc::new)).collect::<Result<_, Error>>()?;
    Ok(Schema::new(version.unsigned_abs(), collections))
}

fn collection(row: &Row) -> Result<Collection, Error> {
    let head = RowHead {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        type_name: row.try_get(2)?,
        system: row.try_get(3)?,
        rules: Rules {
            list: row.try_get(4)?,
            view: row.try_get(5)?,
            create: row.try_get(6)?,
            update: row.try_get(7)?,
            delete: row.try_get(8)?,
        },
        created: row.try_get(9)?,
        updated: row.try_get(10)?,
    };
    let stored =
        StoredCollection { fields: row.try_get(11)?, indexes: row.try_get(12)?, options: row.try_get(13)? };
    let name = head.name.clone();
    Collection::from_stored(head, &stored)
        .map_err(|error| Error::Unexpected(format!("the stored collection {name:?} cannot be read: {error}")))
}

pub(super) fn settings(rows: &[Row]) -> Result<Settings, Error> {
    let Some(row) = rows.first() else { return Ok(Settings::default()) };
    Settings::from_stored(row.try_get(0)?)
        .map_err(|error| Error::Unexpected(format!("the stored settings cannot be read: {error}")))
}

/// Writes a collection's row, new or changed.
pub(super) fn save(collection: &Collection) -> Sql {
    let stored = collection.to_stored();
    let rules = &collection.rules;
    let text = |text: &str| Param::from(text);
    let rule = |rule: &Option<String>| rule.as_deref().map_or(Param::Null, Param::from);
    let params = vec![
        text(&collection.id),
        Param::Bool(collection.system),
        text(collection.type_name()),
        text(&collection.name),
        text(&stored.fields),
        text(&stored.indexes),
        rule(&rules.list),
        rule(&rules.view),
        rule(&rules.create),
        rule(&rules.update),
        rule(&rules.delete),
        text(&stored.options),
        text(&collection.created),
        text(&collection.updated),
    ];
    let sql = "INSERT INTO _collections (id, system, type, name, fields, indexes, \"listRule\", \"viewRule\", \
         \"createRule\", \"updateRule\", \"deleteRule\", options, created, updated) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         ON CONFLICT (id) DO UPDATE SET system = $2, type = $3, name = $4, fields = $5, indexes = $6, \
         \"listRule\" = $7, \"viewRule\" = $8, \"createRule\" = $9, \"updateRule\" = $10, \"deleteRule\" = $11, \
         options = $12, created = $13, updated = $14";
    Sql { text: sql.to_owned(), params }
}

pub(super) fn delete(id: &str) -> Sql {
    Sql { text: "DELETE FROM _collections WHERE id = $1".to_owned(), params: vec![Param::from(id)] }
}

/// Counts a change of the schema and gives the new version.
pub(super) fn next_version() -> Sql {
    Sql::new("UPDATE _gs_versions SET schema = schema + 1 RETURNING schema")
}

pub(super) fn save_settings(settings: &Settings, now: Timestamp) -> Sql {
    let sql = "INSERT INTO _params (id, value, created, updated) VALUES ('settings', $1, $2, $2) \
         ON CONFLICT (id) DO UPDATE SET value = excluded.value, updated = excluded.updated";
    Sql { text: sql.to_owned(), params: vec![Param::Text(settings.to_stored()), Param::Text(now.to_text())] }
}
