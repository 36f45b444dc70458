//! The keys that the nodes of one application share: what is signed with one of them comes from a node.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Bytes of a key, and of a signature.
const KEY_BYTES: usize = 32;
pub(crate) const SIGNATURE_BYTES: usize = 32;

/// A text that is longer is no key.
const MOST_TEXT_BYTES: usize = 1_024;

/// The first signs, each verifies: so they can be changed one node after the other.
#[derive(Clone)]
pub struct NodeKeys(Vec<Hmac<Sha256>>);

/// Why texts are not keys, with what to do about it. The texts are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeKeyError {
    /// There is no text.
    #[error("there is no key; make one with `openssl rand -hex 32`")]
    Missing,
    /// A text is no key.
    #[error("key {0} is not 32 bytes in hex or base64; make one with `openssl rand -hex 32`")]
    Unreadable(usize),
}

impl NodeKeys {
    /// Keys from texts, each of 32 bytes in hex or base64; space around a text does not count.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<NodeKeys, NodeKeyError> {
        let keys = texts.into_iter().enumerate().map(|(index, text)| {
            let bytes = decode(text.trim()).ok_or(NodeKeyError::Unreadable(index + 1))?;
            Ok(Hmac::new_from_slice(&bytes).expect("HMAC takes keys of every length"))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(NodeKeyError::Missing) } else { Ok(NodeKeys(keys)) }
    }

    /// Signs these parts, one after the other: where one ends and the next begins is for them to say.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> [u8; SIGNATURE_BYTES] {
        mac(&self.0[0], parts).finalize().into_bytes().into()
    }

    /// Whether one of the keys signed these parts. The comparison takes as long whatever the bytes are.
    pub(crate) fn verifies(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        self.0.iter().any(|key| mac(key, parts).verify_slice(signature).is_ok())
    }
}

/// Keys are in no text that is made of them.
impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKeys").field("count", &self.0.len()).finish_non_exhaustive()
    }
}

fn mac(key: &Hmac<Sha256>, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac
}

/// 64 hex digits would be base64 too, but of no key: what can be hex is hex.
fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() > MOST_TEXT_BYTES {
        return None;
    }
    let bytes = decode_hex(text).or_else(|| decode_base64(text))?;
    (bytes.len() == KEY_BYTES).then_some(bytes)
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |letter: u8| char::from(letter).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8)).collect();
    if rest.is_empty() { bytes } else { None }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [STANDARD, URL_SAFE].iter().find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00ff102030405060708090a0b0c0d0e0f0112233445566778899aabbccddeefb";
    const BASE64: &str = "AP8QIDBAUGBwgJCgsMDQ4PARIjNEVWZ3iJmqu8zd7vs=";

    #[test]
    fn a_key_is_the_same_in_hex_and_base64() {
        let signed = NodeKeys::parse([HEX]).unwrap().sign(&[b"a"]);
        for text in [BASE64, &BASE64[..43], &format!(" {HEX}\n")] {
            assert!(NodeKeys::parse([text]).unwrap().verifies(&[b"a"], &signed), "{text}");
        }
    }

    #[test]
    fn the_first_signs_and_all_verify() {
        let other = "11".repeat(32);
        let old = NodeKeys::parse([HEX]).unwrap();
        let both = NodeKeys::parse([other.as_str(), HEX]).unwrap();
        assert!(both.verifies(&[b"a"], &old.sign(&[b"a"])));
        assert!(!old.verifies(&[b"a"], &both.sign(&[b"a"])));
        assert!(!both.verifies(&[b"b"], &old.sign(&[b"a"])) && !both.verifies(&[b"a"], b""));
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_number() {
        assert_eq!(NodeKeys::parse([]).unwrap_err(), NodeKeyError::Missing);
        for text in ["", "secret", &HEX[2..], &"0".repeat(2_000)] {
            assert_eq!(NodeKeys::parse([HEX, text]).unwrap_err(), NodeKeyError::Unreadable(2), "{text}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", NodeKeys::parse([HEX]).unwrap()), "NodeKeys { count: 1, .. }");
    }
}
