//! Where the chunks lie, in the plain blob and in the stored one.

use std::ops::{Range, RangeInclusive};

/// Plain bytes of a chunk, but for the last.
pub(super) const CHUNK_BYTES: u64 = 65_536;
/// What is stored for each chunk besides its bytes.
pub(super) const TAG_BYTES: u64 = 16;
/// What is stored before the chunks.
pub(super) const HEADER_BYTES: u64 = 56;

const SEALED_BYTES: u64 = CHUNK_BYTES + TAG_BYTES;
/// As many as a nonce can count.
const MOST_CHUNKS: u64 = 1 << 32;

/// How many chunks a plain blob has: at least one, so that there is a last one.
pub(super) fn count(size: u64) -> u64 {
    size.div_ceil(CHUNK_BYTES).max(1)
}

/// The size of the stored blob; none when the plain one is too large.
pub(super) fn stored_size(size: u64) -> Option<u64> {
    let chunks = count(size);
    (chunks <= MOST_CHUNKS).then(|| HEADER_BYTES + size + chunks * TAG_BYTES)
}

/// The bytes of chunks in a plain blob of this size.
pub(super) fn plain(chunks: &RangeInclusive<u64>, size: u64) -> Range<u64> {
    chunks.start() * CHUNK_BYTES..size.min((chunks.end() + 1) * CHUNK_BYTES)
}

/// The bytes of chunks in the stored blob, for a plain one of this size.
pub(super) fn stored(chunks: &RangeInclusive<u64>, size: u64) -> Range<u64> {
    let end = plain(chunks, size).end + (chunks.end() + 1) * TAG_BYTES;
    HEADER_BYTES + chunks.start() * SEALED_BYTES..HEADER_BYTES + end
}

/// The chunks that hold a range of the plain blob, which is not empty.
pub(super) fn holding_plain(range: &Range<u64>) -> RangeInclusive<u64> {
    range.start / CHUNK_BYTES..=(range.end - 1) / CHUNK_BYTES
}

/// The chunks that hold a range of the stored blob; none when it lies in the header.
pub(super) fn holding_stored(range: &Range<u64>) -> Option<RangeInclusive<u64>> {
    let start = range.start.max(HEADER_BYTES) - HEADER_BYTES;
    let end = range.end.max(HEADER_BYTES) - HEADER_BYTES;
    (start < end).then(|| start / SEALED_BYTES..=(end - 1) / SEALED_BYTES)
}
