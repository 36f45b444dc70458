use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use contract::blobs::{Answer, BlobError, Content};

use super::chunks::{self, HEADER_BYTES};
use super::cipher::{self, BlobCipher, Header};

/// A plain content as it is stored: sealed while it is read.
///
/// It must not change meanwhile. The chunk at the end of a read is kept for the next one, which mostly
/// begins in it: so each chunk of a put is read and sealed once, and one nonce never seals two contents.
pub(super) struct SealedContent {
    plain: Arc<dyn Content>,
    plain_size: u64,
    header: Bytes,
    cipher: Arc<BlobCipher>,
    stored_size: u64,
    last_sealed: Mutex<Option<(u64, Bytes)>>,
}

// === impl SealedContent ===

impl SealedContent {
    pub(super) fn new(
        plain: Arc<dyn Content>,
        header: Header,
        cipher: BlobCipher,
    ) -> Result<SealedContent, BlobError> {
        let stored_size = chunks::stored_size(header.size);
        let stored_size =
            stored_size.ok_or_else(|| BlobError::Internal("a blob of more than 2^32 chunks".to_owned()))?;
        Ok(SealedContent {
            plain,
            plain_size: header.size,
            header: header.to_bytes().into(),
            cipher: Arc::new(cipher),
            stored_size,
            last_sealed: Mutex::new(None),
        })
    }

    async fn read_sealed(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        if range.start > range.end || range.end > self.stored_size {
            return Err(BlobError::Internal("a range outside of the blob".to_owned()));
        }
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        if range.start < HEADER_BYTES {
            let end = range.end.min(HEADER_BYTES);
            bytes.extend_from_slice(&self.header[range.start as usize..end as usize]);
        }
        let Some(wanted) = chunks::holding_stored(&range) else {
            return Ok(bytes.into());
        };
        let (mut next, last) = wanted.into_inner();
        while next <= last {
            let kept = self.kept(next);
            let (sealed, after) = match kept {
                Some(sealed) => (sealed, next + 1),
                None => (self.seal(next, last).await?, last + 1),
            };
            let place = chunks::stored(&(next..=after - 1), self.plain_size);
            let from = range.start.saturating_sub(place.start) as usize;
            let to = (range.end.min(place.end) - place.start) as usize;
            bytes.extend_from_slice(&sealed[from..to]);
            next = after;
        }
        Ok(bytes.into())
    }

    /// Reads and seals chunks, and keeps the last of them.
    async fn seal(&self, first: u64, last: u64) -> Result<Bytes, BlobError> {
        let wanted = chunks::plain(&(first..=last), self.plain_size);
        let length = wanted.end - wanted.start;
        let plain = self.plain.read(wanted).await?;
        if plain.len() as u64 != length {
            return Err(BlobError::Internal("a content gave too few or many bytes".to_owned()));
        }
        let cipher = Arc::clone(&self.cipher);
        let sealed = cipher::run(plain.len(), move || cipher.seal(first, &plain)).await?;
        let sealed = Bytes::from(sealed);
        let last_start = chunks::stored(&(last..=last), self.plain_size).start;
        let first_start = chunks::stored(&(first..=first), self.plain_size).start;
        let last_chunk = sealed.slice((last_start - first_start) as usize..);
        *self.last_sealed.lock().unwrap_or_else(PoisonError::into_inner) = Some((last, last_chunk));
        Ok(sealed)
    }

    fn kept(&self, chunk: u64) -> Option<Bytes> {
        let last_sealed = self.last_sealed.lock().unwrap_or_else(PoisonError::into_inner);
        last_sealed.as_ref().filter(|(number, _)| *number == chunk).map(|(_, sealed)| sealed.clone())
    }
}

impl Content for SealedContent {
    fn size(&self) -> u64 {
        self.stored_size
    }

    fn read(&self, range: Range<u64>) -> Answer<'_, Bytes> {
        Box::pin(self.read_sealed(range))
    }
}
