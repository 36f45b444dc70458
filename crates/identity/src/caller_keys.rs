//! The keys that sign what other servers are told of callers: JWT with ES256, which every library verifies by public
//! keys alone. They are published as a JWK set (RFC 7517), and replaced on a schedule.
//!
//! A key is published for a while before it signs, so that a server that remembers the set knows it by then; and stays
//! published until nothing that it signed counts any more.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::json::{Json, write_string};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The keys of a node. None as long as nobody asked for them.
#[derive(Default)]
pub struct CallerKeys(ArcSwapOption<KeySet>);

/// Keys, the oldest first.
pub struct KeySet {
    keys: Vec<Key>,
    jwks: String,
}

/// When keys come and go. All in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySchedule {
    /// How long one signs.
    pub rotate_every: i64,
    /// How long it is published before.
    pub publish_ahead: i64,
    /// How long after another has taken its place.
    pub keep_after: i64,
}

/// Keys that were kept and cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keys cannot be read")]
pub struct UnreadableKeys;

/// Claims as JSON, in the order in which they are added.
#[derive(Debug, Default)]
pub struct ClaimsText(String);

struct Key {
    /// The thumbprint of RFC 7638.
    id: String,
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    /// Seconds since 1970.
    signs_from: i64,
    /// The beginning of a token, up to the first dot.
    header: String,
    jwk: String,
}

/// Past it the oldest goes early. By a schedule there are three at most.
const MAX_KEYS: usize = 16;

// === impl CallerKeys ===

impl CallerKeys {
    /// The keys as they are now.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.0.load_full()
    }

    /// Signs claims with the key whose time it is. None without keys.
    pub fn sign(&self, claims: &str, now: i64) -> Option<String> {
        self.0.load().as_ref()?.sign(claims, now)
    }

    /// Takes these from now on.
    pub fn take(&self, keys: KeySet) {
        self.0.store(Some(Arc::new(keys)));
    }
}

impl fmt::Debug for CallerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerKeys")
    }
}

// === impl KeySet ===

impl KeySet {
    /// One new key, which signs at once: nobody remembers a set without it.
    pub fn generate(now: i64) -> KeySet {
        KeySet::of(vec![Key::generate(now)])
    }

    /// Reads what [`KeySet::to_text`] wrote.
    pub fn parse(text: &str) -> Result<KeySet, UnreadableKeys> {
        let Ok(Json::Object(object)) = Json::parse_whole(text) else { return Err(UnreadableKeys) };
        let Some(Json::Array(items)) = object.get("keys") else { return Err(UnreadableKeys) };
        let keys: Option<Vec<Key>> = items.iter().map(Key::from_json).collect();
        keys.filter(|keys| !keys.is_empty()).map(KeySet::of).ok_or(UnreadableKeys)
    }

    /// The keys with their secrets, to be kept.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(64 + self.keys.len() * 300));
        text.push_str("{\"keys\":[");
        for (number, key) in self.keys.iter().enumerate() {
            text.push_str(if number == 0 { "{\"pkcs8\":\"" } else { ",{\"pkcs8\":\"" });
            URL_SAFE_NO_PAD.encode_string(&*key.pkcs8, &mut text);
            let _ = write!(text, "\",\"signsFrom\":{}}}", key.signs_from);
        }
        text.push_str("]}");
        text
    }

    /// The set that there should be by now, if it is another.
    pub fn advanced(&self, schedule: &KeySchedule, now: i64) -> Option<KeySet> {
        let mut keys: Vec<Key> = self.keys.iter().filter_map(Key::again).collect();
        let newest = keys.last().map_or(now, |key| key.signs_from);
        let next = newest.saturating_add(schedule.rotate_every);
        let mut is_other = keys.len() != self.keys.len();
        if next.saturating_sub(schedule.publish_ahead) <= now {
            keys.push(Key::generate(next.max(now.saturating_add(schedule.publish_ahead))));
            is_other = true;
        }
        while keys.len() > MAX_KEYS
            || keys.get(1).is_some_and(|key| key.signs_from.saturating_add(schedule.keep_after) <= now)
        {
            keys.remove(0);
            is_other = true;
        }
        is_other.then(|| KeySet::of(keys))
    }

    /// Signs claims with the key whose time it is.
    pub fn sign(&self, claims: &str, now: i64) -> Option<String> {
        let key = self.keys.iter().rfind(|key| key.signs_from <= now).or(self.keys.first())?;
        let mut token = String::with_capacity(key.header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(&key.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = key.pair.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    /// The JWK set, as it is published.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// What the keys are known by, the oldest first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    fn of(mut keys: Vec<Key>) -> KeySet {
        keys.sort_by_key(|key| key.signs_from);
        let jwks: Vec<&str> = keys.iter().map(|key| key.jwk.as_str()).collect();
        KeySet { jwks: format!("{{\"keys\":[{}]}}", jwks.join(",")), keys }
    }
}

/// Without its secrets.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

// === impl Key ===

impl Key {
    fn generate(signs_from: i64) -> Key {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("the system has random bytes");
        Key::of(Zeroizing::new(pkcs8.as_ref().to_vec()), signs_from).expect("a key that was made is one")
    }

    fn of(pkcs8: Zeroizing<Vec<u8>>, signs_from: i64) -> Option<Key> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &SystemRandom::new()).ok()?;
        // An uncompressed point: a byte that says so, and two numbers of 32 bytes.
        let (x, y) = pair.public_key().as_ref().get(1..65)?.split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
        let id = URL_SAFE_NO_PAD.encode(thumbprint);
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","kid":"{id}","typ":"JWT"}}"#));
        let jwk = format!(
            r#"{{"alg":"ES256","crv":"P-256","kid":"{id}","kty":"EC","use":"sig","x":"{x}","y":"{y}"}}"#
        );
        Some(Key { id, pair, pkcs8, signs_from, header, jwk })
    }

    fn from_json(item: &Json) -> Option<Key> {
        let Json::Object(item) = item else { return None };
        let pkcs8 = URL_SAFE_NO_PAD.decode(item.get("pkcs8")?.as_str()?).ok()?;
        Key::of(Zeroizing::new(pkcs8), item.get("signsFrom")?.as_number()? as i64)
    }

    /// The same, for another set.
    fn again(&self) -> Option<Key> {
        Key::of(self.pkcs8.clone(), self.signs_from)
    }
}

// === impl ClaimsText ===

impl ClaimsText {
    /// Adds a text.
    pub fn text(&mut self, name: &str, value: &str) {
        write_string(value, self.name(name));
    }

    /// Adds a number.
    pub fn number(&mut self, name: &str, value: i64) {
        let _ = write!(self.name(name), "{value}");
    }

    /// Adds a value that is JSON already.
    pub fn json(&mut self, name: &str, json: &str) {
        self.name(name).push_str(json);
    }

    /// The whole of it.
    pub fn finish(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }

    fn name(&mut self, name: &str) -> &mut String {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        write_string(name, &mut self.0);
        self.0.push(':');
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    const SCHEDULE: KeySchedule = KeySchedule { rotate_every: 1_000, publish_ahead: 100, keep_after: 50 };

    fn ids(keys: &KeySet) -> Vec<String> {
        keys.ids().map(str::to_owned).collect()
    }

    /// What a server does: the key by its id, from the published set, then the signature.
    fn verified(token: &str, jwks: &str) -> Option<String> {
        let mut parts = token.split('.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let Json::Object(header_json) = Json::parse_whole(&text(decode(header))).unwrap() else {
            return None;
        };
        let Json::Object(set) = Json::parse_whole(jwks).unwrap() else { return None };
        let Json::Array(keys) = set.get("keys")? else { return None };
        let key = keys.iter().find_map(|key| match key {
            Json::Object(key) if key.get("kid") == header_json.get("kid") => Some(key),
            _ => None,
        })?;
        let part = |name: &str| decode(key.get(name).unwrap().as_str().unwrap());
        let point = [vec![4], part("x"), part("y")].concat();
        let signed = format!("{header}.{payload}");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        public.verify(signed.as_bytes(), &decode(signature)).ok()?;
        Some(text(decode(payload)))
    }

    fn signer(keys: &KeySet, now: i64) -> String {
        let token = keys.sign("{}", now).unwrap();
        let key = keys.keys.iter().find(|key| token.starts_with(&key.header)).unwrap();
        key.id.clone()
    }

    #[test]
    fn what_is_signed_is_verified_by_the_published_set() {
        let keys = KeySet::generate(0);
        let mut claims = ClaimsText::default();
        claims.text("sub", "a\"b");
        claims.number("exp", -1);
        claims.json("roles", "[1]");
        let token = keys.sign(&claims.finish(), 5).unwrap();
        assert_eq!(verified(&token, keys.jwks()).unwrap(), r#"{"sub":"a\"b","exp":-1,"roles":[1]}"#);
        assert_eq!(verified(&token, KeySet::generate(0).jwks()), None);
        assert_eq!(ClaimsText::default().finish(), "{}");
        for secret in [r#""d""#, "pkcs8"] {
            assert!(!keys.jwks().contains(secret));
        }
    }

    #[test]
    fn keys_come_back_as_they_were_kept() {
        let keys = KeySet::generate(7);
        let again = KeySet::parse(&keys.to_text()).unwrap();
        assert_eq!((again.jwks(), again.keys[0].signs_from), (keys.jwks(), 7));
        for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"pkcs8":"AAAA","signsFrom":1}]}"#] {
            assert_eq!(KeySet::parse(text).unwrap_err(), UnreadableKeys, "{text}");
        }
        assert!(!format!("{keys:?}").contains("pkcs8"));
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_after_it_has_signed() {
        let first = KeySet::generate(0);
        assert!(first.advanced(&SCHEDULE, 899).is_none());
        let both = first.advanced(&SCHEDULE, 900).unwrap();
        let [old, new] = &ids(&both)[..] else { panic!("two keys") };
        assert_eq!(signer(&both, 999), *old);
        assert_eq!(signer(&both, 1_000), *new);
        assert!(both.advanced(&SCHEDULE, 1_049).is_none());
        let after = both.advanced(&SCHEDULE, 1_050).unwrap();
        assert_eq!(ids(&after), std::slice::from_ref(new));
    }

    #[test]
    fn a_key_that_comes_late_is_published_before_it_signs_all_the_same() {
        let first = KeySet::generate(0);
        let both = first.advanced(&SCHEDULE, 50_000).unwrap();
        assert_eq!(ids(&both).len(), 2);
        assert_eq!(signer(&both, 50_099), ids(&both)[0]);
        assert_eq!(signer(&both, 50_100), ids(&both)[1]);
    }

    #[test]
    fn keys_are_bounded_whatever_the_schedule() {
        let schedule = KeySchedule { rotate_every: 1, publish_ahead: 0, keep_after: 1_000_000 };
        let mut keys = KeySet::generate(0);
        for now in 1..40 {
            keys = keys.advanced(&schedule, now).unwrap_or(keys);
        }
        assert_eq!(keys.keys.len(), MAX_KEYS);
    }
}
