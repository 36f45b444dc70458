//! The outbox: change events in the transaction that made them, until every consumer is past.
//!
//! Each event has the bytes of all events so far beside it, its own included: two rows tell what lies between
//! them, and nothing has to be summed up.

use std::time::Duration;

use contract::event::{Action, ChangeEvent, EventPage, Events, Interest};
use contract::store::{MAX_EVENT_BYTES, MAX_EVENTS};
use model::json::{Json, JsonObject};
use model::time::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::batch::NewEvent;

use super::OutboxBounds;
use super::consumers::Positions;

/// What an event takes beyond its two rows, roughly.
const EVENT_BYTES: usize = 200;
/// Most events that one transaction removes, so that those who write do not wait long: some ten milliseconds.
const MOST_REMOVED: i64 = 10_000;
/// Most events that one read looks at. Those that others wanted are skipped at little cost.
const MOST_LOOKED_AT: usize = 50_000;

/// Where an event lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// The number of its batch: that of the batch's first event.
    pub(super) batch: i64,
    pub(super) sequence: i64,
}

/// Writes an event; the first one of a batch numbers it.
pub(super) fn append(
    conn: &Connection,
    batch: Option<i64>,
    now: Timestamp,
    event: NewEvent<'_>,
) -> rusqlite::Result<Written> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO `_gs_outbox` (`batch`, `collection`, `record`, `action`, `schema_version`, `caller`, \
         `written`, `loses_files`, `total`, `before`, `after`) \
         VALUES (coalesce(?1, (SELECT max(`seq`) FROM `sqlite_sequence` WHERE `name` = '_gs_outbox'), 0) \
                 + (?1 IS NULL), ?2, ?3, ?4, ?5, ?6, ?7, ?8, \
                 coalesce((SELECT `total` FROM `_gs_outbox` ORDER BY `sequence` DESC LIMIT 1), 0) + ?9, ?10, ?11) \
         RETURNING `batch`, `sequence`",
    )?;
    let text = |row: Option<JsonObject>| row.map(|row| Json::Object(row).to_string());
    let (before, after) = (text(event.before), text(event.after));
    let bytes = EVENT_BYTES + [&before, &after].into_iter().flatten().map(String::len).sum::<usize>();
    statement.query_row(
        params![
            batch,
            event.collection,
            event.record,
            event.action.as_str(),
            event.schema_version as i64,
            event.caller,
            now.0,
            event.loses_files,
            bytes as i64,
            before,
            after
        ],
        |row| Ok(Written { batch: row.get(0)?, sequence: row.get(1)? }),
    )
}

/// The events after a position that are wanted, or that some after it are gone.
pub(super) fn next(
    conn: &Connection,
    interest: &Interest,
    after: i64,
    limit: usize,
) -> rusqlite::Result<EventPage> {
    let floor = meta(conn, "outbox_floor")?;
    if after < floor {
        let from = floor.unsigned_abs();
        return Ok(EventPage { events: Events::Resync { from }, through: from });
    }
    let mut statement = conn.prepare_cached(
        "SELECT `sequence`, `batch`, `collection`, `record`, `action`, `schema_version`, `caller`, `before`, `after`, \
         `loses_files`, `written` FROM `_gs_outbox` WHERE `sequence` > ?1 ORDER BY `sequence` LIMIT ?2",
    )?;
    let mut rows = statement.query(params![after, MOST_LOOKED_AT as i64])?;
    let mut delivery = Delivery::new(limit, after.unsigned_abs());
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        if !is_wanted(interest, row)? {
            delivery.through = row.get::<_, i64>(0)?.unsigned_abs();
        } else if !delivery.take(row)? {
            break;
        }
    }
    if looked_at == MOST_LOOKED_AT && delivery.whole > 0 {
        // The last batch may go on after what was looked at.
        delivery.end(delivery.whole);
    }
    Ok(EventPage { events: Events::Some(delivery.events), through: delivery.through })
}

/// A delivery that fills up.
struct Delivery {
    events: Vec<ChangeEvent>,
    /// So many of them are whole batches.
    whole: usize,
    bytes: usize,
    limit: usize,
    through: u64,
}

impl Delivery {
    fn new(limit: usize, after: u64) -> Delivery {
        let limit = limit.clamp(1, MAX_EVENTS);
        Delivery { events: Vec::new(), whole: 0, bytes: 0, limit, through: after }
    }

    /// Takes one more; false when that is too much, and what has been taken is to be handed out.
    fn take(&mut self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let bytes = text_bytes(row, 7)? + text_bytes(row, 8)?;
        let batch = row.get::<_, i64>(1)?.unsigned_abs();
        if self.events.last().is_some_and(|last| last.batch != batch) {
            self.whole = self.events.len();
        }
        let is_heavy = !self.events.is_empty() && self.bytes + bytes > MAX_EVENT_BYTES;
        if self.whole > 0 && (is_heavy || self.events.len() >= self.limit) {
            self.end(self.whole);
            return Ok(false);
        }
        // A batch that is larger than asked for goes on, and is split where it becomes too large for memory.
        if is_heavy || self.events.len() >= MAX_EVENTS {
            return Ok(false);
        }
        self.bytes += bytes;
        self.events.push(event_from_row(row)?);
        self.end(self.events.len());
        Ok(true)
    }

    fn end(&mut self, count: usize) {
        self.events.truncate(count);
        self.through = self.events.last().map_or(self.through, |last| last.sequence);
    }
}

fn is_wanted(interest: &Interest, row: &Row<'_>) -> rusqlite::Result<bool> {
    Ok(match interest {
        Interest::All => true,
        Interest::Files => row.get(9)?,
        Interest::Collections(ids) => {
            let collection = row.get_ref(2)?.as_str()?;
            ids.iter().any(|id| id == collection)
        }
    })
}

fn text_bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<usize> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(text) => text.len(),
        _ => 0,
    })
}

/// Brings the consumers' positions into the table, removes what all of them are done with, and cuts the
/// outbox to its bounds.
pub(super) fn tidy(
    conn: &Connection,
    positions: &Positions,
    bounds: OutboxBounds,
    now: Timestamp,
) -> rusqlite::Result<Removal> {
    positions.store(conn)?;
    if remove(conn, positions.done)?.is_left {
        return Ok(Removal { is_more_left: true, cut_through: None });
    }
    let Some(cut) = last_to_cut(conn, bounds, now)? else { return Ok(Removal::default()) };
    let removed = remove(conn, cut)?;
    conn.execute(
        "UPDATE `_gs_meta` SET `value` = max(`value`, ?1) WHERE `key` = 'outbox_floor'",
        [removed.through],
    )?;
    Ok(Removal { is_more_left: removed.is_left, cut_through: Some(removed.through) })
}

/// What was removed of the outbox.
#[derive(Default)]
pub(super) struct Removal {
    /// Whether more is to go: one transaction does not remove everything.
    pub(super) is_more_left: bool,
    /// The last event that a consumer had not seen and will not.
    pub(super) cut_through: Option<i64>,
}

/// How far a removal came.
struct Removed {
    through: i64,
    is_left: bool,
}

/// Removes events up to and including `last`, the oldest first, as many as one transaction may.
fn remove(conn: &Connection, last: i64) -> rusqlite::Result<Removed> {
    let Some(oldest) = mark_from(conn, 0)? else {
        return Ok(Removed { through: last, is_left: false });
    };
    let through = last.min(oldest.sequence + MOST_REMOVED - 1);
    if through >= oldest.sequence {
        conn.prepare_cached("DELETE FROM `_gs_outbox` WHERE `sequence` <= ?1")?.execute([through])?;
    }
    Ok(Removed { through, is_left: through < last })
}

/// What two events tell of those between them.
struct Mark {
    sequence: i64,
    total: i64,
    written: i64,
}

/// The newest event that must go for the rest to be young and few enough; none when all are.
fn last_to_cut(conn: &Connection, bounds: OutboxBounds, now: Timestamp) -> rusqlite::Result<Option<i64>> {
    let (Some(oldest), Some(newest)) = (mark_from(conn, 0)?, newest_mark(conn)?) else { return Ok(None) };
    let max_age = i64::try_from(bounds.max_age.as_millis()).unwrap_or(i64::MAX);
    let max_bytes = i64::try_from(bounds.max_bytes).unwrap_or(i64::MAX);
    let must_go = |event: &Mark| {
        newest.total - event.total > max_bytes || event.written < now.0.saturating_sub(max_age)
    };
    if !must_go(&oldest) {
        return Ok(None);
    }
    // If one must go, so must those before it.
    let (mut goes, mut stays) = (oldest.sequence, newest.sequence + 1);
    while stays - goes > 1 {
        let middle = goes + (stays - goes) / 2;
        match mark_from(conn, middle)? {
            Some(event) if must_go(&event) => goes = event.sequence,
            _ => stays = middle,
        }
    }
    Ok(Some(goes))
}

fn newest_mark(conn: &Connection) -> rusqlite::Result<Option<Mark>> {
    let sql = "SELECT `sequence`, `total`, `written` FROM `_gs_outbox` ORDER BY `sequence` DESC LIMIT 1";
    conn.prepare_cached(sql)?.query_row([], Mark::from_row).optional()
}

/// The first event that has this sequence or a later one.
fn mark_from(conn: &Connection, sequence: i64) -> rusqlite::Result<Option<Mark>> {
    let sql = "SELECT `sequence`, `total`, `written` FROM `_gs_outbox` WHERE `sequence` >= ?1 \
               ORDER BY `sequence` LIMIT 1";
    conn.prepare_cached(sql)?.query_row([sequence], Mark::from_row).optional()
}

impl Mark {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Mark> {
        Ok(Mark { sequence: row.get(0)?, total: row.get(1)?, written: row.get(2)? })
    }
}

/// A number of `_gs_meta`; 0 when it is not there.
pub(super) fn meta(conn: &Connection, key: &str) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT `value` FROM `_gs_meta` WHERE `key` = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}

fn event_from_row(row: &Row<'_>) -> rusqlite::Result<ChangeEvent> {
    let action: String = row.get(4)?;
    Ok(ChangeEvent {
        sequence: row.get::<_, i64>(0)?.unsigned_abs(),
        batch: row.get::<_, i64>(1)?.unsigned_abs(),
        collection: row.get(2)?,
        record: row.get(3)?,
        action: Action::parse(&action).unwrap_or(Action::Update),
        schema_version: row.get::<_, i64>(5)?.unsigned_abs(),
        caller: row.get(6)?,
        written: Timestamp(row.get(10)?),
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
