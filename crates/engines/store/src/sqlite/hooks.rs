//! Webhooks: rows of `_gs_hooks`.

use contract::hooks::{MAX_HOOKS, Saved, StoredHook};
use model::json::Json;
use rusqlite::{Connection, OptionalExtension, params};

use super::jobs::{bound, json};

pub(super) fn all(conn: &Connection) -> rusqlite::Result<Vec<StoredHook>> {
    let mut statement =
        conn.prepare_cached("SELECT `name`, `definition` FROM `_gs_hooks` ORDER BY `name`")?;
    let rows =
        statement.query_map([], |row| Ok(StoredHook { name: row.get(0)?, definition: json(row, 1)? }))?;
    rows.collect()
}

/// Within the writer's transaction: what is read is what is replaced.
pub(super) fn save(conn: &Connection, hook: &StoredHook, before: Option<&Json>) -> rusqlite::Result<Saved> {
    let stored = conn
        .prepare_cached("SELECT `definition` FROM `_gs_hooks` WHERE `name` = ?1")?
        .query_row([&hook.name], |row| json(row, 0))
        .optional()?;
    if stored.as_ref() != before {
        return Ok(Saved::Changed);
    }
    let sql = "INSERT INTO `_gs_hooks` (`name`, `definition`) SELECT ?1, ?2 \
               WHERE (SELECT count(*) FROM `_gs_hooks` WHERE `name` <> ?1) < ?3 \
               ON CONFLICT (`name`) DO UPDATE SET `definition` = excluded.`definition`";
    let saved = conn.execute(sql, params![hook.name, hook.definition.to_string(), bound(MAX_HOOKS)])?;
    Ok(if saved > 0 { Saved::Kept } else { Saved::TooMany })
}

pub(super) fn remove(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(conn.execute("DELETE FROM `_gs_hooks` WHERE `name` = ?1", [name])? > 0)
}
