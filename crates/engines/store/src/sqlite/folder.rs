//! The data folder belongs to one server at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// Holds the folder until it is dropped; the system lets go when the process dies.
pub(super) struct FolderLock {
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
    std::fs::create_dir_all(dir).map_err(FolderError::Io)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(".gs.lock"))
        .map_err(FolderError::Io)?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(FolderError::Held),
        Err(TryLockError::Error(error)) => Err(FolderError::Io(error)),
    }
}
