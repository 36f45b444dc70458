use contract::blobs::{BlobError, BlobKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::chunks::{self, CHUNK_BYTES, HEADER_BYTES, TAG_BYTES};
use super::keys::{KeyId, MasterKey, MasterKeys};

const MAGIC: [u8; 7] = *b"\x93GSBLOB";
const VERSION: u8 = 1;
const KEY_INFO: &[u8] = b"groundswell blob 1";
const PREFIX_BYTES: usize = 7;

/// Sealing more than this in one go would hold up the other connections of a request loop: about 60 µs.
const MOST_AT_HAND: usize = 512 * 1024;

/// What stands before the chunks.
pub(super) struct Header {
    pub(super) key_id: KeyId,
    pub(super) size: u64,
    salt: [u8; 32],
}

/// The key of one blob, and what its chunks are bound to.
pub(super) struct BlobCipher {
    key: LessSafeKey,
    nonce_prefix: [u8; PREFIX_BYTES],
    associated: Vec<u8>,
    last_chunk: u64,
    name: BlobKey,
}

/// Runs work that takes this many bytes: here, or off the request loop if they are many.
pub(super) async fn run<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    if bytes <= MOST_AT_HAND {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| Err(BlobError::Internal(format!("en- or decrypt a blob: {panicked}"))))
}

// === impl Header ===

impl Header {
    /// One for a blob that is put now.
    pub(super) fn random(key_id: KeyId, size: u64) -> Result<Header, BlobError> {
        let mut salt = [0; 32];
        let filled = SystemRandom::new().fill(&mut salt);
        filled.map_err(|_| BlobError::Unavailable("the system has no random bytes".to_owned()))?;
        Ok(Header { key_id, size, salt })
    }

    /// Whether the first bytes of a blob are those of a header, also when some are no longer what they
    /// were: the magic or the id of a key, or as much of the magic as is left.
    pub(super) fn is_there(head: &[u8], keys: &MasterKeys) -> bool {
        let magic = &head[..head.len().min(MAGIC.len())];
        let has_magic = !magic.is_empty() && MAGIC.starts_with(magic);
        let has_known_id = head.get(8..16).is_some_and(|id| keys.of_id(array(id)).is_some());
        has_magic || has_known_id
    }

    pub(super) fn read(head: &[u8]) -> Result<Header, &'static str> {
        if head.len() as u64 != HEADER_BYTES {
            return Err("it is shorter than its header");
        }
        if head[..7] != MAGIC {
            return Err("its first bytes are not what was stored");
        }
        if head[7] != VERSION {
            return Err("its format is not known here");
        }
        let size = u64::from_be_bytes(array(&head[48..56]));
        Ok(Header { key_id: array(&head[8..16]), salt: array(&head[16..48]), size })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &[VERSION], &self.key_id, &self.salt, &self.size.to_be_bytes()].concat()
    }
}

// === impl BlobCipher ===

impl BlobCipher {
    pub(super) fn new(master: &MasterKey, header: &Header, name: &BlobKey) -> BlobCipher {
        let mut derived = Zeroizing::new([0; 32 + PREFIX_BYTES]);
        master.derive(&header.salt, KEY_INFO, &mut derived[..]);
        let (key, nonce_prefix) = derived.split_at(32);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of AES-256 has 32 bytes");
        BlobCipher {
            key: LessSafeKey::new(key),
            nonce_prefix: array(nonce_prefix),
            associated: [&header.to_bytes(), name.as_str().as_bytes()].concat(),
            last_chunk: chunks::count(header.size) - 1,
            name: name.clone(),
        }
    }

    /// Seals plain chunks that follow one another, the first of them of this number.
    pub(super) fn seal(&self, first: u64, plain: &[u8]) -> Result<Vec<u8>, BlobError> {
        let count = chunks::count(plain.len() as u64);
        let mut sealed = Vec::with_capacity(plain.len() + (count * TAG_BYTES) as usize);
        for (number, start) in (first..first + count).zip((0..).step_by(CHUNK_BYTES as usize)) {
            let chunk = &plain[start..plain.len().min(start + CHUNK_BYTES as usize)];
            let begin = sealed.len();
            sealed.extend_from_slice(chunk);
            let tag = self.key.seal_in_place_separate_tag(
                self.nonce(number),
                Aad::from(&self.associated),
                &mut sealed[begin..],
            );
            let tag =
                tag.map_err(|_| BlobError::Internal(format!("{}: a chunk is not sealed", self.name)))?;
            sealed.extend_from_slice(tag.as_ref());
        }
        Ok(sealed)
    }

    /// Opens sealed chunks that follow one another, the first of them of this number, and leaves the
    /// plain bytes.
    pub(super) fn open(&self, first: u64, sealed: &mut Vec<u8>) -> Result<(), BlobError> {
        const SEALED: usize = (CHUNK_BYTES + TAG_BYTES) as usize;
        let mut plain_end = 0;
        for (number, start) in (first..).zip((0..sealed.len()).step_by(SEALED)) {
            let end = sealed.len().min(start + SEALED);
            let plain = self.key.open_in_place(
                self.nonce(number),
                Aad::from(&self.associated),
                &mut sealed[start..end],
            );
            let plain = plain.map_err(|_| {
                BlobError::Damaged(format!("{}: chunk {number} is not what was stored", self.name))
            })?;
            let length = plain.len();
            sealed.copy_within(start..start + length, plain_end);
            plain_end += length;
        }
        sealed.truncate(plain_end);
        Ok(())
    }

    /// Never the same for two chunks of a blob, and a key is of one blob.
    fn nonce(&self, number: u64) -> Nonce {
        let counter = u32::try_from(number).expect("a blob has no more chunks than can be counted");
        let mut nonce = [0; 12];
        nonce[..PREFIX_BYTES].copy_from_slice(&self.nonce_prefix);
        nonce[PREFIX_BYTES..11].copy_from_slice(&counter.to_be_bytes());
        nonce[11] = u8::from(number == self.last_chunk);
        Nonce::assume_unique_for_key(nonce)
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice is cut to this length")
}
