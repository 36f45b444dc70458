//! Blobs: the bytes of files, by key. A blob is written once, whole or not at all, and never changed.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

/// What a call returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BlobError>> + Send + 'a>>;

/// Where the bytes of files are.
///
/// Every call has a deadline, of the adapter's configuration. A blob that was acknowledged is as durable
/// as the engine can make it: on the disk, for a folder. An adapter passes `testkit::blob_suite`.
pub trait Blobs: Send + Sync + 'static {
    /// Stores the content under the key; visible once it is whole. What was there is replaced.
    fn put(&self, key: BlobKey, content: Arc<dyn Content>) -> Answer<'_, ()>;

    /// Opens a blob for reading; none when there is no such blob.
    fn open(&self, key: BlobKey) -> Answer<'_, Option<Blob>>;

    /// Removes a blob. One that is not there is removed already.
    fn delete(&self, key: BlobKey) -> Answer<'_, ()>;

    /// The keys of all blobs in a folder of keys, at most `limit`, in no order.
    fn list(&self, folder: BlobKey, limit: usize) -> Answer<'_, Vec<BlobKey>>;
}

/// Bytes that are read by ranges, so that nobody holds all of them: a blob, or what becomes one.
pub trait Content: Send + Sync {
    /// How many there are.
    fn size(&self) -> u64;

    /// The bytes of a range that lies within the size. A reader asks for as much as it can hold.
    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes>;
}

/// An open blob. It stays readable while it is held, also when it is deleted meanwhile, if the engine can.
#[derive(Clone)]
pub struct Blob {
    /// Its bytes.
    pub content: Arc<dyn Content>,
    /// When it was stored.
    pub modified: SystemTime,
}

/// The name of a blob: segments parted by `/`, none of them empty, `.` or `..`, none with a control
/// character, a `/` or a `\`; 1,024 bytes at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey(String);

/// A call that had no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// No room, no access, no connection, or no answer in time; worth another try later.
    #[error("the blobs cannot be reached: {0}")]
    Unavailable(String),
    /// The bytes are not those that were stored, or were stored under a key that is not known here.
    #[error("a blob is damaged: {0}")]
    Damaged(String),
    /// A bug. The text is for logs.
    #[error("the blobs failed: {0}")]
    Internal(String),
}

// === impl BlobKey ===

impl BlobKey {
    /// A key of segments; none when one of them cannot be a segment or all are too long.
    pub fn new<'s>(segments: impl IntoIterator<Item = &'s str>) -> Option<BlobKey> {
        const MAX_BYTES: usize = 1_024;
        let mut key = String::new();
        for segment in segments {
            let is_plain = !matches!(segment, "" | "." | "..")
                && !segment.chars().any(|letter| letter.is_control() || matches!(letter, '/' | '\\'));
            if !is_plain {
                return None;
            }
            if !key.is_empty() {
                key.push('/');
            }
            key.push_str(segment);
        }
        (1..=MAX_BYTES).contains(&key.len()).then_some(BlobKey(key))
    }

    /// A key as it was written down.
    pub fn parse(text: &str) -> Option<BlobKey> {
        BlobKey::new(text.split('/'))
    }

    /// The segments with `/` between them.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Bytes in memory.
impl Content for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes> {
        let bytes = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .filter(|(start, end)| start <= end && *end <= self.len())
            .map(|(start, end)| self.slice(start..end))
            .ok_or_else(|| BlobError::Internal("a range outside of the content".to_owned()));
        Box::pin(std::future::ready(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_no_way_out_of_their_folder() {
        for text in ["", "/a", "a//b", "a/", "..", "a/../b", "a/.", "a\\b", "a/\u{0}", "a\n"] {
            assert_eq!(BlobKey::parse(text), None, "{text:?}");
        }
        assert_eq!(BlobKey::parse(&"a".repeat(1_025)), None);
        assert_eq!(BlobKey::new(["a", "b/c"]), None);
        assert_eq!(BlobKey::new(["c1", "r1", "n ä.txt"]).unwrap().as_str(), "c1/r1/n ä.txt");
    }
}
