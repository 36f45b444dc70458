//! Work at the disk: off the thread that asks, bounded in number and time, its errors told apart.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSliceMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::blobs::BlobError;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::sync::Semaphore;

/// Calls that are at the disk at once; more wait, each within its deadline. It is also how many threads
/// a disk that hangs can take away.
const AT_ONCE: usize = 64;

/// The way to the disk.
#[derive(Clone)]
pub(super) struct Disk {
    permits: Arc<Semaphore>,
    deadline: Duration,
}

// === impl Disk ===

impl Disk {
    pub(super) fn new(deadline: Duration) -> Disk {
        Disk { permits: Arc::new(Semaphore::new(AT_ONCE)), deadline }
    }

    /// How long a call may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Runs work in the blocking pool. Once begun it goes on to its end, also when nobody waits any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, BlobError> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|error| internal(what, &error))?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match done.await {
            Ok(result) => result.map_err(|error| failed(what, &error)),
            Err(panicked) => Err(internal(what, &panicked)),
        }
    }

    /// Waits for a call no longer than it may take.
    pub(super) async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, BlobError>>,
    ) -> Result<T, BlobError> {
        let no_answer = || BlobError::Unavailable("the disk gave no answer in time".to_owned());
        tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| Err(no_answer()))
    }
}

/// Reads what the system has in memory of a file, and how much that is: a copy on the thread that asks costs less than
/// the way to another one and back. The disk is not waited for.
pub(super) fn read_at_hand(file: &File, bytes: &mut [u8], offset: u64) -> usize {
    /// A larger copy holds up the thread: about a tenth of a millisecond for this.
    const MOST: usize = 1 << 20;
    let most = bytes.len().min(MOST);
    let mut buffers = [IoSliceMut::new(&mut bytes[..most])];
    // A system or a file that cannot say reads nothing here.
    preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// Opens a file whose place the system has in memory. None for one that it would have to ask the disk for, and for
/// what is no file or not there: then somebody has to look who may wait.
pub(super) fn open_at_hand(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    // A system that does not know RESOLVE_CACHED (before Linux 5.12) refuses.
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
    let file = File::from(file);
    file.metadata().ok()?.is_file().then_some(file)
}

/// Removes a file, then the folders above it that are empty, up to the root. A file that is not there is
/// removed already; its folders may not be.
pub(super) fn remove(root: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if is_absent(&error) || error.kind() == ErrorKind::IsADirectory => {}
        removed => removed?,
    }
    for folder in folders_above(root, path) {
        if folder == root || fs::remove_dir(folder).is_err_and(|error| !is_absent(&error)) {
            match sync_folder(folder) {
                // Another delete has removed it meanwhile.
                Err(error) if is_absent(&error) => {}
                synced => return synced,
            }
        }
    }
    Ok(())
}

/// Brings the names in a folder to the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folders that hold a path, the nearest first, the root last.
pub(super) fn folders_above<'p>(root: &Path, path: &'p Path) -> impl Iterator<Item = &'p Path> {
    path.ancestors().skip(1).take_while(move |folder| folder.starts_with(root))
}

/// Whether the system says that there is nothing of this name, nor could be.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
}

/// Whether `object_store` found nothing of this name.
pub(super) fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) || system_error(error).is_some_and(is_absent)
}

/// What an error of `object_store` means.
pub(super) fn refused(what: &str, error: &object_store::Error) -> BlobError {
    system_error(error).map_or_else(|| internal(what, error), |cause| failed(what, cause))
}

fn system_error(error: &object_store::Error) -> Option<&io::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What the system's word means: a disk that is full, gone or closed to us may be there again later.
pub(super) fn failed(what: &str, error: &io::Error) -> BlobError {
    match error.kind() {
        ErrorKind::UnexpectedEof => BlobError::Damaged(format!("{what}: the file became shorter")),
        ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::DirectoryNotEmpty
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput => internal(what, error),
        _ => BlobError::Unavailable(format!("{what}: {error}")),
    }
}

fn internal(what: &str, error: &dyn Error) -> BlobError {
    BlobError::Internal(format!("{what}: {error}"))
}
