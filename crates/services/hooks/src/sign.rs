//! Signatures of what is sent to hooks, as the Standard Webhooks specification 1.0 has them (standardwebhooks.com):
//! HMAC-SHA256 over `id.timestamp.body`, in base64, after `v1,`; a space between those of several secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use model::time::Timestamp;
use rand::Rng;
use sha2::Sha256;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";
/// Bytes of a key, as the specification bounds them.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of the keys that we make.
const NEW_KEY_BYTES: usize = 32;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A key that sender and receiver share: `whsec_` and 24 to 64 bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

// === impl Secret ===

impl Secret {
    /// Reads a secret. None for what is none.
    pub fn parse(text: &str) -> Option<Secret> {
        let key = Zeroizing::new(STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?);
        KEY_BYTES.contains(&key.len()).then_some(Secret(key))
    }

    /// A new one.
    pub fn generate(rng: &mut impl Rng) -> Secret {
        let mut key = Zeroizing::new(vec![0; NEW_KEY_BYTES]);
        rng.fill_bytes(&mut key);
        Secret(key)
    }

    /// The text that [`Secret::parse`] reads.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&*self.0))
    }

    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The headers of a message: the same id at each attempt, the time of this one, a signature for each secret.
pub(crate) fn headers(secrets: &[Secret], id: &str, now: Timestamp, body: &[u8]) -> HeaderMap {
    let seconds = now.0.div_euclid(1_000);
    let signatures: Vec<String> = secrets.iter().map(|secret| secret.sign(id, seconds, body)).collect();
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    for (name, value) in [(ID, id), (SIGNATURE, signatures.join(" ").as_str())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret, the id, the time and the signature are the example of the specification's reference libraries.
    #[test]
    fn a_message_is_signed_as_the_specification_has_it() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let headers = headers(
            &[secret],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp(1_614_265_330_999),
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(headers["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs() {
        let mut rng = rand::rng();
        let secrets = [Secret::generate(&mut rng), Secret::generate(&mut rng)];
        let both = headers(&secrets, "a", Timestamp(0), b"{}");
        let alone = secrets.each_ref().map(|secret| {
            let headers = headers(std::slice::from_ref(secret), "a", Timestamp(0), b"{}");
            headers["webhook-signature"].to_str().unwrap().to_owned()
        });
        assert_eq!(both["webhook-signature"], alone.join(" "));
        assert_ne!(alone[0], alone[1]);
    }

    #[test]
    fn a_secret_has_its_form_and_does_not_print() {
        let secret = Secret::generate(&mut rand::rng());
        assert_eq!(Secret::parse(&secret.to_text()), Some(secret.clone()));
        assert_eq!(format!("{secret:?}"), "Secret");
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for text in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", &long] {
            assert_eq!(Secret::parse(text), None, "{text}");
        }
    }
}
