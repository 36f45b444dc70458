//! Who follows the change events: what each wants, and how far it is.
//!
//! How far consumers are is kept here and brought into `_gs_consumers` now and then, with whatever else is
//! written: an acknowledgement waits for no disk, and one that a crash forgets only repeats its events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::event::Interest;
use rusqlite::{Connection, params};

use crate::interest::{Wanted, interest_of, interest_text};

/// The consumers that are known.
#[derive(Default)]
pub(super) struct Consumers(Mutex<BTreeMap<String, Consumer>>);

/// One of them.
#[derive(Clone)]
pub(super) struct Consumer {
    pub(super) interest: Arc<Interest>,
    /// The last event that it is done with.
    pub(super) position: i64,
    /// The position that the table has.
    stored: i64,
}

/// Where consumers are at one moment.
pub(super) struct Positions {
    /// Those that the table does not have.
    moved: Vec<(String, i64)>,
    /// Every consumer is done with the events up to this one.
    pub(super) done: i64,
}

// === impl Consumers ===

impl Consumers {
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Consumers> {
        let mut statement = conn.prepare("SELECT `name`, `position`, `interest` FROM `_gs_consumers`")?;
        let rows = statement.query_map([], |row| {
            let (position, interest): (i64, String) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, Consumer::at(position, Arc::new(interest_of(&interest)))))
        })?;
        Ok(Consumers(Mutex::new(rows.collect::<rusqlite::Result<_>>()?)))
    }

    pub(super) fn get(&self, name: &str) -> Option<Consumer> {
        self.lock().get(name).cloned()
    }

    /// Moves a consumer on. Whether it is the first to be ahead of the table; none when it is not known.
    pub(super) fn acknowledge(&self, name: &str, sequence: u64) -> Option<bool> {
        let mut consumers = self.lock();
        let was_clean = consumers.values().all(Consumer::is_stored);
        let consumer = consumers.get_mut(name)?;
        consumer.position = consumer.position.max(i64::try_from(sequence).unwrap_or(i64::MAX));
        Some(was_clean && !consumer.is_stored())
    }

    /// Whether the table lacks something.
    pub(super) fn are_ahead(&self) -> bool {
        !self.lock().values().all(Consumer::is_stored)
    }

    pub(super) fn positions(&self) -> Positions {
        let consumers = self.lock();
        let moved = consumers.iter().filter(|(_, consumer)| !consumer.is_stored());
        Positions {
            moved: moved.map(|(name, consumer)| (name.clone(), consumer.position)).collect(),
            done: consumers.values().map(|consumer| consumer.position).min().unwrap_or(i64::MAX),
        }
    }

    /// The table has these positions now.
    pub(super) fn stored(&self, positions: Positions) {
        let mut consumers = self.lock();
        for (name, position) in positions.moved {
            if let Some(consumer) = consumers.get_mut(&name) {
                consumer.stored = position;
            }
        }
    }

    /// What they want.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted::of(self.lock().values().map(|consumer| &*consumer.interest))
    }

    /// Makes a consumer known, in the table and here.
    pub(super) fn register(&self, conn: &Connection, name: &str, interest: Interest) -> rusqlite::Result<()> {
        let position: i64 = conn.query_row(
            "INSERT INTO `_gs_consumers` (`name`, `position`, `interest`) \
             VALUES (?1, coalesce((SELECT `seq` FROM `sqlite_sequence` WHERE `name` = '_gs_outbox'), 0), ?2) \
             ON CONFLICT DO UPDATE SET `interest` = excluded.`interest` RETURNING `position`",
            params![name, interest_text(&interest)],
            |row| row.get(0),
        )?;
        let interest = Arc::new(interest);
        let mut consumers = self.lock();
        match consumers.get_mut(name) {
            Some(consumer) => consumer.interest = interest,
            None => _ = consumers.insert(name.to_owned(), Consumer::at(position, interest)),
        }
        Ok(())
    }

    /// Forgets a consumer, in the table and here.
    pub(super) fn unregister(&self, conn: &Connection, name: &str) -> rusqlite::Result<()> {
        conn.execute("DELETE FROM `_gs_consumers` WHERE `name` = ?1", [name])?;
        self.lock().remove(name);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Consumer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Consumer ===

impl Consumer {
    fn at(position: i64, interest: Arc<Interest>) -> Consumer {
        Consumer { interest, position, stored: position }
    }

    fn is_stored(&self) -> bool {
        self.position == self.stored
    }
}

// === impl Positions ===

impl Positions {
    /// Brings them into the table.
    pub(super) fn store(&self, conn: &Connection) -> rusqlite::Result<()> {
        let mut statement =
            conn.prepare_cached("UPDATE `_gs_consumers` SET `position` = ?2 WHERE `name` = ?1")?;
        self.moved.iter().try_for_each(|moved| statement.execute(params![moved.0, moved.1]).map(drop))
    }
}
