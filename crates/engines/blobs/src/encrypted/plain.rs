use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use contract::blobs::{Answer, Blob, BlobError, BlobKey, Blobs, Content};

use super::chunks::{self, HEADER_BYTES};
use super::cipher::Header;

/// Blobs where no key is given: as they are, but for those that are encrypted. Their bytes would be taken for
/// the file's, and kept by every cache, where somebody only forgot the key.
pub struct PlainBlobs {
    inner: Arc<dyn Blobs>,
}

/// A content that is looked at when it is first read: then its beginning is mostly what is asked for, and the
/// look costs nothing.
struct PlainContent {
    stored: Arc<dyn Content>,
    key: BlobKey,
    is_plain: AtomicBool,
}

// === impl PlainBlobs ===

impl PlainBlobs {
    /// Blobs that lie as they are in others.
    pub fn new(inner: Arc<dyn Blobs>) -> PlainBlobs {
        PlainBlobs { inner }
    }
}

impl Blobs for PlainBlobs {
    fn put(&self, key: BlobKey, content: Arc<dyn Content>) -> Answer<'_, ()> {
        self.inner.put(key, content)
    }

    fn open(&self, key: BlobKey) -> Answer<'_, Option<Blob>> {
        Box::pin(async move {
            let stored = self.inner.open(key.clone()).await?;
            Ok(stored.map(|Blob { content: stored, modified }| {
                let is_plain = AtomicBool::new(stored.size() < HEADER_BYTES);
                Blob { content: Arc::new(PlainContent { stored, key, is_plain }), modified }
            }))
        })
    }

    fn delete(&self, key: BlobKey) -> Answer<'_, ()> {
        self.inner.delete(key)
    }

    fn list(&self, folder: BlobKey, limit: usize) -> Answer<'_, Vec<BlobKey>> {
        self.inner.list(folder, limit)
    }
}

// === impl PlainContent ===

impl PlainContent {
    async fn read_plain(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        let (starts_with_header, end) =
            (range.start == 0 && range.end >= HEADER_BYTES, HEADER_BYTES as usize);
        if starts_with_header {
            let bytes = self.stored.read(range).await?;
            self.check(&bytes[..bytes.len().min(end)])?;
            return Ok(bytes);
        }
        self.check(&self.stored.read(0..HEADER_BYTES).await?)?;
        self.stored.read(range).await
    }

    /// Also the size must be that of an encrypted blob: no other file is refused.
    fn check(&self, head: &[u8]) -> Result<(), BlobError> {
        let is_sealed = Header::read(head)
            .is_ok_and(|header| chunks::stored_size(header.size) == Some(self.stored.size()));
        if is_sealed {
            return Err(BlobError::Damaged(format!(
                "{}: it is encrypted, and no key is given here",
                self.key
            )));
        }
        self.is_plain.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Content for PlainContent {
    fn size(&self) -> u64 {
        self.stored.size()
    }

    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes> {
        match self.is_plain.load(Ordering::Relaxed) {
            true => self.stored.read(range),
            false => Box::pin(self.read_plain(range)),
        }
    }
}
