//! Taking over a whole set of collections at once (CONTRACT §3.7).

use std::sync::Arc;

use rand::Rng;

use super::draft::Draft;
use super::index::Index;
use super::store_errors::unreadable_index;
use super::update::rotate_secret;
use super::validate::{self, Validation, is_internal_table};
use super::{Collection, create};
use crate::errors::{ErrorEntry, FieldError, FieldErrors};
use crate::field::{self, list};
use crate::json::shape::{Names, load_member};
use crate::json::{Json, JsonObject, write_string};
use crate::schema::Schema;
use crate::time::Timestamp;

/// What an import does, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportPlan {
    /// The collections that go.
    pub deletes: Vec<Arc<Collection>>,
    /// The collections that come or change.
    pub saves: Vec<ImportSave>,
}

/// One collection that comes or changes.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportSave {
    /// As it was, unless it is new.
    pub old: Option<Arc<Collection>>,
    /// As it will be.
    pub collection: Collection,
}

/// Why an import is refused as a whole. The texts are the answers' messages.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// The body cannot be read. Bytes that are no JSON count as this, too.
    #[error("An error occurred while loading the submitted data.")]
    Unreadable,
    /// There are no collections in it.
    #[error("An error occurred while validating the submitted data.")]
    Empty,
    /// The collections are refused.
    #[error("Failed to import collections.")]
    Failed(FieldErrors),
}

impl ImportError {
    /// The answer's field errors.
    pub fn fields(&self) -> FieldErrors {
        match self {
            ImportError::Unreadable => FieldErrors::new(),
            ImportError::Empty => FieldErrors::one("collections", FieldError::required()),
            ImportError::Failed(errors) => errors.clone(),
        }
    }

    /// The import failed in a way that only the store could tell.
    pub fn from_store(detail: &str) -> ImportError {
        ImportError::failed(format!("Failed to import the collections configuration. Raw error:\n{detail}"))
    }

    /// A collection is not valid.
    pub fn invalid(collection: &Collection, errors: &FieldErrors) -> ImportError {
        let (name, id) = (&collection.name, &collection.id);
        let mut texts = String::new();
        write_texts(errors, 0, &mut texts);
        ImportError::failed(format!("Data validations failed for collection {name:?} ({id}):\n{texts}"))
    }

    fn failed(message: String) -> ImportError {
        let error = FieldError::new("validation_collections_import_failure", message);
        ImportError::Failed(FieldErrors::one("collections", error))
    }
}

/// What the import of a body does to the collections of a schema.
pub fn plan(
    schema: &Schema,
    body: &Json,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Result<ImportPlan, ImportError> {
    let request = Request::read(body)?;
    let mut items = Vec::with_capacity(request.collections.len());
    for object in &request.collections {
        items.push(Item::read(schema, object, request.delete_missing, now, rng)?);
    }
    // Views come last because their queries may need the others.
    items.sort_by_key(|item| (item.draft.is_view(), item.created.clone(), item.updated.clone()));
    let deletes = deleted(schema, &items, request.delete_missing);
    let next = saved(schema, &deletes, &mut items, rng)?;
    // A view is validated when it is saved: until then nobody knows its fields for sure.
    for item in items.iter().filter(|item| !item.draft.is_view()) {
        item.validate(&next, rng)?;
    }
    let saves = items.into_iter().map(Item::into_save).collect();
    Ok(ImportPlan { deletes, saves })
}

struct Request {
    collections: Vec<JsonObject>,
    delete_missing: bool,
}

impl Request {
    fn read(body: &Json) -> Result<Request, ImportError> {
        let empty = JsonObject::new();
        let object = match body {
            Json::Null => &empty,
            Json::Object(object) => object,
            _ => return Err(ImportError::Unreadable),
        };
        let mut request = Request { collections: Vec::new(), delete_missing: false };
        load_member(object, "collections", Names::AnyCase, &mut request.collections)
            .and_then(|()| load_member(object, "deleteMissing", Names::AnyCase, &mut request.delete_missing))
            .map_err(|_| ImportError::Unreadable)?;
        if request.collections.is_empty() { Err(ImportError::Empty) } else { Ok(request) }
    }
}

struct Item {
    old: Option<Arc<Collection>>,
    draft: Draft,
    /// As submitted, or else as it was: decides the order.
    created: String,
    /// As submitted, or else as it was: decides the order.
    updated: String,
}

impl Item {
    fn read(
        schema: &Schema,
        object: &JsonObject,
        delete_missing: bool,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Result<Item, ImportError> {
        let text = |name: &str| object.get(name).and_then(Json::as_str).unwrap_or_default();
        let identifier = if text("id").is_empty() { text("name") } else { text("id") };
        let unreadable = |error: &dyn std::fmt::Display| ImportError::from_store(&error.to_string());
        let Some(old) = schema.find(identifier) else {
            let index_key = Some(text("id")).filter(|id| !id.is_empty());
            let draft =
                create::draft(schema, object, index_key, now, rng).map_err(|error| unreadable(&error))?;
            let date = |name: &str| field::json::date_text(text(name));
            return Ok(Item { old: None, draft, created: date("created"), updated: date("updated") });
        };
        let mut draft = Draft::of(old);
        draft.load(object).map_err(|error| unreadable(&error))?;
        if delete_missing && matches!(object.get("fields"), None | Some(Json::Null)) {
            draft.fields.clear();
        }
        let (created, updated) = (draft.created.clone(), draft.updated.clone());
        keep_fields(old, &mut draft, delete_missing);
        draft.updated = now.to_text();
        draft.complete();
        rotate_secret(old, &mut draft, rng);
        Ok(Item { old: Some(old.clone()), draft, created, updated })
    }

    fn validate(&self, next: &Schema, rng: &mut impl Rng) -> Result<(), ImportError> {
        let itself = self.draft.clone().into_collection();
        let existing = self.old.as_deref();
        let validation = Validation {
            draft: &self.draft,
            old: Some(existing.unwrap_or(&itself)),
            existing,
            around: next,
            next,
            fault: None,
        };
        validate::validate(&validation, rng).map_err(|errors| ImportError::invalid(&itself, &errors))
    }

    fn into_save(self) -> ImportSave {
        ImportSave { old: self.old, collection: self.draft.into_collection() }
    }
}

/// Fields that the body does not name stay: all of them, or only the system's when the missing go. A
/// field that comes under another id but with the name and type of an existing one is that one.
fn keep_fields(old: &Collection, draft: &mut Draft, delete_missing: bool) {
    for field in old.fields.iter().filter(|field| field.system || !delete_missing) {
        if draft.fields.iter().any(|other| other.field.id == field.id) {
            continue;
        }
        let same =
            draft.fields.iter_mut().map(|other| &mut other.field).find(|other| other.name == field.name);
        if let Some(same) = same
            && same.kind.type_name() == field.kind.type_name()
        {
            same.id.clone_from(&field.id);
        }
        list::add(&mut draft.fields, field.clone().into());
    }
}

fn deleted(schema: &Schema, items: &[Item], delete_missing: bool) -> Vec<Arc<Collection>> {
    let is_missing = |collection: &&Arc<Collection>| {
        delete_missing && !collection.system && items.iter().all(|item| item.draft.id != collection.id)
    };
    schema.collections().filter(is_missing).cloned().collect()
}

/// The collections as they will be. What no store would save is refused at once, before any other check.
fn saved(
    schema: &Schema,
    deletes: &[Arc<Collection>],
    items: &mut [Item],
    rng: &mut impl Rng,
) -> Result<Schema, ImportError> {
    let mut collections: Vec<Arc<Collection>> = schema.collections().cloned().collect();
    collections.retain(|collection| deletes.iter().all(|deleted| deleted.id != collection.id));
    for item in items {
        if item.draft.is_view() {
            let so_far = Schema::new(schema.version(), collections.clone());
            let trial = item.draft.untried(&so_far, rng);
            item.draft.take_fields(&trial);
        }
        let collection = Arc::new(item.draft.clone().into_collection());
        let is_new = item.old.is_none();
        let has_its_name = |other: &Arc<Collection>| {
            (is_new || other.id != collection.id) && other.name.eq_ignore_ascii_case(&collection.name)
        };
        let is_internal = is_new && is_internal_table(&collection.name);
        if is_internal || collections.iter().any(has_its_name) {
            return Err(taken(&collection, "UNIQUE constraint failed: _collections.name (2067)"));
        }
        let place = collections.iter().position(|other| other.id == collection.id);
        if is_new && place.is_some() {
            return Err(taken(&collection, "UNIQUE constraint failed: _collections.id (1555)"));
        }
        readable_indexes(&collection)?;
        match place {
            Some(place) => collections[place] = collection,
            None => collections.push(collection),
        }
    }
    Ok(Schema::new(schema.version(), collections))
}

fn readable_indexes(collection: &Collection) -> Result<(), ImportError> {
    let mut errors = FieldErrors::new();
    for (position, statement) in collection.indexes.iter().enumerate() {
        let is_readable = !collection.name.is_empty() && Index::parse(statement).is_some();
        if !collection.is_view() && !is_readable {
            errors.add_at(&["indexes", &position.to_string()], unreadable_index());
        }
    }
    errors.into_result().map_err(ImportError::Failed)
}

fn taken(collection: &Collection, constraint: &str) -> ImportError {
    let name = &collection.name;
    ImportError::from_store(&format!("failed to save collection {name:?}: constraint failed: {constraint}"))
}

/// Appends the tree of messages as indented JSON, each as it was before it became a sentence.
fn write_texts(errors: &FieldErrors, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth + 1);
    out.push('{');
    for (position, (name, entry)) in errors.iter().enumerate() {
        out.push_str(if position > 0 { ",\n" } else { "\n" });
        out.push_str(&indent);
        write_string(name, out);
        out.push_str(": ");
        match entry {
            ErrorEntry::Nested(nested) => write_texts(nested, depth + 1, out),
            ErrorEntry::Error(error) => write_string(&bare_text(error), out),
        }
    }
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
    out.push('}');
}

/// The generic messages are no sentences at heart.
pub(super) fn bare_text(error: &FieldError) -> String {
    const GENERIC: [&str; 7] = [
        "Cannot be blank.",
        "Must be blank.",
        "Must be a valid",
        "Must be in a valid",
        "Must not be in",
        "The length must be",
        "Either onCreate or",
    ];
    const GENERIC_CODES: [&str; 2] =
        ["validation_min_greater_equal_than_required", "validation_max_less_equal_than_required"];
    let message = error.message.as_ref();
    let is_generic = GENERIC.iter().any(|start| message.starts_with(start))
        || GENERIC_CODES.contains(&error.code.as_ref());
    if !is_generic {
        return message.to_owned();
    }
    let mut chars = message.trim_end_matches('.').chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
