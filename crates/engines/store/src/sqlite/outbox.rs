//! The outbox: change events in the transaction that made them, until every consumer is past.

use std::time::Duration;

use contract::event::{Action, ChangeEvent, Events};
use model::json::{Json, JsonObject};
use model::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::OutboxBounds;

/// An event about to be written; the rest is the transaction's.
pub(super) struct NewEvent<'a> {
    pub(super) collection: &'a str,
    pub(super) record: &'a str,
    pub(super) action: Action,
    pub(super) schema_version: u64,
    pub(super) caller: &'a str,
    pub(super) before: Option<&'a JsonObject>,
    pub(super) after: Option<&'a JsonObject>,
}

/// Writes an event and returns its batch: the number of the batch's first event.
pub(super) fn append(
    conn: &Connection,
    batch: Option<i64>,
    now: Timestamp,
    event: &NewEvent<'_>,
) -> rusqlite::Result<i64> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO `_gs_outbox` \
         (`batch`, `collection`, `record`, `action`, `schema_version`, `caller`, `written`, `before`, `after`) \
         VALUES (coalesce(?1, (SELECT max(`seq`) FROM `sqlite_sequence` WHERE `name` = '_gs_outbox'), 0) \
                 + (?1 IS NULL), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING `batch`",
    )?;
    let text = |row: Option<&JsonObject>| row.map(|row| Json::Object(row.clone()).to_string());
    statement.query_row(
        params![
            batch,
            event.collection,
            event.record,
            event.action.as_str(),
            event.schema_version as i64,
            event.caller,
            now.0,
            text(event.before),
            text(event.after)
        ],
        |row| row.get(0),
    )
}

/// How many consumers there are; with none, events are not written at all.
pub(super) fn consumers(conn: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = conn.query_row("SELECT count(*) FROM `_gs_consumers`", [], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(super) fn register(conn: &Connection, consumer: &str) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT INTO `_gs_consumers` VALUES (?1, \
         coalesce((SELECT `seq` FROM `sqlite_sequence` WHERE `name` = '_gs_outbox'), 0)) \
         ON CONFLICT DO NOTHING",
        [consumer],
    )?;
    Ok(())
}

/// Moves a consumer on and drops what every consumer is past.
pub(super) fn acknowledge(conn: &Connection, consumer: &str, sequence: u64) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let done = conn
        .execute(
            "UPDATE `_gs_consumers` SET `position` = max(`position`, ?2) WHERE `name` = ?1",
            params![consumer, sequence as i64],
        )
        .and_then(|_| {
            conn.execute(
                "DELETE FROM `_gs_outbox` WHERE `sequence` <= (SELECT min(`position`) FROM `_gs_consumers`)",
                [],
            )
        })
        .and_then(|_| conn.execute_batch("COMMIT"));
    if done.is_err() && !conn.is_autocommit() {
        let _ = conn.execute_batch("ROLLBACK");
    }
    done
}

/// The consumer's next events, or that some of them are gone.
pub(super) fn next(conn: &Connection, consumer: &str, limit: usize) -> rusqlite::Result<Events> {
    let position: i64 = conn
        .query_row("SELECT `position` FROM `_gs_consumers` WHERE `name` = ?1", [consumer], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let floor = meta(conn, "outbox_floor")?;
    if position < floor {
        return Ok(Events::Resync { from: floor.unsigned_abs() });
    }
    let mut statement = conn.prepare_cached(
        "SELECT `sequence`, `batch`, `collection`, `record`, `action`, `schema_version`, `caller`, `before`, `after` \
         FROM `_gs_outbox` WHERE `sequence` > ?1 ORDER BY `sequence` LIMIT ?2",
    )?;
    let rows = statement.query_map(params![position, limit as i64], event_from_row)?;
    Ok(Events::Some(rows.collect::<rusqlite::Result<_>>()?))
}

/// Cuts the outbox to its bounds; who had not seen what goes is told to resync.
pub(super) fn trim(conn: &Connection, bounds: OutboxBounds, now: Timestamp) -> rusqlite::Result<()> {
    let oldest = now.0.saturating_sub(i64::try_from(bounds.max_age.as_millis()).unwrap_or(i64::MAX));
    let by_age: i64 = conn.query_row(
        "SELECT coalesce(max(`sequence`), 0) FROM `_gs_outbox` WHERE `written` < ?1",
        [oldest],
        |row| row.get(0),
    )?;
    let by_size = first_over_size(conn, bounds.max_bytes)?;
    let floor = by_age.max(by_size);
    if floor > 0 {
        conn.execute("DELETE FROM `_gs_outbox` WHERE `sequence` <= ?1", [floor])?;
        conn.execute(
            "UPDATE `_gs_meta` SET `value` = max(`value`, ?1) WHERE `key` = 'outbox_floor'",
            [floor],
        )?;
    }
    Ok(())
}

/// The newest event that must go for the rest to fit; 0 when all fit.
fn first_over_size(conn: &Connection, max_bytes: u64) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(`sequence`), 0) FROM (\
               SELECT `sequence`, sum(200 + coalesce(length(`before`), 0) + coalesce(length(`after`), 0)) \
               OVER (ORDER BY `sequence` DESC) AS `bytes` FROM `_gs_outbox`) WHERE `bytes` > ?1";
    conn.query_row(sql, [i64::try_from(max_bytes).unwrap_or(i64::MAX)], |row| row.get(0))
}

/// A number of `_gs_meta`; 0 when it is not there.
pub(super) fn meta(conn: &Connection, key: &str) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT `value` FROM `_gs_meta` WHERE `key` = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}

fn event_from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<ChangeEvent> {
    let action: String = row.get(4)?;
    Ok(ChangeEvent {
        sequence: row.get::<_, i64>(0)?.unsigned_abs(),
        batch: row.get::<_, i64>(1)?.unsigned_abs(),
        collection: row.get(2)?,
        record: row.get(3)?,
        action: Action::parse(&action).unwrap_or(Action::Update),
        schema_version: row.get::<_, i64>(5)?.unsigned_abs(),
        caller: row.get(6)?,
        before: row.get::<_, Option<String>>(7)?.and_then(object),
        after: row.get::<_, Option<String>>(8)?.and_then(object),
    })
}

fn object(text: String) -> Option<JsonObject> {
    match Json::parse_whole(&text) {
        Ok(Json::Object(object)) => Some(object),
        _ => None,
    }
}

impl Default for OutboxBounds {
    fn default() -> OutboxBounds {
        OutboxBounds { max_age: Duration::from_secs(7 * 86_400), max_bytes: 256 * 1024 * 1024 }
    }
}
