//! Configuration values from every source, merged, each with the place that it comes from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};

/// Only environment variables that begin so are ours.
const ENVIRONMENT_PREFIX: &str = "GROUNDSWELL__";

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// At a line of a file.
    File(Arc<str>, usize),
    /// In an environment variable.
    Environment(Arc<str>),
    /// As a flag.
    Flag(&'static str),
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// A value. Numbers and booleans are kept as their text, because other sources know only text.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    Text(String),
    /// A number or a boolean, as written without quotes.
    Literal(String),
}

/// The merged sources.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree(pub(super) BTreeMap<String, Node>);

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

// === impl Tree ===

impl Tree {
    /// Adds a TOML file.
    pub(crate) fn add_file(&mut self, path: &Path) -> Result<(), Problems> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| {
            let message = format!("the configuration file {name} cannot be read: {error}");
            Problem::new(&Origin::Flag("--config"), "", message)
        })?;
        self.add_text(&name, &text)
    }

    /// Adds TOML text that is called `name` in errors.
    pub(super) fn add_text(&mut self, name: &str, text: &str) -> Result<(), Problems> {
        let source = Source { name: name.into(), text };
        let table = DeTable::parse(text).map_err(|error| {
            let origin = source.origin(&error.span().unwrap_or_default());
            Problem::new(&origin, "", error.message())
        })?;
        for (key, node) in source.table(table.get_ref()) {
            self.0.insert(key, node);
        }
        Ok(())
    }

    /// Adds the variables whose names begin with our prefix; two underscores separate the parts of a key.
    pub(crate) fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else {
                continue;
            };
            let origin = Origin::Environment(name.into());
            let key = name[ENVIRONMENT_PREFIX.len()..].to_lowercase();
            let path: Vec<&str> = key.split("__").collect();
            match value.into_string() {
                Ok(value) => self.add(origin, &path, Value::Text(value)),
                Err(_) => problems.push(Problem::new(&origin, path.join("."), "is not UTF-8 text")),
            }
        }
        Problems::check(problems)
    }

    /// Adds the value of a flag.
    pub(crate) fn add_flag(&mut self, flag: &'static str, path: &[&str], value: &str) {
        self.add(Origin::Flag(flag), path, Value::Text(value.to_owned()));
    }

    fn add(&mut self, origin: Origin, path: &[&str], value: Value) {
        let [sections @ .., key] = path else {
            return;
        };
        let mut table = &mut self.0;
        for section in sections {
            let node = table.entry((*section).to_owned()).or_insert_with(|| Node::empty_table(&origin));
            if !matches!(node.value, Value::Table(_)) {
                *node = Node::empty_table(&origin);
            }
            let Value::Table(inner) = &mut node.value else {
                return;
            };
            table = inner;
        }
        table.insert((*key).to_owned(), Node { origin, value });
    }
}

impl Node {
    fn empty_table(origin: &Origin) -> Self {
        Self { origin: origin.clone(), value: Value::Table(BTreeMap::new()) }
    }
}

/// A file being turned into nodes.
struct Source<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl Source<'_> {
    fn table(&self, table: &DeTable<'_>) -> BTreeMap<String, Node> {
        table.iter().map(|(key, value)| (key.get_ref().to_string(), self.node(&key.span(), value))).collect()
    }

    fn node(&self, key: &Range<usize>, value: &Spanned<DeValue<'_>>) -> Node {
        let value = match value.get_ref() {
            DeValue::Table(table) => Value::Table(self.table(table)),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(&item.span(), item)).collect())
            }
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => Value::Literal(integer.to_string()),
            DeValue::Float(float) => Value::Literal(float.to_string()),
            DeValue::Boolean(boolean) => Value::Literal(boolean.to_string()),
            DeValue::Datetime(datetime) => Value::Literal(datetime.to_string()),
        };
        Node { origin: self.origin(key), value }
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        Origin::File(Arc::clone(&self.name), 1 + memchr::memchr_iter(b'\n', before).count())
    }
}
