//! The outbox: change events in the transaction that made them, until every consumer is past.
//!
//! Transactions end in another order than that in which they took their numbers, so a reader that went on past
//! a gap would miss what is committed into it later. [`Horizon`] says up to where there are no more gaps to be
//! filled.

use std::time::Duration;

use contract::event::{Action, ChangeEvent, EventPage, Events, Interest};
use contract::store::{MAX_EVENT_BYTES, MAX_EVENTS};
use model::json::{Json, JsonObject};
use model::time::Timestamp;
use tokio_postgres::Row;

use crate::batch::NewEvent;

use super::error::Error;
use super::session::Session;
use super::sql::{Param, Sql};

/// What an event takes beyond its two rows, roughly.
const EVENT_BYTES: usize = 200;
/// So many bits of a sequence are an event's place in its batch.
const PLACE_BITS: u32 = 20;
const PLACES: usize = (1 << PLACE_BITS) - 1;
/// Most events that one read looks at. Those that others wanted are skipped at little cost.
const MOST_LOOKED_AT: i64 = 20_000;
/// Most events that one statement removes.
const MOST_REMOVED: i64 = 10_000;

/// An event as it waits for the end of its batch.
pub(super) struct Waiting {
    params: Vec<Param>,
}

/// An event that is written by [`append`] once all of its batch are known.
pub(super) fn waiting(event: NewEvent<'_>, now: Timestamp) -> Waiting {
    let text = |row: Option<JsonObject>| row.map(|row| without_nul(Json::Object(row).to_string()));
    let (before, after) = (text(event.before), text(event.after));
    let bytes = EVENT_BYTES + [&before, &after].into_iter().flatten().map(String::len).sum::<usize>();
    let row = |text: Option<String>| text.map_or(Param::Null, Param::Text);
    let params = vec![
        Param::from(event.collection),
        Param::from(event.record),
        Param::from(event.action.as_str()),
        Param::Integer(event.schema_version as i64),
        Param::from(event.caller),
        Param::Integer(now.0),
        Param::Bool(event.loses_files),
        Param::Integer(bytes as i64),
        row(before),
        row(after),
    ];
    Waiting { params }
}

/// Writes the event at a position of its batch, and gives its sequence: the batch's number, and the position in
/// the last 20 bits. The number is taken with the first event, when all rows of the batch are locked: so of two
/// batches that change one record, the later one has the larger number.
pub(super) fn append(event: Waiting, position: usize) -> Sql {
    let place = position & PLACES;
    // A batch of more events has several numbers.
    let number = if place == 0 { "nextval('_gs_batches')" } else { "currval('_gs_batches')" };
    let Waiting { mut params } = event;
    params.push(Param::Integer(place as i64));
    let text = format!(
        "INSERT INTO _gs_outbox (collection, record, action, schema_version, caller, written, loses_files, bytes, \
         before, after, batch, sequence) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, number, \
         (number << {PLACE_BITS}) + $11 FROM (SELECT {number} AS number) AS b RETURNING sequence"
    );
    Sql { text, params }
}

/// JSON escapes the character U+0000, so that there is none; were there one, the write would fail for it.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\\u0000") } else { text }
}

/// The last sequence that the batch of an event may have.
pub(super) fn end_of_batch(sequence: i64) -> i64 {
    sequence | PLACES as i64
}

/// The newest sequence that may have been given, as SQL.
pub(super) const NEWEST: &str = "((coalesce(pg_sequence_last_value('_gs_batches'), 0) + 1) << 20) - 1";

/// Up to which sequence no event can come any more.
///
/// A transaction has its id before its events have numbers: the row that an event tells of is locked or written first.
/// So once a transaction id is given out after a number was read, every transaction that can still hold a number up to
/// it has a smaller id; and when none of those runs any more, nothing up to the number is open. (A snapshot's own
/// `xmax` is no such id: it is one past the newest that has *ended*, and newer ones may be running.)
#[derive(Debug, Default)]
pub(super) struct Horizon {
    settled: i64,
    /// A number that was the newest, and a transaction id that was given out afterwards.
    next: Option<(i64, i64)>,
}

impl Horizon {
    /// The sequence up to which all is settled, by now. One statement after the other: their order is what counts.
    pub(super) async fn advance(&mut self, session: &Session) -> Result<i64, Error> {
        if self.next.is_none() {
            let newest = number(session, &format!("SELECT {NEWEST}")).await?;
            if newest <= self.settled {
                return Ok(self.settled);
            }
            let given_out = number(session, "SELECT pg_current_xact_id()::text::bigint").await?;
            self.next = Some((newest, given_out));
        }
        let oldest_running = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
        self.observe(number(session, oldest_running).await?);
        Ok(self.settled)
    }

    /// Whether there may be events that are not settled.
    pub(super) fn is_behind(&self) -> bool {
        self.next.is_some()
    }

    fn observe(&mut self, oldest_running: i64) {
        if let Some((newest, given_out)) = self.next
            && oldest_running >= given_out
        {
            self.settled = self.settled.max(newest);
            self.next = None;
        }
    }
}

async fn number(session: &Session, sql: &str) -> Result<i64, Error> {
    let outcome = session.run(&Sql::new(sql)).await?;
    let row = outcome.rows.first().ok_or_else(|| Error::Unexpected("a number has no row".to_owned()))?;
    Ok(row.try_get(0)?)
}

/// The events after a position and up to what is settled, that are wanted, or that some after it are gone.
pub(super) async fn next(
    session: &Session,
    interest: &Interest,
    after: i64,
    settled: i64,
    limit: usize,
) -> Result<EventPage, Error> {
    let mut looked_at = 4 * i64::try_from(limit.clamp(1, MAX_EVENTS)).unwrap_or(i64::MAX) + 100;
    loop {
        let page = look(session, interest, after, settled, limit, looked_at).await?;
        // A batch may be larger than what was looked at.
        match page {
            Some(page) => return Ok(page),
            None => looked_at = (looked_at * 8).min(MOST_LOOKED_AT),
        }
    }
}

/// The same of so many events. None when they are the beginning of one batch, and more may be looked at.
async fn look(
    session: &Session,
    interest: &Interest,
    after: i64,
    settled: i64,
    limit: usize,
    looked_at: i64,
) -> Result<Option<EventPage>, Error> {
    let floor = Sql::new("SELECT value FROM _gs_meta WHERE key = 'outbox_floor'");
    let mut sql = Sql::new(
        "SELECT sequence, batch, collection, record, action, schema_version, caller, written, loses_files, before, after \
         FROM _gs_outbox WHERE sequence > ",
    );
    sql.param(Param::Integer(after));
    sql.push(" AND sequence <= ");
    sql.param(Param::Integer(settled));
    sql.push(" ORDER BY sequence LIMIT ");
    sql.param(Param::Integer(looked_at));
    // In this order: what is removed is noted before it goes.
    let found = session.run(&sql).await?;
    let floor = session.run(&floor).await?;
    let floor: i64 = floor.rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    if after < floor {
        let from = floor.unsigned_abs();
        return Ok(Some(EventPage { events: Events::Resync { from }, through: from }));
    }
    let mut delivery = Delivery::new(limit, after.unsigned_abs());
    let is_cut = found.rows.len() as i64 == looked_at;
    let mut is_full = false;
    for row in &found.rows {
        if !is_wanted(interest, row)? {
            delivery.through = row.try_get::<_, i64>(0)?.unsigned_abs();
        } else if !delivery.take(row)? {
            is_full = true;
            break;
        }
    }
    if is_cut && !is_full {
        if delivery.whole > 0 {
            // The last batch may go on after what was looked at.
            delivery.end(delivery.whole);
        } else if !delivery.events.is_empty() && looked_at < MOST_LOOKED_AT {
            return Ok(None);
        }
    }
    Ok(Some(EventPage { events: Events::Some(delivery.events), through: delivery.through }))
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
    fn take(&mut self, row: &Row) -> Result<bool, Error> {
        let text_bytes = |column| Ok::<_, Error>(row.try_get::<_, Option<&str>>(column)?.map_or(0, str::len));
        let bytes = text_bytes(9)? + text_bytes(10)?;
        let batch = row.try_get::<_, i64>(1)?.unsigned_abs();
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

fn is_wanted(interest: &Interest, row: &Row) -> Result<bool, Error> {
    Ok(match interest {
        Interest::All => true,
        Interest::Files => row.try_get(8)?,
        Interest::Collections(ids) => {
            let collection: &str = row.try_get(2)?;
            ids.iter().any(|id| id == collection)
        }
    })
}

fn event_from_row(row: &Row) -> Result<ChangeEvent, Error> {
    let object = |text: Option<&str>| match Json::parse_whole(text?) {
        Ok(Json::Object(object)) => Some(object),
        _ => None,
    };
    Ok(ChangeEvent {
        sequence: row.try_get::<_, i64>(0)?.unsigned_abs(),
        batch: row.try_get::<_, i64>(1)?.unsigned_abs(),
        collection: row.try_get(2)?,
        record: row.try_get(3)?,
        action: Action::parse(row.try_get(4)?).unwrap_or(Action::Update),
        schema_version: row.try_get::<_, i64>(5)?.unsigned_abs(),
        caller: row.try_get(6)?,
        written: Timestamp(row.try_get(7)?),
        before: object(row.try_get(9)?),
        after: object(row.try_get(10)?),
    })
}

/// What the outbox may hold for consumers that are behind; past it the oldest events go and those
/// consumers are told to resync.
#[derive(Debug, Clone, Copy)]
pub struct OutboxBounds {
    /// Oldest event.
    pub max_age: Duration,
    /// Rough bytes of all events.
    pub max_bytes: u64,
}

impl Default for OutboxBounds {
    fn default() -> OutboxBounds {
        OutboxBounds { max_age: Duration::from_secs(7 * 86_400), max_bytes: 256 * 1024 * 1024 }
    }
}

/// Removes what all consumers are done with, and cuts the outbox to its bounds. How far it was cut, if it was.
pub(super) async fn tidy(
    session: &Session,
    bounds: OutboxBounds,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    loop {
        let mut sql = Sql::new(
            "DELETE FROM _gs_outbox WHERE sequence IN (SELECT sequence FROM _gs_outbox WHERE sequence <= \
             (SELECT coalesce(min(position), 9223372036854775807) FROM _gs_consumers) ORDER BY sequence LIMIT ",
        );
        sql.param(Param::Integer(MOST_REMOVED));
        sql.push(")");
        if (session.run(&sql).await?.affected as i64) < MOST_REMOVED {
            break;
        }
    }
    let mut sql = Sql::new(
        "SELECT max(sequence) FROM (SELECT sequence, written, sum(bytes) OVER (ORDER BY sequence DESC) AS total \
         FROM _gs_outbox) AS o WHERE total > ",
    );
    sql.param(Param::Integer(i64::try_from(bounds.max_bytes).unwrap_or(i64::MAX)));
    sql.push(" OR written < ");
    let max_age = i64::try_from(bounds.max_age.as_millis()).unwrap_or(i64::MAX);
    sql.param(Param::Integer(now.0.saturating_sub(max_age)));
    let found = session.run(&sql).await?;
    let cut: Option<i64> = found.rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    let Some(cut) = cut else { return Ok(None) };
    let mut floor = Sql::new("UPDATE _gs_meta SET value = greatest(value, ");
    floor.param(Param::Integer(cut));
    floor.push(") WHERE key = 'outbox_floor'");
    session.run(&floor).await?;
    let mut remove = Sql::new("DELETE FROM _gs_outbox WHERE sequence <= ");
    remove.param(Param::Integer(cut));
    session.run(&remove).await?;
    Ok(Some(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_holds_up_what_comes_after_it_until_no_transaction_can_fill_it() {
        // Number 9 was the newest, and 104 the id that was given out then; 100 and 103 are under way.
        let mut horizon = Horizon { settled: 5, next: Some((9, 104)) };
        horizon.observe(100);
        assert_eq!((horizon.settled, horizon.is_behind()), (5, true));
        horizon.observe(103);
        assert_eq!((horizon.settled, horizon.is_behind()), (5, true));
        // What begins later cannot hold a number up to 9.
        horizon.observe(105);
        assert_eq!((horizon.settled, horizon.is_behind()), (9, false));
    }
}
