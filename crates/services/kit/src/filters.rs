//! Filters and sorts that clients send, remembered once they are checked: the same few come again
//! and again.

use std::sync::Arc;

use model::collection::Collection;
use model::filter::{self, Filter, FilterError, Scope, Sort};
use model::schema::Schema;
use quick_cache::sync::Cache;

/// Filters and sorts kept; the least used go.
const ENTRIES: usize = 2_048;

/// Remembers checked texts by schema version, collection, scope and text.
pub struct FilterCache {
    filters: Cache<Key, Arc<Filter>>,
    sorts: Cache<Key, Arc<Sort>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    version: u64,
    collection: Arc<str>,
    is_rule: bool,
    text: Arc<str>,
}

impl Default for FilterCache {
    fn default() -> FilterCache {
        FilterCache { filters: Cache::new(ENTRIES), sorts: Cache::new(ENTRIES) }
    }
}

impl FilterCache {
    /// The checked filter of a text.
    pub fn filter(
        &self,
        schema: &Schema,
        collection: &Arc<Collection>,
        text: &str,
        scope: Scope,
    ) -> Result<Arc<Filter>, FilterError> {
        self.filters.get_or_insert_with(&key(schema, collection, text, scope), || {
            filter::check(schema, collection, text, scope).map(Arc::new)
        })
    }

    /// The checked sort of a text.
    pub fn sort(
        &self,
        schema: &Schema,
        collection: &Arc<Collection>,
        text: &str,
        scope: Scope,
    ) -> Result<Arc<Sort>, FilterError> {
        self.sorts.get_or_insert_with(&key(schema, collection, text, scope), || {
            filter::check_sort(schema, collection, text, scope).map(Arc::new)
        })
    }
}

fn key(schema: &Schema, collection: &Collection, text: &str, scope: Scope) -> Key {
    Key {
        version: schema.version(),
        collection: collection.id.as_str().into(),
        is_rule: scope == Scope::Rule,
        text: text.into(),
    }
}
