use std::fmt;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const ID_INFO: &[u8] = b"groundswell blob key id";
/// A text that is longer is not looked at: it is no key, and it may be a whole file.
const MOST_TEXT_BYTES: usize = 1_024;

/// Which master key a blob is encrypted with. No secret.
pub(super) type KeyId = [u8; 8];

/// The keys to all blobs. The first encrypts, each decrypts. They are wiped from memory when this is
/// dropped, and are in no text that is made of it.
pub struct MasterKeys {
    keys: Vec<MasterKey>,
}

/// Why texts are not keys, with what to do about it. The texts are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// There is no text.
    #[error("there is no key; make one with `openssl rand -hex 32`")]
    Missing,
    /// A text is neither hex nor base64.
    #[error("key {number} is neither hex nor base64; make one with `openssl rand -hex 32`")]
    Unreadable {
        /// The place of the text, from 1.
        number: usize,
    },
    /// A text is of a key that is too short or too long.
    #[error(
        "key {number} has {bytes} bytes, and must have 32: 64 hex digits, or 43 or 44 letters of base64; \
         make one with `openssl rand -hex 32`"
    )]
    Length {
        /// The place of the text, from 1.
        number: usize,
        /// How many bytes it stands for.
        bytes: usize,
    },
    /// Two texts are the same key.
    #[error("keys {first} and {number} are the same; remove one of them")]
    Repeated {
        /// The place of the text, from 1.
        number: usize,
        /// The place of the one that is the same.
        first: usize,
    },
}

/// One of them.
pub(super) struct MasterKey {
    secret: Zeroizing<[u8; KEY_BYTES]>,
    id: KeyId,
}

/// How much is to be derived.
struct Length(usize);

// === impl MasterKeys ===

impl MasterKeys {
    /// Keys from texts, each of 32 bytes in hex or base64; space around a text does not count.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<MasterKeys, MasterKeyError> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            let number = index + 1;
            let key = MasterKey::new(decode(text.trim(), number)?);
            if let Some(same) = keys.iter().position(|other| other.id == key.id) {
                return Err(MasterKeyError::Repeated { number, first: same + 1 });
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(MasterKeyError::Missing) } else { Ok(MasterKeys { keys }) }
    }

    pub(super) fn first(&self) -> &MasterKey {
        &self.keys[0]
    }

    pub(super) fn of_id(&self, id: KeyId) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MasterKeys").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

// === impl MasterKey ===

impl MasterKey {
    fn new(secret: Zeroizing<[u8; KEY_BYTES]>) -> MasterKey {
        let mut key = MasterKey { secret, id: KeyId::default() };
        let mut id = KeyId::default();
        key.derive(&[], ID_INFO, &mut id);
        key.id = id;
        key
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// Fills in the HKDF-SHA256 of this key.
    pub(super) fn derive(&self, salt: &[u8], info: &[u8], derived: &mut [u8]) {
        let pseudorandom = Salt::new(HKDF_SHA256, salt).extract(&self.secret[..]);
        let filled = pseudorandom.expand(&[info], Length(derived.len())).and_then(|key| key.fill(derived));
        filled.expect("so few bytes can be derived");
    }
}

// === impl Length ===

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn decode(text: &str, number: usize) -> Result<Zeroizing<[u8; KEY_BYTES]>, MasterKeyError> {
    if text.is_empty() {
        return Err(MasterKeyError::Missing);
    }
    if text.len() > MOST_TEXT_BYTES {
        return Err(MasterKeyError::Unreadable { number });
    }
    let bytes = decode_hex(text).or_else(|| decode_base64(text));
    let bytes = bytes.ok_or(MasterKeyError::Unreadable { number })?;
    if bytes.len() != KEY_BYTES {
        return Err(MasterKeyError::Length { number, bytes: bytes.len() });
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// 64 hex digits would be base64 too, but of no key: what can be hex is hex.
fn decode_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |letter: u8| char::from(letter).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    // With all its room from the start, so that no copy is left behind when it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
    }
    rest.is_empty().then_some(bytes)
}

fn decode_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [STANDARD, URL_SAFE].iter().find_map(|alphabet| {
        let mut bytes = Zeroizing::new(vec![0; text.len()]);
        let length = GeneralPurpose::new(alphabet, config).decode_slice(text, &mut bytes).ok()?;
        bytes.truncate(length);
        Some(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00ff102030405060708090a0b0c0d0e0f0112233445566778899aabbccddeefb";

    fn id(text: &str) -> KeyId {
        MasterKeys::parse([text]).unwrap().first().id()
    }

    fn error(texts: &[&str]) -> MasterKeyError {
        MasterKeys::parse(texts.iter().copied()).unwrap_err()
    }

    #[test]
    fn a_key_is_the_same_in_hex_and_in_every_base64() {
        let base64 = "AP8QIDBAUGBwgJCgsMDQ4PARIjNEVWZ3iJmqu8zd7vs=";
        for text in [HEX.to_uppercase().as_str(), &format!(" {HEX}\n"), base64, &base64[..43]] {
            assert_eq!(id(text), id(HEX), "{text}");
        }
        let [standard, url_safe] = ["+/", "-_"].map(|pair| pair.repeat(21) + "A");
        assert_eq!(id(&standard), id(&url_safe));
    }

    #[test]
    fn what_is_no_key_is_told_with_its_place() {
        assert_eq!(error(&[]), MasterKeyError::Missing);
        assert_eq!(error(&[" "]), MasterKeyError::Missing);
        assert_eq!(error(&[HEX, "a key, surely"]), MasterKeyError::Unreadable { number: 2 });
        assert_eq!(error(&[&HEX[2..]]), MasterKeyError::Length { number: 1, bytes: 31 });
        assert_eq!(error(&["c2hvcnQ="]), MasterKeyError::Length { number: 1, bytes: 5 });
        assert_eq!(error(&[&"ab".repeat(600)]), MasterKeyError::Unreadable { number: 1 });
        let other = HEX.replace("00", "01");
        let repeated = error(&[HEX, &other, &HEX.to_uppercase()]);
        assert_eq!(repeated, MasterKeyError::Repeated { number: 3, first: 1 });
        assert!(repeated.to_string().contains("keys 1 and 3 are the same"));
    }

    #[test]
    fn no_text_of_the_keys_holds_a_key() {
        assert_eq!(format!("{:?}", MasterKeys::parse([HEX]).unwrap()), "MasterKeys { count: 1, .. }");
        assert!(!error(&[&HEX[2..]]).to_string().contains(&HEX[4..8]));
    }
}
