//! Blobs as files of one folder.
//!
//! The crate `object_store` finds the files, opens and lists them. It does not write them: its
//! `LocalFileSystem` syncs folders on the thread of the caller, makes files with the mode that the umask
//! leaves, keeps what is half written beside what is whole, so that all folders would have to be searched
//! for it, and takes a folder that another put has just made for one that is synced. It does not remove
//! them: it syncs nothing then. And it does not read them: its stream comes in pieces of 8 KiB, each
//! through the blocking pool. So these three are done here,
//! in the blocking pool.
//!
//! Where things lie:
//!
//! - the blob `a/b/c` in the file `a/b/c`; in its name `%` is written as `%25` and `#` as `%23`, since
//!   `object_store` keeps `#` with digits for itself;
//! - what is being put in the folder `%put`, which is no name of a blob, and which is emptied at the start.
//!
//! A key cannot be a blob and a folder of blobs at once.

mod disk;
mod names;
mod staged;

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use contract::blobs::{Answer, Blob, BlobError, BlobKey, Blobs, Content};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::{GetResultPayload, ObjectStore as _, ObjectStoreExt as _};

use self::disk::Disk;
use self::staged::Staged;

/// What a put asks its content for at once.
const PIECE_BYTES: u64 = 256 * 1024;
/// A put is given a second more for each of these: slower than this is a disk that hangs.
const SLOWEST_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Of the folders that are made here. One that is there keeps its mode: its owner chose it.
const FOLDER_MODE: u32 = 0o700;
/// Holds what is being put. No key leads here: in the names of blobs `25` or `23` follows on a `%`.
const STAGING: &str = "%put";

/// How to open a folder.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder. It is made if it is missing; nobody else may write into it.
    pub dir: PathBuf,
    /// How long a call may take; a put also gets time for its size.
    pub deadline: Duration,
}

/// Blobs in a folder.
///
/// A put that returns is on the disk, as is a delete. One that had no answer in time leaves nothing,
/// unless the time ran out in its last step, the renaming; then the blob may still appear whole.
pub struct FolderBlobs {
    files: LocalFileSystem,
    root: Arc<Path>,
    staging: Arc<Path>,
    disk: Disk,
}

/// Why a folder could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the blob folder {}: {source}", dir.display())]
pub struct OpenError {
    /// The folder.
    pub dir: PathBuf,
    /// The system's word.
    pub source: io::Error,
}

/// The bytes of a file that stays open.
struct FileContent {
    file: Arc<File>,
    size: u64,
    disk: Disk,
}

// === impl Options ===

impl Options {
    /// The folder, and 30 seconds for a call.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options { dir: dir.into(), deadline: Duration::from_secs(30) }
    }
}

// === impl FolderBlobs ===

impl FolderBlobs {
    /// Opens the folder, makes it if it is missing, and removes what a crash left half put.
    pub fn open(options: Options) -> Result<FolderBlobs, OpenError> {
        let Options { dir, deadline } = options;
        let prepared = prepare(&dir).and_then(|root| {
            let files = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
            Ok((root, files))
        });
        let (root, files) = prepared.map_err(|source| OpenError { dir, source })?;
        Ok(FolderBlobs {
            files,
            staging: root.join(STAGING).into(),
            root: root.into(),
            disk: Disk::new(deadline),
        })
    }

    async fn store(&self, key: &BlobKey, content: &dyn Content) -> Result<(), BlobError> {
        let target = self.path(key)?;
        let staging = Arc::clone(&self.staging);
        let mut staged = self.disk.run("begin a file", move || Staged::begin(&staging)).await?;
        let mut at = 0;
        while at < content.size() {
            let end = content.size().min(at + PIECE_BYTES);
            let piece = content.read(at..end).await?;
            if piece.len() as u64 != end - at {
                return Err(BlobError::Internal(format!("the content of {key} gave too few or many bytes")));
            }
            staged = self.disk.run("write a file", move || staged.append(&piece)).await?;
            at = end;
        }
        let staged = self.disk.run("sync a file", move || staged.sync()).await?;
        let root = Arc::clone(&self.root);
        self.disk.run("name a file", move || staged.publish(&root, &target)).await
    }

    async fn find(&self, key: &BlobKey) -> Result<Option<Blob>, BlobError> {
        if let Some(file) = disk::open_at_hand(&self.path(key)?) {
            let about = file.metadata().and_then(|about| Ok((about.len(), about.modified()?)));
            let (size, modified) = about.map_err(|error| disk::failed("open a blob", &error))?;
            return Ok(Some(self.blob(file, size, modified)));
        }
        let found = match self.files.get(&names::location(key)?).await {
            Ok(found) => found,
            Err(error) if disk::is_missing(&error) => return Ok(None),
            Err(error) => return Err(disk::refused("open a blob", &error)),
        };
        let GetResultPayload::File(file, _) = found.payload else {
            return Err(BlobError::Internal("a folder gave a blob that is no file".to_owned()));
        };
        Ok(Some(self.blob(file, found.meta.size, found.meta.last_modified.into())))
    }

    fn blob(&self, file: File, size: u64, modified: SystemTime) -> Blob {
        let content = FileContent { file: Arc::new(file), size, disk: self.disk.clone() };
        Blob { content: Arc::new(content), modified }
    }

    async fn find_all(&self, folder: &BlobKey, limit: usize) -> Result<Vec<BlobKey>, BlobError> {
        let found = self.files.list(Some(&names::location(folder)?));
        let keys = found.try_filter_map(|meta| std::future::ready(Ok(names::key(&meta.location))));
        match keys.take(limit).try_collect().await {
            Err(error) if disk::is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(disk::refused("list blobs", &error)),
            Ok(keys) => Ok(keys),
        }
    }

    /// The file of a blob, found by the same rules that `object_store` goes by.
    fn path(&self, key: &BlobKey) -> Result<PathBuf, BlobError> {
        let path = self.files.path_to_filesystem(&names::location(key)?);
        path.map_err(|error| BlobError::Internal(format!("no file can be named {key}: {error}")))
    }
}

impl Blobs for FolderBlobs {
    fn put(&self, key: BlobKey, content: Arc<dyn Content>) -> Answer<'_, ()> {
        let for_the_size = Duration::from_secs(content.size() / SLOWEST_BYTES_PER_SECOND);
        Box::pin(async move {
            self.disk.within(self.disk.deadline() + for_the_size, self.store(&key, &*content)).await
        })
    }

    fn open(&self, key: BlobKey) -> Answer<'_, Option<Blob>> {
        Box::pin(async move { self.disk.within(self.disk.deadline(), self.find(&key)).await })
    }

    fn delete(&self, key: BlobKey) -> Answer<'_, ()> {
        Box::pin(async move {
            let path = self.path(&key)?;
            let root = Arc::clone(&self.root);
            let removed = self.disk.run("remove a blob", move || disk::remove(&root, &path));
            self.disk.within(self.disk.deadline(), removed).await
        })
    }

    fn list(&self, folder: BlobKey, limit: usize) -> Answer<'_, Vec<BlobKey>> {
        Box::pin(async move { self.disk.within(self.disk.deadline(), self.find_all(&folder, limit)).await })
    }
}

// === impl FileContent ===

impl Content for FileContent {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes> {
        let length = usize::try_from(range.end.saturating_sub(range.start));
        let is_within = range.start <= range.end && range.end <= self.size;
        let file = Arc::clone(&self.file);
        Box::pin(async move {
            let Some(length) = length.ok().filter(|_| is_within) else {
                return Err(BlobError::Internal("a range outside of the blob".to_owned()));
            };
            let mut bytes = vec![0; length];
            let at_hand = disk::read_at_hand(&file, &mut bytes, range.start);
            if at_hand == length {
                return Ok(Bytes::from(bytes));
            }
            let read = self.disk.run("read a blob", move || {
                file.read_exact_at(&mut bytes[at_hand..], range.start + at_hand as u64)?;
                Ok(Bytes::from(bytes))
            });
            self.disk.within(self.disk.deadline(), read).await
        })
    }
}

/// Makes the folder and the one for what is being put, which holds nothing afterwards.
fn prepare(dir: &Path) -> io::Result<PathBuf> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    let root = dir.canonicalize()?;
    if let Some(parent) = root.parent() {
        disk::sync_folder(parent)?;
    }
    let staging = root.join(STAGING);
    match fs::remove_dir_all(&staging) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed?,
    }
    DirBuilder::new().mode(FOLDER_MODE).create(&staging)?;
    Ok(root)
}
