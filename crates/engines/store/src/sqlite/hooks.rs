//! Webhooks: rows of `_gs_hooks`.

use contract::hooks::{MAX_HOOKS, StoredHook};
use rusqlite::{Connection, params};

use super::jobs::{bound, json};

pub(super) fn all(conn: &Connection) -> rusqlite::Result<Vec<StoredHook>> {
    let mut statement =
        conn.prepare_cached("SELECT `name`, `definition` FROM `_gs_hooks` ORDER BY `name`")?;
    let rows =
        statement.query_map([], |row| Ok(StoredHook { name: row.get(0)?, definition: json(row, 1)? }))?;
    rows.collect()
}

/// False when there are too many, and nothing was kept.
pub(super) fn save(conn: &Connection, hook: &StoredHook) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO `_gs_hooks` (`name`, `definition`) SELECT ?1, ?2 \
               WHERE (SELECT count(*) FROM `_gs_hooks` WHERE `name` <> ?1) < ?3 \
               ON CONFLICT (`name`) DO UPDATE SET `definition` = excluded.`definition`";
    let saved = conn.execute(sql, params![hook.name, hook.definition.to_string(), bound(MAX_HOOKS)])?;
    Ok(saved > 0)
}

pub(super) fn remove(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(conn.execute("DELETE FROM `_gs_hooks` WHERE `name` = ?1", [name])? > 0)
}
