//! The schema: every collection at one version, with its rules checked. A node holds one snapshot
//! and swaps it whole.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::collection::Collection;
use crate::filter::{self, Filter, Scope};

/// All collections at one version.
#[derive(Debug, Default)]
pub struct Schema {
    version: u64,
    entries: Vec<Entry>,
    by_id: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
    references: HashMap<String, Vec<Reference>>,
}

#[derive(Debug)]
struct Entry {
    collection: Arc<Collection>,
    rules: [OnceLock<Rule>; RuleKind::COUNT],
}

/// A relation field that points to some collection.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The collection that holds the field.
    pub collection: Arc<Collection>,
    /// The field's position in it.
    pub field: usize,
}

/// A rule, ready to be judged.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Superusers only.
    Locked,
    /// Everyone.
    Open,
    /// Whom and what the expression allows.
    When(Arc<Filter>),
    /// The text no longer fits the schema (a field that it names is gone): nobody passes.
    Invalid,
}

/// Which of a collection's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's words; nothing to add")]
pub enum RuleKind {
    List,
    View,
    Create,
    Update,
    Delete,
    Auth,
    Manage,
}

// === impl Schema ===

impl Schema {
    /// A snapshot. Collections keep the order given, which is that of their creation.
    pub fn new(version: u64, collections: Vec<Arc<Collection>>) -> Schema {
        let mut schema = Schema { version, ..Schema::default() };
        for (position, collection) in collections.into_iter().enumerate() {
            schema.by_id.insert(collection.id.clone(), position);
            schema.by_name.insert(collection.name.to_lowercase(), position);
            for (field, options) in collection.fields.iter().enumerate() {
                if let Some(relation) = options.relation() {
                    let reference = Reference { collection: collection.clone(), field };
                    schema.references.entry(relation.collection_id.clone()).or_default().push(reference);
                }
            }
            schema.entries.push(Entry { collection, rules: Default::default() });
        }
        for references in schema.references.values_mut() {
            references.sort_by(|a, b| a.collection.name.cmp(&b.collection.name));
        }
        schema
    }

    /// Grows by one with every change of any collection.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All collections, oldest first.
    pub fn collections(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.entries.iter().map(|entry| &entry.collection)
    }

    /// By id (case matters) or by name (case does not matter); the older one when both are taken.
    pub fn find(&self, id_or_name: &str) -> Option<&Arc<Collection>> {
        let by_id = self.by_id.get(id_or_name).copied();
        let position = match (by_id, self.position_by_name(id_or_name)) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other)?,
        };
        Some(&self.entries[position].collection)
    }

    /// By id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Collection>> {
        self.by_id.get(id).map(|position| &self.entries[*position].collection)
    }

    /// By name; case does not matter.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Collection>> {
        self.position_by_name(name).map(|position| &self.entries[position].collection)
    }

    fn position_by_name(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).or_else(|| self.by_name.get(&name.to_lowercase())).copied()
    }

    /// The relation fields that point to a collection, ordered by the name of the collection that holds them.
    pub fn references_to(&self, collection_id: &str) -> &[Reference] {
        self.references.get(collection_id).map_or(&[], Vec::as_slice)
    }

    /// A rule of a collection of this snapshot, checked at its first use.
    pub fn rule(&self, collection: &Collection, kind: RuleKind) -> &Rule {
        const INVALID: &Rule = &Rule::Invalid;
        let Some(position) = self.by_id.get(&collection.id) else { return INVALID };
        let entry = &self.entries[*position];
        entry.rules[kind as usize].get_or_init(|| self.check_rule(&entry.collection, kind))
    }

    fn check_rule(&self, collection: &Collection, kind: RuleKind) -> Rule {
        match kind.text(collection) {
            None => Rule::Locked,
            Some("") => Rule::Open,
            Some(text) => match filter::check(self, collection, text, Scope::Rule) {
                Ok(filter) => Rule::When(Arc::new(filter)),
                Err(_) => Rule::Invalid,
            },
        }
    }
}

// === impl RuleKind ===

impl RuleKind {
    const COUNT: usize = 7;

    /// The rule's text in a collection; the auth rules of a collection that has none are `None`.
    pub fn text(self, collection: &Collection) -> Option<&str> {
        let rules = &collection.rules;
        let auth = collection.auth();
        match self {
            RuleKind::List => rules.list.as_deref(),
            RuleKind::View => rules.view.as_deref(),
            RuleKind::Create => rules.create.as_deref(),
            RuleKind::Update => rules.update.as_deref(),
            RuleKind::Delete => rules.delete.as_deref(),
            RuleKind::Auth => auth?.auth_rule.as_deref(),
            RuleKind::Manage => auth?.manage_rule.as_deref(),
        }
    }
}
