//! Topics: what a client asks to be told of (CONTRACT §7.3).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kit::query::Query;
use model::json::{Json, JsonObject, write_number};

use crate::plan::Plan;

/// A subscription as it was sent, with what it says. Clients that send the same text share one.
#[derive(Debug)]
pub(crate) struct Topic {
    text: Arc<str>,
    /// Where the options begin.
    base: usize,
    pub(crate) options: Options,
    /// What it means under the schema of the last event. Only the task that sends events looks at it.
    plan: Mutex<Option<Arc<Plan>>>,
}

/// What follows `?options=`: what rules see as the request's query and headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Options {
    pub(crate) query: BTreeMap<String, String>,
    /// Names as rules have them.
    pub(crate) headers: BTreeMap<String, String>,
}

// === impl Topic ===

impl Topic {
    pub(crate) fn parse(text: &str) -> Topic {
        Topic {
            text: text.into(),
            base: text.find('?').unwrap_or(text.len()),
            options: options_text(text).map(|text| Options::parse(&text)).unwrap_or_default(),
            plan: Mutex::default(),
        }
    }

    /// As it was sent, which is how events name it.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The collection with the record, without options.
    pub(crate) fn base(&self) -> &str {
        &self.text[..self.base]
    }

    pub(crate) fn plan(&self) -> Option<Arc<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_plan(&self, plan: Arc<Plan>) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }
}

/// Whether a topic may be of records. Those that begin with `@` are the server's own.
pub(crate) fn is_of_records(text: &str) -> bool {
    !text.starts_with('@')
}

/// The `options` of a topic read as a URL, which one with control characters is none of.
fn options_text(text: &str) -> Option<String> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let before_fragment = text.split('#').next().unwrap_or_default();
    let (_, query) = before_fragment.split_once('?')?;
    Query::parse(query).first("options").map(str::to_owned)
}

// === impl Options ===

impl Options {
    fn parse(text: &str) -> Options {
        let Ok(Json::Object(options)) = Json::parse_whole(text) else { return Options::default() };
        let part = |name: &str| options.get(name).and_then(Json::as_object).cloned().unwrap_or_default();
        Options {
            query: texts(part("query"), |name| name),
            headers: texts(part("headers"), |name| rule_name(&name)),
        }
    }

    /// A parameter of the query, empty when it is not given.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

fn texts(object: JsonObject, name: impl Fn(String) -> String) -> BTreeMap<String, String> {
    object.into_iter().map(|(key, value)| (name(key), text_of(&value))).collect()
}

fn text_of(value: &Json) -> String {
    match value {
        Json::Text(text) => text.clone(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) if number.abs() < 1e21 => {
            let mut text = String::new();
            write_number(*number, &mut text);
            text
        }
        Json::Number(number) => format!("{number}"),
        Json::Null | Json::Array(_) | Json::Object(_) => String::new(),
    }
}

/// `X-Token` and `xToken` as rules name them: words in lower case with underscores between.
fn rule_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for word in name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push('_');
        }
        let mut previous: Option<char> = None;
        for letter in word.chars() {
            if letter.is_ascii_uppercase() && previous.is_some_and(|before| !before.is_ascii_uppercase()) {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
            previous = Some(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(map: &BTreeMap<String, String>) -> String {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_are_read_as_seen() {
        let cases = [
            ("notes/*", "notes/*", "", ""),
            ("notes/*?options=%7B%22query%22%3A%7B%22fields%22%3A%22n%22%7D%7D", "notes/*", "fields=n", ""),
            (r#"notes?options={"query":{"a":5,"b":true,"c":null,"d":[1]}}"#, "notes", "a=5 b=true c= d=", ""),
            (r#"notes?options={"Query":{"a":"b"}}"#, "notes", "", ""),
            (r#"notes?options={"query":"x","headers":{"X-Token":"t"}}"#, "notes", "", "x_token=t"),
            (r#"n?options={"headers":{"xToken":"1","XTOKEN2":"2"}}"#, "n", "", "x_token=1 xtoken2=2"),
            ("notes#?options={\"query\":{\"a\":\"b\"}}", "notes#", "", ""),
            ("notes?options={\"query\":{\"a\":\"b\"}}#x", "notes", "a=b", ""),
            ("notes?options={", "notes", "", ""),
            ("notes?a=\n&options={\"query\":{\"a\":\"b\"}}", "notes", "", ""),
        ];
        for (text, base, query, headers) in cases {
            let topic = Topic::parse(text);
            let seen = (topic.base(), pairs(&topic.options.query), pairs(&topic.options.headers));
            assert_eq!(seen, (base, query.to_owned(), headers.to_owned()), "{text}");
        }
    }
}
