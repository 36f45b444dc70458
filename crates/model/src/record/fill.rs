//! What the server sets in a row by itself, once the write is allowed and before it is stored.

use rand::Rng;

use super::Record;
use super::autogenerate::generate;
use crate::field::{AutodateOptions, FieldKind};
use crate::time::Timestamp;
use crate::value::Value;

/// Fills a new row's empty texts that have an `autogeneratePattern`, its id among them. Comes after the
/// create rule and the form checks, and before the field checks.
pub fn fill_generated(record: &mut Record, random: &mut impl Rng) {
    let Record { collection, values } = record;
    for (field, value) in collection.fields.iter().zip(values) {
        if let (FieldKind::Text(options), Value::Text(text)) = (&field.kind, value)
            && text.is_empty()
        {
            generate(&options.autogenerate_pattern, random, text);
        }
    }
}

/// Sets the autodates of a row that is about to be stored; all get the same instant (CONTRACT §4.6).
/// Superusers are always verified.
pub fn fill_before_store(record: &mut Record, is_new: bool, now: Timestamp) {
    let Record { collection, values } = record;
    for (field, value) in collection.fields.iter().zip(values) {
        if let FieldKind::Autodate(AutodateOptions { on_create, on_update }) = field.kind
            && if is_new { on_create } else { on_update }
        {
            *value = Value::Text(now.to_text());
        }
    }
    if record.collection.is_superusers() {
        record.set("verified", Value::bool(true));
    }
}

/// Gives a changed auth record a new token key, which ends all its sessions, when its email or password
/// has changed and its key was not set by the same write. Returns whether it did.
pub fn renew_token_key(
    record: &mut Record,
    old: &Record,
    is_password_changed: bool,
    random: &mut impl Rng,
) -> bool {
    let is_email_changed = record.get("email") != old.get("email");
    let is_key_set = record.get("tokenKey") != old.get("tokenKey");
    let renews = record.collection.is_auth() && (is_email_changed || is_password_changed) && !is_key_set;
    if renews {
        let mut key = String::with_capacity(50);
        generate("[a-zA-Z0-9]{50}", random, &mut key);
        record.set("tokenKey", Value::Text(key));
    }
    renews
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::record::testing::{auth, base, field};

    #[test]
    fn autodates_follow_their_options() {
        let dated = |name, on_create, on_update| {
            field(name, FieldKind::Autodate(AutodateOptions { on_create, on_update }))
        };
        let fields =
            vec![dated("created", true, false), dated("updated", true, true), dated("changed", false, true)];
        let mut record = Record::zero(base(fields));
        let text = |record: &Record, name: &str| record.get(name).as_str().to_owned();
        fill_before_store(&mut record, true, Timestamp(0));
        assert_eq!(text(&record, "created"), "1970-01-01 00:00:00.000Z");
        assert_eq!(text(&record, "updated"), text(&record, "created"));
        assert_eq!(text(&record, "changed"), "");
        fill_before_store(&mut record, false, Timestamp(1));
        assert_eq!(text(&record, "created"), "1970-01-01 00:00:00.000Z");
        assert_eq!(text(&record, "updated"), "1970-01-01 00:00:00.001Z");
        assert_eq!(text(&record, "changed"), text(&record, "updated"));
    }

    #[test]
    fn a_token_key_is_renewed_with_email_or_password() {
        let mut random = StdRng::seed_from_u64(1);
        let old = Record::zero(auth(Vec::new()));
        let mut same = old.clone();
        assert!(!renew_token_key(&mut same, &old, false, &mut random));
        assert!(renew_token_key(&mut same, &old, true, &mut random));
        assert_eq!(same.get("tokenKey").as_str().len(), 50);
        let mut changed = old.clone();
        changed.set("email", Value::Text("a@b.co".to_owned()));
        assert!(renew_token_key(&mut changed.clone(), &old, false, &mut random));
        changed.set("tokenKey", Value::Text("given".to_owned()));
        assert!(!renew_token_key(&mut changed, &old, true, &mut random));
        let mut base = Record::zero(base(Vec::new()));
        let old = base.clone();
        assert!(!renew_token_key(&mut base, &old, true, &mut random));
    }
}
