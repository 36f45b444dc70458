//! What the server itself must keep to itself: keys that it made, by name.

use std::fmt;

use crate::store::Answer;

/// Most bytes of a secret. One that is longer is not kept.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Keeps secrets. What it was told is durable as writes are, and seen by every read that starts afterwards.
///
/// They are in no view, no event and no log; in the data file they stand as they are.
///
/// An adapter passes the cases `secrets` of `testkit::store_suite`.
pub trait SecretStore: Send + Sync + 'static {
    /// The secret of this name.
    fn secret(&self, name: String) -> Answer<'_, Option<Secret>>;

    /// Keeps a secret in the place of the one of this name, if that is still `before`; without `before` there must be
    /// none. False when nothing was kept.
    fn save_secret(&self, name: String, secret: Secret, before: Option<Secret>) -> Answer<'_, bool>;
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

// === impl Secret ===

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
