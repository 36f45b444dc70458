//! A file that is being put: under a name of its own until it is whole and on the disk.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

use super::{FOLDER_MODE, disk};

/// How often the folders of a blob are made anew when deletes remove them, empty as they still are.
const ATTEMPTS: usize = 100;

/// Only its owner can read it. Dropping it removes it.
pub(super) struct Staged {
    file: NamedTempFile,
}

// === impl Staged ===

impl Staged {
    pub(super) fn begin(staging: &Path) -> io::Result<Staged> {
        // Mode 0600, as this crate makes all files.
        Ok(Staged { file: NamedTempFile::new_in(staging)? })
    }

    pub(super) fn append(mut self, piece: &[u8]) -> io::Result<Staged> {
        self.file.as_file_mut().write_all(piece)?;
        Ok(self)
    }

    /// Brings the bytes to the disk.
    pub(super) fn sync(self) -> io::Result<Staged> {
        self.file.as_file().sync_all()?;
        Ok(self)
    }

    /// Gives it its name, and brings that to the disk.
    pub(super) fn publish(self, root: &Path, target: &Path) -> io::Result<()> {
        self.rename(target)?;
        // All of them: one that is there already may have been made a moment ago by a put that has not
        // synced it yet.
        for folder in disk::folders_above(root, target) {
            match disk::sync_folder(folder) {
                // A delete of this very blob.
                Err(error) if disk::is_absent(&error) => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    /// A delete of the folder's last blob may remove it after it is made here, or found to be there, and before it
    /// holds this file.
    fn rename(self, target: &Path) -> io::Result<()> {
        let folder = target.parent().ok_or(ErrorKind::InvalidInput)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
            match made.and_then(|()| fs::rename(self.file.path(), target)) {
                Err(error) if is_race(&error) && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        // There is nothing left under its old name that could be removed.
        self.file.into_temp_path().keep()?;
        Ok(())
    }
}

/// The folder is gone; or it was there when it was to be made, and gone when it was looked at.
fn is_race(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists)
}
