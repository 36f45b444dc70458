//! Opening connections: pragmas, limits and the deadline of a read.

use std::cell::Cell;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{Synchronous, filter_sql};

/// Page cache of the writer, in KiB: what one transaction changes should fit.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// Page cache of a reader thread, in KiB. It reads much once; the system's own cache serves it well.
const READER_CACHE_KIB: i64 = 2 * 1024;
/// Page cache of a connection for reads on a request loop, in KiB.
const AT_HAND_CACHE_KIB: i64 = 12 * 1024;
/// How long a lock is waited for where waiting is right.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements kept prepared by a connection; the least recently used goes.
const PREPARED_STATEMENTS: usize = 256;
/// Virtual machine steps between two looks at the clock: some tens of microseconds.
const STEPS_BETWEEN_CHECKS: i32 = 4_000;
/// How large the write-ahead log may stay after a checkpoint.
const WAL_BYTES: i64 = 96 * 1024 * 1024;

/// The connection of the writer thread; makes the file when there is none.
pub(super) fn open_writer(path: &Path, synchronous: Synchronous) -> rusqlite::Result<Connection> {
    let mut conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", synchronous.as_str())?;
    conn.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    conn.pragma_update(None, "foreign_keys", false)?;
    prepare(&conn, WRITER_CACHE_KIB)?;
    let is_late = || STOP_AT.get().is_some_and(|at| Instant::now() >= at);
    conn.progress_handler(STEPS_BETWEEN_CHECKS, Some(is_late))?;
    Ok(conn)
}

/// A connection of a reader thread.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    open_to_read(path, READER_CACHE_KIB)
}

fn open_to_read(path: &Path, cache_kib: i64) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.pragma_update(None, "query_only", true)?;
    prepare(&conn, cache_kib)?;
    Ok(conn)
}

/// A connection for reads on a request loop: never waits for a lock.
pub(super) fn open_at_hand(path: &Path) -> rusqlite::Result<Connection> {
    let conn = open_to_read(path, AT_HAND_CACHE_KIB)?;
    conn.busy_timeout(Duration::ZERO)?;
    Ok(conn)
}

/// A connection that only copies the write-ahead log into the file.
pub(super) fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok(conn)
}

/// A connection that changes nothing, to see what a file is. With a write-ahead log beside it the log
/// is read too; without one SQLite would make one, unless told that nobody writes.
pub(super) fn open_to_inspect(path: &Path) -> rusqlite::Result<Connection> {
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        let conn = Connection::open_with_flags(path, read_only)?;
        conn.busy_timeout(Duration::from_secs(10))?;
        return Ok(conn);
    }
    let uri = format!("file:{}?immutable=1", percent_encoded(path));
    Connection::open_with_flags(uri, read_only | OpenFlags::SQLITE_OPEN_URI)
}

/// The path as SQLite reads it in a URI.
fn percent_encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                text.push(char::from(*byte))
            }
            other => _ = write!(text, "%{other:02X}"),
        }
    }
    text
}

fn prepare(conn: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update(None, "cache_size", -cache_kib)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    filter_sql::add_functions(conn)
}

thread_local! {
    /// When what this thread runs on the writer's connection must stop.
    static STOP_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets work on the writer's connection take no longer than this: then its statement is interrupted. The
/// transaction stays; the work must not have written.
pub(super) fn with_time<T>(time: Duration, work: impl FnOnce() -> T) -> T {
    /// Also where the work panics.
    struct Unset;
    impl Drop for Unset {
        fn drop(&mut self) {
            STOP_AT.set(None);
        }
    }
    let _unset = Unset;
    STOP_AT.set(Some(Instant::now() + time));
    work()
}

/// When a read must stop: its deadline, or its client went away.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub(super) at: Instant,
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Stop {
    fn is_due(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.at
    }
}

/// Runs `work` on one snapshot of the data, interrupted when `stop` is due.
pub(super) fn with_stop<T>(
    conn: &mut Connection,
    stop: &Stop,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let stop = stop.clone();
    conn.progress_handler(STEPS_BETWEEN_CHECKS, Some(move || stop.is_due()))?;
    let result = conn.transaction().and_then(|snapshot| work(&snapshot));
    conn.progress_handler(0, None::<fn() -> bool>)?;
    result
}
