//! From a request's body to the row that it asks for, and to what rules see of the body.

use std::sync::Arc;

use rand::Rng;

use super::modifiers::{self, Change};
use super::{Record, coerce};
use crate::collection::Collection;
use crate::context::RuleBody;
use crate::field::{Field, FieldKind};
use crate::json::{Json, JsonObject};
use crate::plan::value_json;
use crate::value::Value;

/// What a client asks to be written.
#[derive(Debug, Clone, Copy)]
pub struct WriteInput<'a> {
    /// The body: fields, modifiers, and what else the client sent.
    pub body: &'a JsonObject,
    /// The files that came with it, in the order in which they came.
    pub uploads: &'a [Upload],
    /// Whether hidden fields may be set.
    pub is_superuser: bool,
}

/// A file of a multipart body.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    /// The name of its part: `field`, `field+` or `+field`.
    pub key: String,
    /// The name that was generated for it, by which the record will know it.
    pub name: String,
    /// The name that the client gave.
    pub original_name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its type as found in its content.
    pub mime_type: String,
}

/// A write before it is judged: the row as it would be.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The new row. Passwords in it are still the old hashes; see [`Resolved::passwords`].
    pub record: Record,
    /// The positions of the fields that the body sets, after modifiers, ascending.
    pub touched: Vec<usize>,
    /// The password fields that the body sets, in plain text. Their hashes are made elsewhere.
    pub passwords: Vec<PlainPassword>,
    /// What only the checks of an auth record read.
    pub auth: AuthInput,
    /// The files that the row names: only these are kept.
    pub uploads: Vec<Upload>,
    /// The lengths that the size limit counts of `json` values, where they are not those of what is stored.
    pub(super) json_lengths: Vec<(usize, usize)>,
}

/// A password as it was sent.
#[derive(Clone, PartialEq)]
pub struct PlainPassword {
    /// The position of its field.
    pub field: usize,
    /// The plain text; empty to remove the password.
    pub plain: String,
}

/// The keys of an auth record's body that are no fields, and the one that is checked with them.
#[derive(Clone, PartialEq, Default)]
pub struct AuthInput {
    /// `password`
    pub password: String,
    /// `passwordConfirm`
    pub password_confirm: String,
    /// `oldPassword`
    pub old_password: String,
}

/// Applies a body to the stored row, or to a new one: coerces what is sent to what is stored, resolves
/// modifiers, and drops what the client may not set. `random` serves `field:autogenerate`.
pub fn resolve_body(
    collection: &Arc<Collection>,
    old: Option<&Record>,
    input: WriteInput<'_>,
    random: &mut impl Rng,
) -> Resolved {
    let mut resolved = Resolved {
        record: old.cloned().unwrap_or_else(|| Record::zero(collection.clone())),
        touched: Vec::with_capacity(input.body.len()),
        passwords: Vec::new(),
        auth: AuthInput::default(),
        uploads: Vec::new(),
        json_lengths: Vec::new(),
    };
    resolved.take_fields(&input, random);
    resolved.take_uploads(&input);
    if collection.is_auth() {
        resolved.auth = AuthInput::read(input.body);
    }
    resolved.touched.sort_unstable();
    resolved.touched.dedup();
    resolved
}

/// Whether a client that is no superuser may set the field.
fn is_open(collection: &Collection, field: &Field) -> bool {
    !field.hidden || collection.is_auth() && field.name == "password"
}

/// Whether a hook may set the field: it holds a plain value, and is not what names the record or signs it in.
pub fn may_be_set_by_hooks(field: &Field) -> bool {
    !matches!(field.kind, FieldKind::Password(_) | FieldKind::File(_) | FieldKind::Autodate(_))
        && !matches!(field.name.as_str(), "id" | "tokenKey")
}

// === impl Resolved ===

impl Resolved {
    /// Takes what the body sets, plain fields first and then modifiers, the shorter key first.
    fn take_fields(&mut self, input: &WriteInput<'_>, random: &mut impl Rng) {
        let mut modifiers = Vec::new();
        for (key, value) in input.body {
            match modifiers::target(&self.record.collection, key) {
                Some((position, _)) if !self.may_set(position, input) => {}
                Some((position, Change::Set)) => self.take(position, Change::Set, value, random),
                Some((position, change)) => modifiers.push((key.len(), position, change, value)),
                None => {}
            }
        }
        modifiers.sort_by_key(|(length, ..)| *length);
        for (_, position, change, value) in modifiers {
            self.take(position, change, value, random);
        }
    }

    /// Sets fields over what the body set. Passwords and files, which need more than a value, stay as they are
    /// ([`may_be_set_by_hooks`]).
    pub fn set_over(&mut self, values: &JsonObject, random: &mut impl Rng) {
        for (name, value) in values {
            let Some(position) = self.record.collection.field_index(name) else { continue };
            if may_be_set_by_hooks(&self.record.collection.fields[position]) {
                self.take(position, Change::Set, value, random);
            }
        }
        self.touched.sort_unstable();
        self.touched.dedup();
    }

    /// What the fields that are set would hold, as clients see it; secret and hidden ones too. Without passwords,
    /// and without dates that the server sets.
    pub fn values(&self) -> JsonObject {
        let fields = &self.record.collection.fields;
        let is_plain = |field: &Field| !matches!(field.kind, FieldKind::Password(_) | FieldKind::Autodate(_));
        let set = self.touched.iter().filter(|position| is_plain(&fields[**position]));
        let value = |position: &usize| {
            let field = &fields[*position];
            (field.name.clone(), value_json(field, &self.record.values[*position]))
        };
        set.map(value).collect()
    }

    fn may_set(&self, position: usize, input: &WriteInput<'_>) -> bool {
        let collection = &self.record.collection;
        input.is_superuser || is_open(collection, &collection.fields[position])
    }

    fn take(&mut self, position: usize, change: Change, input: &Json, random: &mut impl Rng) {
        self.touched.push(position);
        let field = &self.record.collection.fields[position];
        match &field.kind {
            FieldKind::Autodate(_) => {}
            FieldKind::Password(_) => {
                self.passwords.push(PlainPassword { field: position, plain: coerce::text(input) });
            }
            FieldKind::Json(_) => {
                let (value, length) = coerce::json_with_length(input);
                self.json_lengths.retain(|(of, _)| *of != position);
                if length != value.as_str().len() {
                    self.json_lengths.push((position, length));
                }
                self.record.values[position] = value;
            }
            _ => {
                let value = modifiers::apply(field, &self.record.values[position], change, input, random);
                self.record.values[position] = value;
            }
        }
    }

    /// Adds the names of uploads. Those whose part is named as the field replace its value, but for the
    /// stored names that the body lists beside them.
    fn take_uploads(&mut self, input: &WriteInput<'_>) {
        let mut keys: Vec<&str> = Vec::new();
        for upload in input.uploads {
            if !keys.contains(&upload.key.as_str()) {
                keys.push(&upload.key);
            }
        }
        keys.sort_by_key(|key| key.len());
        for key in keys {
            let Some((position, change)) = modifiers::target(&self.record.collection, key) else { continue };
            let field = &self.record.collection.fields[position];
            if !matches!(field.kind, FieldKind::File(_)) || !self.may_set(position, input) {
                continue;
            }
            let uploads = input.uploads.iter().filter(|upload| upload.key == key);
            let mut names = match (change, input.body.get(key)) {
                (Change::Set, Some(kept)) => coerce::names(kept),
                _ => Vec::new(),
            };
            names.extend(uploads.map(|upload| upload.name.clone()));
            let value = match change {
                Change::Set => coerce::from_names(field, coerce::without_doubles(names)),
                change => modifiers::combine(field, &self.record.values[position], change, names),
            };
            self.record.values[position] = value;
            self.touched.push(position);
        }
        let named: Vec<String> = self.file_names();
        self.uploads.extend(input.uploads.iter().filter(|upload| named.contains(&upload.name)).cloned());
    }

    fn file_names(&self) -> Vec<String> {
        let files = self
            .touched
            .iter()
            .filter(|position| matches!(self.record.collection.fields[**position].kind, FieldKind::File(_)));
        files.flat_map(|position| self.record.values[*position].list()).collect()
    }

    /// The plain text of the password that the body sets for a field.
    pub fn password(&self, position: usize) -> Option<&str> {
        let password = self.passwords.iter().find(|password| password.field == position);
        password.map(|password| password.plain.as_str())
    }

    /// What rules see of the body: fields as they would be stored, and other keys as they were sent.
    /// Needed only where a rule is an expression.
    pub fn rule_body(&self, body: &JsonObject) -> RuleBody {
        let collection = &self.record.collection;
        let mut values = JsonObject::new();
        for (key, value) in body {
            if modifiers::target(collection, key).is_none() {
                values.insert(key.clone(), value.clone());
            }
        }
        for position in &self.touched {
            values.insert(collection.fields[*position].name.clone(), self.seen_by_rules(*position));
        }
        RuleBody { values }
    }

    fn seen_by_rules(&self, position: usize) -> Json {
        let field = &self.record.collection.fields[position];
        let value = &self.record.values[position];
        match &field.kind {
            FieldKind::Bool => Json::Bool(value.as_bool()),
            FieldKind::Password(_) => Json::Text(self.password(position).unwrap_or_default().to_owned()),
            FieldKind::File(_) => self.files_seen_by_rules(field, value),
            _ => match value {
                Value::Null => Json::Null,
                Value::Number(number) => Json::Number(*number),
                Value::Text(text) => Json::Text(text.clone()),
                Value::Json(text) => Json::parse_whole(text).unwrap_or_default(),
            },
        }
    }

    /// Names of stored files are texts; a new file is an object.
    fn files_seen_by_rules(&self, field: &Field, value: &Value) -> Json {
        let mut files = value.list().into_iter().map(|name| {
            match self.uploads.iter().find(|upload| upload.name == name) {
                Some(upload) => upload.seen_by_rules(),
                None => Json::Text(name),
            }
        });
        if field.is_multiple() {
            return Json::Array(files.collect());
        }
        files.next().unwrap_or_else(|| Json::Text(String::new()))
    }

    /// The row that the create rule is judged on: unset and generated values are empty, `verified` is
    /// false, and a missing id is `temporary_id`.
    pub fn row_for_create_rule(&self, temporary_id: &str) -> Record {
        let mut row = self.record.clone();
        if row.id().is_empty() {
            row.set("id", Value::Text(temporary_id.to_owned()));
        }
        if row.collection.is_auth() {
            row.set("verified", Value::bool(false));
        }
        row
    }
}

// === impl Upload ===

impl Upload {
    fn seen_by_rules(&self) -> Json {
        Json::Object(JsonObject::from([
            ("name".to_owned(), Json::Text(self.name.clone())),
            ("originalName".to_owned(), Json::Text(self.original_name.clone())),
            ("size".to_owned(), Json::Number(self.size as f64)),
        ]))
    }
}

// === impl AuthInput ===

impl AuthInput {
    fn read(body: &JsonObject) -> AuthInput {
        let text = |key: &str| body.get(key).map(coerce::text).unwrap_or_default();
        AuthInput {
            password: text("password"),
            password_confirm: text("passwordConfirm"),
            old_password: text("oldPassword"),
        }
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for PlainPassword {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PlainPassword").field("field", &self.field).finish_non_exhaustive()
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for AuthInput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AuthInput").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
