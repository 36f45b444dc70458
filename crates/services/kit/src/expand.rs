//! `expand` (CONTRACT §1.10): records with those that they point to, or that point to them, as far as
//! the viewer may see them. Nothing here fails a request but the store: what cannot be expanded is
//! left out.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use contract::store::{GetRecords, ReferringRecords};
use model::collection::Collection;
use model::field::Field;
use model::json::JsonObject;
use model::record::Record;
use model::schema::RuleKind;

use crate::error::ApiError;
use crate::record_json::{Expand, Expanded, ShapedRecord};
use crate::viewer::{ReadAccess, Viewer};

/// Levels that are expanded; deeper ones are left out.
const MAX_DEPTH: usize = 6;
/// Records of a back-relation for each record.
const MAX_REFERRING: usize = 1_000;

/// What the parameter asks for: names with what to expand below each.
#[derive(Debug, Default, PartialEq)]
pub struct ExpandTree {
    children: BTreeMap<String, ExpandTree>,
}

/// What a name of the tree means in a collection.
enum Target {
    /// A relation field of the collection itself, by position.
    Forward { field: usize, collection: Arc<Collection> },
    /// A relation field of another collection that points here.
    Back { collection: Arc<Collection>, field: String, is_unique: bool },
}

/// Records with what they expand to.
pub struct Expansion {
    /// In the order in which they were given.
    pub records: Vec<ShapedRecord>,
    /// Whether some path could be followed to its end. One that leads into a locked collection, or
    /// nowhere, is as if it had not been asked for, with all that it passes.
    pub is_reached: bool,
}

type Expanding<'a> = Pin<Box<dyn Future<Output = Result<Expansion, ApiError>> + Send + 'a>>;

// === impl ExpandTree ===

impl ExpandTree {
    /// Reads `a,b.c`: blanks go, dots at the ends go, and what is below [`MAX_DEPTH`] is left out.
    pub fn parse(text: &str) -> ExpandTree {
        let mut tree = ExpandTree::default();
        for path in text.split(',') {
            let path: String = path.chars().filter(|letter| *letter != ' ').collect();
            let path = path.trim_matches('.');
            if !path.is_empty() {
                tree.add(path);
            }
        }
        tree
    }

    fn add(&mut self, path: &str) {
        let mut node = self;
        for name in path.split('.').take(MAX_DEPTH) {
            node = node.children.entry(name.to_owned()).or_default();
        }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }
}

// === impl Target ===

impl Target {
    fn find(viewer: &Viewer<'_>, collection: &Collection, name: &str) -> Option<Target> {
        if let Some(field) = collection.field_index(name)
            && let Some(relation) = collection.fields[field].relation()
        {
            let target = viewer.schema.by_id(&relation.collection_id)?.clone();
            return Some(Target::Forward { field, collection: target });
        }
        let (other, field) = split_back_relation(name)?;
        let other = viewer.schema.find(other)?;
        let back = other.field(field)?;
        if back.relation()?.collection_id != collection.id {
            return None;
        }
        Some(Target::Back {
            collection: other.clone(),
            field: back.name.clone(),
            is_unique: model::collection::index::has_unique(&other.indexes, &back.name),
        })
    }
}

/// `posts_via_author`, or the older `posts(author)`.
fn split_back_relation(name: &str) -> Option<(&str, &str)> {
    if let Some(parts) = name.split_once("_via_") {
        return Some(parts);
    }
    let (collection, field) = name.split_once('(')?;
    Some((collection, field.strip_suffix(')')?))
}

impl Viewer<'_> {
    /// Shapes records, each with its expanded ones. All records are of one collection.
    pub fn expand<'s>(&'s self, records: Vec<Arc<Record>>, tree: &'s ExpandTree) -> Expanding<'s> {
        Box::pin(async move {
            let mut expands: Vec<Option<Expand>> = vec![None; records.len()];
            let mut is_reached = tree.is_empty() || records.is_empty();
            for (name, below) in &tree.children {
                let Some(found) = self.expand_name(&records, name, below).await? else { continue };
                is_reached = true;
                for (expand, related) in expands.iter_mut().zip(found) {
                    let expand = expand.get_or_insert_default();
                    if let Some(related) = related {
                        expand.insert(name.clone(), related);
                    }
                }
            }
            let Some(first) = records.first() else {
                return Ok(Expansion { records: Vec::new(), is_reached });
            };
            let shape = self.app.shapes.get(&first.collection);
            let mut shaped = Vec::with_capacity(records.len());
            for (record, expand) in records.into_iter().zip(expands) {
                let visibility = self.visibility(&record).await?;
                shaped.push(ShapedRecord { record, shape: shape.clone(), visibility, expand });
            }
            Ok(Expansion { records: shaped, is_reached })
        })
    }

    /// What one name is for each record; nothing when no path through it reaches its end.
    async fn expand_name(
        &self,
        records: &[Arc<Record>],
        name: &str,
        below: &ExpandTree,
    ) -> Result<Option<Vec<Option<Expanded>>>, ApiError> {
        let Some(first) = records.first() else { return Ok(None) };
        match Target::find(self, &first.collection, name) {
            None => Ok(None),
            Some(Target::Forward { field, collection }) => {
                self.expand_forward(records, below, field, collection).await
            }
            Some(Target::Back { collection, field, is_unique }) => {
                self.expand_back(records, below, collection, field, is_unique).await
            }
        }
    }

    async fn expand_forward(
        &self,
        records: &[Arc<Record>],
        below: &ExpandTree,
        field: usize,
        collection: Arc<Collection>,
    ) -> Result<Option<Vec<Option<Expanded>>>, ApiError> {
        let Some(conditions) = self.expand_conditions(&collection) else { return Ok(None) };
        let lists: Vec<Vec<String>> = records.iter().map(|record| record.values[field].list()).collect();
        let mut ids: Vec<String> = lists.iter().flatten().cloned().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(GetRecords::MAX_IDS) {
            let query = GetRecords {
                schema_version: self.schema.version(),
                collection: collection.clone(),
                ids: ids.to_vec(),
                conditions: conditions.clone(),
            };
            found.extend(self.app.store.get_many(query).await?);
        }
        let expansion = self.expand(found.into_iter().map(Arc::new).collect(), below).await?;
        if !expansion.is_reached {
            return Ok(None);
        }
        let shaped = expansion.records.into_iter();
        let by_id: HashMap<String, ShapedRecord> =
            shaped.map(|shaped| (shaped.record.id().to_owned(), shaped)).collect();
        let is_single = records.first().is_some_and(|record| !is_list(&record.collection.fields[field]));
        let related = |list: &Vec<String>| list.iter().filter_map(|id| by_id.get(id).cloned()).collect();
        Ok(Some(lists.iter().map(|list| expanded(related(list), is_single)).collect()))
    }

    async fn expand_back(
        &self,
        records: &[Arc<Record>],
        below: &ExpandTree,
        collection: Arc<Collection>,
        field: String,
        is_unique: bool,
    ) -> Result<Option<Vec<Option<Expanded>>>, ApiError> {
        let Some(conditions) = self.expand_conditions(&collection) else { return Ok(None) };
        let mut counts = Vec::with_capacity(records.len());
        let mut all = Vec::new();
        for record in records {
            let query = ReferringRecords {
                schema_version: self.schema.version(),
                collection: collection.clone(),
                field: field.clone(),
                id: record.id().to_owned(),
                conditions: conditions.clone(),
                limit: MAX_REFERRING,
            };
            let found = self.app.store.referring(query).await?;
            counts.push(found.len());
            all.extend(found.into_iter().map(Arc::new));
        }
        let expansion = self.expand(all, below).await?;
        if !expansion.is_reached {
            return Ok(None);
        }
        let mut shaped = expansion.records.into_iter();
        let of_each =
            counts.into_iter().map(|count| expanded(shaped.by_ref().take(count).collect(), is_unique));
        Ok(Some(of_each.collect()))
    }

    fn expand_conditions(&self, collection: &Collection) -> Option<Vec<model::condition::Condition>> {
        match self.access_in(collection, RuleKind::View, &JsonObject::new(), || self.expand_context()) {
            ReadAccess::Granted(conditions) => Some(conditions),
            ReadAccess::Locked | ReadAccess::Broken => None,
        }
    }
}

fn is_list(field: &Field) -> bool {
    field.is_multiple()
}

fn expanded(mut related: Vec<ShapedRecord>, is_single: bool) -> Option<Expanded> {
    if related.is_empty() {
        return None;
    }
    Some(if is_single { Expanded::One(Box::new(related.swap_remove(0))) } else { Expanded::Many(related) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tree: &ExpandTree) -> String {
        let parts: Vec<String> = tree
            .children
            .iter()
            .map(
                |(name, below)| {
                    if below.is_empty() { name.clone() } else { format!("{name}({})", names(below)) }
                },
            )
            .collect();
        parts.join(",")
    }

    #[test]
    fn paths_become_a_tree() {
        assert_eq!(names(&ExpandTree::parse("a, b.c,a.d,.e.,,")), "a(d),b(c),e");
        assert_eq!(names(&ExpandTree::parse("a.b.c.d.e.f.g")), "a(b(c(d(e(f)))))");
        assert!(ExpandTree::parse(" , ").is_empty());
    }
}
