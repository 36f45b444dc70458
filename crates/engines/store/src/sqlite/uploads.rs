//! Notes of files that are stored before the record that will name them. A note is written before its file,
//! and taken away in the transaction that writes the record; a file whose note grows old is nobody's.

use model::record::Record;
use model::step::{Guard, Uploads, Why};
use model::time::Timestamp;
use rusqlite::{Connection, params};

use super::transaction::StepFailure;

pub(super) fn note(conn: &Connection, keys: &[String], now: Timestamp) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO `_gs_uploads` (`key`, `written`) VALUES (?1, ?2) \
         ON CONFLICT DO UPDATE SET `written` = excluded.`written`",
    )?;
    keys.iter().try_for_each(|key| insert.execute(params![key, now.0]).map(drop))
}

/// Takes away the notes of the files that a record names. Refused when one is gone: its file may be, too.
pub(super) fn take(conn: &Connection, record: &Record, uploads: &Uploads) -> Result<(), StepFailure> {
    if uploads.files.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = record.file_names().collect();
    let mut delete = conn.prepare_cached("DELETE FROM `_gs_uploads` WHERE `key` = ?1 AND `doomed` = 0")?;
    for file in uploads.files.iter().filter(|file| named.contains(&file.name)) {
        if delete.execute([record.file_key(&file.name)])? == 0 {
            return Err(Why::Guard(Guard::Upload).into());
        }
    }
    Ok(())
}

/// Gives up those whose note is there, and returns them.
pub(super) fn give_up(conn: &Connection, keys: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut update = conn.prepare_cached("UPDATE `_gs_uploads` SET `doomed` = 1 WHERE `key` = ?1")?;
    let mut given_up = Vec::with_capacity(keys.len());
    for key in keys {
        if update.execute([key])? == 1 {
            given_up.push(key.clone());
        }
    }
    Ok(given_up)
}

pub(super) fn forget(conn: &Connection, keys: &[String]) -> rusqlite::Result<()> {
    let mut delete = conn.prepare_cached("DELETE FROM `_gs_uploads` WHERE `key` = ?1 AND `doomed` = 1")?;
    keys.iter().try_for_each(|key| delete.execute([key]).map(drop))
}

/// Those that were given up, or were noted before an instant.
pub(super) fn stale(conn: &Connection, before: Timestamp, limit: usize) -> rusqlite::Result<Vec<String>> {
    let mut select =
        conn.prepare_cached("SELECT `key` FROM `_gs_uploads` WHERE `doomed` = 1 OR `written` < ?1 LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    select.query_map(params![before.0, limit], |row| row.get(0))?.collect()
}
