//! What a gateway says of a request to the services of another node: who asks, from where, and what the request is called.
//!
//! It travels in one header as base64 of the bytes (`wire.rs`) and of their HMAC-SHA-256, which is over the method and the
//! target, too: so it is of no use for another request. It counts for 30 s. Within that time the same request can be
//! sent again by whoever sees it, as can one with a token; who must not see it is kept out by a private network or TLS.
//! The body is not covered.
//!
//! The word alone makes nobody a caller: the client's token goes along, and the services verify it anew. So a revoked
//! token counts nowhere from the moment of its revocation, and a stolen node key signs nobody in.

mod wire;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::time::Timestamp;

use crate::node_keys::{NodeKeys, SIGNATURE_BYTES};

pub use wire::{Asks, RecordId, Word};

/// The header.
pub const SIGNED_CALLER: &str = "x-groundswell-signed-caller";

/// For how many seconds a word counts.
const COUNTS_FOR: i64 = 30;
/// By how many seconds the clock of the one that signs may be ahead.
const CLOCKS_DIFFER_BY: i64 = 30;

/// Keeps these signatures apart from whatever else the keys may sign some day.
const PURPOSE: &[u8] = b"groundswell caller\n";

/// Why a word does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// It is none.
    #[error("the signed caller is malformed")]
    Malformed,
    /// Signed by another key, or for another request.
    #[error("the signature of the caller does not fit")]
    BadSignature,
    /// Its time is over, or has not come.
    #[error("the signed caller has expired, or the clocks of the nodes differ")]
    Expired,
}

impl Word {
    /// The header for a request with this method and this target, which is its path and query. None for one that
    /// would be too long.
    pub fn sign(&self, keys: &NodeKeys, method: &str, target: &str, now: Timestamp) -> Option<String> {
        let mut bytes = wire::write(self, seconds(now) + COUNTS_FOR)?;
        let signature = keys.sign(&parts(method, target, &bytes));
        bytes.extend(signature);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a header says, if a node signed it for this request.
    pub fn verify(
        header: &str,
        keys: &NodeKeys,
        method: &str,
        target: &str,
        now: Timestamp,
    ) -> Result<Word, WordError> {
        // Base64 has four letters for three bytes.
        if header.len() > (wire::MOST_BYTES + SIGNATURE_BYTES) * 4 / 3 + 4 {
            return Err(WordError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| WordError::Malformed)?;
        let (bytes, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(WordError::Malformed)?;
        if !keys.verifies(&parts(method, target, bytes), signature) {
            return Err(WordError::BadSignature);
        }
        let (word, expires_at) = wire::read(bytes).ok_or(WordError::Malformed)?;
        let left = expires_at.saturating_sub(seconds(now));
        if left <= 0 || left > COUNTS_FOR + CLOCKS_DIFFER_BY {
            return Err(WordError::Expired);
        }
        Ok(word)
    }
}

/// Neither a method nor a target has a line end.
fn parts<'p>(method: &'p str, target: &'p str, bytes: &'p [u8]) -> [&'p [u8]; 6] {
    [PURPOSE, method.as_bytes(), b"\n", target.as_bytes(), b"\n", bytes]
}

fn seconds(now: Timestamp) -> i64 {
    now.0.div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn keys(digit: &str) -> NodeKeys {
        NodeKeys::parse([digit.repeat(64).as_str()]).unwrap()
    }

    fn word() -> Word {
        let record = RecordId { collection: "_pb_users_auth_".to_owned(), id: "abc".to_owned() };
        Word { asks: Asks::Record(record), from: "2001:db8::1".parse().unwrap(), request_id: "r1".to_owned() }
    }

    fn verified(header: &str, method: &str, target: &str, now: Timestamp) -> Result<Word, WordError> {
        Word::verify(header, &keys("1"), method, target, now)
    }

    #[test]
    fn a_word_comes_as_it_was_signed() {
        for asks in [word().asks, Asks::Superuser(RecordId { collection: String::new(), id: "ä\n".into() })]
            .into_iter()
            .chain([Asks::Guest, Asks::Node])
        {
            for from in ["10.0.0.1", "::ffff:10.0.0.1"] {
                let word = Word { asks: asks.clone(), from: from.parse().unwrap(), ..word() };
                let header = word.sign(&keys("1"), "GET", "/a?b", NOW).unwrap();
                assert_eq!(verified(&header, "GET", "/a?b", NOW), Ok(word));
            }
        }
    }

    #[test]
    fn it_is_for_one_method_and_one_target() {
        let header = word().sign(&keys("1"), "GET", "/a?b", NOW).unwrap();
        for (method, target) in [("POST", "/a?b"), ("GET", "/a"), ("GET", "/a?c"), ("GE", "T/a?b")] {
            assert_eq!(verified(&header, method, target, NOW), Err(WordError::BadSignature), "{target}");
        }
    }

    #[test]
    fn another_key_signs_nothing() {
        let header = word().sign(&keys("2"), "GET", "/", NOW).unwrap();
        assert_eq!(verified(&header, "GET", "/", NOW), Err(WordError::BadSignature));
        let both = NodeKeys::parse(["1".repeat(64).as_str(), "2".repeat(64).as_str()]).unwrap();
        assert!(Word::verify(&header, &both, "GET", "/", NOW).is_ok());
    }

    #[test]
    fn it_counts_for_half_a_minute_and_again_within_it() {
        let header = word().sign(&keys("1"), "GET", "/", NOW).unwrap();
        let after = |seconds: i64| verified(&header, "GET", "/", Timestamp(NOW.0 + seconds * 1_000));
        assert!(after(0).is_ok() && after(0).is_ok() && after(29).is_ok() && after(-30).is_ok());
        assert_eq!((after(30), after(-31)), (Err(WordError::Expired), Err(WordError::Expired)));
    }

    #[test]
    fn what_is_cut_off_or_changed_does_not_count() {
        let header = word().sign(&keys("1"), "GET", "/", NOW).unwrap();
        for end in 0..header.len() {
            assert!(verified(&header[..end], "GET", "/", NOW).is_err(), "{end}");
        }
        for place in 0..header.len() {
            let mut changed = header.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(verified(&changed, "GET", "/", NOW).is_err(), "{place}");
        }
        for other in ["", "é", &"A".repeat(100_000)] {
            assert_eq!(verified(other, "GET", "/", NOW), Err(WordError::Malformed));
        }
    }

    #[test]
    fn what_is_too_long_is_not_signed() {
        for length in [MOST_TEXT, MOST_TEXT * 40] {
            let word = Word { request_id: "x".repeat(length), ..word() };
            assert_eq!(word.sign(&keys("1"), "GET", "/", NOW), None);
        }
    }

    const MOST_TEXT: usize = 2_048;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            wire::try_bytes(&bytes);
            let begins_well = [&[1, 0, 0, 0, 0, 0, 0, 3, 232, 4, 1, 2, 3, 4, 0], &bytes[..]].concat();
            wire::try_bytes(&begins_well);
        }
    }
}
