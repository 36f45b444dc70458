//! How much of files lies in memory on its way to clients: large pieces while that is little, since each costs a
//! visit to another thread, and small ones when many clients take theirs slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Counts the bytes that wait for clients, for the whole process.
#[derive(Clone, Default)]
pub(crate) struct Sending {
    waiting: Arc<AtomicU64>,
}

/// A piece that is on its way, until it is dropped.
struct Piece {
    bytes: Bytes,
    waiting: Arc<AtomicU64>,
}

const LARGE_PIECE_BYTES: u64 = 1 << 20;
const SMALL_PIECE_BYTES: u64 = 64 << 10;
/// Past it, pieces are small: then each client more costs no more than one of those.
const MAX_IN_LARGE_PIECES: u64 = 64 << 20;

// === impl Sending ===

impl Sending {
    /// How much to read next.
    pub(crate) fn piece_bytes(&self) -> u64 {
        let is_little = self.waiting.load(Ordering::Relaxed) < MAX_IN_LARGE_PIECES;
        if is_little { LARGE_PIECE_BYTES } else { SMALL_PIECE_BYTES }
    }

    /// Counts a piece until it is sent.
    pub(crate) fn count(&self, bytes: Bytes) -> Bytes {
        self.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Piece { bytes, waiting: self.waiting.clone() })
    }
}

// === impl Piece ===

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_while_much_waits() {
        let sending = Sending::default();
        let piece = || sending.count(Bytes::from(vec![0; 32 << 20]));
        let (first, second) = (piece(), piece());
        assert_eq!(sending.piece_bytes(), SMALL_PIECE_BYTES);
        drop((first.slice(..10), first));
        assert_eq!(sending.piece_bytes(), LARGE_PIECE_BYTES);
        drop(second);
        assert_eq!(sending.waiting.load(Ordering::Relaxed), 0);
    }
}
