//! What a signed header says, as bytes: a version, when it ends, who asks from where, and the request's id. Texts have
//! their length before them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of the format. Another one is not read.
const VERSION: u8 = 1;

/// More bytes are no such header: ids are short.
pub(super) const MOST_BYTES: usize = 2_048;

/// What a gateway says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Who asks.
    pub asks: Asks,
    /// Whose connection it came by.
    pub from: IpAddr,
    /// What the request is called in logs.
    pub request_id: String,
}

/// Who asks, by what a gateway found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// Nobody signed in.
    Guest,
    /// A record of an auth collection.
    Record(RecordId),
    /// A record of `_superusers`.
    Superuser(RecordId),
    /// The gateway itself, for what nodes ask of each other.
    Node,
}

/// A record of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordId {
    /// The id of its collection.
    pub collection: String,
    /// Its own.
    pub id: String,
}

/// The bytes of a word that counts until then, in seconds since 1970. None for texts that are too long.
pub(super) fn write(word: &Word, expires_at: i64) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(VERSION);
    bytes.extend(expires_at.to_be_bytes());
    match word.from {
        IpAddr::V4(address) => {
            bytes.push(4);
            bytes.extend(address.octets());
        }
        IpAddr::V6(address) => {
            bytes.push(6);
            bytes.extend(address.octets());
        }
    }
    push_text(&mut bytes, &word.request_id)?;
    let (kind, record) = match &word.asks {
        Asks::Guest => (0, None),
        Asks::Record(record) => (1, Some(record)),
        Asks::Superuser(record) => (2, Some(record)),
        Asks::Node => (3, None),
    };
    bytes.push(kind);
    if let Some(record) = record {
        push_text(&mut bytes, &record.collection)?;
        push_text(&mut bytes, &record.id)?;
    }
    (bytes.len() <= MOST_BYTES).then_some(bytes)
}

/// The word of these bytes, all of them, and until when it counts.
pub(super) fn read(mut bytes: &[u8]) -> Option<(Word, i64)> {
    let bytes = &mut bytes;
    if take::<1>(bytes)? != [VERSION] {
        return None;
    }
    let expires_at = i64::from_be_bytes(take(bytes)?);
    let from = match take(bytes)? {
        [4] => IpAddr::V4(Ipv4Addr::from(take::<4>(bytes)?)),
        [6] => IpAddr::V6(Ipv6Addr::from(take::<16>(bytes)?)),
        _ => return None,
    };
    let request_id = take_text(bytes)?;
    let asks = match take(bytes)? {
        [0] => Asks::Guest,
        [1] => Asks::Record(take_record(bytes)?),
        [2] => Asks::Superuser(take_record(bytes)?),
        [3] => Asks::Node,
        _ => return None,
    };
    bytes.is_empty().then_some((Word { asks, from, request_id }, expires_at))
}

fn push_text(bytes: &mut Vec<u8>, text: &str) -> Option<()> {
    bytes.extend(u16::try_from(text.len()).ok()?.to_be_bytes());
    bytes.extend(text.as_bytes());
    Some(())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes(take(bytes)?));
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn take_record(bytes: &mut &[u8]) -> Option<RecordId> {
    Some(RecordId { collection: take_text(bytes)?, id: take_text(bytes)? })
}

/// What the fuzzer in `fuzz/` calls, and our tests with random bytes: what can be read is written as it was.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_bytes(bytes: &[u8]) {
    if let Some((word, expires_at)) = read(bytes)
        && bytes.len() <= MOST_BYTES
    {
        assert_eq!(write(&word, expires_at).as_deref(), Some(bytes));
    }
}
