//! How far the consumers of change events are, as this node knows it.
//!
//! An acknowledgement is kept here and brought into `_gs_consumers` now and then: it waits for no disk, and one
//! that a crash forgets only repeats its events.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::Row;

use super::error::Error;
use super::sql::{Param, Sql};

/// The positions that this node has moved.
#[derive(Default)]
pub(super) struct Positions(Mutex<BTreeMap<String, Position>>);

#[derive(Debug, Clone, Copy, Default)]
struct Position {
    /// The last event that the consumer is done with.
    reached: i64,
    /// The one that the table has.
    stored: i64,
}

// === impl Positions ===

impl Positions {
    /// Where a consumer is; 0 where this node has not heard of it.
    pub(super) fn get(&self, name: &str) -> i64 {
        self.lock().get(name).map_or(0, |position| position.reached)
    }

    /// Takes over what the table says.
    pub(super) fn learn(&self, name: &str, stored: i64) {
        let mut positions = self.lock();
        let position = positions.entry(name.to_owned()).or_default();
        position.stored = position.stored.max(stored);
        position.reached = position.reached.max(stored);
    }

    /// Moves a consumer on. Whether it is ahead of the table now.
    pub(super) fn acknowledge(&self, name: &str, sequence: u64) -> bool {
        let mut positions = self.lock();
        let position = positions.entry(name.to_owned()).or_default();
        position.reached = position.reached.max(i64::try_from(sequence).unwrap_or(i64::MAX));
        position.reached > position.stored
    }

    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Those that are ahead of the table.
    pub(super) fn moved(&self) -> Vec<(String, i64)> {
        let positions = self.lock();
        let ahead = positions.iter().filter(|(_, position)| position.reached > position.stored);
        ahead.map(|(name, position)| (name.clone(), position.reached)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Position>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a consumer known after the newest event, or gives one that is known another interest. Gives its
/// position.
pub(super) fn register(name: &str, interest: &str) -> Sql {
    let text = format!(
        "INSERT INTO _gs_consumers (name, position, interest) VALUES ($1, {}, $2) \
         ON CONFLICT (name) DO UPDATE SET interest = excluded.interest RETURNING position",
        super::outbox::NEWEST
    );
    Sql { text, params: vec![Param::from(name), Param::from(interest)] }
}

pub(super) fn unregister(name: &str) -> Sql {
    Sql { text: "DELETE FROM _gs_consumers WHERE name = $1".to_owned(), params: vec![Param::from(name)] }
}

/// Counts a change of who follows what.
pub(super) const COUNT: &str = "UPDATE _gs_versions SET consumers = consumers + 1";

/// Brings a position into the table. It never goes back there.
pub(super) fn store(name: &str, position: i64) -> Sql {
    Sql {
        text: "UPDATE _gs_consumers SET position = greatest(position, $2) WHERE name = $1".to_owned(),
        params: vec![Param::from(name), Param::Integer(position)],
    }
}

pub(super) const SELECT: &str = "SELECT name, position, interest FROM _gs_consumers ORDER BY name";

/// `name, position, interest` of rows.
pub(super) fn of_rows(rows: &[Row]) -> Result<Vec<(String, i64, String)>, Error> {
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}
