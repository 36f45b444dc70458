//! Change events: what a committed step leaves behind for whoever follows the data (DESIGN §5).

use std::sync::Arc;

use model::collection::Collection;
use model::field::{Field, FieldKind};
use model::json::{Json, JsonObject, write_number};
use model::plan;
use model::record::Record;
use model::time::Timestamp;
use model::value::Value;

/// One change of one record, kept in the outbox until every consumer is past it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeEvent {
    /// Grows with every event and is never used twice; there may be gaps.
    pub sequence: u64,
    /// The same for all events of one batch.
    pub batch: u64,
    /// The collection's id.
    pub collection: String,
    /// The record's id.
    pub record: String,
    /// What happened.
    pub action: Action,
    /// The schema version that the rows are of.
    pub schema_version: u64,
    /// The id of the record that asked for it; empty for a guest and for the server itself.
    pub caller: String,
    /// When it was written.
    pub written: Timestamp,
    /// The row before, without secret fields; none for a create.
    pub before: Option<JsonObject>,
    /// The row after, without secret fields; none for a delete.
    pub after: Option<JsonObject>,
}

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub enum Action {
    Create,
    Update,
    Delete,
}

/// A row as events carry it: without what must not leave the store.
pub fn row(record: &Record) -> JsonObject {
    let collection = &record.collection;
    let mut row = JsonObject::new();
    for (field, value) in collection.fields.iter().zip(&record.values) {
        if !plan::is_secret(collection, field) {
            row.insert(field.name.clone(), plan::value_json(field, value));
        }
    }
    row.insert("collectionId".to_owned(), Json::from(collection.id.as_str()));
    row
}

/// Whether a record may hold fewer files than before: a file field held something, and is not as it was.
pub fn loses_files(before: Option<&Record>, after: Option<&Record>) -> bool {
    let Some(before) = before else { return false };
    let fields = before.collection.fields.iter().zip(&before.values);
    let mut files = fields.filter(|(field, _)| matches!(field.kind, FieldKind::File(_)));
    files.any(|(field, value)| {
        let is_empty = match value {
            Value::Text(text) => text.is_empty(),
            Value::Json(text) => text == "[]",
            Value::Null | Value::Number(_) => true,
        };
        !is_empty && after.is_none_or(|after| after.get(&field.name) != value)
    })
}

/// The record of a row that an event carries, under this collection's fields: secret ones, and those that the
/// collection did not have then, are null.
pub fn record(collection: &Arc<Collection>, row: &JsonObject) -> Record {
    let values = collection.fields.iter().map(|field| match row.get(&field.name) {
        Some(json) if !plan::is_secret(collection, field) => value(field, json),
        _ => Value::Null,
    });
    Record { collection: collection.clone(), values: values.collect() }
}

fn value(field: &Field, json: &Json) -> Value {
    let is_json = matches!(field.kind, FieldKind::Json(_) | FieldKind::GeoPoint) || field.is_multiple();
    match json {
        Json::Null => Value::Null,
        // Its members have an order of their own.
        Json::Object(point) if matches!(field.kind, FieldKind::GeoPoint) => Value::Json(geo_point(point)),
        json if is_json => Value::Json(json.to_string()),
        Json::Bool(value) => Value::bool(*value),
        Json::Number(number) => Value::Number(*number),
        Json::Text(text) => Value::Text(text.clone()),
        // A field that held several values and now holds one.
        Json::Array(_) | Json::Object(_) => Value::Null,
    }
}

fn geo_point(point: &JsonObject) -> String {
    let mut text = String::new();
    for (start, name) in [("{\"lon\":", "lon"), (",\"lat\":", "lat")] {
        text.push_str(start);
        write_number(point.get(name).and_then(Json::as_number).unwrap_or(0.0), &mut text);
    }
    text.push('}');
    text
}

impl Action {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        }
    }

    /// The action of a stored word.
    pub fn parse(word: &str) -> Option<Action> {
        [Action::Create, Action::Update, Action::Delete].into_iter().find(|action| action.as_str() == word)
    }
}

/// The events that a consumer wants. An event that nobody wants is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Every change of every record.
    All,
    /// Changes by which a record may have lost a file: what [`loses_files`] says.
    Files,
    /// Changes of the records of these collections, by id.
    Collections(Vec<String>),
}

/// What a consumer gets when it asks for events.
#[derive(Debug, Clone, PartialEq)]
pub enum Events {
    /// In order, whole batches unless one alone is larger than a delivery may be; empty when there are no
    /// more for now.
    Some(Vec<ChangeEvent>),
    /// Events that this consumer has not seen are gone: it must read the data again and go on from here.
    Resync {
        /// The position to go on from, and to acknowledge once the data was read again.
        from: u64,
    },
}

/// A stretch of the events.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// Those of the stretch that the consumer wants.
    pub events: Events,
    /// The end of the stretch: the next one begins after it. It lies past events that others wanted, which
    /// the consumer may acknowledge unseen.
    pub through: u64,
}
