//! From what a client sends to what is stored, for each field type (CONTRACT §3.3, §12.5).

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json_text::{self, JsonText};
use super::{date, number};
use crate::field::{Field, FieldKind};
use crate::json::{Json, write_number, write_string};
use crate::value::Value;

/// What an unset field of this type stores.
pub fn zero(field: &Field) -> Value {
    match &field.kind {
        FieldKind::Number(_) | FieldKind::Bool => Value::Number(0.0),
        FieldKind::Json(_) => Value::Null,
        FieldKind::GeoPoint => geo_point(0.0, 0.0),
        FieldKind::Select(_) | FieldKind::File(_) | FieldKind::Relation(_) if field.is_multiple() => {
            Value::Json("[]".to_owned())
        }
        _ => Value::Text(String::new()),
    }
}

/// What the field stores when a client sends `input`. Never fails: what cannot be read is the zero
/// value, except that two things are left for the field's check to refuse: a number that is infinite or
/// not a number, and an empty [`Value::Json`] for a JSON text that is not acceptable.
///
/// A password gives its plain text, and an autodate, which no client sets, its zero value.
pub fn coerce(field: &Field, input: &Json) -> Value {
    match &field.kind {
        FieldKind::Text(_)
        | FieldKind::Editor(_)
        | FieldKind::Email(_)
        | FieldKind::Url(_)
        | FieldKind::Password(_) => Value::Text(text(input)),
        FieldKind::Number(_) => Value::Number(number(input)),
        FieldKind::Bool => Value::bool(boolean(input)),
        FieldKind::Date(_) => Value::Text(date(input)),
        FieldKind::Autodate(_) => zero(field),
        FieldKind::Select(_) | FieldKind::Relation(_) => from_names(field, names(input)),
        FieldKind::File(_) => from_names(field, file_names(input)),
        FieldKind::Json(_) => json_with_length(input).0,
        FieldKind::GeoPoint => geo(input),
    }
}

/// Strings as they are, numbers in plain decimal, booleans by name; anything else is empty.
pub fn text(input: &Json) -> String {
    match input {
        Json::Text(text) => text.clone(),
        Json::Number(number) => format!("{number}"),
        Json::Bool(value) => value.to_string(),
        Json::Null | Json::Array(_) | Json::Object(_) => String::new(),
    }
}

/// The number of a number, of a text that holds one, or of a boolean; 0 for anything else.
pub(crate) fn number(input: &Json) -> f64 {
    let number = match input {
        Json::Number(number) => *number,
        Json::Text(text) => number::parse(text),
        Json::Bool(value) => f64::from(u8::from(*value)),
        Json::Null | Json::Array(_) | Json::Object(_) => 0.0,
    };
    if number == 0.0 { 0.0 } else { number }
}

fn boolean(input: &Json) -> bool {
    match input {
        Json::Bool(value) => *value,
        Json::Number(number) => *number != 0.0,
        Json::Text(text) => matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"),
        Json::Null | Json::Array(_) | Json::Object(_) => false,
    }
}

/// Numbers and booleans are no dates: as texts they have no accepted form either.
fn date(input: &Json) -> String {
    input.as_str().map(date::normalize).unwrap_or_default()
}

/// The ids or options that a client lists: one, an array, or a text that holds an array of strings.
/// Without empty ones and without a second time the same. An array that holds an array or an object
/// lists nothing.
pub(crate) fn names(input: &Json) -> Vec<String> {
    let listed = match input {
        Json::Text(text) => return names_in_text(text),
        Json::Array(items) if items.iter().any(|item| matches!(item, Json::Array(_) | Json::Object(_))) => {
            Vec::new()
        }
        Json::Array(items) => items.iter().map(text).collect(),
        Json::Number(_) | Json::Bool(_) => vec![text(input)],
        Json::Null | Json::Object(_) => Vec::new(),
    };
    without_doubles(listed)
}

/// As [`names`]; but of an array's items every one counts that alone would list one name.
pub(crate) fn file_names(input: &Json) -> Vec<String> {
    let Json::Array(items) = input else { return names(input) };
    let one_each = items.iter().filter_map(|item| {
        let mut listed = file_names(item);
        if listed.len() == 1 { listed.pop() } else { None }
    });
    without_doubles(one_each.collect())
}

/// The names of a text: itself, or the strings of the JSON array that it holds. Of an array that goes
/// wrong, what came before, and the text.
pub(crate) fn names_in_text(text: &str) -> Vec<String> {
    if !text.contains('[') {
        return without_doubles(vec![text.to_owned()]);
    }
    let mut strings = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = StringsSeed(&mut strings).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if read.is_err() {
        strings.push(text.to_owned());
    }
    without_doubles(strings)
}

/// Drops empty names, and those that came before.
pub(crate) fn without_doubles(mut names: Vec<String>) -> Vec<String> {
    const FEW: usize = 16;
    names.retain(|name| !name.is_empty());
    if names.len() > FEW {
        let mut seen = HashSet::with_capacity(names.len());
        names.retain(|name| seen.insert(name.clone()));
        return names;
    }
    let mut position = 1;
    while position < names.len() {
        if names[..position].contains(&names[position]) {
            names.remove(position);
        } else {
            position += 1;
        }
    }
    names
}

/// A list in the field's stored form: all of it, or of a single-valued field the last.
pub(crate) fn from_names(field: &Field, mut names: Vec<String>) -> Value {
    if field.is_multiple() {
        if matches!(field.kind, FieldKind::File(_)) {
            names.retain(|name| !name.contains('[') || names_in_text(name).len() == 1);
        }
        return Value::from_list(&names);
    }
    let mut last = names.pop().unwrap_or_default();
    // A single name is read again as it passes on, until that changes nothing.
    while last.contains('[') {
        let next = names_in_text(&last).pop().unwrap_or_default();
        if next == last {
            break;
        }
        last = next;
    }
    Value::Text(last)
}

/// The stored value of a `json` field, and the length that its size limit counts: that of the JSON text as
/// it was sent.
pub(super) fn json_with_length(input: &Json) -> (Value, usize) {
    match input {
        Json::Null => (Value::Null, 0),
        Json::Text(text) => json_of_text(text),
        other => {
            let text = other.to_string();
            let length = text.len();
            (Value::Json(text), length)
        }
    }
}

/// A text is a JSON value if it looks like one and is one, and else a JSON string.
fn json_of_text(text: &str) -> (Value, usize) {
    let looks_like_json = matches!(text.as_bytes().first(), Some(b'0'..=b'9' | b'-' | b'"' | b'[' | b'{'));
    if looks_like_json {
        match json_text::read(text) {
            JsonText::Valid(compact) => return (Value::Json(canonical_number(compact)), text.len()),
            JsonText::Refused => return (Value::Json(String::new()), text.len()),
            JsonText::Not => {}
        }
    } else if matches!(text, "null" | "true" | "false") {
        return (Value::Json(text.to_owned()), text.len());
    }
    let length = 2 + text.chars().map(quoted_length).sum::<usize>();
    if text.contains(has_no_json_escape) {
        return (Value::Json(String::new()), length);
    }
    let mut quoted = String::with_capacity(length);
    write_string(text, &mut quoted);
    (Value::Json(quoted), length)
}

/// PocketBase escapes these in a way that JSON has not, and then refuses the value.
fn has_no_json_escape(char: char) -> bool {
    matches!(char, '\0'..='\x07' | '\x0b' | '\x0e'..='\x1f' | '\x7f')
}

/// How many bytes PocketBase's quoting makes of a character. What cannot be seen is written as an escape.
fn quoted_length(char: char) -> usize {
    match char {
        '"' | '\\' | '\x07'..='\r' => 2,
        '\0'..='\x06' | '\x0e'..='\x1f' | '\x7f' => 4,
        ' ' => 1,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => 6,
        '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' => 6,
        char if char.is_control() || char.is_whitespace() => 6,
        char => char.len_utf8(),
    }
}

/// A number that is the whole value is stored as a number, so its digits are not kept, except those of
/// an integer of 64 bits.
fn canonical_number(json: String) -> String {
    if !json.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        || json.parse::<i64>().is_ok_and(|number| number != 0)
    {
        return json;
    }
    let mut canonical = String::new();
    write_number(json.parse().unwrap_or_default(), &mut canonical);
    canonical
}

fn geo(input: &Json) -> Value {
    let mut point = Point::default();
    match input {
        // The coordinates that come before the first bad one count.
        Json::Object(members) => {
            for (name, value) in members {
                let coordinate = match (point.coordinate(name), value) {
                    (None, _) => continue,
                    (Some(coordinate), Json::Number(number)) => (coordinate, *number),
                    (Some(coordinate), Json::Null) => (coordinate, 0.0),
                    _ => break,
                };
                *coordinate.0 = coordinate.1;
            }
        }
        Json::Text(text) => {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            // What was read before an error, or before what follows the object, counts.
            let _ = PointSeed(&mut point).deserialize(&mut deserializer);
        }
        _ => {}
    }
    geo_point(point.longitude, point.latitude)
}

fn geo_point(longitude: f64, latitude: f64) -> Value {
    let mut text = String::from("{\"lon\":");
    write_number(longitude, &mut text);
    text.push_str(",\"lat\":");
    write_number(latitude, &mut text);
    text.push('}');
    Value::Json(text)
}

#[derive(Default)]
struct Point {
    longitude: f64,
    latitude: f64,
}

impl Point {
    fn coordinate(&mut self, name: &str) -> Option<&mut f64> {
        match name {
            "lon" => Some(&mut self.longitude),
            "lat" => Some(&mut self.latitude),
            _ => None,
        }
    }
}

/// Reads an object into a point, member by member, so that what was read stays when a later one is bad.
struct PointSeed<'a>(&'a mut Point);

impl<'de> DeserializeSeed<'de> for PointSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PointSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom("duplicate object key"));
            }
            match self.0.coordinate(&name) {
                Some(coordinate) => *coordinate = members.next_value::<Option<f64>>()?.unwrap_or(0.0),
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads a JSON array of strings and nulls into a list, item by item, so that what was read stays when a
/// later one is bad.
struct StringsSeed<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for StringsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for StringsSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Option<String>>()? {
            self.0.push(item.unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
