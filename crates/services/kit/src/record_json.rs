//! A record as its JSON text (CONTRACT §4.3), written in one pass: every key in byte order with
//! `collectionId`, `collectionName` and `expand` among them, each value in the form of its type, and
//! only what the viewer may see.
//!
//! Which keys there are, in which order, is worked out once a collection: a [`RecordShape`], kept by a
//! [`ShapeCache`]. Writing a record then copies prepared pieces and values, and allocates nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use model::collection::Collection;
use model::context::Caller;
use model::field::{Field, FieldKind};
use model::json::{write_number, write_string};
use model::record::Record;
use model::value::Value;

/// How the records of one collection are written.
#[derive(Debug)]
pub struct RecordShape {
    pieces: Vec<Piece>,
    email_visibility: Option<usize>,
}

/// What a viewer may see beyond what everyone sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Visibility {
    shows_hidden: bool,
    shows_email: bool,
}

/// A record together with all that its JSON depends on.
#[derive(Debug, Clone)]
pub struct ShapedRecord {
    /// The record.
    pub record: Arc<Record>,
    /// The shape of its collection.
    pub shape: Arc<RecordShape>,
    /// What the viewer may see of it.
    pub visibility: Visibility,
    /// What is shown under `expand`; without it the key is absent.
    pub expand: Option<Expand>,
}

/// What is shown under `expand`, by name.
pub type Expand = BTreeMap<String, Expanded>;

/// What one relation expands to.
#[derive(Debug, Clone)]
pub enum Expanded {
    /// A single relation, or a back-relation of a unique field.
    One(Box<ShapedRecord>),
    /// A multiple relation.
    Many(Vec<ShapedRecord>),
}

/// Remembers the shapes of collections. A collection that was changed is another `Arc` and gets
/// another shape.
#[derive(Debug, Default)]
pub struct ShapeCache {
    shapes: RwLock<Shapes>,
}

/// By collection id, with the collection that the shape is of.
type Shapes = HashMap<String, (Arc<Collection>, Arc<RecordShape>)>;

/// A part of the text: what is always the same, then perhaps a value.
#[derive(Debug)]
struct Piece {
    /// Begins with a comma: `,"title":`
    text: Box<str>,
    content: Content,
    audience: Audience,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    /// The text says it all.
    Nothing,
    Expand,
    Value {
        index: usize,
        form: ValueForm,
    },
}

#[derive(Debug, Clone, Copy)]
enum ValueForm {
    Bool,
    Number,
    Text,
    /// JSON text as it is stored, and what stands for no value.
    Raw {
        empty: &'static str,
    },
    /// JSON text that a database of the contract's server may hold with spaces between its tokens.
    Json,
    /// Always the empty string.
    Blank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    Everyone,
    /// Who may see the email address, or everyone when the record says so.
    Email,
    Superusers,
}

// === impl RecordShape ===

impl RecordShape {
    /// Works out the shape of a collection's records.
    pub fn new(collection: &Collection) -> RecordShape {
        let mut pieces: BTreeMap<&str, Piece> = BTreeMap::new();
        for (index, field) in collection.fields.iter().enumerate() {
            if !is_secret(collection, field) {
                pieces.insert(&field.name, field_piece(collection, index, field));
            }
        }
        pieces.insert("collectionId", constant_piece("collectionId", &collection.id));
        pieces.insert("collectionName", constant_piece("collectionName", &collection.name));
        pieces.insert("expand", Piece::new("expand", Content::Expand, Audience::Everyone));
        RecordShape {
            pieces: pieces.into_values().collect(),
            email_visibility: collection
                .is_auth()
                .then(|| collection.field_index("emailVisibility"))
                .flatten(),
        }
    }

    /// Appends a record's JSON. The record is one of the collection that the shape was made for.
    pub fn write(&self, record: &Record, visibility: Visibility, expand: Option<&Expand>, out: &mut String) {
        let shows_email = visibility.shows_email || self.tells_email(record);
        // The first piece that is written leaves out its comma.
        let mut skipped = 1;
        out.push('{');
        for piece in &self.pieces {
            let is_shown = match piece.audience {
                Audience::Everyone => true,
                Audience::Email => shows_email,
                Audience::Superusers => visibility.shows_hidden,
            };
            if !is_shown || (matches!(piece.content, Content::Expand) && expand.is_none()) {
                continue;
            }
            out.push_str(&piece.text[skipped..]);
            skipped = 0;
            match piece.content {
                Content::Nothing => {}
                Content::Expand => write_expand(expand.unwrap_or(&Expand::new()), out),
                Content::Value { index, form } => form.write(&record.values[index], out),
            }
        }
        out.push('}');
    }

    fn tells_email(&self, record: &Record) -> bool {
        self.email_visibility.is_some_and(|index| record.values[index].as_bool())
    }
}

/// Appends the JSON of one value of a record, as [`RecordShape`] writes it. False for one that never leaves the server.
pub fn write_field(record: &Record, name: &str, out: &mut String) -> bool {
    let collection = &record.collection;
    let Some(index) = collection.field_index(name) else { return false };
    let field = &collection.fields[index];
    if is_secret(collection, field) || matches!(field.kind, FieldKind::Password(_)) {
        return false;
    }
    ValueForm::of(field).write(&record.values[index], out);
    true
}

/// What never leaves the server: the password and the token key of a record that can sign in.
fn is_secret(collection: &Collection, field: &Field) -> bool {
    collection.is_auth() && matches!(field.name.as_str(), "password" | "tokenKey")
}

fn field_piece(collection: &Collection, index: usize, field: &Field) -> Piece {
    let audience = if field.hidden {
        Audience::Superusers
    } else if collection.is_auth() && field.name == "email" {
        Audience::Email
    } else {
        Audience::Everyone
    };
    Piece::new(&field.name, Content::Value { index, form: ValueForm::of(field) }, audience)
}

fn constant_piece(key: &str, value: &str) -> Piece {
    let mut piece = Piece::new(key, Content::Nothing, Audience::Everyone);
    let mut text = String::from(std::mem::take(&mut piece.text));
    write_string(value, &mut text);
    Piece { text: text.into(), ..piece }
}

impl Piece {
    fn new(key: &str, content: Content, audience: Audience) -> Piece {
        let mut text = String::from(",");
        write_string(key, &mut text);
        text.push(':');
        Piece { text: text.into(), content, audience }
    }
}

impl ValueForm {
    fn of(field: &Field) -> ValueForm {
        match &field.kind {
            FieldKind::Bool => ValueForm::Bool,
            FieldKind::Number(_) => ValueForm::Number,
            FieldKind::Json(_) => ValueForm::Json,
            FieldKind::GeoPoint => ValueForm::Raw { empty: r#"{"lon":0,"lat":0}"# },
            FieldKind::Password(_) => ValueForm::Blank,
            _ if field.is_multiple() => ValueForm::Raw { empty: "[]" },
            _ => ValueForm::Text,
        }
    }

    fn write(self, value: &Value, out: &mut String) {
        match (self, value) {
            (ValueForm::Blank, _) => out.push_str("\"\""),
            (ValueForm::Bool, value) => out.push_str(if value.as_bool() { "true" } else { "false" }),
            (ValueForm::Number, Value::Number(number)) => push_number(*number, out),
            (ValueForm::Number, _) => out.push('0'),
            (ValueForm::Json, Value::Json(json)) if !json.is_empty() => push_compact(json, out),
            (ValueForm::Raw { .. }, Value::Json(json)) if !json.is_empty() => out.push_str(json),
            (ValueForm::Json | ValueForm::Raw { .. }, Value::Text(text)) if !text.is_empty() => {
                push_string(text, out);
            }
            (ValueForm::Json | ValueForm::Raw { .. }, Value::Number(number)) => push_number(*number, out),
            (ValueForm::Json, _) => out.push_str("null"),
            (ValueForm::Raw { empty }, _) => out.push_str(empty),
            (ValueForm::Text, Value::Number(number)) => {
                out.push('"');
                push_number(*number, out);
                out.push('"');
            }
            (ValueForm::Text, value) => push_string(value.as_str(), out),
        }
    }
}

fn write_expand(expand: &Expand, out: &mut String) {
    if expand.is_empty() {
        out.push('{');
    }
    for (index, (name, expanded)) in expand.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        push_string(name, out);
        out.push(':');
        match expanded {
            Expanded::One(record) => record.write(out),
            Expanded::Many(records) => write_many(records, out),
        }
    }
    out.push('}');
}

fn write_many(records: &[ShapedRecord], out: &mut String) {
    out.push('[');
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        record.write(out);
    }
    out.push(']');
}

// === impl Visibility ===

impl Visibility {
    /// What everyone sees.
    pub const PUBLIC: Visibility = Visibility { shows_hidden: false, shows_email: false };
    /// What a record sees of itself, and a manager of the others; also what every sign-in answers with.
    pub const OWN: Visibility = Visibility { shows_hidden: false, shows_email: true };
    /// All but secrets.
    pub const SUPERUSER: Visibility = Visibility { shows_hidden: true, shows_email: true };

    /// What a caller sees of a record. Whether it manages the record is what the collection's manage
    /// rule says.
    pub fn of(caller: &Caller, record: &Record, is_manager: bool) -> Visibility {
        match caller {
            Caller::Superuser(_) => Visibility::SUPERUSER,
            Caller::Record(own) if own.collection.id == record.collection.id && own.id() == record.id() => {
                Visibility::OWN
            }
            _ if is_manager => Visibility::OWN,
            _ => Visibility::PUBLIC,
        }
    }
}

// === impl ShapedRecord ===

impl ShapedRecord {
    /// Appends the record's JSON.
    pub fn write(&self, out: &mut String) {
        self.shape.write(&self.record, self.visibility, self.expand.as_ref(), out);
    }
}

// === impl ShapeCache ===

impl ShapeCache {
    /// The shape of a collection, worked out at its first use.
    pub fn get(&self, collection: &Arc<Collection>) -> Arc<RecordShape> {
        if let Some((known, shape)) = self.read().get(&collection.id)
            && Arc::ptr_eq(known, collection)
        {
            return shape.clone();
        }
        let shape = Arc::new(RecordShape::new(collection));
        let mut shapes = self.shapes.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        shapes.insert(collection.id.clone(), (collection.clone(), shape.clone()));
        shape
    }

    /// Forgets the collections that are not among these, when the schema was changed.
    pub fn retain(&self, is_kept: impl Fn(&Collection) -> bool) {
        let mut shapes = self.shapes.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        shapes.retain(|_, (collection, _)| is_kept(collection));
    }

    fn read(&self) -> RwLockReadGuard<'_, Shapes> {
        self.shapes.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

// === values ===

/// As [`write_number`], with a shorter way for the integers that most numbers are.
fn push_number(number: f64, out: &mut String) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT && number != 0.0 {
        out.push_str(itoa::Buffer::new().format(number as i64));
    } else {
        write_number(number, out);
    }
}

/// JSON text without the white space between its tokens.
fn push_compact(json: &str, out: &mut String) {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    if !json.bytes().any(is_space) {
        return out.push_str(json);
    }
    let (mut start, mut in_string, mut is_escaped) = (0, false, false);
    for (index, byte) in json.bytes().enumerate() {
        if in_string {
            in_string = byte != b'"' || is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
        } else if is_space(byte) {
            out.push_str(&json[start..index]);
            start = index + 1;
        } else {
            in_string = byte == b'"';
        }
    }
    out.push_str(&json[start..]);
}

/// As [`write_string`], with a shorter way for texts that need no escapes.
fn push_string(text: &str, out: &mut String) {
    if needs_escapes(text.as_bytes()) {
        return write_string(text, out);
    }
    out.push('"');
    out.push_str(text);
    out.push('"');
}

fn needs_escapes(bytes: &[u8]) -> bool {
    let is_special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().any(|word| has_special(u64::from_ne_bytes(*word))) || rest.iter().any(is_special)
}

/// Whether one of eight bytes is below 0x20, a quote or a backslash. Each term has a high bit set where a
/// byte, or its difference from the one that is sought, is under a bound (the usual "byte less than n").
fn has_special(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGHS;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) != 0
}

#[cfg(test)]
mod tests;
