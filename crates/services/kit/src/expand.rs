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
use model::record::Record;
use model::schema::RuleKind;

use crate::error::ApiError;
use crate::record_json::{Expand, Expanded, ShapedRecord};
use crate::viewer::Viewer;

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

type Shaping<'a> = Pin<Box<dyn Future<Output = Result<Vec<ShapedRecord>, ApiError>> + Send + 'a>>;

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
    /// Shapes records, each with its expanded ones.
    pub fn expand<'s>(&'s self, records: Vec<Arc<Record>>, tree: &'s ExpandTree) -> Shaping<'s> {
        Box::pin(async move {
            let mut expands: Vec<Expand> = vec![Expand::new(); records.len()];
            for (name, below) in &tree.children {
                self.expand_name(&records, name, below, &mut expands).await?;
            }
            let mut shaped = Vec::with_capacity(records.len());
            for (record, expand) in records.into_iter().zip(expands) {
                let shape = self.app.shapes.get(&record.collection);
                let visibility = self.visibility(&record).await?;
                shaped.push(ShapedRecord { record, shape, visibility, expand });
            }
            Ok(shaped)
        })
    }

    /// Adds one name to what each record expands to. All records are of one collection.
    async fn expand_name(
        &self,
        records: &[Arc<Record>],
        name: &str,
        below: &ExpandTree,
        expands: &mut [Expand],
    ) -> Result<(), ApiError> {
        let Some(first) = records.first() else { return Ok(()) };
        match Target::find(self, &first.collection, name) {
            None => Ok(()),
            Some(Target::Forward { field, collection }) => {
                self.expand_forward(records, name, below, expands, field, collection).await
            }
            Some(Target::Back { collection, field, is_unique }) => {
                self.expand_back(records, name, below, expands, collection, field, is_unique).await
            }
        }
    }

    async fn expand_forward(
        &self,
        records: &[Arc<Record>],
        name: &str,
        below: &ExpandTree,
        expands: &mut [Expand],
        field: usize,
        collection: Arc<Collection>,
    ) -> Result<(), ApiError> {
        let Some(conditions) = self.expand_conditions(&collection) else { return Ok(()) };
        let lists: Vec<Vec<String>> = records.iter().map(|record| record.values[field].list()).collect();
        let mut ids: Vec<String> = lists.iter().flatten().cloned().collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let found = self.app.store.get_many(GetRecords { collection, ids, conditions }).await?;
        let shaped = self.expand(found.into_iter().map(Arc::new).collect(), below).await?;
        let by_id: HashMap<String, ShapedRecord> =
            shaped.into_iter().map(|shaped| (shaped.record.id().to_owned(), shaped)).collect();
        let is_multiple = records.first().is_some_and(|record| is_list(&record.collection.fields[field]));
        for (list, expand) in lists.iter().zip(expands) {
            let related = list.iter().filter_map(|id| by_id.get(id).cloned()).collect();
            put(expand, name, related, !is_multiple);
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one target, used here only")]
    async fn expand_back(
        &self,
        records: &[Arc<Record>],
        name: &str,
        below: &ExpandTree,
        expands: &mut [Expand],
        collection: Arc<Collection>,
        field: String,
        is_unique: bool,
    ) -> Result<(), ApiError> {
        let Some(conditions) = self.expand_conditions(&collection) else { return Ok(()) };
        for (record, expand) in records.iter().zip(expands) {
            let query = ReferringRecords {
                collection: collection.clone(),
                field: field.clone(),
                id: record.id().to_owned(),
                conditions: conditions.clone(),
                limit: MAX_REFERRING,
            };
            let found = self.app.store.referring(query).await?;
            let shaped = self.expand(found.into_iter().map(Arc::new).collect(), below).await?;
            put(expand, name, shaped, is_unique);
        }
        Ok(())
    }

    fn expand_conditions(&self, collection: &Collection) -> Option<Vec<model::condition::Condition>> {
        self.conditions_in(collection, RuleKind::View, || self.expand_context())
    }
}

fn is_list(field: &Field) -> bool {
    field.is_multiple()
}

fn put(expand: &mut Expand, name: &str, mut related: Vec<ShapedRecord>, is_single: bool) {
    if related.is_empty() {
        return;
    }
    let expanded =
        if is_single { Expanded::One(Box::new(related.swap_remove(0))) } else { Expanded::Many(related) };
    expand.insert(name.to_owned(), expanded);
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
