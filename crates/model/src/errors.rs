//! Field errors in the contract's shape (CONTRACT §1.5): a tree of names, each leaf a code, a message
//! and perhaps parameters.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::json::{Json, JsonObject, write_string};

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// One of the contract's codes, such as `validation_required`.
    pub code: Cow<'static, str>,
    /// What a person reads; completed to a sentence when it is written.
    pub message: Cow<'static, str>,
    /// Written only when not empty.
    pub params: JsonObject,
}

impl FieldError {
    /// An error without parameters.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> FieldError {
        FieldError { code: code.into(), message: message.into(), params: JsonObject::new() }
    }

    /// The same error with one more parameter.
    pub fn with(mut self, name: &str, value: impl Into<Json>) -> FieldError {
        self.params.insert(name.to_owned(), value.into());
        self
    }

    /// `validation_required`.
    pub fn required() -> FieldError {
        FieldError::new("validation_required", "Cannot be blank.")
    }

    /// `validation_not_unique`.
    pub fn not_unique() -> FieldError {
        FieldError::new("validation_not_unique", "Value must be unique.")
    }

    /// `validation_values_mismatch`.
    pub fn values_mismatch() -> FieldError {
        FieldError::new("validation_values_mismatch", "Values don't match.")
    }

    /// `validation_invalid_value`: what has no code of its own.
    pub fn invalid_value() -> FieldError {
        FieldError::new("validation_invalid_value", "Invalid value.")
    }
}

/// What stands at one name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ErrorEntry<'a> {
    /// One error.
    Error(&'a FieldError),
    /// Errors below the name.
    Nested(&'a FieldErrors),
}

/// Field errors by field name. Names sort by bytes, as on the wire.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldErrors {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Error(FieldError),
    Nested(FieldErrors),
}

impl FieldErrors {
    /// No errors.
    pub fn new() -> FieldErrors {
        FieldErrors::default()
    }

    /// One error at one name.
    pub fn one(name: &str, error: FieldError) -> FieldErrors {
        let mut errors = FieldErrors::new();
        errors.add(name, error);
        errors
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this name has an error, or errors below it.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Adds an error, unless the name has one: the first failing check of a field is reported.
    pub fn add(&mut self, name: &str, error: FieldError) {
        self.entries.entry(name.to_owned()).or_insert(Entry::Error(error));
    }

    /// Adds an error below nested names, such as `["fields", "2", "name"]`.
    pub fn add_at(&mut self, path: &[&str], error: FieldError) {
        match path {
            [] => {}
            [name] => self.add(name, error),
            [name, rest @ ..] => {
                let entry = self
                    .entries
                    .entry((*name).to_owned())
                    .or_insert_with(|| Entry::Nested(FieldErrors::new()));
                if let Entry::Nested(nested) = entry {
                    nested.add_at(rest, error);
                }
            }
        }
    }

    /// Adds all of `other` below `name`.
    pub fn nest(&mut self, name: &str, other: FieldErrors) {
        if !other.is_empty() {
            self.entries.entry(name.to_owned()).or_insert(Entry::Nested(other));
        }
    }

    /// Adds all of `other` at this level; names already present stay as they are.
    pub fn merge(&mut self, other: FieldErrors) {
        for (name, entry) in other.entries {
            self.entries.entry(name).or_insert(entry);
        }
    }

    /// What is wrong, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ErrorEntry<'_>)> {
        self.entries.iter().map(|(name, entry)| match entry {
            Entry::Error(error) => (name.as_str(), ErrorEntry::Error(error)),
            Entry::Nested(nested) => (name.as_str(), ErrorEntry::Nested(nested)),
        })
    }

    /// `Ok` when nothing is wrong.
    pub fn into_result(self) -> Result<(), FieldErrors> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Appends the JSON object of the error body's `data`.
    pub fn write(&self, out: &mut String) {
        out.push('{');
        for (index, (name, entry)) in self.entries.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_string(name, out);
            out.push(':');
            match entry {
                Entry::Nested(nested) => nested.write(out),
                Entry::Error(error) => write_error(error, out),
            }
        }
        out.push('}');
    }
}

fn write_error(error: &FieldError, out: &mut String) {
    out.push_str("{\"code\":");
    write_string(&error.code, out);
    out.push_str(",\"message\":");
    write_string(&sentence(&error.message), out);
    if !error.params.is_empty() {
        out.push_str(",\"params\":");
        Json::Object(error.params.clone()).write(out);
    }
    out.push('}');
}

/// A message as the contract sends it: trimmed, its first letter in upper case, and ended by `.`
/// unless it ends in `.`, `?` or `!` (CONTRACT §1.5).
pub fn sentence(message: &str) -> String {
    let message = message.trim();
    let mut chars = message.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut text: String = first.to_uppercase().collect();
    text.push_str(chars.as_str());
    if !text.ends_with(['.', '?', '!']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_nest_and_sort_as_on_the_wire() {
        let mut errors = FieldErrors::new();
        errors.add("title", FieldError::required());
        errors.add("title", FieldError::invalid_value());
        errors.add_at(&["fields", "2", "name"], FieldError::new("c", "bad").with("max", 2.0));
        let mut text = String::new();
        errors.write(&mut text);
        assert_eq!(
            text,
            r#"{"fields":{"2":{"name":{"code":"c","message":"Bad.","params":{"max":2}}}},"title":{"code":"validation_required","message":"Cannot be blank."}}"#
        );
    }
}
