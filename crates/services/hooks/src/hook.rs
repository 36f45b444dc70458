//! What a hook is, and what makes a good one.

use std::collections::BTreeSet;
use std::time::Duration;

use kit::outbound::OutboundUrl;
use model::collection::Collection;
use model::json::{Json, JsonObject};
use model::schema::Schema;

use crate::event::{HookEvent, NAMES};
use crate::sign::Secret;

/// How long a hook's target may take, unless the hook says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
/// Letters of a name, which is also that of a queue.
const MAX_NAME: usize = 50;
/// How the names of hooks' queues begin.
pub(crate) const QUEUES: &str = "hooks/";
const MAX_COLLECTIONS: usize = 100;
/// Secrets of a hook: the present one, and those that are being replaced.
const MAX_SECRETS: usize = 3;

/// A URL that is called when something happens.
#[derive(Debug, Clone)]
pub struct Hook {
    /// What it is known by.
    pub name: String,
    /// What is called.
    pub url: OutboundUrl,
    /// When.
    pub on: BTreeSet<HookEvent>,
    /// For which collections, by name or id; none: for all but system collections.
    pub collections: Option<Vec<String>>,
    /// Each signs.
    pub secrets: Vec<Secret>,
    /// How long the target may take.
    pub timeout: Duration,
    /// What becomes of a write when a hook before it fails.
    pub on_failure: OnFailure,
    /// Whether it is called at all.
    pub is_enabled: bool,
    /// Where it comes from.
    pub source: Source,
}

/// What becomes of a write when a hook before it fails: no answer, or none that can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The client gets 503, and nothing is written.
    #[default]
    Refuse,
    /// The write goes on as if the hook had agreed.
    Allow,
}

/// Where a hook comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The configuration: only there it can be changed.
    Config,
    /// A superuser, through the API.
    Api,
}

/// A hook as somebody wrote it down.
#[derive(Debug, Clone, Default)]
pub struct HookInput {
    /// See [`Hook::name`].
    pub name: String,
    /// An absolute URL.
    pub url: String,
    /// Names of events.
    pub on: Vec<String>,
    /// See [`Hook::collections`].
    pub collections: Option<Vec<String>>,
    /// Texts of secrets.
    pub secrets: Vec<String>,
    /// 5 s if it is not given.
    pub timeout: Option<Duration>,
    /// `refuse` or `allow`.
    pub on_failure: Option<String>,
    /// False to switch it off.
    pub enabled: Option<bool>,
}

/// What is wrong with one key of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as the API spells it.
    pub key: &'static str,
    /// What to do about it.
    pub message: String,
}

// === impl Hook ===

impl Hook {
    /// The queue of its deliveries.
    pub fn queue(&self) -> String {
        queue_of(&self.name)
    }

    /// Whether it is called then, for records of this collection.
    pub fn wants(&self, event: HookEvent, collection: &Collection) -> bool {
        self.is_enabled && self.on.contains(&event) && self.covers(collection)
    }

    /// Whether it is called after writes.
    pub fn has_deliveries(&self) -> bool {
        self.is_enabled && self.on.iter().any(|event| !event.is_before)
    }

    fn covers(&self, collection: &Collection) -> bool {
        match &self.collections {
            Some(names) => names.iter().any(|name| means(name, collection)),
            None => !collection.system,
        }
    }

    /// The names in it that no collection has.
    pub(crate) fn unknown_collections(&self, schema: &Schema) -> Vec<&str> {
        let names = self.collections.iter().flatten().map(String::as_str);
        names.filter(|name| schema.find(name).is_none()).collect()
    }

    /// As superusers see it, with the present names of collections; secrets are never among it.
    pub(crate) fn to_json(&self, schema: &Schema) -> JsonObject {
        let source = match self.source {
            Source::Config => "config",
            Source::Api => "api",
        };
        let mut json = self.definition();
        json.remove("secrets");
        if let Some(names) = json.get_mut("collections") {
            name_collections(names, schema);
        }
        json.insert("isBroken".to_owned(), Json::Bool(false));
        json.insert("name".to_owned(), Json::from(self.name.as_str()));
        json.insert("source".to_owned(), Json::from(source));
        json
    }

    /// As it is kept, secrets and all, but for its name.
    pub(crate) fn definition(&self) -> JsonObject {
        let texts =
            |texts: &mut dyn Iterator<Item = &str>| Json::Array(texts.map(Json::from).collect::<Vec<_>>());
        let collections = self.collections.as_ref();
        let secrets: Vec<String> = self.secrets.iter().map(Secret::to_text).collect();
        JsonObject::from([
            (
                "collections".to_owned(),
                collections.map_or(Json::Null, |names| texts(&mut names.iter().map(String::as_str))),
            ),
            ("enabled".to_owned(), Json::Bool(self.is_enabled)),
            ("on".to_owned(), texts(&mut self.on.iter().map(|event| event.as_str()))),
            ("onFailure".to_owned(), Json::from(self.on_failure.as_str())),
            ("secrets".to_owned(), texts(&mut secrets.iter().map(String::as_str))),
            ("timeout".to_owned(), Json::Number(self.timeout.as_secs_f64())),
            ("url".to_owned(), Json::from(self.url.to_string())),
        ])
    }
}

/// Whether a name means the collection: by id, or by name as the schema compares them, without regard to case.
pub(crate) fn means(name: &str, collection: &Collection) -> bool {
    name == collection.id || name.eq_ignore_ascii_case(&collection.name)
}

/// Shows collections that are kept by id under their present names.
pub(crate) fn name_collections(names: &mut Json, schema: &Schema) {
    let Json::Array(names) = names else { return };
    for name in names {
        if let Some(collection) = name.as_str().and_then(|id| schema.find(id)) {
            *name = Json::from(collection.name.as_str());
        }
    }
}

/// The queue of a hook's deliveries.
pub fn queue_of(name: &str) -> String {
    format!("{QUEUES}{name}")
}

// === impl HookInput ===

impl HookInput {
    /// Reads what [`Hook::definition`] wrote.
    pub(crate) fn of_definition(name: &str, definition: &Json) -> HookInput {
        let texts = |key: &str| {
            let array = definition.get(key).and_then(Json::as_array);
            array.map(|items| items.iter().filter_map(Json::as_str).map(str::to_owned).collect::<Vec<_>>())
        };
        let text = |key: &str| definition.get(key).and_then(Json::as_str).map(str::to_owned);
        HookInput {
            name: name.to_owned(),
            url: text("url").unwrap_or_default(),
            on: texts("on").unwrap_or_default(),
            collections: texts("collections"),
            secrets: texts("secrets").unwrap_or_default(),
            timeout: definition.get("timeout").and_then(Json::as_number).and_then(seconds),
            on_failure: text("onFailure"),
            enabled: definition.get("enabled").and_then(Json::as_bool),
        }
    }

    /// Keeps collections that exist by id, so that a hook goes with one that is renamed. A name that no collection
    /// has yet stays as it is.
    pub(crate) fn keep_collections_by_id(&mut self, schema: &Schema) {
        for name in self.collections.iter_mut().flatten() {
            if let Some(collection) = schema.find(name) {
                name.clone_from(&collection.id);
            }
        }
    }

    /// The hook, or all that is wrong.
    pub fn check(self, source: Source) -> Result<Hook, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut note = |key, message: String| problems.push(Problem { key, message });
        if !is_name(&self.name) {
            let message = format!(
                "Must be 1 to {MAX_NAME} letters a-z, digits, - and _, and begin with a letter or a digit."
            );
            note("name", message);
        }
        let url = OutboundUrl::parse(&self.url).map_err(|problem| note("url", problem.to_string())).ok();
        let mut on = BTreeSet::new();
        for name in &self.on {
            match HookEvent::parse(name) {
                Some(event) => _ = on.insert(event),
                None => note("on", format!("{name:?} is no event; there are {}.", names_of_events())),
            }
        }
        if self.on.is_empty() {
            note("on", format!("Must name at least one event; there are {}.", names_of_events()));
        }
        let collections = self.collections.as_deref().unwrap_or_default();
        if collections.len() > MAX_COLLECTIONS || collections.iter().any(|name| name.is_empty()) {
            note("collections", format!("Must be at most {MAX_COLLECTIONS} names, none of them empty."));
        }
        if self.collections.as_ref().is_some_and(Vec::is_empty) {
            note("collections", "Must name a collection; leave it out for all collections.".to_owned());
        }
        let secrets: Option<Vec<Secret>> = self.secrets.iter().map(|text| Secret::parse(text)).collect();
        let secrets = secrets.unwrap_or_default();
        if secrets.is_empty() || secrets.len() > MAX_SECRETS {
            let message = format!(
                "Must be 1 to {MAX_SECRETS} secrets, each whsec_ and 24 to 64 bytes in base64: \
                 echo whsec_$(openssl rand -base64 32) makes one."
            );
            note("secrets", message);
        }
        let timeout = self.timeout.unwrap_or(DEFAULT_TIMEOUT);
        if !TIMEOUTS.contains(&timeout) {
            let message = match source {
                Source::Api => "Must be a number of seconds, from 0.1 to 30.",
                Source::Config => "Must be between 0.1 and 30 seconds.",
            };
            note("timeout", message.to_owned());
        }
        let on_failure = self.on_failure.as_deref().map_or(Some(OnFailure::default()), OnFailure::parse);
        if on_failure.is_none() {
            note("onFailure", "Must be refuse or allow.".to_owned());
        }
        match (url, on_failure) {
            (Some(url), Some(on_failure)) if problems.is_empty() => Ok(Hook {
                name: self.name,
                url,
                on,
                collections: self.collections,
                secrets,
                timeout,
                on_failure,
                is_enabled: self.enabled.unwrap_or(true),
                source,
            }),
            _ => Err(problems),
        }
    }
}

/// A number of seconds as a time. None for what is no time.
pub(crate) fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

fn is_name(name: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|letter| is_letter(letter) || letter == b'-' || letter == b'_')
}

fn names_of_events() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

// === impl OnFailure ===

impl OnFailure {
    pub(crate) fn parse(text: &str) -> Option<OnFailure> {
        [OnFailure::Refuse, OnFailure::Allow].into_iter().find(|policy| policy.as_str() == text)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            OnFailure::Refuse => "refuse",
            OnFailure::Allow => "allow",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    pub(crate) fn input() -> HookInput {
        HookInput {
            name: "orders".to_owned(),
            url: "https://shop.example/hooks?key=k1".to_owned(),
            on: vec!["records.create.before".to_owned(), "records.update.after".to_owned()],
            secrets: vec![SECRET.to_owned()],
            ..HookInput::default()
        }
    }

    #[test]
    fn a_definition_comes_back_as_it_was() {
        let input = HookInput {
            collections: Some(vec!["orders".to_owned()]),
            timeout: Some(Duration::from_millis(1_500)),
            on_failure: Some("allow".to_owned()),
            enabled: Some(false),
            ..input()
        };
        let hook = input.check(Source::Api).unwrap();
        let definition = Json::Object(hook.definition());
        let again = HookInput::of_definition("orders", &definition).check(Source::Api).unwrap();
        assert_eq!(Json::Object(again.definition()), definition);
        assert_eq!(
            definition.to_string(),
            format!(
                r#"{{"collections":["orders"],"enabled":false,"on":["records.update.after","records.create.before"],"onFailure":"allow","secrets":["{SECRET}"],"timeout":1.5,"url":"https://shop.example/hooks?key=k1"}}"#
            )
        );
    }

    #[test]
    fn what_superusers_see_holds_no_secret() {
        let hook = input().check(Source::Config).unwrap();
        assert!(!Json::Object(hook.to_json(&Schema::new(0, Vec::new()))).to_string().contains("whsec_"));
        assert!(!format!("{hook:?}").contains("MfKQ"));
        assert!(!format!("{hook:?}").contains("key=k1"));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let input = HookInput {
            name: "Orders!".to_owned(),
            url: "shop.example".to_owned(),
            on: vec!["records.create".to_owned()],
            collections: Some(Vec::new()),
            secrets: vec!["s3cret".to_owned()],
            timeout: Some(Duration::from_secs(31)),
            on_failure: Some("ignore".to_owned()),
            enabled: None,
        };
        let problems = input.check(Source::Api).unwrap_err();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["name", "url", "on", "collections", "secrets", "timeout", "onFailure"]);
        assert!(problems.iter().all(|problem| !problem.message.contains("s3cret")));
    }
}
