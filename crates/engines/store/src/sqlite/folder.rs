//! The data folder belongs to one server at a time, and to one user.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Locked by the server that holds the folder.
const LOCK_FILE: &str = ".gs.lock";

/// Of the folder when it is made here. One that is there keeps its mode: its owner chose it.
const FOLDER_MODE: u32 = 0o700;
/// Of the files that are made in it.
const FILE_MODE: u32 = 0o600;

/// Holds the folder until it is dropped; the system lets go when the process dies.
pub struct FolderLock {
    _file: File,
}

/// Why the folder could not be taken.
pub(super) enum FolderError {
    /// Another process holds it.
    Held,
    /// The system's word.
    Io(io::Error),
}

/// Makes the folder when it is missing and takes it.
pub(super) fn take(dir: &Path) -> Result<FolderLock, FolderError> {
    make(dir).map_err(FolderError::Io)?;
    let file = open_private(&dir.join(LOCK_FILE)).map_err(FolderError::Io)?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(FolderError::Held),
        Err(TryLockError::Error(error)) => Err(FolderError::Io(error)),
    }
}

/// Whether a server holds the folder. Makes nothing; a server that starts in this very moment may find
/// it held.
pub(super) fn is_held(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join(LOCK_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes what was made, renamed or removed in the folder of a file outlive a power cut.
pub(super) fn sync_folder_of(file: &Path) -> io::Result<()> {
    match file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => File::open(dir)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Opens a file for writing; one that is made is for this user only.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(path)
}

fn make(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}
