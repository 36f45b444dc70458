//! The logs of attempts: rows of `_gs_attempts`, the newest of each queue.

use std::time::Duration;

use contract::jobs::{AttemptEnd, AttemptId, AttemptLog, AttemptPage, LOG_MARGIN, LoggedAttempt, Outcome};
use model::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::jobs::{bound, json, shortened};

/// Adds an attempt to its queue's log.
///
/// The log is cut when the ids of two of its neighbours lie on two sides of a multiple of the margin: each
/// 64th time for a queue alone, and more often for one among many, for ids are counted for all together. So
/// none is ever longer than it should be by the margin, and nothing has to be counted for that.
pub(super) fn keep(
    conn: &Connection,
    queue: &str,
    attempt: AttemptId,
    end: &AttemptEnd,
    log: &AttemptLog,
) -> rusqlite::Result<()> {
    if log.keep == 0 {
        return Ok(());
    }
    let before: Option<i64> = conn
        .prepare_cached("SELECT max(`id`) FROM `_gs_attempts` WHERE `queue` = ?1")?
        .query_row([queue], |row| row.get(0))?;
    let took = i64::try_from(log.took.as_millis()).unwrap_or(i64::MAX);
    conn.prepare_cached(
        "INSERT INTO `_gs_attempts` (`queue`, `job`, `attempt`, `started`, `took_ms`, `outcome`, `error`, `note`) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        queue,
        attempt.job as i64,
        attempt.number,
        log.started.0,
        took,
        end.outcome().as_str(),
        shortened(end.error()),
        log.note_text(),
    ])?;
    let block = |id: i64| id / LOG_MARGIN as i64;
    let id = conn.last_insert_rowid();
    if before.is_some_and(|before| block(before) != block(id)) {
        cut(conn, queue, log.keep)?;
    }
    Ok(())
}

fn cut(conn: &Connection, queue: &str, keep: u64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM `_gs_attempts` WHERE `queue` = ?1 AND `id` <= \
               (SELECT `id` FROM `_gs_attempts` WHERE `queue` = ?1 ORDER BY `id` DESC LIMIT 1 OFFSET ?2)";
    conn.prepare_cached(sql)?.execute(params![queue, bound(keep)]).map(drop)
}

pub(super) fn page(conn: &Connection, queue: &str, offset: u64, limit: u64) -> rusqlite::Result<AttemptPage> {
    let mut statement = conn.prepare_cached(
        "SELECT `id`, `job`, `attempt`, `started`, `took_ms`, `outcome`, `error`, `note` FROM `_gs_attempts` \
         WHERE `queue` = ?1 ORDER BY `id` DESC LIMIT ?2 OFFSET ?3",
    )?;
    let rows = statement.query_map(params![queue, bound(limit), bound(offset)], from_row)?;
    let attempts = rows.collect::<rusqlite::Result<_>>()?;
    let total: i64 = conn
        .prepare_cached("SELECT count(*) FROM `_gs_attempts` WHERE `queue` = ?1")?
        .query_row([queue], |row| row.get(0))?;
    Ok(AttemptPage { attempts, total: total.unsigned_abs() })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<LoggedAttempt> {
    let word = row.get_ref(5)?.as_str()?;
    let unknown = || rusqlite::Error::InvalidColumnType(5, "outcome".to_owned(), Type::Text);
    Ok(LoggedAttempt {
        id: row.get::<_, i64>(0)?.unsigned_abs(),
        attempt: AttemptId { job: row.get::<_, i64>(1)?.unsigned_abs(), number: row.get(2)? },
        started: Timestamp(row.get(3)?),
        took: Duration::from_millis(row.get::<_, i64>(4)?.unsigned_abs()),
        outcome: Outcome::of_word(word).ok_or_else(unknown)?,
        error: row.get(6)?,
        note: json(row, 7)?,
    })
}
