//! Sends the same bodies to PocketBase and to this crate and compares the answers as JSON.
//!
//! Each line of a cases file is one request: `POST` creates a collection and deletes it again, `KEEP`
//! keeps it, the rest are what they say. Where there is a PocketBase, the answers are the binary's, whole;
//! without it, they are what a facts file remembers of them. `UPDATE_FACTS=1` writes the facts anew.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use model::collection::save_error::SaveError;
use model::collection::{Collection, create, delete, import, scaffolds, system, update};
use model::errors::{FieldErrors, sentence};
use model::json::{Json, JsonObject};
use model::schema::Schema;
use model::settings::{Settings, SettingsError};
use model::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::pocketbase::PocketBase;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

#[test]
fn collections_answer_like_the_reference() {
    run(
        "collections",
        include_str!("cases/collections.jsonl"),
        include_str!("cases/collections.facts.jsonl"),
    );
}

#[test]
fn settings_answer_like_the_reference() {
    run("settings", include_str!("cases/settings.jsonl"), include_str!("cases/settings.facts.jsonl"));
}

#[test]
fn imports_answer_like_the_reference() {
    run("imports", include_str!("cases/imports.jsonl"), include_str!("cases/imports.facts.jsonl"));
}

#[test]
fn a_fresh_install_is_that_of_the_reference() {
    let Some(reference) = PocketBase::start_or_skip() else { return };
    let ours = Ours::fresh();
    let (_, list) = reference.send("GET", "/api/collections?perPage=100&sort=@rowid", "");
    assert_eq!(normalised(&parsed(&ours.list().1)), normalised(&parsed(&list)));
    let (_, theirs) = reference.send("GET", "/api/settings", "");
    let mut text = String::new();
    ours.settings.write_json(&mut text);
    assert_eq!(text, theirs, "byte for byte");
    let (_, theirs) = reference.send("GET", "/api/collections/meta/scaffolds", "");
    let mut text = String::new();
    scaffolds::write_scaffolds(&mut StdRng::seed_from_u64(1), &mut text);
    assert_eq!(normalised(&parsed(&text)), normalised(&parsed(&theirs)));
}

fn run(name: &str, cases: &str, facts: &str) {
    let reference = match PocketBase::start() {
        Some(reference) => Reference::Live(Box::new(reference)),
        None => Reference::Remembered(facts.lines().map(parsed).collect()),
    };
    let mut run = Run { reference, ours: Ours::fresh(), facts: String::new(), different: Vec::new() };
    for line in cases.lines().filter(|line| !line.is_empty()) {
        run.one(line);
    }
    if std::env::var_os("UPDATE_FACTS").is_some() {
        let path = format!("{}/tests/it/cases/{name}.facts.jsonl", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, &run.facts).unwrap();
    }
    let different = &run.different;
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

enum Reference {
    Live(Box<PocketBase>),
    Remembered(VecDeque<Json>),
}

/// One request.
struct Case {
    verb: String,
    target: String,
    body: String,
}

impl Case {
    fn read(line: &str) -> Case {
        let case = parsed(line);
        let parts = case.as_array().unwrap();
        let verb = parts[0].as_str().unwrap();
        let body = match parts.last().unwrap() {
            Json::Text(raw) if verb.ends_with("_RAW") => raw.clone(),
            other => other.to_string(),
        };
        let target = parts.get(1).and_then(Json::as_str).unwrap_or_default().to_owned();
        Case { verb: verb.trim_end_matches("_RAW").to_owned(), target, body }
    }

    fn ask(&self, reference: &PocketBase) -> (u16, String) {
        let path = format!("/api/collections/{}", self.target);
        match self.verb.as_str() {
            "POST" | "KEEP" => reference.send("POST", "/api/collections", &self.body),
            "PATCH" => reference.send("PATCH", &path, &self.body),
            "DELETE" => reference.send("DELETE", &path, ""),
            "SETTINGS" => reference.send("PATCH", "/api/settings", &self.body),
            "LIST" => reference.send("GET", "/api/collections?perPage=100&sort=@rowid", ""),
            _ => reference.send("PUT", "/api/collections/import", &self.body),
        }
    }
}

struct Run {
    reference: Reference,
    ours: Ours,
    facts: String,
    different: Vec<String>,
}

impl Run {
    fn one(&mut self, line: &str) {
        let case = Case::read(line);
        let before = self.ours.collections.clone();
        let ours = self.ours.answer(&case);
        let is_kept = match self.theirs(&case, &ours) {
            Some((theirs, is_whole)) => {
                self.compare(line, &ours, &theirs, is_whole);
                case.verb != "POST"
            }
            None => false,
        };
        if !is_kept {
            self.ours.collections = before;
        }
    }

    /// The reference's answer, and whether it is whole. Nothing when ours refuses what it cannot do yet,
    /// or when only the store can tell.
    fn theirs(&mut self, case: &Case, ours: &(u16, String)) -> Option<(Json, bool)> {
        let reference = match &mut self.reference {
            Reference::Remembered(facts) => {
                let fact = facts.pop_front().expect("a fact for each case: run with UPDATE_FACTS=1");
                return Some((fact, false)).filter(|(fact, _)| *fact != Json::Null);
            }
            Reference::Live(reference) => reference,
        };
        let is_refused = ours.1.contains("not available in this version");
        let answer = Some(()).filter(|()| !is_refused).map(|()| case.ask(reference));
        let answer = answer.filter(|(_, body)| !only_the_store_can_tell(body));
        let whole = answer.map(|(status, body)| {
            if case.verb == "POST"
                && let Some(id) = parsed(&body).get("id").and_then(Json::as_str)
            {
                reference.send("DELETE", &format!("/api/collections/{id}"), "");
            }
            with_status(status, &body)
        });
        let fact = whole.as_ref().map(fact_of).unwrap_or_default();
        self.facts.push_str(&format!("{fact}\n"));
        whole.map(|whole| (whole, true))
    }

    fn compare(&mut self, line: &str, ours: &(u16, String), theirs: &Json, is_whole: bool) {
        let whole = with_status(ours.0, &ours.1);
        let ours = if is_whole { whole } else { fact_of(&whole) };
        let mut places = Vec::new();
        find_differences("", &ours, theirs, &mut places);
        if !places.is_empty() {
            self.different.push(format!("{line}\n{}", places.join("\n")));
        }
    }
}

fn parsed(text: &str) -> Json {
    Json::parse_whole(text).unwrap_or_default()
}

fn with_status(status: u16, body: &str) -> Json {
    Json::Array(vec![Json::Number(f64::from(status)), normalised(&parsed(body))])
}

/// What is remembered of an answer: all of a refusal, and of a collection what was made of its fields
/// and indexes.
fn fact_of(answer: &Json) -> Json {
    match answer {
        Json::Array(items) => Json::Array(items.iter().map(fact_of).collect()),
        Json::Object(object) if object.contains_key("items") => fact_of(&object["items"]),
        Json::Object(object) if object.contains_key("indexes") && object.contains_key("type") => {
            let fields = object["fields"].as_array().unwrap_or_default();
            let names = |field: &Json| {
                Json::Array(vec![field.get("id").cloned().unwrap(), field.get("name").cloned().unwrap()])
            };
            let members = ["id", "name", "type", "indexes"].map(|name| object[name].clone());
            let fields = Json::Array(fields.iter().map(names).collect());
            Json::Array(members.into_iter().chain([fields]).collect())
        }
        other => other.clone(),
    }
}

/// Where two answers differ.
fn find_differences(path: &str, ours: &Json, theirs: &Json, places: &mut Vec<String>) {
    match (ours, theirs) {
        (Json::Object(a), Json::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let member = |object: &JsonObject| object.get(name).cloned().unwrap_or("(absent)".into());
                find_differences(&format!("{path}.{name}"), &member(a), &member(b), places);
            }
        }
        (Json::Array(a), Json::Array(b)) => {
            for position in 0..a.len().max(b.len()) {
                let item = |items: &[Json]| items.get(position).cloned().unwrap_or("(absent)".into());
                find_differences(&format!("{path}.{position}"), &item(a), &item(b), places);
            }
        }
        (Json::Text(a), Json::Text(b)) if a != b && a.contains('\n') => {
            // A message that holds a tree: only its lines that differ.
            let (a, b): (BTreeSet<&str>, BTreeSet<&str>) = (a.lines().collect(), b.lines().collect());
            let ours: Vec<&&str> = a.difference(&b).collect();
            let theirs: Vec<&&str> = b.difference(&a).collect();
            places.push(format!("    {path}: lines of ours {ours:?}, of theirs {theirs:?}"));
        }
        _ if ours != theirs => places.push(format!("    {path}: ours {ours}, theirs {theirs}")),
        _ => {}
    }
}

/// SQLite's refusals; and rules, until the filter language can check them.
fn only_the_store_can_tell(answer: &str) -> bool {
    ["Failed to create index", "Invalid rule. Raw error", "SQL logic error", "view dependency"]
        .iter()
        .any(|text| answer.contains(text))
}

/// Without what differs from run to run, and without the wording that is ours.
fn normalised(json: &Json) -> Json {
    match json {
        Json::Object(object) => Json::Object(object.iter().filter_map(normalised_member).collect()),
        Json::Array(items) => Json::Array(items.iter().map(normalised).collect()),
        Json::Text(text) if text.starts_with("CREATE UNIQUE INDEX `idx_") && text.contains("ON ``") => {
            Json::Text(text[..28].to_owned())
        }
        other => other.clone(),
    }
}

fn normalised_member((key, value): (&String, &Json)) -> Option<(String, Json)> {
    let value = match (key.as_str(), value) {
        ("created" | "updated", Json::Text(_)) => return None,
        ("body", Json::Text(_)) => return None,
        ("message", Json::Text(text)) => {
            let cut = ["ex.: ", "regexp: ", "Raw error:"].iter().filter_map(|mark| text.find(mark)).min();
            Json::Text(text[..cut.unwrap_or(text.len())].to_owned())
        }
        (_, value) => normalised(value),
    };
    Some((key.clone(), value))
}

/// The crate behind the little of an API that these tests need.
struct Ours {
    collections: Vec<Arc<Collection>>,
    settings: Settings,
    rng: StdRng,
}

impl Ours {
    fn fresh() -> Ours {
        let mut rng = StdRng::seed_from_u64(7);
        let collections = system::fresh_install(NOW, &mut rng).into_iter().map(Arc::new).collect();
        Ours { collections, settings: Settings::default(), rng }
    }

    fn schema(&self) -> Schema {
        Schema::new(1, self.collections.clone())
    }

    fn write_list(&self, out: &mut String) {
        out.push('[');
        for (position, collection) in self.collections.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            collection.write_json(out);
        }
        out.push(']');
    }

    fn answer(&mut self, case: &Case) -> (u16, String) {
        match case.verb.as_str() {
            "POST" | "KEEP" => self.create(&case.body),
            "PATCH" => self.update(&case.target, &case.body),
            "DELETE" => self.delete(&case.target),
            "SETTINGS" => self.settings(&case.body),
            "IMPORT" => self.import(&case.body),
            "LIST" => self.list(),
            other => panic!("unknown verb {other}"),
        }
    }

    fn list(&self) -> (u16, String) {
        let mut text = String::from("{\"items\":");
        self.write_list(&mut text);
        let count = self.collections.len();
        text.push_str(&format!(",\"page\":1,\"perPage\":100,\"totalItems\":{count},\"totalPages\":1}}"));
        (200, text)
    }

    fn create(&mut self, body: &str) -> (u16, String) {
        let Some(body) = parse(body) else { return refused(&SaveError::UnreadableType, create::FAILED) };
        let schema = self.schema();
        match create::create(&schema, &body, None, NOW, &mut self.rng) {
            Ok(collection) => self.save(collection),
            Err(error) => refused(&error, create::FAILED),
        }
    }

    fn update(&mut self, name: &str, body: &str) -> (u16, String) {
        let schema = self.schema();
        let Some(old) = schema.find(name) else { return refused(&SaveError::NotFound, "") };
        let Some(body) = parse(body) else { return refused(&SaveError::Unreadable, update::FAILED) };
        match update::update(&schema, old, &body, None, NOW, &mut self.rng) {
            Ok(collection) => self.save(collection),
            Err(error) => refused(&error, update::FAILED),
        }
    }

    fn save(&mut self, collection: Collection) -> (u16, String) {
        let stored = collection.to_stored();
        let head = model::collection::json::RowHead {
            id: collection.id.clone(),
            name: collection.name.clone(),
            type_name: collection.type_name().to_owned(),
            system: collection.system,
            rules: collection.rules.clone(),
            created: collection.created.clone(),
            updated: collection.updated.clone(),
        };
        assert_eq!(Collection::from_stored(head, &stored).unwrap(), collection, "the stored row reads back");
        let mut text = String::new();
        collection.write_json(&mut text);
        self.put(collection);
        (200, text)
    }

    fn put(&mut self, collection: Collection) {
        let collection = Arc::new(collection);
        match self.collections.iter_mut().find(|other| other.id == collection.id) {
            Some(place) => *place = collection,
            None => self.collections.push(collection),
        }
    }

    fn delete(&mut self, name: &str) -> (u16, String) {
        let schema = self.schema();
        let Some(collection) = schema.find(name) else { return refused(&SaveError::NotFound, "") };
        match delete::check_delete(&schema, collection) {
            Ok(()) => {
                self.collections.retain(|other| other.id != collection.id);
                (204, String::new())
            }
            Err(error) => (400, answer(400, &error.to_string(), &FieldErrors::new())),
        }
    }

    fn settings(&mut self, body: &str) -> (u16, String) {
        let merged = match parse(body) {
            Some(body) => self.settings.merge(&body),
            None => Err(SettingsError::Unreadable),
        };
        match merged {
            Ok(settings) => {
                assert_eq!(Settings::from_stored(&settings.to_stored()).unwrap(), settings);
                self.settings = settings;
                let mut text = String::new();
                self.settings.write_json(&mut text);
                (200, text)
            }
            Err(error) => {
                let fields = match &error {
                    SettingsError::Invalid(errors) => errors.clone(),
                    SettingsError::Unreadable => FieldErrors::new(),
                };
                (400, answer(400, &error.to_string(), &fields))
            }
        }
    }

    fn import(&mut self, body: &str) -> (u16, String) {
        let schema = self.schema();
        let plan = match parse(body) {
            Some(body) => import::plan(&schema, &body, NOW, &mut self.rng),
            None => Err(import::ImportError::Unreadable),
        };
        match plan {
            Ok(plan) => {
                for deleted in plan.deletes {
                    self.collections.retain(|other| other.id != deleted.id);
                }
                for saved in plan.saves {
                    self.put(saved.collection);
                }
                (204, String::new())
            }
            Err(error) => {
                let fields = error.fields();
                (400, answer(400, &error.to_string(), &fields))
            }
        }
    }
}

fn parse(body: &str) -> Option<Json> {
    if body.is_empty() {
        return Some(Json::Object(JsonObject::new()));
    }
    Json::parse_first(body.as_bytes()).ok()
}

fn refused(error: &SaveError, failed: &str) -> (u16, String) {
    let (status, message, fields) = match error {
        SaveError::NotFound => (404, error.to_string(), FieldErrors::new()),
        SaveError::Invalid(fields) => (400, failed.to_owned(), fields.clone()),
        _ => (400, error.to_string(), FieldErrors::new()),
    };
    (status, answer(status, &message, &fields))
}

fn answer(status: u16, message: &str, fields: &FieldErrors) -> String {
    let mut data = String::new();
    fields.write(&mut data);
    let mut body = JsonObject::new();
    body.insert("data".to_owned(), Json::parse_whole(&data).unwrap());
    body.insert("message".to_owned(), Json::from(sentence(message)));
    body.insert("status".to_owned(), Json::Number(f64::from(status)));
    Json::Object(body).to_string()
}
