//! Tokens of others: JWT that an identity provider signed, verified by the keys that it publishes (RFC 7517, 7519, 8725).
//!
//! Only signatures of a public key count, by an algorithm that was allowed and that the key is for: what a token says of
//! itself chooses among keys, never how one is used.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::json::{Json, JsonObject};
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

/// What tokens must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// `iss`.
    pub issuer: String,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// By how much clocks may differ, in seconds.
    pub clock_skew: i64,
    /// What signatures count.
    pub algorithms: Vec<Algorithm>,
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of RFC 7518 and 8037")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// The keys that a provider publishes, as far as they are of use.
#[derive(PartialEq, Eq)]
pub struct Jwks(Vec<PublishedKey>);

/// What is published is no set of keys, or has none that is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no JWK set with keys for RS, PS, ES or EdDSA signatures")]
pub struct UnusableKeys;

/// What a token says that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalClaims {
    /// `sub`.
    pub subject: String,
    /// Seconds since 1970.
    pub expires_at: i64,
    /// All of it.
    pub all: JsonObject,
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum ExternalError {
    #[error("the token is malformed")]
    Malformed,
    #[error("its algorithm is not allowed")]
    Algorithm,
    #[error("its key is not published")]
    UnknownKey,
    #[error("its signature does not fit")]
    Signature,
    #[error("its time is over")]
    Expired,
    #[error("its time has not come")]
    NotYet,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is for somebody else")]
    Audience,
}

#[derive(PartialEq, Eq)]
struct PublishedKey {
    id: Option<String>,
    /// The only one that it is for, where it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, with what curve it is on.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Longer ones are not looked at.
pub const MAX_EXTERNAL_TOKEN_BYTES: usize = 8 << 10;

/// Providers publish a handful; later ones are not looked at.
const MAX_KEYS: usize = 64;
const MAX_TEXT_BYTES: usize = 512;

/// Verifies a token by these keys.
pub fn verify(
    token: &str,
    keys: &Jwks,
    policy: &TokenPolicy,
    now: i64,
) -> Result<ExternalClaims, ExternalError> {
    if token.len() > MAX_EXTERNAL_TOKEN_BYTES {
        return Err(ExternalError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(ExternalError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(ExternalError::Malformed)?;
    let header = object(header)?;
    // What has to be understood and is not.
    if header.contains_key("crit") {
        return Err(ExternalError::Malformed);
    }
    let algorithm = header.get("alg").and_then(Json::as_str).and_then(Algorithm::parse);
    let algorithm = algorithm.filter(|algorithm| policy.algorithms.contains(algorithm));
    let algorithm = algorithm.ok_or(ExternalError::Algorithm)?;
    let id = match header.get("kid") {
        None => None,
        Some(id) => Some(id.as_str().ok_or(ExternalError::Malformed)?),
    };
    let key = keys.find(id, algorithm)?;
    let signature = decode(signature)?;
    if !key.material.verify(algorithm, signed.as_bytes(), &signature) {
        return Err(ExternalError::Signature);
    }
    policy.judge(object(payload)?, now)
}

fn decode(text: &str) -> Result<Vec<u8>, ExternalError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| ExternalError::Malformed)
}

fn object(text: &str) -> Result<JsonObject, ExternalError> {
    let text = String::from_utf8(decode(text)?).map_err(|_| ExternalError::Malformed)?;
    match Json::parse_whole(&text) {
        Ok(Json::Object(object)) => Ok(object),
        _ => Err(ExternalError::Malformed),
    }
}

// === impl TokenPolicy ===

impl TokenPolicy {
    fn judge(&self, claims: JsonObject, now: i64) -> Result<ExternalClaims, ExternalError> {
        let text = |name: &str| claims.get(name).and_then(Json::as_str);
        let seconds = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_number() {
                Some(seconds) if seconds.is_finite() => Ok(Some(seconds as i64)),
                _ => Err(ExternalError::Malformed),
            },
        };
        if text("iss") != Some(&self.issuer) {
            return Err(ExternalError::Issuer);
        }
        if !self.is_for_us(claims.get("aud")) {
            return Err(ExternalError::Audience);
        }
        // One without an end would count forever.
        let expires_at = seconds("exp")?.ok_or(ExternalError::Malformed)?;
        if now >= expires_at.saturating_add(self.clock_skew) {
            return Err(ExternalError::Expired);
        }
        let from = seconds("nbf")?.max(seconds("iat")?).unwrap_or(i64::MIN);
        if from > now.saturating_add(self.clock_skew) {
            return Err(ExternalError::NotYet);
        }
        let subject = text("sub").filter(|subject| (1..=MAX_TEXT_BYTES).contains(&subject.len()));
        let subject = subject.ok_or(ExternalError::Malformed)?.to_owned();
        Ok(ExternalClaims { subject, expires_at, all: claims })
    }

    fn is_for_us(&self, audience: Option<&Json>) -> bool {
        let is_ours =
            |one: &Json| one.as_str().is_some_and(|one| self.audiences.iter().any(|ours| ours == one));
        match audience {
            Some(Json::Array(all)) => all.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        }
    }
}

// === impl Algorithm ===

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    /// By its name in a token.
    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// Its name in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
        }
    }
}

// === impl Jwks ===

impl Jwks {
    /// Reads what a provider publishes. Keys that are for something else, or of a kind that is not known, are left out.
    pub fn parse(text: &str) -> Result<Jwks, UnusableKeys> {
        let Ok(Json::Object(set)) = Json::parse_whole(text) else { return Err(UnusableKeys) };
        let Some(Json::Array(items)) = set.get("keys") else { return Err(UnusableKeys) };
        let keys: Vec<_> = items.iter().take(MAX_KEYS).filter_map(PublishedKey::from_json).collect();
        if keys.is_empty() { Err(UnusableKeys) } else { Ok(Jwks(keys)) }
    }

    /// The key of this id; without one, the only key that could be meant.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&PublishedKey, ExternalError> {
        let mut fitting = self.0.iter().filter(|key| key.fits(algorithm));
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)).ok_or(ExternalError::UnknownKey),
            None => match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(ExternalError::UnknownKey),
            },
        }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

// === impl PublishedKey ===

impl PublishedKey {
    fn from_json(item: &Json) -> Option<PublishedKey> {
        let Json::Object(item) = item else { return None };
        let text = |name: &str| item.get(name).and_then(Json::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let algorithm = match text("alg") {
            Some(name) => Some(Algorithm::parse(name)?),
            None => None,
        };
        let point = |length: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == length && y.len() == length).then(|| [vec![4], x, y].concat())
        };
        let without_zeros = |number: Vec<u8>| number.into_iter().skip_while(|byte| *byte == 0).collect();
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::Rsa { n: without_zeros(bytes("n")?), e: without_zeros(bytes("e")?) },
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        Some(PublishedKey { id: text("kid").map(str::to_owned), algorithm, material })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let is_of_kind = match &self.material {
            Material::Rsa { .. } => algorithm.rsa().is_some(),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::P384(_) => algorithm == Algorithm::Es384,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
        };
        is_of_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

// === impl Material ===

impl Material {
    fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: &Vec<u8>| {
            UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
        };
        match (self, algorithm.rsa()) {
            (Material::Rsa { n, e }, Some(parameters)) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            (Material::P256(point), None) => by(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), None) => by(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Material::Ed25519(point), None) => by(&signature::ED25519, point),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use sha2::Sha256;

    use super::*;
    use crate::caller_keys::KeySet;

    const NOW: i64 = 1_000_000;
    const CLAIMS: &str =
        r#"{"iss":"https://id.example","aud":["other","shop"],"sub":"u1","exp":1000100,"iat":999990}"#;

    fn policy() -> TokenPolicy {
        TokenPolicy {
            issuer: "https://id.example".to_owned(),
            audiences: vec!["shop".to_owned()],
            clock_skew: 60,
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
        }
    }

    fn judged(claims: &str) -> Result<String, ExternalError> {
        let keys = KeySet::generate(0);
        let token = keys.sign(claims, NOW).unwrap();
        let jwks = Jwks::parse(keys.jwks()).unwrap();
        verify(&token, &jwks, &policy(), NOW).map(|claims| claims.subject)
    }

    fn claims_with(name: &str, json: &str) -> String {
        let Json::Object(mut claims) = Json::parse_whole(CLAIMS).unwrap() else { panic!("no object") };
        if json.is_empty() {
            claims.remove(name);
        } else {
            claims.insert(name.to_owned(), Json::parse_whole(json).unwrap());
        }
        Json::Object(claims).to_string()
    }

    fn with_header(token: &str, header: &str) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), token.split_once('.').unwrap().1)
    }

    #[test]
    fn a_token_counts_if_all_of_it_is_right() {
        assert_eq!(judged(CLAIMS).unwrap(), "u1");
        assert_eq!(judged(&claims_with("aud", "\"shop\"")).unwrap(), "u1");
        for (name, json, why) in [
            ("iss", "\"https://other.example\"", ExternalError::Issuer),
            ("iss", "", ExternalError::Issuer),
            ("aud", "\"other\"", ExternalError::Audience),
            ("aud", "[]", ExternalError::Audience),
            ("aud", "", ExternalError::Audience),
            ("exp", "", ExternalError::Malformed),
            ("exp", "\"1000100\"", ExternalError::Malformed),
            ("exp", "999940", ExternalError::Expired),
            ("nbf", "1000061", ExternalError::NotYet),
            ("iat", "1000061", ExternalError::NotYet),
            ("sub", "", ExternalError::Malformed),
            ("sub", "\"\"", ExternalError::Malformed),
        ] {
            assert_eq!(judged(&claims_with(name, json)), Err(why), "{name} {json}");
        }
        // Clocks may differ.
        assert!(judged(&claims_with("exp", "999941")).is_ok());
        assert!(judged(&claims_with("nbf", "1000060")).is_ok());
    }

    #[test]
    fn only_a_published_key_counts_by_an_algorithm_that_is_allowed() {
        let keys = KeySet::generate(0);
        let (jwks, id) = (Jwks::parse(keys.jwks()).unwrap(), keys.ids().next().unwrap().to_owned());
        let token = keys.sign(CLAIMS, NOW).unwrap();
        let why = |token: &str| verify(token, &jwks, &policy(), NOW).unwrap_err();
        let signed = token.rsplit_once('.').unwrap().0;
        for (header, expected) in [
            (format!(r#"{{"alg":"none","kid":"{id}"}}"#), ExternalError::Algorithm),
            (format!(r#"{{"alg":"HS256","kid":"{id}"}}"#), ExternalError::Algorithm),
            (format!(r#"{{"alg":"PS256","kid":"{id}"}}"#), ExternalError::Algorithm),
            (format!(r#"{{"kid":"{id}"}}"#), ExternalError::Algorithm),
            (format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#), ExternalError::UnknownKey),
            (format!(r#"{{"alg":"RS256","kid":"{id}"}}"#), ExternalError::UnknownKey),
            (r#"{"alg":"ES256","kid":"other"}"#.to_owned(), ExternalError::UnknownKey),
            (r#"{"alg":"ES256","kid":1}"#.to_owned(), ExternalError::Malformed),
            (
                format!(r#"{{"alg":"ES256","kid":"{id}","crit":["b64"],"b64":false}}"#),
                ExternalError::Malformed,
            ),
            (format!(r#"{{"alg":"ES256","kid":"{id}","x":1}}"#), ExternalError::Signature),
        ] {
            assert_eq!(why(&with_header(&token, &header)), expected, "{header}");
        }
        assert_eq!(why(&format!("{signed}.")), ExternalError::Signature);
        assert_eq!(why(&KeySet::generate(0).sign(CLAIMS, NOW).unwrap()), ExternalError::UnknownKey);
        for token in ["", ".", "..", "a.b", "a.b.c", &"a".repeat(MAX_EXTERNAL_TOKEN_BYTES + 1)] {
            assert_eq!(why(token), ExternalError::Malformed, "{token}");
        }
        // Without an id the only key that fits is meant.
        let without = with_header(&token, r#"{"alg":"ES256"}"#);
        assert_eq!(why(&without), ExternalError::Signature);
    }

    #[test]
    fn a_public_key_is_never_a_shared_secret() {
        let keys = KeySet::generate(0);
        let jwks = Jwks::parse(keys.jwks()).unwrap();
        let id = keys.ids().next().unwrap();
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(CLAIMS));
        let mut mac = Hmac::<Sha256>::new_from_slice(keys.jwks().as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        assert_eq!(verify(&token, &jwks, &policy(), NOW), Err(ExternalError::Algorithm));
    }

    #[test]
    fn keys_of_other_kinds_count_too() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"e","x":"{x}"}}]}}"#);
        let jwks = Jwks::parse(&jwks).unwrap();
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"e"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(CLAIMS));
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
        assert!(verify(&format!("{signed}.{signature}"), &jwks, &policy(), NOW).is_ok());
    }

    /// The token and the key of RFC 7515, A.2.
    #[test]
    fn a_token_of_the_standard_is_verified() {
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR\
                 T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-\
                 UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethF\
                 kMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let jwks = Jwks::parse(&format!(r#"{{"keys":[{{"kty":"RSA","n":"{n}","e":"AQAB"}}]}}"#)).unwrap();
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9p\
                     c19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5Y\
                     Kt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHl\
                     b1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI\
                     8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        // Signed right; it is for nobody.
        assert_eq!(verify(token, &jwks, &policy(), 0), Err(ExternalError::Issuer));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let other = format!("{signed}.{}", signature.replace("cC4", "cC5"));
        assert_eq!(verify(&other, &jwks, &policy(), 0), Err(ExternalError::Signature));
    }

    #[test]
    fn what_is_of_no_use_is_left_out_of_a_set() {
        for text in [
            "",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","use":"enc"}]}"#,
            r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}"#,
            r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","alg":"HS256"}]}"#,
        ] {
            assert_eq!(Jwks::parse(text).unwrap_err(), UnusableKeys, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(?s).{0,60}", payload in "(?s).{0,60}") {
            let jwks = Jwks::parse(KeySet::generate(0).jwks()).unwrap();
            let _ = Jwks::parse(&text);
            let _ = verify(&text, &jwks, &policy(), NOW);
            let (header, payload) = (URL_SAFE_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(payload));
            let _ = verify(&format!("{header}.{payload}.AAAA"), &jwks, &policy(), NOW);
        }
    }
}
