//! Webhooks as they are kept: names, and definitions that only their service understands.

use std::fmt;

use model::json::Json;

use crate::store::Answer;

/// Most webhooks. One more is not kept.
pub const MAX_HOOKS: u64 = 100;

/// Keeps webhooks. What it was told is durable as writes are, and seen by every read that starts afterwards.
///
/// A definition may hold what signs deliveries: it is in no view, no event and no log.
///
/// An adapter passes the cases `hooks` of `testkit::store_suite`.
pub trait HookStore: Send + Sync + 'static {
    /// All of them, by name.
    fn hooks(&self) -> Answer<'_, Vec<StoredHook>>;

    /// Makes a webhook, or replaces the one of this name whose definition is still `before`. Without `before` there
    /// must be none. How large a definition may be is for the caller to say.
    fn save_hook(&self, hook: StoredHook, before: Option<Json>) -> Answer<'_, Saved>;

    /// Forgets a webhook. False when there is none of this name.
    fn remove_hook(&self, name: String) -> Answer<'_, bool>;
}

/// What became of a webhook that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It is kept.
    Kept,
    /// Nothing was kept: what is of this name, or that nothing is, is not what was expected.
    Changed,
    /// Nothing was kept: there are [`MAX_HOOKS`] others already.
    TooMany,
}

/// A webhook.
#[derive(Clone, PartialEq)]
pub struct StoredHook {
    /// By which it is known; no other has it.
    pub name: String,
    /// What it is, with its secrets.
    pub definition: Json,
}

// === impl StoredHook ===

/// Without the definition, which may hold secrets.
impl fmt::Debug for StoredHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredHook").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_not_shown() {
        let definition = Json::parse_whole(r#"{"secret": "whsec"}"#).unwrap();
        let shown = format!("{:#?}", StoredHook { name: "orders".to_owned(), definition });
        assert!(shown.contains("orders") && !shown.contains("sec"), "{shown}");
    }
}
