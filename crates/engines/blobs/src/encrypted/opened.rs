use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use contract::blobs::{Answer, BlobError, Content};

use super::chunks;
use super::cipher::{self, BlobCipher};

/// A stored content as it was before it was sealed. Quickest to read in multiples of 64 KiB from the start:
/// a chunk that is read in part is decrypted whole.
pub(super) struct OpenedContent {
    stored: Arc<dyn Content>,
    size: u64,
    cipher: Arc<BlobCipher>,
}

// === impl OpenedContent ===

impl OpenedContent {
    /// The stored content has the length that a plain one of this size has.
    pub(super) async fn new(
        stored: Arc<dyn Content>,
        size: u64,
        cipher: BlobCipher,
    ) -> Result<OpenedContent, BlobError> {
        let content = OpenedContent { stored, size, cipher: Arc::new(cipher) };
        if size == 0 {
            // Nobody will read the one chunk of an empty blob, which says that it was empty.
            content.open(0, 0).await?;
        }
        Ok(content)
    }

    async fn read_opened(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        if range.start > range.end || range.end > self.size {
            return Err(BlobError::Internal("a range outside of the blob".to_owned()));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let wanted = chunks::holding_plain(&range);
        let plain_start = chunks::plain(&wanted, self.size).start;
        let plain = self.open(*wanted.start(), *wanted.end()).await?;
        Ok(plain.slice((range.start - plain_start) as usize..(range.end - plain_start) as usize))
    }

    async fn open(&self, first: u64, last: u64) -> Result<Bytes, BlobError> {
        let place = chunks::stored(&(first..=last), self.size);
        let length = place.end - place.start;
        let sealed = self.stored.read(place).await?;
        if sealed.len() as u64 != length {
            return Err(BlobError::Internal("a content gave too few or many bytes".to_owned()));
        }
        let cipher = Arc::clone(&self.cipher);
        cipher::run(sealed.len(), move || {
            // No copy, if nobody else holds the bytes.
            let mut bytes = Vec::from(sealed);
            cipher.open(first, &mut bytes)?;
            Ok(Bytes::from(bytes))
        })
        .await
    }
}

impl Content for OpenedContent {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes> {
        Box::pin(self.read_opened(range))
    }
}
