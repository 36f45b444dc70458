//! Fields: what a collection's records hold, and the options of each type (CONTRACT §3.2).

use std::fmt;
use std::sync::{Arc, OnceLock};

use regex::Regex;

pub(crate) mod dialect;
pub mod draft;
pub mod generate;
pub(crate) mod json;
pub(crate) mod list;
mod pattern_error;
pub(crate) mod validate;

/// One field of a collection. Its `id` stays the same when it is renamed.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// `<type><crc32 of the name>` unless the client gave one.
    pub id: String,
    /// The column's and the JSON key's name.
    pub name: String,
    /// Set by the server; cannot be changed or removed by a client.
    pub system: bool,
    /// Seen and written by superusers only.
    pub hidden: bool,
    /// A hint for the console.
    pub presentable: bool,
    /// Refuses the type's zero value. Always false for `autodate`, which has no such option.
    pub required: bool,
    /// A hint for people, at most 300 characters.
    pub help: String,
    /// The type and its options.
    pub kind: FieldKind,
}

/// The type of a field with the options that only this type has.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldKind {
    /// Plain text; also the primary key.
    Text(TextOptions),
    /// Rich text (HTML).
    Editor(EditorOptions),
    /// A float64.
    Number(NumberOptions),
    /// True or false.
    Bool,
    /// An email address.
    Email(DomainOptions),
    /// A URL.
    Url(DomainOptions),
    /// A point in time with milliseconds, UTC.
    Date(DateOptions),
    /// A point in time set by the server.
    Autodate(AutodateOptions),
    /// One or more of listed values.
    Select(SelectOptions),
    /// One or more file names.
    File(FileOptions),
    /// One or more ids of records of another collection.
    Relation(RelationOptions),
    /// Any JSON value.
    Json(JsonOptions),
    /// A password hash.
    Password(PasswordOptions),
    /// A longitude and latitude.
    GeoPoint,
}

/// Options of `text`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextOptions {
    /// Least number of characters (Unicode scalar values).
    pub min: u64,
    /// Most characters; 0 means 5000.
    pub max: u64,
    /// What the value must match, unless empty.
    pub pattern: Pattern,
    /// How an empty value is filled on create, unless empty.
    pub autogenerate_pattern: String,
    /// Whether this is the record id.
    pub primary_key: bool,
}

/// Options of `editor`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EditorOptions {
    /// Most bytes; 0 means 5 MiB.
    pub max_size: u64,
    /// A hint for the console.
    pub convert_urls: bool,
}

/// Options of `number`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NumberOptions {
    /// Least value; not checked for 0.
    pub min: Option<f64>,
    /// Greatest value; not checked for 0.
    pub max: Option<f64>,
    /// Refuses fractions.
    pub only_int: bool,
}

/// Options of `email` and `url`. At most one of the lists is set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DomainOptions {
    /// Refused domains.
    pub except_domains: Vec<String>,
    /// The only accepted domains.
    pub only_domains: Vec<String>,
}

/// Options of `date`, in the contract's date form or empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DateOptions {
    /// Earliest value.
    pub min: String,
    /// Latest value.
    pub max: String,
}

/// Options of `autodate`; at least one is set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AutodateOptions {
    /// Set when the record is created.
    pub on_create: bool,
    /// Set at every update.
    pub on_update: bool,
}

/// Options of `select`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SelectOptions {
    /// What may be chosen.
    pub values: Vec<String>,
    /// 0 and 1 mean a single value.
    pub max_select: u64,
}

/// Options of `file`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileOptions {
    /// 0 and 1 mean a single file.
    pub max_select: u64,
    /// Most bytes of a file; 0 means 5 MiB.
    pub max_size: u64,
    /// Accepted types; empty means any.
    pub mime_types: Vec<String>,
    /// Thumb sizes that may be asked for.
    pub thumbs: Vec<String>,
    /// Whether a download needs a file token and the view rule.
    pub protected: bool,
}

/// Options of `relation`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RelationOptions {
    /// The id of the collection that is pointed to.
    pub collection_id: String,
    /// Whether the record goes when the last record it points to goes.
    pub cascade_delete: bool,
    /// Least number of ids.
    pub min_select: u64,
    /// 0 and 1 mean a single id.
    pub max_select: u64,
}

/// Options of `json`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JsonOptions {
    /// Most bytes; 0 means 1 MiB.
    pub max_size: u64,
}

/// Options of `password`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PasswordOptions {
    /// What the password must match, unless empty.
    pub pattern: Pattern,
    /// Least number of characters.
    pub min: u64,
    /// Most bytes; 0 means 71.
    pub max: u64,
    /// bcrypt's cost in the contract; kept and returned, ours is argon2id.
    pub cost: u64,
}

/// A regular expression of a field option, compiled at its first use. Equality is that of the text.
#[derive(Clone, Default)]
pub struct Pattern {
    text: String,
    compiled: Arc<OnceLock<Option<Regex>>>,
}

// === impl Field ===

impl Field {
    /// Whether the field holds a list (`maxSelect` over 1) and so a JSON array.
    pub fn is_multiple(&self) -> bool {
        match &self.kind {
            FieldKind::Select(options) => options.max_select > 1,
            FieldKind::File(options) => options.max_select > 1,
            FieldKind::Relation(options) => options.max_select > 1,
            _ => false,
        }
    }

    /// The options of a relation field.
    pub fn relation(&self) -> Option<&RelationOptions> {
        match &self.kind {
            FieldKind::Relation(options) => Some(options),
            _ => None,
        }
    }

    /// Whether this is the record id.
    pub fn is_primary_key(&self) -> bool {
        matches!(&self.kind, FieldKind::Text(options) if options.primary_key)
    }
}

// === impl FieldKind ===

impl FieldKind {
    /// The contract's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            FieldKind::Text(_) => "text",
            FieldKind::Editor(_) => "editor",
            FieldKind::Number(_) => "number",
            FieldKind::Bool => "bool",
            FieldKind::Email(_) => "email",
            FieldKind::Url(_) => "url",
            FieldKind::Date(_) => "date",
            FieldKind::Autodate(_) => "autodate",
            FieldKind::Select(_) => "select",
            FieldKind::File(_) => "file",
            FieldKind::Relation(_) => "relation",
            FieldKind::Json(_) => "json",
            FieldKind::Password(_) => "password",
            FieldKind::GeoPoint => "geoPoint",
        }
    }
}

// === impl Pattern ===

impl Pattern {
    /// A pattern with this text, not yet compiled.
    pub fn new(text: impl Into<String>) -> Pattern {
        Pattern { text: text.into(), compiled: Arc::default() }
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether the text is a regular expression that compiles.
    pub fn is_valid(&self) -> bool {
        self.regex().is_some()
    }

    /// Whether a value matches somewhere, as the contract's `pattern` does; an empty pattern matches everything.
    pub fn matches(&self, value: &str) -> bool {
        self.is_empty() || self.regex().is_some_and(|regex| regex.is_match(value))
    }

    fn regex(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| {
                let text = dialect::translate(&self.text).ok()?;
                regex::RegexBuilder::new(&text).size_limit(1 << 20).build().ok()
            })
            .as_ref()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{}/", self.text)
    }
}
