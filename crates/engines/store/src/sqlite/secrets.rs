//! Secrets of the server: rows of `_gs_secrets`.

use contract::secrets::{MAX_SECRET_BYTES, Secret};
use rusqlite::{Connection, OptionalExtension, params};

pub(super) fn get(conn: &Connection, name: &str) -> rusqlite::Result<Option<Secret>> {
    conn.prepare_cached("SELECT `value` FROM `_gs_secrets` WHERE `name` = ?1")?
        .query_row([name], |row| Ok(Secret(row.get(0)?)))
        .optional()
}

/// Within the writer's transaction: what is read is what is replaced.
pub(super) fn save(
    conn: &Connection,
    name: &str,
    secret: &Secret,
    before: Option<&Secret>,
) -> rusqlite::Result<bool> {
    if secret.0.len() > MAX_SECRET_BYTES || get(conn, name)?.as_ref() != before {
        return Ok(false);
    }
    let sql = "INSERT INTO `_gs_secrets` (`name`, `value`) VALUES (?1, ?2) \
               ON CONFLICT (`name`) DO UPDATE SET `value` = excluded.`value`";
    conn.execute(sql, params![name, secret.0])?;
    Ok(true)
}
