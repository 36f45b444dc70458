//! Signed tokens: JWT with HS256, the header and the sorted claims of the contract (CONTRACT §5.1).
//!
//! The bytes are written here rather than by a JWT library, because the usual one orders the header's
//! keys otherwise, and there is one algorithm only: HMAC-SHA-256 by `hmac` and `sha2`, compared in
//! constant time.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use model::collection::AuthOptions;
use model::json::{Json, JsonObject, write_string};
use model::record::Record;
use sha2::Sha256;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The record's collection.
    pub collection_id: String,
    /// The record.
    pub record_id: String,
    /// Seconds since 1970; from then on the token is void.
    pub expires_at: i64,
    /// What the token is for, with what only such a token says.
    pub purpose: Purpose,
}

/// What a token is for. A text is empty where a token that was read leaves it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To be signed in.
    Auth {
        /// Whether it can be exchanged for a newer one. Not so when someone else signed in for the record.
        refreshable: bool,
    },
    /// To download protected files.
    File,
    /// To confirm an address.
    Verification {
        /// The address.
        email: String,
    },
    /// To set a new password.
    PasswordReset {
        /// Where the token was sent.
        email: String,
    },
    /// To confirm a new address.
    EmailChange {
        /// The present address.
        email: String,
        /// The address to come, to which the token was sent.
        new_email: String,
    },
}

/// A kind of token: a [`Purpose`] without what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "as the variants of Purpose")]
pub enum TokenKind {
    Auth,
    File,
    Verification,
    PasswordReset,
    EmailChange,
}

/// What signs the tokens of one record and one kind.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(String);

/// A token that was read, and is not to be believed yet.
#[derive(Debug, Clone)]
pub struct Unverified<'t> {
    claims: Claims,
    /// Seconds since 1970; before that the token does not count yet.
    valid_from: i64,
    signed: &'t str,
    signature: Vec<u8>,
}

/// Why a token does not count. Callers are told nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token of ours.
    #[error("the token is malformed")]
    Malformed,
    /// Signed by another key, or not at all.
    #[error("the signature does not fit")]
    BadSignature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// Longer ones are not looked at; ours stay under 1 KiB.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The token of an `Authorization` header: the value itself, without a `Bearer ` before it.
pub fn bearer_token(header: &str) -> &str {
    match header.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer ") => token,
        _ => header,
    }
}

/// Signs a token.
pub fn sign(claims: &Claims, key: &SigningKey) -> String {
    let mut token = String::with_capacity(384);
    token.push_str(HEADER);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_json(), &mut token);
    let signature = key.mac(&token).finalize().into_bytes();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// Reads what a token says, to find the record whose key verifies it.
pub fn read(token: &str) -> Result<Unverified<'_>, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if header != HEADER && decode_object(header)?.get("alg") != Some(&Json::from("HS256")) {
        return Err(TokenError::Malformed);
    }
    let payload = decode_object(payload)?;
    let claims = Claims::from_json(&payload).ok_or(TokenError::Malformed)?;
    let from = |name| seconds(&payload, name).ok_or(TokenError::Malformed);
    let valid_from = from("nbf")?.max(from("iat")?).unwrap_or(0);
    Ok(Unverified { claims, valid_from, signed, signature: decode(signature)? })
}

/// A time among the claims: `None` when it is not a number, `Some(None)` when it is not there.
fn seconds(claims: &JsonObject, name: &str) -> Option<Option<i64>> {
    match claims.get(name) {
        None => Some(None),
        Some(value) => value.as_number().map(|seconds| Some(seconds as i64)),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)
}

fn decode_object(text: &str) -> Result<JsonObject, TokenError> {
    match Json::parse_first(&decode(text)?) {
        Ok(Json::Object(object)) => Ok(object),
        _ => Err(TokenError::Malformed),
    }
}

// === impl Claims ===

impl Claims {
    fn to_json(&self) -> String {
        let mut out = String::from("{\"collectionId\":");
        write_string(&self.collection_id, &mut out);
        let text = |out: &mut String, key: &str, value: &str| {
            let _ = write!(out, ",\"{key}\":");
            write_string(value, out);
        };
        if let Some(email) = self.purpose.email() {
            text(&mut out, "email", email);
        }
        let _ = write!(out, ",\"exp\":{}", self.expires_at);
        text(&mut out, "id", &self.record_id);
        match &self.purpose {
            Purpose::EmailChange { new_email, .. } => text(&mut out, "newEmail", new_email),
            Purpose::Auth { refreshable } => {
                let _ = write!(out, ",\"refreshable\":{refreshable}");
            }
            Purpose::File | Purpose::Verification { .. } | Purpose::PasswordReset { .. } => {}
        }
        text(&mut out, "type", self.purpose.kind().as_str());
        out.push('}');
        out
    }

    fn from_json(object: &JsonObject) -> Option<Claims> {
        let text = |key: &str| object.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let purpose = match TokenKind::from_name(&text("type"))? {
            TokenKind::Auth => {
                let refreshable = object.get("refreshable").and_then(Json::as_bool).unwrap_or(false);
                Purpose::Auth { refreshable }
            }
            TokenKind::File => Purpose::File,
            TokenKind::Verification => Purpose::Verification { email: text("email") },
            TokenKind::PasswordReset => Purpose::PasswordReset { email: text("email") },
            TokenKind::EmailChange => {
                Purpose::EmailChange { email: text("email"), new_email: text("newEmail") }
            }
        };
        let (collection_id, record_id) = (text("collectionId"), text("id"));
        // One of ours always has it; a token without is one that never expires.
        let expires_at = seconds(object, "exp")?.unwrap_or(i64::MAX);
        let is_complete = !collection_id.is_empty() && !record_id.is_empty();
        is_complete.then_some(Claims { collection_id, record_id, expires_at, purpose })
    }
}

// === impl Purpose ===

impl Purpose {
    /// The kind of token.
    pub fn kind(&self) -> TokenKind {
        match self {
            Purpose::Auth { .. } => TokenKind::Auth,
            Purpose::File => TokenKind::File,
            Purpose::Verification { .. } => TokenKind::Verification,
            Purpose::PasswordReset { .. } => TokenKind::PasswordReset,
            Purpose::EmailChange { .. } => TokenKind::EmailChange,
        }
    }

    /// The record's address when the token was made, where such a token says it.
    pub fn email(&self) -> Option<&str> {
        match self {
            Purpose::Verification { email }
            | Purpose::PasswordReset { email }
            | Purpose::EmailChange { email, .. } => Some(email),
            Purpose::Auth { .. } | Purpose::File => None,
        }
    }
}

// === impl TokenKind ===

impl TokenKind {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenKind::Auth => "auth",
            TokenKind::File => "file",
            TokenKind::Verification => "verification",
            TokenKind::PasswordReset => "passwordReset",
            TokenKind::EmailChange => "emailChange",
        }
    }

    fn from_name(name: &str) -> Option<TokenKind> {
        const ALL: [TokenKind; 5] = [
            TokenKind::Auth,
            TokenKind::File,
            TokenKind::Verification,
            TokenKind::PasswordReset,
            TokenKind::EmailChange,
        ];
        ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    fn secret(self, options: &AuthOptions) -> &str {
        let token = match self {
            TokenKind::Auth => &options.auth_token,
            TokenKind::File => &options.file_token,
            TokenKind::Verification => &options.verification_token,
            TokenKind::PasswordReset => &options.password_reset_token,
            TokenKind::EmailChange => &options.email_change_token,
        };
        &token.secret
    }
}

// === impl SigningKey ===

impl SigningKey {
    /// The key of two secrets; `None` when one is empty, since the other alone must not sign.
    pub fn new(token_key: &str, secret: &str) -> Option<SigningKey> {
        let is_whole = !token_key.is_empty() && !secret.is_empty();
        is_whole.then(|| SigningKey(format!("{token_key}{secret}")))
    }

    /// The key of a record's tokens of one kind; `None` when the record cannot sign in.
    pub fn of(record: &Record, kind: TokenKind) -> Option<SigningKey> {
        let secret = kind.secret(record.collection.auth()?);
        SigningKey::new(record.get("tokenKey").as_str(), secret)
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes());
        let mut mac = mac.expect("HMAC takes keys of any length");
        mac.update(signed.as_bytes());
        mac
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKey")
    }
}

// === impl Unverified ===

impl Unverified<'_> {
    /// What the token says, unproven.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Checks the signature, then the time; `now` is in seconds since 1970.
    pub fn verify(self, key: &SigningKey, now: i64) -> Result<Claims, TokenError> {
        key.mac(self.signed).verify_slice(&self.signature).map_err(|_| TokenError::BadSignature)?;
        let is_current = (self.valid_from..self.claims.expires_at).contains(&now);
        if is_current { Ok(self.claims) } else { Err(TokenError::Expired) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token of the contract's server, with the two secrets from its database.
    const SEEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjb2xsZWN0aW9uSWQiOiJwYmNfMzE0MjYzNTgyMyIsImV4cCI6MTc5NTU3ODg0NSwiaWQiOiJnMjdnamN0bHdrNHNuYjMiLCJyZWZyZXNoYWJsZSI6dHJ1ZSwidHlwZSI6ImF1dGgifQ.JVzm2V-d1GJaQqtyARQuxonVPUgTeKuaL6DQFUlsJqM";
    const TOKEN_KEY: &str = "O0ZsCeUCr8nMuy6Qp3bsvaOFAN3sCa4FFvcglcDfXt8iRN5fIK";
    const SECRET: &str = "jqE7LqekZc0CowA5xrjdZEcNfv2f7FQGwz0MkZKf8bsm4WvjSi";

    fn key() -> SigningKey {
        SigningKey::new(TOKEN_KEY, SECRET).unwrap()
    }

    fn claims(purpose: Purpose) -> Claims {
        Claims {
            collection_id: "pbc_3142635823".to_owned(),
            record_id: "g27gjctlwk4snb3".to_owned(),
            expires_at: 1_795_578_845,
            purpose,
        }
    }

    #[test]
    fn a_real_token_is_verified_and_signed_to_the_byte() {
        let expected = claims(Purpose::Auth { refreshable: true });
        let read = read(SEEN).unwrap();
        assert_eq!(*read.claims(), expected);
        assert_eq!(read.verify(&key(), 1_795_578_844).unwrap(), expected);
        assert_eq!(sign(&expected, &key()), SEEN);
    }

    #[test]
    fn real_tokens_of_other_kinds_are_verified() {
        const FILE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjb2xsZWN0aW9uSWQiOiJfcGJfdXNlcnNfYXV0aF8iLCJleHAiOjE3OTU0OTQ0NjEsImlkIjoiZ3l2bnhtaWY5ZHd0MG96IiwidHlwZSI6ImZpbGUifQ.SzdqdBUOefVWTW4J_ULH8dn2BNZK4OFopqjEsw9nAYU";
        const IMPERSONATE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjb2xsZWN0aW9uSWQiOiJfcGJfdXNlcnNfYXV0aF8iLCJleHAiOjE3OTU0OTQzODEsImlkIjoiZ3l2bnhtaWY5ZHd0MG96IiwicmVmcmVzaGFibGUiOmZhbHNlLCJ0eXBlIjoiYXV0aCJ9.kaivGBJoHlgIM1OiElnIr-51UWaOP6I2a4k1vQsGz-w";
        const USER_KEY: &str = "jyy8m6GVLnltcnh8tZgQGCFrMc0Qv3I7SsOCaiPFguz3pE4A62";
        let cases = [
            (FILE, "t32oC2laK4wCtOvKoCmE2XiOYIB96wvJLVHhTdWeSSWWua8Yip", Purpose::File),
            (
                IMPERSONATE,
                "pkUxoUEAITRv8CQ6n4tBtwRNL5soYSmkNABSVcNnsERPe9uysv",
                Purpose::Auth { refreshable: false },
            ),
        ];
        for (token, secret, purpose) in cases {
            let key = SigningKey::new(USER_KEY, secret).unwrap();
            let claims = read(token).unwrap().verify(&key, 0).unwrap();
            assert_eq!(claims.purpose, purpose);
            assert_eq!(sign(&claims, &key), token);
        }
    }

    #[test]
    fn every_kind_survives_the_round_trip_with_sorted_claims() {
        let email = || "a@x.com".to_owned();
        let purposes = [
            Purpose::Auth { refreshable: false },
            Purpose::File,
            Purpose::Verification { email: email() },
            Purpose::PasswordReset { email: email() },
            Purpose::EmailChange { email: email(), new_email: "b\"@x.com".to_owned() },
        ];
        for purpose in purposes {
            let claims = claims(purpose);
            let token = sign(&claims, &key());
            assert_eq!(read(&token).unwrap().verify(&key(), 0).unwrap(), claims);
            let sorted = Json::parse_whole(&claims.to_json()).unwrap().to_string();
            assert_eq!(claims.to_json(), sorted);
        }
    }

    #[test]
    fn what_is_forged_or_old_does_not_count() {
        let other = SigningKey::new(SECRET, TOKEN_KEY).unwrap();
        assert_eq!(read(SEEN).unwrap().verify(&other, 0), Err(TokenError::BadSignature));
        assert_eq!(read(SEEN).unwrap().verify(&key(), 1_795_578_845), Err(TokenError::Expired));
        let (signed, _) = SEEN.rsplit_once('.').unwrap();
        assert_eq!(read(&format!("{signed}.")).unwrap().verify(&key(), 0), Err(TokenError::BadSignature));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let unsigned = format!("{none}{}.", &signed[HEADER.len()..]);
        assert_eq!(read(&unsigned).unwrap_err(), TokenError::Malformed);
        for token in ["", ".", "..", "a.b.c", "x", &"a".repeat(MAX_TOKEN_BYTES + 1)] {
            assert_eq!(read(token).unwrap_err(), TokenError::Malformed, "{token}");
        }
        assert!(SigningKey::new("", SECRET).is_none() && SigningKey::new(TOKEN_KEY, "").is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(?s).{0,60}", payload in "(?s).{0,60}") {
            let _ = read(&text);
            let payload = URL_SAFE_NO_PAD.encode(payload);
            let _ = read(&format!("{HEADER}.{payload}.AAAA"));
            let _ = bearer_token(&text);
        }
    }

    #[test]
    fn a_bearer_prefix_is_taken_off() {
        assert_eq!(bearer_token("abc"), "abc");
        assert_eq!(bearer_token("Bearer abc"), "abc");
        assert_eq!(bearer_token("bEaReR abc"), "abc");
        assert_eq!(bearer_token("Token abc"), "Token abc");
        assert_eq!(bearer_token("Bearér"), "Bearér");
    }
}
