//! Columns of text kept in memory, so that `title ~ 'word'` need not read every row. A column is kept once
//! it was searched twice without a write to its collection in between, and forgotten with the next write:
//! where writes are frequent nothing is kept, and nothing is lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use memchr::memmem;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::layout::quoted;

/// Bytes of one column; a larger one is not kept.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of all columns; past it the least recently used goes.
const MOST_BYTES_IN_ALL: usize = 48 * 1024 * 1024;
/// Columns that are known, kept or not.
const MOST_KNOWN: usize = 256;
/// Stands after each text. UTF-8 has no such byte.
const END: u8 = 0xFF;

/// The columns of one store.
#[derive(Debug, Default)]
pub(super) struct TextColumns {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    columns: HashMap<Key, Entry>,
    /// Counts uses, to tell which entry was used last.
    clock: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    collection: String,
    column: String,
}

#[derive(Debug)]
struct Entry {
    /// The version of the rows that the rest is about.
    version: u64,
    state: State,
    last_used: u64,
}

#[derive(Debug)]
enum State {
    /// It was searched once.
    Searched,
    Kept(Arc<TextColumn>),
    TooLarge,
}

/// All texts of a column, in lower case as far as ASCII goes.
#[derive(Debug)]
struct TextColumn {
    text: Vec<u8>,
    /// Where each row's text ends.
    ends: Vec<u32>,
    row_ids: Vec<i64>,
}

// === impl TextColumns ===

impl TextColumns {
    /// The ids of the rows whose text holds `needle`, which is in lower case, ascending; at most `limit`, or
    /// none. None also when the column is not kept. The connection's snapshot is that of `version`.
    pub(super) fn find(
        &self,
        conn: &Connection,
        table: &TableVersion<'_>,
        column: &str,
        needle: &[u8],
        limit: usize,
    ) -> rusqlite::Result<Option<Vec<i64>>> {
        let key = Key { collection: table.collection.to_owned(), column: column.to_owned() };
        let kept = match self.look_up(&key, table.version) {
            LookUp::Kept(kept) => kept,
            LookUp::Leave => return Ok(None),
            LookUp::Build => {
                let built = TextColumn::read(conn, table.name, column)?.map(Arc::new);
                self.keep(key, table.version, built.clone());
                let Some(built) = built else { return Ok(None) };
                built
            }
        };
        Ok(kept.find(needle, limit))
    }

    /// Forgets all, when the schema was changed.
    pub(super) fn clear(&self) {
        self.lock().columns.clear();
    }

    fn look_up(&self, key: &Key, version: u64) -> LookUp {
        let mut known = self.lock();
        known.clock += 1;
        let now = known.clock;
        match known.columns.get_mut(key) {
            Some(entry) if entry.version == version => {
                entry.last_used = now;
                match &entry.state {
                    State::Kept(column) => LookUp::Kept(column.clone()),
                    State::Searched => LookUp::Build,
                    State::TooLarge => LookUp::Leave,
                }
            }
            _ => {
                known.columns.insert(key.clone(), Entry { version, state: State::Searched, last_used: now });
                known.shrink();
                LookUp::Leave
            }
        }
    }

    fn keep(&self, key: Key, version: u64, column: Option<Arc<TextColumn>>) {
        let mut known = self.lock();
        let last_used = known.clock;
        let state = column.map_or(State::TooLarge, State::Kept);
        known.columns.insert(key, Entry { version, state, last_used });
        known.shrink();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collection's table at one version of its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableVersion<'a> {
    /// The collection's id.
    pub(super) collection: &'a str,
    /// The table's name.
    pub(super) name: &'a str,
    pub(super) version: u64,
}

enum LookUp {
    Kept(Arc<TextColumn>),
    Build,
    Leave,
}

// === impl Known ===

impl Known {
    fn shrink(&mut self) {
        while self.columns.len() > MOST_KNOWN || self.bytes() > MOST_BYTES_IN_ALL {
            let oldest = self.columns.iter().min_by_key(|(_, entry)| entry.last_used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            self.columns.remove(&oldest);
        }
    }

    fn bytes(&self) -> usize {
        let bytes = |entry: &Entry| match &entry.state {
            State::Kept(column) => column.bytes(),
            State::Searched | State::TooLarge => 0,
        };
        self.columns.values().map(bytes).sum()
    }
}

// === impl TextColumn ===

impl TextColumn {
    /// Reads all of a column; none when it is too large.
    fn read(conn: &Connection, table: &str, column: &str) -> rusqlite::Result<Option<TextColumn>> {
        let sql = format!("SELECT rowid, {} FROM {} ORDER BY rowid", quoted(column), quoted(table));
        let mut statement = conn.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        let mut read = TextColumn { text: Vec::new(), ends: Vec::new(), row_ids: Vec::new() };
        while let Some(row) = rows.next()? {
            if let ValueRef::Text(text) = row.get_ref(1)? {
                read.push(row.get(0)?, text);
            }
            if read.bytes() > MOST_BYTES {
                return Ok(None);
            }
        }
        read.text.shrink_to_fit();
        read.ends.shrink_to_fit();
        read.row_ids.shrink_to_fit();
        Ok(Some(read))
    }

    fn push(&mut self, row_id: i64, text: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.text[start..].make_ascii_lowercase();
        self.text.push(END);
        // No longer than MOST_BYTES and one text, which SQLite bounds by a billion.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.row_ids.push(row_id);
    }

    fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.row_ids.capacity() * 8
    }

    /// The rows that hold it; none when there are more than `limit`.
    fn find(&self, needle: &[u8], limit: usize) -> Option<Vec<i64>> {
        let finder = memmem::Finder::new(needle);
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(position) = finder.find(&self.text[from..]) {
            let at = from + position;
            let row = self.ends.partition_point(|end| (*end as usize) <= at);
            let (Some(row_id), Some(end)) = (self.row_ids.get(row), self.ends.get(row)) else { break };
            if found.len() == limit {
                return None;
            }
            found.push(*row_id);
            from = *end as usize;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(texts: &[&str]) -> TextColumn {
        let mut column = TextColumn { text: Vec::new(), ends: Vec::new(), row_ids: Vec::new() };
        for (index, text) in texts.iter().enumerate() {
            column.push(index as i64 * 10, text.as_bytes());
        }
        column
    }

    #[test]
    fn every_row_that_holds_the_text_is_found_once() {
        let texts = column(&["", "Abcabc", "xx", "bc", "", "zABC"]);
        assert_eq!(texts.find(b"abc", 9), Some(vec![10, 50]));
        assert_eq!(texts.find(b"bc", 9), Some(vec![10, 30, 50]));
        assert_eq!(texts.find(b"cx", 9), Some(vec![]), "a text ends where the next begins");
    }

    #[test]
    fn more_rows_than_are_wanted_are_none() {
        let texts = column(&["a", "a", "a"]);
        assert_eq!(texts.find(b"a", 3).map(|rows| rows.len()), Some(3));
        assert_eq!(texts.find(b"a", 2), None);
    }
}
