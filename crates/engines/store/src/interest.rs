//! What the followers of change events want, and how that is kept.

use std::collections::HashSet;

use contract::event::Interest;
use model::collection::Collection;
use model::json::Json;

/// What all consumers together want.
#[derive(Default)]
pub(crate) struct Wanted {
    all: bool,
    files: bool,
    collections: HashSet<String>,
}

// === impl Wanted ===

impl Wanted {
    /// What these interests come to together.
    pub(crate) fn of<'i>(interests: impl Iterator<Item = &'i Interest>) -> Wanted {
        let mut wanted = Wanted::default();
        for interest in interests {
            match interest {
                Interest::All => wanted.all = true,
                Interest::Files => wanted.files = true,
                Interest::Collections(ids) => wanted.collections.extend(ids.iter().cloned()),
            }
        }
        wanted
    }

    /// Whether changes of the collection's records may leave events.
    pub(crate) fn covers(&self, collection: &Collection) -> bool {
        self.covers_change(collection, self.files && collection.has_files())
    }

    /// Whether a change leaves an event.
    pub(crate) fn covers_change(&self, collection: &Collection, loses_files: bool) -> bool {
        self.all || self.files && loses_files || self.collections.contains(&collection.id)
    }
}

/// `*`, `files`, or a JSON list of collection ids.
pub(crate) fn interest_text(interest: &Interest) -> String {
    match interest {
        Interest::All => "*".to_owned(),
        Interest::Files => "files".to_owned(),
        Interest::Collections(ids) => {
            Json::Array(ids.iter().map(|id| Json::from(id.as_str())).collect()).to_string()
        }
    }
}

/// What cannot be read is taken for everything, so that no event is missed.
pub(crate) fn interest_of(text: &str) -> Interest {
    match (text, Json::parse_whole(text)) {
        ("files", _) => Interest::Files,
        (_, Ok(Json::Array(ids))) => {
            Interest::Collections(ids.iter().filter_map(|id| Some(id.as_str()?.to_owned())).collect())
        }
        _ => Interest::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interest_comes_back_as_it_was_stored() {
        let some = Interest::Collections(vec!["a".to_owned(), "b\"c".to_owned()]);
        for interest in [Interest::All, Interest::Files, Interest::Collections(Vec::new()), some] {
            assert_eq!(interest_of(&interest_text(&interest)), interest);
        }
        assert_eq!(interest_of("nonsense"), Interest::All);
    }
}
