//! The keys of a record body and what each does to a field (CONTRACT §4.4).

use rand::Rng;

use super::autogenerate::generate;
use super::coerce;
use crate::collection::Collection;
use crate::field::{Field, FieldKind};
use crate::json::Json;
use crate::value::Value;

/// What a key does to its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// `field`
    Set,
    /// `field+`: add a number, or names behind those that are there.
    Append,
    /// `+field`: names before those that are there.
    Prepend,
    /// `field-`: subtract a number, or remove names.
    Subtract,
    /// `field:autogenerate`: the text with generated characters behind it.
    Autogenerate,
}

/// The field that a key of a body means, whatever it does to it.
pub fn field_of_key<'c>(collection: &'c Collection, key: &str) -> Option<&'c Field> {
    collection.field(split(key).0)
}

/// The position of the field that a key means, and what the key does to it; nothing for a key that
/// means no field, or a change that its type does not know.
pub(crate) fn target(collection: &Collection, key: &str) -> Option<(usize, Change)> {
    let (name, change) = split(key);
    let position = collection.field_index(name)?;
    let is_known = match change {
        Change::Set => true,
        Change::Append | Change::Subtract => {
            holds_names(&collection.fields[position]) || is_number(&collection.fields[position])
        }
        Change::Prepend => holds_names(&collection.fields[position]),
        Change::Autogenerate => matches!(collection.fields[position].kind, FieldKind::Text(_)),
    };
    is_known.then_some((position, change))
}

fn split(key: &str) -> (&str, Change) {
    if let Some(name) = key.strip_suffix('+') {
        (name, Change::Append)
    } else if let Some(name) = key.strip_suffix('-') {
        (name, Change::Subtract)
    } else if let Some(name) = key.strip_prefix('+') {
        (name, Change::Prepend)
    } else if let Some(name) = key.strip_suffix(":autogenerate") {
        (name, Change::Autogenerate)
    } else {
        (key, Change::Set)
    }
}

fn holds_names(field: &Field) -> bool {
    matches!(field.kind, FieldKind::Select(_) | FieldKind::File(_) | FieldKind::Relation(_))
}

fn is_number(field: &Field) -> bool {
    matches!(field.kind, FieldKind::Number(_))
}

/// The value of a field after a change with `input`.
pub(crate) fn apply(
    field: &Field,
    current: &Value,
    change: Change,
    input: &Json,
    random: &mut impl Rng,
) -> Value {
    match (change, &field.kind) {
        (Change::Set, _) => coerce::coerce(field, input),
        (Change::Autogenerate, FieldKind::Text(options)) => {
            let mut text = coerce::text(input);
            generate(&options.autogenerate_pattern, random, &mut text);
            Value::Text(text)
        }
        (_, FieldKind::Number(_)) => {
            let current = if let Value::Number(current) = current { *current } else { 0.0 };
            let sign = if change == Change::Subtract { -1.0 } else { 1.0 };
            Value::Number(current + sign * coerce::number(input))
        }
        (_, FieldKind::File(_)) => combine(field, current, change, coerce::file_names(input)),
        _ => combine(field, current, change, coerce::names(input)),
    }
}

/// The list of a field after names were put behind it, before it, or removed.
pub(crate) fn combine(field: &Field, current: &Value, change: Change, names: Vec<String>) -> Value {
    let mut current = current.list();
    let combined = match change {
        Change::Subtract => {
            current.retain(|name| !names.contains(name));
            current
        }
        Change::Prepend => names.into_iter().chain(current).collect(),
        _ => {
            current.extend(names);
            current
        }
    };
    coerce::from_names(field, coerce::without_doubles(combined))
}
