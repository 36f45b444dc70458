//! Collections from their JSON, and records from tables laid out as the contract says.

use std::sync::Arc;

use model::collection::{AuthOptions, Collection, CollectionKind, Rules, ViewOptions};
use model::field::{
    AutodateOptions, DateOptions, DomainOptions, EditorOptions, Field, FieldKind, FileOptions, JsonOptions,
    NumberOptions, PasswordOptions, RelationOptions, SelectOptions, TextOptions,
};
use model::json::{Json, write_number};
use model::record::Record;
use model::schema::Schema;
use model::value::Value;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

pub(crate) fn schema(collections: &Json) -> Schema {
    let items = collections.as_array().unwrap();
    Schema::new(1, items.iter().map(|item| Arc::new(collection(item))).collect())
}

fn text(json: &Json, key: &str) -> String {
    json.get(key).and_then(Json::as_str).unwrap_or("").to_owned()
}

fn flag(json: &Json, key: &str) -> bool {
    json.get(key).and_then(Json::as_bool).unwrap_or(false)
}

fn rule(json: &Json, key: &str) -> Option<String> {
    json.get(key).and_then(Json::as_str).map(str::to_owned)
}

pub(crate) fn collection(json: &Json) -> Collection {
    Collection {
        id: text(json, "id"),
        name: text(json, "name"),
        system: flag(json, "system"),
        rules: Rules {
            list: rule(json, "listRule"),
            view: rule(json, "viewRule"),
            create: rule(json, "createRule"),
            update: rule(json, "updateRule"),
            delete: rule(json, "deleteRule"),
        },
        fields: json.get("fields").and_then(Json::as_array).unwrap().iter().map(field).collect(),
        indexes: json
            .get("indexes")
            .and_then(Json::as_array)
            .unwrap_or(&[])
            .iter()
            .filter_map(|index| index.as_str().map(str::to_owned))
            .collect(),
        created: String::new(),
        updated: String::new(),
        kind: match text(json, "type").as_str() {
            "auth" => CollectionKind::Auth(Box::new(auth())),
            "view" => CollectionKind::View(ViewOptions { query: text(json, "viewQuery") }),
            _ => CollectionKind::Base,
        },
    }
}

fn auth() -> AuthOptions {
    AuthOptions { auth_rule: Some(String::new()), ..AuthOptions::default() }
}

fn field(json: &Json) -> Field {
    let max_select = json.get("maxSelect").and_then(Json::as_number).unwrap_or(0.0) as u64;
    let kind = match text(json, "type").as_str() {
        "text" => {
            FieldKind::Text(TextOptions { primary_key: flag(json, "primaryKey"), ..TextOptions::default() })
        }
        "editor" => FieldKind::Editor(EditorOptions::default()),
        "number" => FieldKind::Number(NumberOptions::default()),
        "bool" => FieldKind::Bool,
        "email" => FieldKind::Email(DomainOptions::default()),
        "url" => FieldKind::Url(DomainOptions::default()),
        "date" => FieldKind::Date(DateOptions::default()),
        "autodate" => FieldKind::Autodate(AutodateOptions::default()),
        "select" => FieldKind::Select(SelectOptions { max_select, ..SelectOptions::default() }),
        "file" => FieldKind::File(FileOptions { max_select, ..FileOptions::default() }),
        "relation" => FieldKind::Relation(RelationOptions {
            collection_id: text(json, "collectionId"),
            max_select,
            ..RelationOptions::default()
        }),
        "json" => FieldKind::Json(JsonOptions::default()),
        "password" => FieldKind::Password(PasswordOptions::default()),
        "geoPoint" => FieldKind::GeoPoint,
        other => panic!("unknown field type {other}"),
    };
    Field {
        id: text(json, "id"),
        name: text(json, "name"),
        system: flag(json, "system"),
        hidden: flag(json, "hidden"),
        presentable: false,
        required: false,
        help: String::new(),
        kind,
    }
}

/// The table of a collection as the contract lays it out.
pub(crate) fn create_table(collection: &Collection) -> String {
    let columns: Vec<String> = collection
        .fields
        .iter()
        .map(|field| {
            let definition = match &field.kind {
                _ if field.is_primary_key() => "TEXT PRIMARY KEY NOT NULL",
                FieldKind::Number(_) => "NUMERIC DEFAULT 0 NOT NULL",
                FieldKind::Bool => "BOOLEAN DEFAULT FALSE NOT NULL",
                FieldKind::Json(_) => "JSON DEFAULT NULL",
                FieldKind::GeoPoint => "JSON DEFAULT '{\"lon\":0,\"lat\":0}' NOT NULL",
                _ if field.is_multiple() => "JSON DEFAULT '[]' NOT NULL",
                _ => "TEXT DEFAULT '' NOT NULL",
            };
            format!("\"{}\" {definition}", field.name)
        })
        .collect();
    format!("CREATE TABLE \"{}\" ({})", collection.name, columns.join(", "))
}

/// All records of a collection, in the order of their rows.
pub(crate) fn records(db: &Connection, collection: &Arc<Collection>) -> Vec<Record> {
    let columns: Vec<String> = collection.fields.iter().map(|field| format!("\"{}\"", field.name)).collect();
    let order = if collection.is_view() { "" } else { " ORDER BY rowid" };
    let sql = format!("SELECT {} FROM \"{}\"{order}", columns.join(", "), collection.name);
    let mut statement = db.prepare(&sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut records = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let values = collection
            .fields
            .iter()
            .enumerate()
            .map(|(index, field)| value(field, row.get_ref(index).unwrap()))
            .collect();
        records.push(Record { collection: collection.clone(), values });
    }
    records
}

fn value(field: &Field, stored: ValueRef<'_>) -> Value {
    let number = |number: f64| match field.kind {
        FieldKind::Json(_) => {
            let mut text = String::new();
            write_number(number, &mut text);
            Value::Json(text)
        }
        _ => Value::Number(number),
    };
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(whole) => number(whole as f64),
        ValueRef::Real(real) => number(real),
        ValueRef::Text(text) => {
            let text = String::from_utf8(text.to_vec()).unwrap();
            let is_json =
                matches!(field.kind, FieldKind::Json(_) | FieldKind::GeoPoint) || field.is_multiple();
            if is_json { Value::Json(text) } else { Value::Text(text) }
        }
        ValueRef::Blob(_) => panic!("a blob in {}", field.name),
    }
}
