//! Stored hooks that this server does not understand: made by a newer one, or changed in the store. What they might
//! have refused must not pass because they cannot be asked.

use contract::hooks::StoredHook;
use model::collection::Collection;
use model::json::{Json, JsonObject};
use model::schema::Schema;
use tracing::error;

use crate::event::HookEvent;
use crate::hook::{OnFailure, Problem, means, name_collections};

/// Keys of a definition that superusers see: all but secrets, and but what is not known to be none.
const SHOWN: [&str; 6] = ["collections", "enabled", "on", "onFailure", "timeout", "url"];

/// A stored hook that is none.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) name: String,
    problems: Vec<Problem>,
    /// Of the definition what is shown.
    shown: JsonObject,
}

// === impl Broken ===

impl Broken {
    pub(crate) fn new(stored: &StoredHook, problems: Vec<Problem>) -> Broken {
        let keys: Vec<_> = problems.iter().map(|problem| problem.key).collect();
        error!(
            hook = stored.name,
            ?keys,
            "a stored hook is broken and cannot be called: change or remove it"
        );
        let value = |key: &str| Some((key.to_owned(), stored.definition.get(key)?.clone()));
        Broken { name: stored.name.clone(), problems, shown: SHOWN.into_iter().filter_map(value).collect() }
    }

    /// Whether it may want to be asked then. What its definition does not say it may want.
    pub(crate) fn may_want(&self, event: HookEvent, collection: &Collection) -> bool {
        let is_disabled = self.shown.get("enabled").and_then(Json::as_bool) == Some(false);
        let is_named = |key: &str, is_it: &dyn Fn(&str) -> bool| {
            let names = self.shown.get(key).and_then(Json::as_array)?;
            Some(names.iter().any(|name| name.as_str().is_none_or(is_it)))
        };
        !is_disabled
            && is_named("on", &|name| HookEvent::parse(name) == Some(event)).unwrap_or(true)
            && is_named("collections", &|name| means(name, collection)).unwrap_or(!collection.system)
    }

    /// What becomes of a write that it may want to be asked about.
    pub(crate) fn on_failure(&self) -> OnFailure {
        let policy = self.shown.get("onFailure").and_then(Json::as_str);
        policy.and_then(OnFailure::parse).unwrap_or_default()
    }

    /// As superusers see it.
    pub(crate) fn to_json(&self, schema: &Schema) -> JsonObject {
        let mut json = self.shown.clone();
        if let Some(names) = json.get_mut("collections") {
            name_collections(names, schema);
        }
        let problems = self.problems.iter();
        let problems = problems.map(|problem| (problem.key.to_owned(), Json::from(problem.message.as_str())));
        json.insert("isBroken".to_owned(), Json::Bool(true));
        json.insert("name".to_owned(), Json::from(self.name.as_str()));
        json.insert("problems".to_owned(), Json::Object(problems.collect()));
        json.insert("source".to_owned(), Json::from("api"));
        json
    }
}

#[cfg(test)]
mod tests {
    use contract::event::Action;
    use model::collection::create;
    use model::time::Timestamp;

    use super::*;

    fn wants(definition: &str) -> Vec<bool> {
        let stored = StoredHook { name: "h".to_owned(), definition: Json::parse_whole(definition).unwrap() };
        let broken = Broken::new(&stored, Vec::new());
        let body = Json::parse_whole(r#"{"name": "notes"}"#).unwrap();
        let schema = Schema::new(0, Vec::new());
        let notes = create::create(&schema, &body, None, Timestamp(0), &mut rand::rng()).unwrap();
        let actions = [Action::Create, Action::Update, Action::Delete];
        actions.map(|action| broken.may_want(HookEvent::new(true, action), &notes)).to_vec()
    }

    #[test]
    fn it_may_want_what_it_says_and_what_it_does_not_say() {
        let create = r#""on": ["records.create.before", "records.some.after"]"#;
        assert_eq!(wants(&format!("{{{create}}}")), [true, false, false]);
        assert_eq!(wants(&format!(r#"{{{create}, "collections": ["Notes"]}}"#)), [true, false, false]);
        assert_eq!(wants(&format!(r#"{{{create}, "collections": ["others"]}}"#)), [false; 3]);
        assert_eq!(wants(&format!(r#"{{{create}, "enabled": false}}"#)), [false; 3]);
        assert_eq!(wants(r#"{"on": ["records.create.after"]}"#), [false; 3]);
        for definition in ["{}", "7", r#"{"on": 7, "collections": null}"#] {
            assert_eq!(wants(definition), [true; 3], "{definition}");
        }
    }
}
