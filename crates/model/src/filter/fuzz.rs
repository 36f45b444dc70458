//! What the fuzzer in `fuzz/` calls, and the tests below with random texts: any bytes are a filter or an
//! error. Only tests and fuzzers have it.

use std::sync::Arc;

use super::expr::Expr;
use super::{Filter, FilterError, Scope, Verdict, check, check_sort};
use crate::collection::Collection;
use crate::collection::create::create;
use crate::context::{Caller, RequestContext, RuleBody};
use crate::json::{Json, JsonObject};
use crate::record::Record;
use crate::record::coerce::coerce;
use crate::schema::Schema;
use crate::time::Timestamp;

/// An application to try texts on: clubs, members of them, and notes with a field of every type that a filter
/// can name.
#[derive(Debug)]
pub struct Trial {
    schema: Schema,
    notes: Arc<Collection>,
    note: Record,
    /// A guest's, and a member's.
    requests: [RequestContext; 2],
    body: RuleBody,
}

const CLUBS: &str = r#"{"id": "clubs0000000000", "name": "clubs", "listRule": "@request.auth.id != ''", "fields": [
    {"name": "name", "type": "text"}]}"#;
const MEMBERS: &str = r#"{"id": "members00000000", "name": "members", "type": "auth", "listRule": "", "fields": [
    {"name": "team", "type": "text"},
    {"name": "roles", "type": "select", "maxSelect": 3, "values": ["a", "b", "c"]},
    {"name": "club", "type": "relation", "collectionId": "clubs0000000000"}]}"#;
const NOTES: &str = r#"{"id": "notes0000000000", "name": "notes", "fields": [
    {"name": "title", "type": "text"}, {"name": "n", "type": "number"}, {"name": "public", "type": "bool"},
    {"name": "mail", "type": "email"}, {"name": "link", "type": "url"}, {"name": "text", "type": "editor"},
    {"name": "due", "type": "date"}, {"name": "created", "type": "autodate", "onCreate": true},
    {"name": "status", "type": "select", "values": ["a", "b"]},
    {"name": "tags", "type": "select", "maxSelect": 3, "values": ["a", "b", "c"]},
    {"name": "owner", "type": "relation", "collectionId": "members00000000"},
    {"name": "editors", "type": "relation", "collectionId": "members00000000", "maxSelect": 5},
    {"name": "meta", "type": "json"}, {"name": "place", "type": "geoPoint"},
    {"name": "secret", "type": "text", "hidden": true}]}"#;

const MEMBER: &str =
    r#"{"id": "ann000000000001", "email": "ann@x.co", "verified": true, "team": "red", "roles": ["a", "b"]}"#;
const NOTE: &str = r#"{"id": "note00000000001", "title": "Plan", "n": 7, "public": true, "mail": "a@x.co",
    "link": "http://x.co", "text": "<p>x</p>", "due": "2030-01-02 03:04:05.678Z", "status": "a", "tags": ["a", "b"],
    "owner": "ann000000000001", "editors": ["ann000000000001", "bob000000000001"],
    "meta": {"a": [{"b": 1}], "t": "x"}, "place": {"lon": 23.32, "lat": 42.69}, "secret": "s"}"#;

// === impl Trial ===

impl Trial {
    /// Always the same one.
    #[allow(clippy::new_without_default, reason = "it is no value that has a default")]
    pub fn new() -> Trial {
        let clubs = collection(&Schema::default(), CLUBS);
        let members = collection(&Schema::new(1, vec![clubs.clone()]), MEMBERS);
        let notes = collection(&Schema::new(1, vec![clubs.clone(), members.clone()]), NOTES);
        let guest = RequestContext::guest(Timestamp(1_900_000_000_000));
        let mut member = guest.clone();
        member.caller = Caller::Record(Arc::new(record(&members, MEMBER)));
        member.query.insert("a".to_owned(), "b".to_owned());
        member.headers.insert("x_key".to_owned(), "k".to_owned());
        Trial {
            schema: Schema::new(1, vec![clubs, members, notes.clone()]),
            note: record(&notes, NOTE),
            notes,
            requests: [guest, member],
            body: RuleBody {
                values: object(r#"{"title": "X", "n": 1, "tags": ["a", "c"], "meta": {"a": 1}}"#),
            },
        }
    }

    /// Reads these bytes as a rule, as a client's filter and as a sort, and judges a record by what they
    /// turn out to be. Panics where that breaks a law.
    pub fn try_bytes(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for scope in [Scope::Rule, Scope::Client] {
            let _ = check_sort(&self.schema, &self.notes, &text, scope);
        }
        let rule = self.check(&text, Scope::Rule);
        if let Ok(filter) = self.check(&text, Scope::Client) {
            assert!(rule.is_ok(), "a client may ask what a rule may not");
            self.judge(&filter);
        }
        if let Ok(rule) = rule {
            self.judge(&rule);
        }
    }

    fn check(&self, text: &str, scope: Scope) -> Result<Filter, FilterError> {
        check(&self.schema, &self.notes, text, scope)
    }

    fn judge(&self, filter: &Filter) {
        let _ = filter.depends();
        for request in &self.requests {
            let of_request = filter.judge_request(request, &self.body);
            let of_stored = filter.judge(&self.note, request, &self.body);
            let _ = filter.judge_new(&self.note, request, &self.body);
            if of_request != Verdict::NeedsStore {
                assert_eq!(of_stored, of_request, "a record changes what the request decides");
            }
            if let Expr::Fixed(decided) = filter.resolve(request, &self.body).expr
                && of_stored != Verdict::NeedsStore
            {
                assert_eq!(of_stored == Verdict::Yes, decided, "the store is told otherwise");
            }
        }
    }
}

fn collection(schema: &Schema, json: &str) -> Arc<Collection> {
    let json = Json::Object(object(json));
    Arc::new(
        create(schema, &json, None, Timestamp(0), &mut rand::rng()).expect("a collection that may be made"),
    )
}

fn record(collection: &Arc<Collection>, json: &str) -> Record {
    let values = object(json);
    let mut record = Record::empty(collection.clone());
    for field in &collection.fields {
        record.set(&field.name, coerce(field, values.get(&field.name).unwrap_or(&Json::Null)));
    }
    record
}

fn object(json: &str) -> JsonObject {
    let json = Json::parse_whole(json).expect("written above");
    json.as_object().expect("an object").clone()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const OPERANDS: &[&str] = &[
        "title",
        "n",
        "public",
        "mail",
        "due",
        "created",
        "status",
        "tags",
        "owner",
        "editors",
        "meta.a.0.b",
        "place.lon",
        "id",
        "secret",
        "tags:each",
        "tags:length",
        "title:lower",
        "editors.team",
        "owner.club.name",
        "owner.roles:each",
        "notes_via_owner.n",
        "owner.notes_via_owner.n",
        "@request.auth.id",
        "@request.auth.team",
        "@request.auth.roles:each",
        "@request.auth.club.name",
        "@request.body.title",
        "@request.body.n:isset",
        "@request.body.title:changed",
        "@request.body.tags:each",
        "@request.query.a",
        "@request.headers.x_key",
        "@request.method",
        "@collection.members.team",
        "@collection.notes:o.n",
        "@now",
        "@yearEnd",
        "strftime('%Y', due)",
        "geoDistance(place.lon, place.lat, 1, 2)",
        "'a'",
        "\"it\\\"s\"",
        "''",
        "'%a_'",
        "1",
        "-2.5",
        "1e3",
        "true",
        "false",
        "null",
        "'2030-01-02 03:04:05.678Z'",
    ];
    const SIGNS: &[&str] =
        &["=", "!=", "~", "!~", "<", "<=", ">", ">=", "?=", "?!=", "?~", "?!~", "?<", "?<=", "?>", "?>="];
    const JOINS: &[&str] = &[" && ", " || ", " && (", ") || ", " ", ", ", ") && (", "//\n&&"];
    const JUNK: &[&str] = &[
        "(",
        ")",
        "'",
        "\"",
        "\\",
        "a",
        "@request.",
        "@collection.",
        "-",
        ".",
        "?",
        "!",
        "&",
        "|",
        ",",
        "//",
        "\n",
        "\0",
        "é",
        "f(",
        ":",
        "#",
        ":each",
        "9",
        "",
    ];

    fn comparisons() -> impl Strategy<Value = String> {
        let comparison = (select(OPERANDS), select(SIGNS), select(OPERANDS), select(JOINS));
        proptest::collection::vec(comparison, 1..6).prop_map(|parts| {
            let text: String = parts
                .iter()
                .map(|(left, sign, right, join)| [*left, *sign, *right, *join].concat())
                .collect();
            // Most end as a filter may; where the last join opened a group, the text is an error.
            text.trim_end_matches([' ', '&', '|', '(', ',']).to_owned()
        })
    }

    fn junk() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            select(JUNK).prop_map(|piece| piece.as_bytes().to_vec()),
            select(OPERANDS).prop_map(|piece| piece.as_bytes().to_vec()),
            select(SIGNS).prop_map(|piece| piece.as_bytes().to_vec()),
            any::<u8>().prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    static TRIAL: LazyLock<Trial> = LazyLock::new(Trial::new);

    proptest! {
        #[test]
        fn any_bytes_are_a_filter_or_an_error(bytes in junk()) {
            TRIAL.try_bytes(&bytes);
        }

        #[test]
        fn what_looks_like_a_filter_is_one_or_an_error(text in comparisons()) {
            TRIAL.try_bytes(text.as_bytes());
        }
    }

    #[test]
    fn the_corpus_of_the_fuzzer_passes() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/filter");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut accepted = 0;
        for file in files {
            let bytes = std::fs::read(file).unwrap();
            TRIAL.try_bytes(&bytes);
            accepted += usize::from(TRIAL.check(&String::from_utf8_lossy(&bytes), Scope::Rule).is_ok());
        }
        assert!(accepted >= 10, "{accepted} files are rules: the names of the trial's fields are others");
    }
}
