//! Opening a data folder: taking it, checking its format, making what is missing, starting threads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::collection::system;
use model::schema::Schema;
use model::settings::Settings;
use rusqlite::{Connection, OptionalExtension};

use super::at_hand::AtHand;
use super::checkpoint::Checkpoints;
use super::consumers::Consumers;
use super::folder::{self, FolderError, FolderLock};
use super::migrate::{self, MigrateError};
use super::read_pool::ReadPool;
use super::schema_rows::{self, LoadError};
use super::shared::Shared;
use super::writer::{Writer, clock};
use super::{Options, SqliteStore, connection, jobs, layout, outbox, view_guard};

/// The name of the data file in the folder.
const DATA_FILE: &str = "data.db";

/// Why a data folder cannot be opened: a sentence for the person who started the server.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server holds it.
    #[error("the data folder {} is in use by another server; stop it, or choose another folder with --dir", .0.display())]
    Held(PathBuf),
    /// It cannot be made or written.
    #[error("the data folder {} cannot be used: {source}; check that it exists and that this user may write to it", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A newer version wrote it.
    #[error("the data folder {} was written by a newer version (format {found}, this version knows {known}); use that version, or a copy of the folder from before", dir.display())]
    Newer {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this version knows.
        known: i64,
    },
    /// An older version wrote it, and it could not be brought to the format of this one.
    #[error("the data folder {} of format {format} could not be migrated: {source}; its data are as they were", dir.display())]
    Migration {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        format: i64,
        /// What went wrong.
        source: MigrateError,
    },
    /// Its data file is not ours.
    #[error("{} is not a Groundswell data file ({what}); choose another folder with --dir", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it seems to be.
        what: String,
    },
    /// It is damaged, or the disk is.
    #[error("the data file {} cannot be read: {detail}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        detail: String,
    },
}

/// What a data folder is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// The format of its data; none when it holds no data yet.
    pub format: Option<i64>,
    /// Whether a server holds it.
    pub is_held: bool,
}

/// Takes a data folder for what is in it beside the store, making it when it is missing. Whoever holds it holds it
/// alone.
pub fn hold(dir: &Path) -> Result<FolderLock, OpenError> {
    folder::take(dir).map_err(|error| match error {
        FolderError::Held => OpenError::Held(dir.to_owned()),
        FolderError::Io(source) => OpenError::Folder { dir: dir.to_owned(), source },
    })
}

pub(super) fn open(options: Options) -> Result<SqliteStore, OpenError> {
    let lock = hold(&options.dir)?;
    let file = options.dir.join(DATA_FILE);
    let unreadable = |detail: String| OpenError::Unreadable { file: file.clone(), detail };
    // Before anything may write to it: a writer turns the file into WAL mode, whosever it is.
    let format = format_of(&options.dir)?;
    check_writable(&options.dir, &file)?;
    let mut conn =
        connection::open_writer(&file, options.synchronous).map_err(|e| unreadable(e.to_string()))?;
    if let Some(format) = format.filter(|format| *format < layout::FORMAT) {
        migrate::migrate(&mut conn, &file, format).map_err(|source| OpenError::Migration {
            dir: options.dir.clone(),
            format,
            source,
        })?;
    }
    let (schema, settings) = load_or_create(&mut conn).map_err(|error| unreadable(error.to_string()))?;
    let consumers = Consumers::load(&conn).map_err(|error| unreadable(error.to_string()))?;
    let jobs = jobs::count(&conn).map_err(|error| unreadable(error.to_string()))?;
    let shared = Shared::new(Arc::new(schema), Arc::new(settings), consumers, jobs, options.synchronous);
    let shared = Arc::new(shared);
    let mut start = || {
        view_guard::install(&mut conn, &shared.secrets)?;
        let at_hand = Arc::new(AtHand::open(&file, shared.clone())?);
        let reads = ReadPool::open(
            &file,
            at_hand.clone(),
            &shared.secrets,
            options.readers.max(1),
            options.read_deadline,
        )?;
        let checkpoints = Checkpoints::take_over(&mut conn, &file, at_hand)?;
        Ok((reads, checkpoints))
    };
    let (reads, checkpoints) = start().map_err(|error: rusqlite::Error| unreadable(error.to_string()))?;
    let writer = Writer::start(conn, checkpoints, shared.clone(), &options);
    Ok(SqliteStore { shared, reads, writer, folder: Mutex::new(Some(lock)) })
}

/// Looks at a data folder that is there, and changes nothing in it. Fails where opening it would fail
/// because of what it holds.
pub fn inspect(dir: &Path) -> Result<Inspection, OpenError> {
    let folder_error = |source| OpenError::Folder { dir: dir.to_owned(), source };
    let is_held = folder::is_held(dir).map_err(folder_error)?;
    Ok(Inspection { format: format_of(dir)?, is_held })
}

/// SQLite would open a file that it cannot write and fail at the first write; say it at the start.
/// Makes the file when it is missing, for this user only: SQLite gives its other files the same mode.
fn check_writable(dir: &Path, file: &Path) -> Result<(), OpenError> {
    let opened = folder::open_private(file);
    opened.map(drop).map_err(|source| OpenError::Folder { dir: dir.to_owned(), source })
}

/// The format of the data file, if it is there and holds anything; an error unless this version knows it.
fn format_of(dir: &Path) -> Result<Option<i64>, OpenError> {
    let file = dir.join(DATA_FILE);
    let unreadable =
        |error: rusqlite::Error| OpenError::Unreadable { file: file.clone(), detail: error.to_string() };
    if !file.try_exists().map_err(|source| OpenError::Folder { dir: dir.to_owned(), source })? {
        return Ok(None);
    }
    let conn = connection::open_to_inspect(&file).map_err(unreadable)?;
    if has_table(&conn, "_gs_meta").map_err(unreadable)? {
        let found = outbox::meta(&conn, "format").map_err(unreadable)?;
        return match found {
            1..=layout::FORMAT => Ok(Some(found)),
            ..1 => Err(OpenError::Foreign { file: file.clone(), what: format!("of format {found}") }),
            _ => Err(OpenError::Newer { dir: dir.to_owned(), found, known: layout::FORMAT }),
        };
    }
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM `sqlite_master` WHERE `type` = 'table'", [], |row| row.get(0))
        .map_err(unreadable)?;
    if tables == 0 {
        return Ok(None);
    }
    let is_pocketbase = has_table(&conn, "_collections").map_err(unreadable)?;
    let what = if is_pocketbase {
        "a PocketBase database; importing one is not available in this version"
    } else {
        "a database with other tables"
    };
    Err(OpenError::Foreign { file: file.clone(), what: what.to_owned() })
}

fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    let found = conn
        .query_row("SELECT 1 FROM `sqlite_master` WHERE `type` = 'table' AND `name` = ?1", [name], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

fn load_or_create(conn: &mut Connection) -> Result<(Schema, Settings), LoadError> {
    if !has_table(conn, "_gs_meta")? {
        create(conn)?;
    }
    Ok((schema_rows::load_schema(conn)?, schema_rows::load_settings(conn)?))
}

/// Everything a fresh folder holds, in one transaction: a crash leaves an empty file or a whole one.
fn create(conn: &mut Connection) -> rusqlite::Result<()> {
    let now = clock();
    let transaction = conn.transaction()?;
    transaction.execute_batch(layout::BASE_TABLES)?;
    for collection in system::fresh_install(now, &mut rand::rng()) {
        for change in model::collection::diff::diff(None, Some(&collection)) {
            super::schema_steps::apply_own(&transaction, &change)?;
        }
        schema_rows::save(&transaction, &collection)?;
    }
    schema_rows::save_settings(&transaction, &Settings::default(), &now.to_text())?;
    transaction.commit()
}
