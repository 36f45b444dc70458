//! Blank collections of each type, for who starts a new one (CONTRACT §3.4).

use rand::Rng;

use super::Collection;
use super::create::blank;
use super::defaults::{complete_auth_indexes, random_text};

/// Appends `{"base":{…},"auth":{…},"view":{…}}`.
pub fn write_scaffolds(rng: &mut impl Rng, out: &mut String) {
    out.push('{');
    for type_name in ["base", "auth", "view"] {
        crate::json::shape::write_key(type_name, out);
        scaffold(type_name, rng).write_json(out);
    }
    out.push('}');
}

fn scaffold(type_name: &str, rng: &mut impl Rng) -> Collection {
    let mut draft = blank(type_name, String::new(), rng);
    draft.id.clear();
    if draft.is_auth() {
        // There is no id yet that would make the names of the indexes unique.
        draft.indexes.clear();
        let key = random_text(10, b"abcdefghijklmnopqrstuvwxyz0123456789", rng);
        complete_auth_indexes(&mut draft.indexes, "", &key);
    }
    draft.into_collection()
}
