//! What a stored field holds.

use crate::json::{self, Json};

/// A stored value, by storage class. Booleans are numbers 0 and 1; dates are text in the contract's
/// form; `json`, `geoPoint` and multi-valued fields are JSON text in the contract's exact form.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// SQL NULL: an unset `json` field, or no value at all.
    #[default]
    Null,
    /// A finite float64.
    Number(f64),
    /// Text.
    Text(String),
    /// JSON text, compact, as it goes to the client.
    Json(String),
}

impl Value {
    /// A boolean in its stored form.
    pub fn bool(value: bool) -> Value {
        Value::Number(if value { 1.0 } else { 0.0 })
    }

    /// Text, or JSON text, as it is stored; empty for the others.
    pub fn as_str(&self) -> &str {
        match self {
            Value::Text(text) | Value::Json(text) => text,
            Value::Null | Value::Number(_) => "",
        }
    }

    /// Whether a stored boolean is true.
    pub fn as_bool(&self) -> bool {
        matches!(self, Value::Number(number) if *number != 0.0)
    }

    /// The ids, names or options that a select, file or relation value lists, single or multiple.
    pub fn list(&self) -> Vec<String> {
        match self {
            Value::Text(text) if !text.is_empty() => vec![text.clone()],
            Value::Json(text) => match Json::parse_whole(text) {
                Ok(Json::Array(items)) => items.into_iter().filter_map(into_text).collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// A list in the form in which a multi-valued field stores it.
    pub fn from_list<S: AsRef<str>>(items: &[S]) -> Value {
        let mut text = String::from("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            json::write_string(item.as_ref(), &mut text);
        }
        text.push(']');
        Value::Json(text)
    }
}

fn into_text(item: Json) -> Option<String> {
    match item {
        Json::Text(text) => Some(text),
        _ => None,
    }
}
