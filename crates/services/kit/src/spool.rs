//! Where the files of a request wait until all of the request is there: small ones in memory, others in a
//! file without a name, which is gone with the process. What all of them may take is bounded, and what those
//! of one address may.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use contract::blobs::{Answer, BlobError, Content};

use crate::files::HEAD_BYTES;

/// The bounds and the folder. One for the process.
pub struct Spool {
    folder: PathBuf,
    bounds: SpoolBounds,
    usage: Mutex<Usage>,
}

/// What may wait at one time. A request that would pass a bound is answered with 503.
#[derive(Debug, Clone, Copy)]
pub struct SpoolBounds {
    /// Bytes of all files.
    pub max_bytes: u64,
    /// Bytes of the files of one address.
    pub max_bytes_per_address: u64,
    /// Bytes of the files that are kept in memory; past it they go to the disk, in pieces of 256 KiB.
    pub max_bytes_in_memory: u64,
    /// Files that lie on the disk, each an open file of the process.
    pub max_files_on_disk: u64,
}

#[derive(Default)]
struct Usage {
    bytes: u64,
    bytes_in_memory: u64,
    files_on_disk: u64,
    by_address: HashMap<IpAddr, u64>,
}

/// A file that has arrived.
pub struct SpooledFile {
    kept: Kept,
    head: Bytes,
    _lease: Lease,
}

enum Kept {
    Memory(Bytes),
    Disk { file: Arc<File>, size: u64 },
}

/// A file that is arriving.
pub(crate) struct SpoolWriter {
    head: BytesMut,
    /// What is not on the disk: all of it while there is no file.
    pending: BytesMut,
    file: Option<Arc<File>>,
    written: u64,
    lease: Lease,
}

/// What a file takes of the bounds, given back when it is dropped.
struct Lease {
    spool: Arc<Spool>,
    address: IpAddr,
    bytes: u64,
    bytes_in_memory: u64,
    is_on_disk: bool,
}

/// Why a file cannot wait.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("too many files are being sent")]
    Full,
    #[error("a file cannot be kept: {0}")]
    Io(#[from] io::Error),
}

/// Larger files go to the disk.
const MAX_MEMORY_BYTES: usize = 256 << 10;
/// Pieces in which files go to the disk.
const PIECE_BYTES: usize = 256 << 10;
/// What a file takes of the bounds however small it is: its first bytes, and a descriptor.
const MIN_BYTES: u64 = 4 << 10;

// === impl Spool ===

impl Spool {
    /// A spool whose files lie in a folder, which must be there.
    pub fn new(folder: PathBuf, bounds: SpoolBounds) -> Spool {
        Spool { folder, bounds, usage: Mutex::new(Usage::default()) }
    }

    pub(crate) fn begin(self: &Arc<Spool>, address: IpAddr) -> Result<SpoolWriter, SpoolError> {
        let mut lease =
            Lease { spool: self.clone(), address, bytes: 0, bytes_in_memory: 0, is_on_disk: false };
        lease.take(MIN_BYTES)?;
        Ok(SpoolWriter { head: BytesMut::new(), pending: BytesMut::new(), file: None, written: 0, lease })
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SpoolBounds {
    fn default() -> SpoolBounds {
        SpoolBounds {
            max_bytes: 8 << 30,
            max_bytes_per_address: 2 << 30,
            max_bytes_in_memory: 64 << 20,
            max_files_on_disk: 4_096,
        }
    }
}

// === impl Lease ===

impl Lease {
    fn take(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let bounds = self.spool.bounds;
        let mut usage = self.spool.usage();
        let of_address = usage.by_address.get(&self.address).copied().unwrap_or_default();
        if usage.bytes + bytes > bounds.max_bytes || of_address + bytes > bounds.max_bytes_per_address {
            return Err(SpoolError::Full);
        }
        usage.bytes += bytes;
        *usage.by_address.entry(self.address).or_default() += bytes;
        drop(usage);
        self.bytes += bytes;
        Ok(())
    }

    /// Whether so much more may stay in memory.
    fn take_memory(&mut self, bytes: u64) -> bool {
        let mut usage = self.spool.usage();
        let fits = usage.bytes_in_memory + bytes <= self.spool.bounds.max_bytes_in_memory;
        if fits {
            usage.bytes_in_memory += bytes;
            self.bytes_in_memory += bytes;
        }
        fits
    }

    /// Counts the file among those on the disk, once.
    fn take_file(&mut self) -> Result<(), SpoolError> {
        let mut usage = self.spool.usage();
        if !self.is_on_disk {
            if usage.files_on_disk >= self.spool.bounds.max_files_on_disk {
                return Err(SpoolError::Full);
            }
            usage.files_on_disk += 1;
            self.is_on_disk = true;
        }
        Ok(())
    }

    fn give_back_memory(&mut self) {
        self.spool.usage().bytes_in_memory -= std::mem::take(&mut self.bytes_in_memory);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back_memory();
        let mut usage = self.spool.usage();
        usage.bytes -= self.bytes;
        usage.files_on_disk -= u64::from(self.is_on_disk);
        if let Some(of_address) = usage.by_address.get_mut(&self.address) {
            *of_address -= self.bytes;
            if *of_address == 0 {
                usage.by_address.remove(&self.address);
            }
        }
    }
}

// === impl SpoolWriter ===

impl SpoolWriter {
    pub(crate) async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        self.lease.take(piece.len() as u64)?;
        let of_head = piece.len().min(HEAD_BYTES - self.head.len());
        self.head.extend_from_slice(&piece[..of_head]);
        self.pending.extend_from_slice(piece);
        let stays_in_memory = self.file.is_none()
            && self.pending.len() <= MAX_MEMORY_BYTES
            && self.lease.take_memory(piece.len() as u64);
        if stays_in_memory || self.file.is_some() && self.pending.len() < PIECE_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), SpoolError> {
        self.lease.take_file()?;
        let pending = self.pending.split().freeze();
        let (file, folder) = (self.file.take(), self.lease.spool.folder.clone());
        self.written += pending.len() as u64;
        let write = move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(tempfile::tempfile_in(folder)?),
            };
            (&*file).write_all(&pending)?;
            Ok::<_, io::Error>(file)
        };
        self.file = Some(tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??);
        self.lease.give_back_memory();
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<SpooledFile, SpoolError> {
        if self.file.is_some() && !self.pending.is_empty() {
            self.flush().await?;
        }
        let kept = match self.file {
            Some(file) => Kept::Disk { file, size: self.written },
            None => Kept::Memory(self.pending.freeze()),
        };
        Ok(SpooledFile { kept, head: self.head.freeze(), _lease: self.lease })
    }
}

// === impl SpooledFile ===

impl SpooledFile {
    /// Its first bytes, as many as a type is told by.
    pub fn head(&self) -> &[u8] {
        &self.head
    }
}

impl Content for SpooledFile {
    fn size(&self) -> u64 {
        match &self.kept {
            Kept::Memory(bytes) => bytes.len() as u64,
            Kept::Disk { size, .. } => *size,
        }
    }

    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes> {
        match &self.kept {
            Kept::Memory(bytes) => bytes.read(range),
            Kept::Disk { file, .. } => {
                let file = file.clone();
                Box::pin(async move {
                    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
                    let read = move || {
                        let mut bytes = vec![0; length];
                        file.read_exact_at(&mut bytes, range.start).map(|()| Bytes::from(bytes))
                    };
                    let read = tokio::task::spawn_blocking(read).await;
                    read.map_err(io::Error::other)
                        .flatten()
                        .map_err(|error| BlobError::Unavailable(error.to_string()))
                })
            }
        }
    }
}

impl fmt::Debug for SpooledFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SpooledFile").field("size", &self.size()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn spool(folder: &tempfile::TempDir, bounds: SpoolBounds) -> Arc<Spool> {
        Arc::new(Spool::new(folder.path().to_owned(), bounds))
    }

    async fn keep(spool: &Arc<Spool>, address: IpAddr, bytes: &[u8]) -> Result<SpooledFile, SpoolError> {
        let mut writer = spool.begin(address)?;
        for piece in bytes.chunks(10_000) {
            writer.write(piece).await?;
        }
        writer.finish().await
    }

    #[tokio::test]
    async fn files_come_back_whole_whether_they_are_in_memory_or_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(&folder, SpoolBounds::default());
        for size in [0, 1, 9_999, MAX_MEMORY_BYTES, MAX_MEMORY_BYTES + 1, 1_000_000] {
            let bytes: Vec<u8> = (0..size).map(|position| (position % 251) as u8).collect();
            let file = keep(&spool, HERE, &bytes).await.unwrap();
            assert_eq!(file.size(), size as u64);
            assert_eq!(matches!(file.kept, Kept::Memory(_)), size <= MAX_MEMORY_BYTES, "{size}");
            assert_eq!(file.read(0..size as u64).await.unwrap(), bytes);
            assert_eq!(file.head(), &bytes[..size.min(HEAD_BYTES)]);
        }
        let usage = spool.usage();
        assert_eq!((usage.bytes, usage.bytes_in_memory, usage.by_address.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn what_may_wait_is_bounded_for_one_address_and_for_all() {
        let folder = tempfile::tempdir().unwrap();
        const MIN: u64 = MIN_BYTES;
        let bounds = SpoolBounds {
            max_bytes: 2 * MIN + 100,
            max_bytes_per_address: MIN + 60,
            max_bytes_in_memory: 30,
            max_files_on_disk: 2,
        };
        let spool = spool(&folder, bounds);
        let first = keep(&spool, HERE, &[1; 50]).await.unwrap();
        assert!(matches!(first.kept, Kept::Disk { .. }), "memory has room for 30");
        assert!(matches!(keep(&spool, HERE, &[1; 20]).await, Err(SpoolError::Full)));
        let second = keep(&spool, THERE, &[1; 50]).await.unwrap();
        assert!(matches!(keep(&spool, THERE, &[1; 1]).await, Err(SpoolError::Full)));
        drop((first, second));
        assert!(keep(&spool, HERE, &[1; 60]).await.is_ok());
    }
}
