//! The scenario format: files of `scenarios/<group>/*.json`, as written and as sent.

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The groups, in the order of a full run.
pub const GROUPS: [&str; 11] = [
    "general",
    "collections",
    "records",
    "filters",
    "rules",
    "auth",
    "views",
    "files",
    "batch",
    "realtime",
    "limits",
];

/// One scenario file.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Folder and file name without ending: `records/create`.
    pub name: String,
    /// The text of the file: every word in it counts as given, not generated.
    pub text: String,
    /// Why Groundswell cannot run it yet: what its setup needs is not built.
    pub later: Option<String>,
    /// Files of the public folder, by path; there before the servers start.
    pub public: BTreeMap<String, String>,
    /// What both servers must accept before the first pair.
    pub setup: Vec<Step>,
    /// The pairs, those of the tables last.
    pub pairs: Vec<Pair>,
}

/// One step of a setup.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub enum Step {
    /// Makes a collection.
    Collection(CollectionStep),
    /// Makes records.
    Records(RecordsStep),
    /// Makes an auth record, unless it exists, and signs in.
    Actor(ActorStep),
    /// Opens an event stream and subscribes.
    Stream(StreamStep),
    /// Any other request.
    Request(Box<Pair>),
}

/// `{"collection": NAME, "fields": [...], "rules": "open", ...}`; saves the id as `{{NAME}}`.
#[derive(Debug, Clone, Deserialize)]
pub struct CollectionStep {
    /// The collection's name.
    pub collection: String,
    /// Fields as JSON, or as `name type option=json ...`.
    #[serde(default)]
    pub fields: Vec<Value>,
    /// `open` makes all rules `""`.
    #[serde(default)]
    pub rules: Option<String>,
    /// Everything else of the request body.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `{"records": COLLECTION, "rows": [{...}, ...]}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsStep {
    /// Name of the collection.
    pub records: String,
    /// A body each.
    pub rows: Vec<Value>,
}

/// `{"actor": NAME, "in": COLLECTION, "record": {"email": ..., "password": ..., ...}}`; saves the record's id
/// as `{{NAME}}` and the token as `{{NAME_token}}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActorStep {
    /// The name for `as`.
    pub actor: String,
    /// Name of the auth collection.
    #[serde(rename = "in")]
    pub collection: String,
    /// The record to make; `passwordConfirm` is added.
    pub record: Map<String, Value>,
}

/// `{"stream": NAME, "as": ACTOR, "topics": [...]}`: opens an event stream, saves its client id as `{{NAME}}`
/// and subscribes to the topics as the actor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamStep {
    /// The stream's name.
    pub stream: String,
    /// Who subscribes; absent means a guest.
    #[serde(default, rename = "as")]
    pub actor: Option<String>,
    /// What to.
    pub topics: Vec<Value>,
}

/// What a part of a multipart body holds.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// A form field.
    Text(String),
    /// A file.
    File(FilePart),
}

/// `{"file": NAME, "type": TYPE, ...}` and one of the ways to say what is in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePart {
    /// The file's name, sent as it is.
    pub file: String,
    /// The declared type; absent sends none.
    #[serde(default, rename = "type")]
    pub content_type: Option<String>,
    /// The content as text.
    #[serde(default)]
    pub text: Option<String>,
    /// The content as base64.
    #[serde(default)]
    pub base64: Option<String>,
    /// The content of a file in the folder of uploads.
    #[serde(default)]
    pub upload: Option<String>,
}

/// A request sent to both servers, and how to compare its answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The claim; unique in its file.
    #[serde(default)]
    pub name: String,
    /// Method and target, the target already percent-encoded.
    pub request: String,
    /// How often it is sent before, without a look at those answers.
    #[serde(default)]
    pub repeats: usize,
    /// Query parameters to encode and append.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// `guest`, `root`, or an actor's name; absent means the file's `as`.
    #[serde(default, rename = "as")]
    pub actor: Option<String>,
    /// Further headers; `Content-Type: ""` sends a body without one.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A JSON body.
    #[serde(default)]
    pub body: Option<Value>,
    /// A body as text, sent as JSON unless a `Content-Type` says otherwise.
    #[serde(default)]
    pub raw: Option<String>,
    /// A body as base64.
    #[serde(default)]
    pub base64: Option<String>,
    /// A body of form fields and files, sent as multipart.
    #[serde(default)]
    pub multipart: Option<Vec<(String, Part)>>,
    /// Keeps the answer open as an event stream of this name; its first message is the body, its client id
    /// is saved under the name.
    #[serde(default)]
    pub stream: Option<String>,
    /// Compares what came on all streams too, once they are quiet.
    #[serde(default)]
    pub events: bool,
    /// Compares the body as an image: format, size and colours. For thumbs, whose encoders differ.
    #[serde(default)]
    pub image: bool,
    /// Variables to take from the answer, by JSON pointer or by name of a header.
    #[serde(default)]
    pub save: BTreeMap<String, String>,
    /// Compare objects without the order of keys; default: whether `fields=` is in the query.
    #[serde(default)]
    pub unordered_keys: Option<bool>,
    /// Texts to compare by this prefix only, by JSON pointer.
    #[serde(default)]
    pub message_prefix: BTreeMap<String, String>,
    /// Pointers to values of which only kind and length are compared.
    #[serde(default)]
    pub any: Vec<String>,
    /// Pairs of pointers or texts whose order (less, equal, greater) must be the same on both servers.
    #[serde(default)]
    pub relate: Vec<(String, String)>,
    /// Headers not to compare.
    #[serde(default)]
    pub ignore_headers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What the file is about.
    #[allow(dead_code, reason = "written for readers of the file")]
    about: String,
    #[serde(default)]
    later: Option<String>,
    #[serde(default, rename = "as")]
    actor: Option<String>,
    #[serde(default)]
    public: BTreeMap<String, String>,
    #[serde(default)]
    setup: Vec<Step>,
    #[serde(default)]
    pairs: Vec<Pair>,
    #[serde(default)]
    lists: Vec<Table>,
}

/// A table of list requests that differ in their query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    collection: String,
    #[serde(default, rename = "as")]
    actor: Option<String>,
    #[serde(default)]
    query: BTreeMap<String, String>,
    #[serde(default)]
    sort: Option<String>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    sort: Option<String>,
    #[serde(default, rename = "as")]
    actor: Option<String>,
    #[serde(default)]
    query: BTreeMap<String, String>,
}

/// The folder of the groups: `CONFORMANCE_SCENARIOS`, or the one of the source tree.
pub fn folder() -> PathBuf {
    let source_tree = || Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    env::var_os("CONFORMANCE_SCENARIOS").map_or_else(source_tree, PathBuf::from)
}

/// The folder of what scenarios upload, beside the one of the groups.
pub(crate) fn uploads() -> PathBuf {
    folder().with_file_name("uploads")
}

/// All scenarios of a group, by file name.
pub fn load_group(group: &str) -> Result<Vec<Scenario>> {
    let folder = folder().join(group);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.iter().map(|path| load(group, path)).collect()
}

fn load(group: &str, path: &Path) -> Result<Scenario> {
    let stem = path.file_stem().context("a scenario without a name")?.to_string_lossy();
    let name = format!("{group}/{stem}");
    let text = std::fs::read_to_string(path).with_context(|| format!("read {name}"))?;
    parse(name.clone(), text).with_context(|| format!("scenario {name}"))
}

fn parse(name: String, text: String) -> Result<Scenario> {
    let file: File = serde_json::from_str(&text)?;
    let mut pairs = file.pairs;
    for table in file.lists {
        pairs.extend(table.into_pairs());
    }
    for pair in &mut pairs {
        pair.actor = pair.actor.take().or_else(|| file.actor.clone());
    }
    check_names(&pairs)?;
    if let Some(reason) = &file.later {
        ensure!(
            !reason.is_empty() && !file.setup.is_empty(),
            "`later` wants a reason and a setup that shows it"
        );
    }
    Ok(Scenario { name, text, later: file.later, public: file.public, setup: file.setup, pairs })
}

fn check_names(pairs: &[Pair]) -> Result<()> {
    let mut names = HashSet::new();
    for pair in pairs {
        ensure!(!pair.name.is_empty(), "a pair without a name: {}", pair.request);
        ensure!(names.insert(&pair.name), "two pairs are named {:?}", pair.name);
    }
    Ok(())
}

impl Table {
    fn into_pairs(self) -> Vec<Pair> {
        let Self { collection, actor, query, sort, cases } = self;
        let to_pair = |case: Case| {
            let mut query = query.clone();
            query.extend(case.query);
            query.entry("fields".to_owned()).or_insert_with(|| "id".to_owned());
            query.extend(case.filter.map(|filter| ("filter".to_owned(), filter)));
            query.extend(case.sort.or_else(|| sort.clone()).map(|sort| ("sort".to_owned(), sort)));
            Pair {
                name: case.name,
                request: format!("GET /api/collections/{collection}/records"),
                actor: case.actor.or_else(|| actor.clone()),
                query,
                ..Pair::default()
            }
        };
        cases.into_iter().map(to_pair).collect()
    }
}

impl Pair {
    /// Who asks, and what goes along with the request line: a line each, as written.
    pub fn details(&self) -> Vec<String> {
        let mut lines = vec![format!("as: {}", self.actor.as_deref().unwrap_or("guest"))];
        lines.extend((self.repeats > 0).then(|| format!("repeats: {}", self.repeats)));
        lines.extend(self.query.iter().map(|(name, value)| format!("query: {name}={value}")));
        lines.extend(self.headers.iter().map(|(name, value)| format!("header: {name}: {value}")));
        lines.extend(self.body.iter().map(|body| format!("body: {body}")));
        lines.extend(self.raw.iter().map(|raw| format!("raw: {raw}")));
        lines.extend(self.base64.iter().map(|base64| format!("base64: {base64}")));
        let parts = self.multipart.iter().flatten();
        lines.extend(parts.map(|(name, part)| match part {
            Part::Text(value) => format!("part: {name}={value}"),
            Part::File(file) => format!("part: {name}, the file {:?}", file.file),
        }));
        lines.extend(self.stream.iter().map(|stream| format!("stream: {stream}")));
        lines
    }

    /// Whether the order of keys is not compared.
    pub fn ignores_key_order(&self) -> bool {
        let picks_fields = self.query.contains_key("fields")
            || self.request.contains("?fields=")
            || self.request.contains("&fields=");
        self.unordered_keys.unwrap_or(picks_fields)
    }
}

impl TryFrom<Value> for Step {
    type Error = anyhow::Error;

    fn try_from(value: Value) -> Result<Self> {
        Ok(if value.get("collection").is_some() {
            Self::Collection(serde_json::from_value(value)?)
        } else if value.get("records").is_some() {
            Self::Records(serde_json::from_value(value)?)
        } else if value.get("actor").is_some() {
            Self::Actor(serde_json::from_value(value)?)
        } else if value.get("topics").is_some() {
            Self::Stream(serde_json::from_value(value)?)
        } else {
            Self::Request(serde_json::from_value(value)?)
        })
    }
}

impl CollectionStep {
    /// The body that makes the collection.
    pub(crate) fn body(&self) -> Result<Value> {
        let mut body = self.rest.clone();
        body.insert("name".to_owned(), self.collection.clone().into());
        body.insert("fields".to_owned(), self.fields.iter().map(expand_field).collect::<Result<_>>()?);
        match self.rules.as_deref() {
            None => {}
            Some("open") => {
                for rule in ["listRule", "viewRule", "createRule", "updateRule", "deleteRule"] {
                    body.entry(rule).or_insert_with(|| "".into());
                }
            }
            Some(other) => bail!("rules can only be \"open\", not {other:?}"),
        }
        Ok(body.into())
    }
}

/// Expands `cat relation collectionId={{cats}} maxSelect=3 required`.
fn expand_field(field: &Value) -> Result<Value> {
    let Value::String(short) = field else { return Ok(field.clone()) };
    let mut parts = short.split_whitespace();
    let (name, kind) = parts.next().zip(parts.next()).with_context(|| format!("field {short:?}"))?;
    let mut expanded = Map::new();
    expanded.insert("name".to_owned(), name.into());
    expanded.insert("type".to_owned(), kind.into());
    for option in parts {
        let (key, value) = option.split_once('=').unwrap_or((option, "true"));
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        expanded.insert(key.to_owned(), value);
    }
    Ok(expanded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_field_expands_to_its_options() {
        let field = expand_field(&"cats relation collectionId={{cats}} maxSelect=3 required".into()).unwrap();
        let expected =
            r#"{"collectionId":"{{cats}}","maxSelect":3,"name":"cats","required":true,"type":"relation"}"#;
        assert_eq!(field.to_string(), expected);
    }

    #[test]
    fn a_table_becomes_one_pair_a_case() {
        let text = r#"{"about": "x", "as": "root", "lists": [{"collection": "cats", "sort": "id", "cases": [
            {"name": "a", "filter": "n=1"}, {"name": "b", "sort": "-n", "as": "guest"}]}]}"#;
        let pairs = parse("g/x".to_owned(), text.to_owned()).unwrap().pairs;
        assert_eq!(pairs[0].query["filter"], "n=1");
        assert_eq!(pairs[0].query["sort"], "id");
        assert_eq!(pairs[0].actor.as_deref(), Some("root"));
        assert_eq!(pairs[1].actor.as_deref(), Some("guest"));
        assert!(pairs[1].ignores_key_order());
    }

    #[test]
    fn a_misspelt_key_and_a_repeated_name_are_refused() {
        let misspelt = r#"{"about": "", "pairs": [{"name": "a", "request": "GET /", "boddy": 1}]}"#;
        assert!(parse("g/x".to_owned(), misspelt.to_owned()).is_err());
        let repeated = r#"{"about": "", "pairs": [{"name": "a", "request": "GET /"}, {"name": "a", "request": "GET /x"}]}"#;
        assert!(parse("g/x".to_owned(), repeated.to_owned()).is_err());
    }

    #[test]
    fn a_part_is_a_text_or_a_file() {
        let pair =
            r#"{"request": "POST /", "multipart": [["a", "x"], ["b", {"file": "b.txt", "text": "y"}]]}"#;
        let parts = serde_json::from_str::<Pair>(pair).unwrap().multipart.unwrap();
        assert!(matches!(&parts[0].1, Part::Text(value) if value == "x"));
        assert!(matches!(&parts[1].1, Part::File(file) if file.text.as_deref() == Some("y")));
        let misspelt = r#"{"request": "POST /", "multipart": [["b", {"file": "b.txt", "txt": "y"}]]}"#;
        assert!(serde_json::from_str::<Pair>(misspelt).is_err());
    }

    #[test]
    fn a_file_for_later_needs_a_setup_that_fails() {
        let bare = r#"{"about": "", "later": "not built", "pairs": [{"name": "a", "request": "GET /"}]}"#;
        assert!(parse("g/x".to_owned(), bare.to_owned()).is_err());
        let whole = r#"{"about": "", "later": "not built", "setup": [{"collection": "a"}], "pairs": []}"#;
        assert_eq!(parse("g/x".to_owned(), whole.to_owned()).unwrap().later.as_deref(), Some("not built"));
    }

    #[test]
    fn the_details_of_a_pair_tell_who_sends_what() {
        let pair: Pair = serde_json::from_str(
            r#"{"request": "GET /", "as": "ann", "query": {"page": "2"}, "body": {"a": 1}}"#,
        )
        .unwrap();
        assert_eq!(pair.details(), ["as: ann", "query: page=2", r#"body: {"a":1}"#]);
    }
}
