//! Bringing the write-ahead log into the data file. SQLite would do all of it in the COMMIT that makes the
//! log long, while every writer waits; here a thread of its own copies most of it beside the writer, and
//! the writer does the rest between two groups and lets the log begin anew.
//!
//! A longer log is also less work: a page that was changed many times is copied once.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rusqlite::Connection;

use super::at_hand::AtHand;
use super::connection;

/// Frames (changed pages, of 4 KiB) in the log at which the copying begins: 64 MiB.
const BEGIN_FRAMES: u32 = 16_384;
/// So many frames the writer copies itself: some ten milliseconds.
const FEW_FRAMES: u32 = 1_024;
/// At so many the writer copies all of them, whatever it takes: the log is not to outgrow this (192 MiB)
/// while no long read holds on to it.
const MOST_FRAMES: u32 = 49_152;

/// How a checkpoint leaves the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogEnd {
    /// To be written over from its beginning.
    Restart,
    /// Empty.
    Truncate,
}

/// The writer's side. Dropping it ends the thread.
pub(super) struct Checkpoints {
    at_hand: Arc<AtHand>,
    copying: Arc<Copying>,
    start: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Frames in the log after the last commit.
    frames: Arc<AtomicU32>,
    /// As many as there were when the writer last looked.
    seen: u32,
    /// How many of them were copied when the writer last looked.
    seen_copied: u32,
    /// As many as ask for the next thing to be done.
    next: u32,
}

/// What the thread does.
struct Copying {
    /// For syncing it: SQLite itself leaves that to the checkpoint that copies the last frame, and so to the
    /// writer. Open as long as the connections are, and closed after them: to close any of a file's
    /// descriptors gives up the locks that SQLite holds on it.
    data: File,
    is_running: AtomicBool,
    /// Frames of the log that are in the data file already.
    copied: AtomicU32,
}

// === impl Checkpoints ===

impl Checkpoints {
    /// Takes over the checkpoints of the writer's connection.
    pub(super) fn take_over(
        writer: &mut Connection,
        path: &Path,
        at_hand: Arc<AtHand>,
    ) -> rusqlite::Result<Checkpoints> {
        let frames = Arc::new(AtomicU32::new(0));
        let counted = frames.clone();
        // This also takes the place of SQLite's own checkpoints.
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            counted.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }))?;
        let conn = connection::open_checkpointer(path)?;
        let data = File::open(path).map_err(|_| rusqlite::Error::InvalidPath(path.to_owned()))?;
        let copying =
            Arc::new(Copying { data, is_running: AtomicBool::new(false), copied: AtomicU32::new(0) });
        let (start, started) = crossbeam_channel::bounded(1);
        let (of_thread, seats) = (copying.clone(), at_hand.clone());
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || of_thread.serve(&conn, &seats, &started))
            .expect("the system starts a thread");
        Ok(Checkpoints {
            at_hand,
            copying,
            start: Some(start),
            thread: Some(thread),
            frames,
            seen: 0,
            seen_copied: 0,
            next: BEGIN_FRAMES,
        })
    }

    /// Whether the log holds anything.
    pub(super) fn is_due_when_idle(&self) -> bool {
        self.frames.load(Ordering::Relaxed) > 0
    }

    /// Does what the length of the log asks for. Called by the writer after each commit.
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let frames = self.frames.load(Ordering::Relaxed);
        if frames < self.seen {
            // SQLite found everything copied and began the log anew.
            self.copying.copied.store(0, Ordering::Relaxed);
            (self.seen_copied, self.next) = (0, BEGIN_FRAMES);
        }
        self.seen = frames;
        let copied = self.copying.copied.load(Ordering::Relaxed);
        if copied > self.seen_copied {
            // The copying gets on, and each time there is less to copy.
            (self.seen_copied, self.next) = (copied, frames);
        }
        let is_copying = self.copying.is_running.load(Ordering::Acquire);
        if frames < self.next || is_copying && frames < MOST_FRAMES {
            return;
        }
        self.next = frames + FEW_FRAMES;
        if frames.saturating_sub(copied) <= FEW_FRAMES || frames >= MOST_FRAMES {
            self.finish(writer, LogEnd::Restart);
        } else if let Some(start) = &self.start {
            self.copying.is_running.store(true, Ordering::Release);
            let _ = start.try_send(());
        }
    }

    /// Copies all of the log that is left. Waits for nothing but the disk: when a long read is in the way,
    /// it is for the next time.
    pub(super) fn finish(&mut self, writer: &Connection, end: LogEnd) {
        let started = Instant::now();
        let _held = self.at_hand.hold();
        let done = without_waiting(writer, |writer| checkpoint(writer, end.pragma()));
        tracing::debug!(frames = self.seen, elapsed = ?started.elapsed(), ?end, "the writer copied the end of the log");
        match done {
            Ok(Some(_)) => {
                self.frames.store(0, Ordering::Relaxed);
                self.copying.copied.store(0, Ordering::Relaxed);
                (self.seen, self.seen_copied, self.next) = (0, 0, BEGIN_FRAMES);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a checkpoint failed"),
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.start = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Copying ===

impl Copying {
    fn serve(&self, conn: &Connection, at_hand: &AtHand, start: &Receiver<()>) {
        while start.recv().is_ok() {
            let started = Instant::now();
            at_hand.end_stale();
            let done = checkpoint(conn, "PRAGMA wal_checkpoint(PASSIVE)");
            if let Err(error) = self.data.sync_data() {
                // The writer syncs it again, and then it counts.
                tracing::warn!(%error, "the data file could not be synced");
            }
            tracing::debug!(copied = ?done, elapsed = ?started.elapsed(), "the log was copied beside the writer");
            match done {
                Ok(copied) => self.copied.store(copied.unwrap_or(0), Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "a checkpoint failed"),
            }
            self.is_running.store(false, Ordering::Release);
        }
    }
}

// === impl LogEnd ===

impl LogEnd {
    fn pragma(self) -> &'static str {
        match self {
            LogEnd::Restart => "PRAGMA wal_checkpoint(RESTART)",
            LogEnd::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        }
    }
}

fn without_waiting<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    conn.busy_timeout(Duration::ZERO)?;
    let done = work(conn);
    conn.busy_timeout(connection::BUSY_TIMEOUT)?;
    done
}

/// Runs a checkpoint; gives the frames that are in the data file, or none when others were in the way.
fn checkpoint(conn: &Connection, pragma: &str) -> rusqlite::Result<Option<u32>> {
    conn.query_row(pragma, [], |row| {
        let (is_busy, copied): (bool, i64) = (row.get(0)?, row.get(2)?);
        Ok((!is_busy).then(|| u32::try_from(copied).unwrap_or(0)))
    })
}
