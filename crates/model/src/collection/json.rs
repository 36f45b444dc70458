//! Collections to and from JSON: what clients see, and the row that the store keeps
//! (CONTRACT §3.1, §10.2).

use super::{AuthOptions, Collection, CollectionKind, Rules, ViewOptions};
use crate::field;
use crate::json::shape::{Form, Load, Misshapen, Names, Write, write_key};
use crate::json::{Json, JsonError, write_string};

/// The parts of a collection's row in PocketBase's `_collections` that are JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCollection {
    /// The column `fields`.
    pub fields: String,
    /// The column `indexes`.
    pub indexes: String,
    /// The column `options`, with secrets.
    pub options: String,
}

/// Everything a row holds beside its JSON texts.
#[derive(Debug, Clone, PartialEq)]
pub struct RowHead {
    /// The column `id`.
    pub id: String,
    /// The column `name`.
    pub name: String,
    /// The column `type`.
    pub type_name: String,
    /// The column `system`.
    pub system: bool,
    /// The columns `listRule` to `deleteRule`.
    pub rules: Rules,
    /// The column `created`.
    pub created: String,
    /// The column `updated`.
    pub updated: String,
}

/// Why a stored row is no collection.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StoredError {
    /// One of the texts is no JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The JSON is of another shape.
    #[error(transparent)]
    Shape(#[from] Misshapen),
    /// There is no such type of collection.
    #[error("unknown collection type {0:?}")]
    UnknownType(String),
}

impl Collection {
    /// Appends the JSON that clients see: in the contract's key order, without secrets.
    pub fn write_json(&self, out: &mut String) {
        out.push('{');
        text("id", &self.id, out);
        write_rules(&self.rules, out);
        text("name", &self.name, out);
        text("type", self.type_name(), out);
        write_key("fields", out);
        field::json::write_list(&self.fields, out);
        write_key("indexes", out);
        self.indexes.write(Form::Api, out);
        text("created", &self.created, out);
        text("updated", &self.updated, out);
        write_key("system", out);
        self.system.write(Form::Api, out);
        self.write_options(out);
        out.push('}');
    }

    fn write_options(&self, out: &mut String) {
        let mut options = String::new();
        match &self.kind {
            CollectionKind::Base => return,
            CollectionKind::Auth(auth) => auth.write(Form::Api, &mut options),
            CollectionKind::View(view) => view.write(Form::Api, &mut options),
        }
        out.push(',');
        out.push_str(&options[1..options.len() - 1]);
    }

    /// The JSON texts of the stored row.
    pub fn to_stored(&self) -> StoredCollection {
        let mut stored =
            StoredCollection { fields: String::new(), indexes: String::new(), options: String::new() };
        field::json::write_list(&self.fields, &mut stored.fields);
        self.indexes.write(Form::Stored, &mut stored.indexes);
        match &self.kind {
            CollectionKind::Base => stored.options.push_str("{}"),
            CollectionKind::Auth(auth) => auth.write(Form::Stored, &mut stored.options),
            CollectionKind::View(view) => view.write(Form::Stored, &mut stored.options),
        }
        stored
    }

    /// The collection of a stored row.
    pub fn from_stored(head: RowHead, stored: &StoredCollection) -> Result<Collection, StoredError> {
        let mut indexes: Vec<String> = Vec::new();
        indexes.load(&Json::parse_whole(&stored.indexes)?, Names::Exact)?;
        let fields = field::json::read_list(&Json::parse_whole(&stored.fields)?)?;
        let options = Json::parse_whole(&stored.options)?;
        let kind = match head.type_name.as_str() {
            "base" => CollectionKind::Base,
            "auth" => CollectionKind::Auth(Box::new(loaded::<AuthOptions>(&options)?)),
            "view" => CollectionKind::View(loaded::<ViewOptions>(&options)?),
            _ => return Err(StoredError::UnknownType(head.type_name)),
        };
        Ok(Collection {
            id: head.id,
            name: head.name,
            system: head.system,
            rules: head.rules,
            fields: fields.into_iter().map(|draft| draft.field).collect(),
            indexes,
            created: head.created,
            updated: head.updated,
            kind,
        })
    }
}

fn loaded<T: Load + Default>(json: &Json) -> Result<T, Misshapen> {
    let mut value = T::default();
    value.load(json, Names::Exact)?;
    Ok(value)
}

fn text(name: &str, value: &str, out: &mut String) {
    write_key(name, out);
    write_string(value, out);
}

fn write_rules(rules: &Rules, out: &mut String) {
    let members = [
        ("listRule", &rules.list),
        ("viewRule", &rules.view),
        ("createRule", &rules.create),
        ("updateRule", &rules.update),
        ("deleteRule", &rules.delete),
    ];
    for (name, rule) in members {
        write_key(name, out);
        rule.write(Form::Api, out);
    }
}
