//! Password hashes: argon2id for new ones, bcrypt for those that came with an app's data. Both take tens
//! of milliseconds of a core: call them through [`crate::hash_pool`].

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};

/// A hash could not be made: the system gave no randomness or no memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hash a password: {0}")]
pub struct HashFailure(String);

/// 19 MiB, two passes, one lane: OWASP's first choice for argon2id on small servers.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A stored hash that asks for more than this is not checked: it would take the server down.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_BCRYPT_COST: u32 = 16;

/// Hashes a new password, with a new salt, into a PHC string.
pub fn hash(password: &str) -> Result<String, HashFailure> {
    let hash = hasher()?.hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| HashFailure(error.to_string()))
}

/// Whether a password is the one that was hashed. A text that is no hash fits no password.
pub fn verify(password: &str, hash: &str) -> bool {
    if is_bcrypt(hash) {
        return is_payable_bcrypt(hash) && bcrypt::verify(password, hash).unwrap_or(false);
    }
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    let Ok(params) = Params::try_from(&parsed) else { return false };
    let is_payable = params.m_cost() <= MAX_MEMORY_KIB && params.t_cost() <= MAX_PASSES;
    is_payable && hasher().is_ok_and(|hasher| hasher.verify_password(password.as_bytes(), &parsed).is_ok())
}

/// Takes as long as [`verify`] on a hash of ours, so that a name that nobody has cannot be told from a
/// wrong password.
pub fn dummy_verify(password: &str) {
    std::hint::black_box(verify(password, DUMMY));
}

/// Whether a hash should be made anew the next time its password is at hand.
pub fn needs_upgrade(hash: &str) -> bool {
    let parsed = PasswordHash::new(hash).ok();
    let params = parsed.and_then(|parsed| Params::try_from(&parsed).ok());
    let is_ours = hash.starts_with("$argon2id$")
        && params.is_some_and(|params| params.m_cost() >= MEMORY_KIB && params.t_cost() >= PASSES);
    !is_ours
}

/// The hash of no known password.
const DUMMY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Z3JvdW5kc3dlbGxzYWx0$QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE";

fn hasher() -> Result<Argon2<'static>, HashFailure> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
    let params = params.map_err(|error| HashFailure(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
}

fn is_payable_bcrypt(hash: &str) -> bool {
    let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
    cost.is_some_and(|cost| cost <= MAX_BCRYPT_COST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_hash_verifies_its_password_only() {
        let hash = hash("1234567890").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify("1234567890", &hash));
        assert!(!verify("1234567891", &hash));
        assert!(!needs_upgrade(&hash));
    }

    #[test]
    fn a_real_bcrypt_hash_verifies_and_is_to_be_upgraded() {
        // From the database of the contract's server.
        let hash = "$2a$10$jQy/aEpM3QsMbM26Wer48uxfg5B2gmN9ZfN4zda4ZZODjjBr4Koxi";
        assert!(verify("1234567890", hash));
        assert!(!verify("123456789", hash));
        assert!(needs_upgrade(hash));
    }

    #[test]
    fn the_dummy_is_a_hash_of_equal_cost() {
        assert!(PasswordHash::new(DUMMY).is_ok());
        assert!(!needs_upgrade(DUMMY));
        assert!(!verify("", DUMMY));
        dummy_verify("x");
    }

    #[test]
    fn what_is_no_hash_or_asks_too_much_fits_nothing() {
        let greedy = DUMMY.replace("m=19456", "m=4194304");
        for hash in ["", "x", "$2a$", "$2a$31$jQy/aEpM3QsMbM26Wer48uxfg5B2gmN9ZfN4zda4ZZODjjBr4Koxi", &greedy]
        {
            assert!(!verify("", hash), "{hash}");
            assert!(hash.starts_with("$argon2id") || needs_upgrade(hash), "{hash}");
        }
    }
}
