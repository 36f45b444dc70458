use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use contract::blobs::{Answer, BlobError, Content};
use tokio::sync::Notify;

/// So many bytes, each told by its place.
pub(super) fn bytes(size: u64) -> Bytes {
    generate(0..size)
}

/// A content that is nowhere: its bytes are made when they are read. It remembers the longest read.
pub(super) struct Generated {
    size: u64,
    most_asked: AtomicU64,
}

/// A content that does not keep its word about where it ends.
pub(super) enum Broken {
    /// A read past the place fails.
    Fails { size: u64, at: u64 },
    /// A read past the place gives no more than what is before it.
    FallsShort { size: u64, at: u64 },
    /// A read past the place says so, and never ends.
    Stops { size: u64, at: u64, has_stopped: Arc<Notify> },
}

// === impl Generated ===

impl Generated {
    pub(super) fn new(size: u64) -> Generated {
        Generated { size, most_asked: AtomicU64::new(0) }
    }

    pub(super) fn most_asked(&self) -> u64 {
        self.most_asked.load(Ordering::Relaxed)
    }
}

impl Content for Generated {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes> {
        assert!(range.start <= range.end && range.end <= self.size, "asked for {range:?}");
        self.most_asked.fetch_max(range.end - range.start, Ordering::Relaxed);
        Box::pin(async move { Ok(generate(range)) })
    }
}

// === impl Broken ===

impl Broken {
    pub(super) fn stops(size: u64, at: u64) -> (Broken, Arc<Notify>) {
        let has_stopped = Arc::new(Notify::new());
        (Broken::Stops { size, at, has_stopped: Arc::clone(&has_stopped) }, has_stopped)
    }

    pub(super) fn error() -> BlobError {
        BlobError::Unavailable("the client has gone".to_owned())
    }
}

impl Content for Broken {
    fn size(&self) -> u64 {
        match self {
            Broken::Fails { size, .. } | Broken::FallsShort { size, .. } | Broken::Stops { size, .. } => {
                *size
            }
        }
    }

    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes> {
        Box::pin(async move {
            match self {
                Broken::Fails { at, .. } if range.end > *at => Err(Broken::error()),
                Broken::FallsShort { at, .. } if range.end > *at => Ok(generate(range.start.min(*at)..*at)),
                Broken::Stops { at, has_stopped, .. } if range.end > *at => {
                    has_stopped.notify_one();
                    std::future::pending().await
                }
                _ => Ok(generate(range)),
            }
        })
    }
}

/// Any two places within 64 KiB differ in one of eight bytes that follow, nearly always.
fn generate(range: Range<u64>) -> Bytes {
    let start = range.start - range.start % 8;
    let mut bytes = Vec::with_capacity((range.end - start) as usize + 8);
    let mut word = start / 8;
    while start + (bytes.len() as u64) < range.end {
        bytes.extend_from_slice(&word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        word += 1;
    }
    let bytes = Bytes::from(bytes);
    bytes.slice((range.start - start) as usize..(range.end - start) as usize)
}
