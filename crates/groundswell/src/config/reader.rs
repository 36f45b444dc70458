//! Reads sections of the tree by asking for keys. Every problem is noted, so that a person sees all at once; what
//! was not asked for is unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use super::problem::Problem;
use super::tree::{Node, Origin, Value};

/// Problems found so far.
pub(super) type Noted = RefCell<Vec<Problem>>;

/// One table of the configuration, being read.
pub(super) struct Section<'a> {
    name: String,
    table: Option<&'a BTreeMap<String, Node>>,
    asked: Vec<&'static str>,
    problems: &'a Noted,
}

/// A table whose name is somebody's choice, or one without a name in a list.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) origin: &'a Origin,
    pub(super) section: Section<'a>,
}

/// A text and its place.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) origin: Origin,
}

impl<'a> Section<'a> {
    /// The whole configuration.
    pub(super) fn root(table: &'a BTreeMap<String, Node>, problems: &'a Noted) -> Self {
        Self { name: String::new(), table: Some(table), asked: Vec::new(), problems }
    }

    /// The table `key`, empty if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let name = self.path(key);
        let table = match self.node(key) {
            None => None,
            Some(Node { value: Value::Table(table), .. }) => Some(table),
            Some(node) => {
                self.note(
                    &node.origin,
                    &name,
                    format!("must be a section; write [{name}] and its keys below"),
                );
                None
            }
        };
        Section { name, table, asked: Vec::new(), problems: self.problems }
    }

    /// The tables in the table `key`, with the names that somebody gave them.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Named<'a>> {
        let of_all = self.section(key);
        let mut sections = Vec::new();
        for (name, Node { origin, value }) in of_all.table.into_iter().flatten() {
            let path = of_all.path(name);
            match value {
                Value::Table(table) => {
                    let section = Section {
                        name: path,
                        table: Some(table),
                        asked: Vec::new(),
                        problems: self.problems,
                    };
                    sections.push(Named { name, origin, section });
                }
                _ => {
                    self.note(origin, &path, format!("must be a section; write [{path}] and its keys below"))
                }
            }
        }
        sections
    }

    /// The tables of the list at `key`, written as `[[key]]`.
    pub(super) fn items(&mut self, key: &'static str) -> Vec<Named<'a>> {
        let path = self.path(key);
        let Some(Node { origin, value }) = self.node(key) else { return Vec::new() };
        let Value::List(nodes) = value else {
            self.note(
                origin,
                &path,
                format!("must be a list; write [[{path}]] and its keys below, for each one"),
            );
            return Vec::new();
        };
        let mut items = Vec::new();
        for Node { origin, value } in nodes {
            match value {
                Value::Table(table) => {
                    let (name, table) = (path.clone(), Some(table));
                    let section = Section { name, table, asked: Vec::new(), problems: self.problems };
                    items.push(Named { name: "", origin, section });
                }
                _ => self.note(
                    origin,
                    &path,
                    format!("must be a section; write [[{path}]] and its keys below"),
                ),
            }
        }
        items
    }

    /// The texts in the table at `key`, by whatever names they have.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<(&'a str, Text)> {
        let section = self.section(key);
        let nodes = section.table.into_iter().flatten();
        let texts = nodes.filter_map(|(name, node)| {
            let text = section.text_of(&section.path(name), node)?;
            Some((name.as_str(), text))
        });
        texts.collect()
    }

    /// The place of the value at `key`.
    pub(super) fn origin_of(&self, key: &str) -> Option<&'a Origin> {
        self.table?.get(key).map(|node| &node.origin)
    }

    /// The single value at `key`: a string, number or boolean, or the content of a file or variable.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Text> {
        let node = self.node(key)?;
        self.text_of(&self.path(key), node)
    }

    /// The value at `key` as `parse` understands it; `expected` says what would be right, and whether the wrong
    /// value may be shown.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<(T, Origin)> {
        let text = self.text(key)?;
        let parsed = parse(&text.value);
        if parsed.is_none() {
            self.note(
                &text.origin,
                &self.path(key),
                format!("{:?} is not right; write {expected}", text.value),
            );
        }
        parsed.map(|value| (value, text.origin))
    }

    /// The list at `key`: an array of texts, or one text with commas between.
    pub(super) fn list(&mut self, key: &'static str) -> Option<(Vec<String>, Origin)> {
        let node = self.node(key)?;
        let path = self.path(key);
        let texts = match &node.value {
            Value::List(items) => {
                items.iter().filter_map(|item| Some(self.text_of(&path, item)?.value)).collect()
            }
            _ => split(&self.text_of(&path, node)?.value),
        };
        Some((texts, node.origin.clone()))
    }

    /// Notes a problem with the value at `key`.
    pub(super) fn refuse(&self, origin: &Origin, key: &str, message: impl Into<String>) {
        self.note(origin, &self.path(key), message);
    }

    /// Ends the reading: whatever was not asked for is unknown.
    pub(super) fn finish(self) {
        for (key, node) in self.table.into_iter().flatten() {
            if self.asked.contains(&key.as_str()) {
                continue;
            }
            let nearest = self.asked.iter().max_by(|left, right| {
                strsim::jaro_winkler(left, key).total_cmp(&strsim::jaro_winkler(right, key))
            });
            let message = match nearest {
                Some(nearest) => format!("unknown key; did you mean {}?", self.path(nearest)),
                None => "unknown key; this section takes none".to_owned(),
            };
            self.note(&node.origin, &self.path(key), message);
        }
    }

    fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.table?.get(key)
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn note(&self, origin: &Origin, key: &str, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::new(origin, key, message));
    }

    fn text_of(&self, path: &str, node: &Node) -> Option<Text> {
        let value = match &node.value {
            Value::Text(text) | Value::Literal(text) => Ok(text.clone()),
            Value::Table(table) => from_elsewhere(table),
            Value::List(_) => Err("must be one value, not a list".to_owned()),
        };
        match value {
            Ok(value) => Some(Text { value, origin: node.origin.clone() }),
            Err(message) => {
                self.note(&node.origin, path, message);
                None
            }
        }
    }
}

/// The text that `{ file = "…" }` or `{ env = "X" }` stands for.
fn from_elsewhere(table: &BTreeMap<String, Node>) -> Result<String, String> {
    let mut entries = table.iter();
    match (entries.next(), entries.next()) {
        (Some((key, Node { value: Value::Text(place), .. })), None) => match key.as_str() {
            // An editor or `echo` ends a file with a line end that is not part of the secret.
            "file" => fs::read_to_string(place)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|error| format!("the file {place} cannot be read: {error}")),
            "env" => std::env::var(place)
                .map_err(|_| format!("the environment variable {place} is not set, or not UTF-8 text")),
            _ => Err(TABLE_EXPECTED.to_owned()),
        },
        _ => Err(TABLE_EXPECTED.to_owned()),
    }
}

const TABLE_EXPECTED: &str = "must be one value, or { file = \"PATH\" }, or { env = \"NAME\" }";

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
