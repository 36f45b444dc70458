//! Views: what fields a SELECT has, and what is wrong with it (CONTRACT §3.8).
//!
//! A field follows from the SELECT's text and from the columns that the store finds in it. The text is
//! not understood as SQL, which is the store's to do: [`SelectList`] picks out columns, aliases and
//! tables, and what it cannot tell becomes a `json` field.

mod select_list;
#[cfg(test)]
mod tests;

use rand::Rng;

pub use select_list::SelectList;

use super::Collection;
use super::defaults::random_text;
use super::draft::Draft;
use super::import::bare_text;
use super::validate::{self, Validation};
use crate::errors::{ErrorEntry, FieldError, FieldErrors};
use crate::field::draft::FieldDraft;
use crate::field::validate::Surroundings;
use crate::field::{self, Field};
use crate::json::shape::{Names, load_member};
use crate::json::{Json, JsonObject};
use crate::schema::Schema;

/// How many records of a view are looked at before it is saved.
pub const SAMPLE: usize = 10;

/// What came of trying a view's query, of which nothing is kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trial {
    /// The fields, as far as they are known.
    pub fields: Vec<Field>,
    /// What is wrong with the query.
    pub fault: Option<Fault>,
}

/// Why a query cannot be a view's. The texts go on in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no such view.
    #[error("{0}")]
    Query(String),
    /// There is one, but not with fields and records that a collection has.
    #[error("{0}")]
    Records(String),
}

// === impl Trial ===

impl Trial {
    /// A query that is none.
    pub fn failed(text: impl Into<String>) -> Trial {
        Trial { fields: Vec::new(), fault: Some(Fault::Query(text.into())) }
    }

    /// What is known before a store has tried the query: the fields of its text alone.
    pub fn untried(schema: &Schema, query: &str, rng: &mut impl Rng) -> Trial {
        match SelectList::parse(query) {
            Ok(list) => {
                let columns: Vec<String> = list.names().map(str::to_owned).collect();
                Trial { fields: list.fields(schema, &columns, rng), fault: None }
            }
            Err(text) => Trial::failed(text),
        }
    }

    /// The fields of a query in which the store found these columns.
    pub fn of_columns(schema: &Schema, list: &SelectList, columns: &[String], rng: &mut impl Rng) -> Trial {
        let fields = list.fields(schema, columns, rng);
        let fault = if columns.iter().any(|column| column == "id") {
            wrong_field(schema, &fields, rng).map(Fault::Records)
        } else {
            let text = "missing required id column (you can use `(ROW_NUMBER() OVER()) as id` if you don't \
                        have one)";
            Some(Fault::Query(text.to_owned()))
        };
        Trial { fields, fault }
    }

    /// Appends the fields as a JSON array.
    pub fn write_fields(&self, out: &mut String) {
        field::json::write_list(&self.fields, out);
    }

    /// Looks at the ids of the first records, [`SAMPLE`] at most.
    pub fn check_ids<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        let mut seen = std::collections::HashSet::new();
        for id in ids {
            let text = match (id.is_empty(), seen.insert(id)) {
                (true, _) => "the query could return records with empty or invalid ids",
                (false, false) => "the query could return records with non-unique ids",
                (false, true) => continue,
            };
            self.fault.get_or_insert_with(|| Fault::Records(text.to_owned()));
        }
    }
}

/// The query that a submitted collection has, if it is a view's and there is one: what a store is to
/// try before the collection is worked out.
pub fn submitted_query(old: Option<&Collection>, body: &Json) -> Option<String> {
    let Json::Object(body) = body else { return None };
    let (mut type_name, mut query) = (text_member(body, "type"), text_member(body, "viewQuery"));
    if let Some(super::CollectionKind::View(options)) = old.map(|old| &old.kind) {
        type_name = type_name.or(Some("view".to_owned()));
        if !body.contains_key("viewQuery") {
            query = Some(options.query.clone());
        }
    }
    query.filter(|query| type_name.as_deref() == Some("view") && !query.is_empty())
}

fn text_member(body: &JsonObject, name: &str) -> Option<String> {
    let mut text = String::new();
    load_member(body, name, Names::Exact, &mut text).ok()?;
    Some(text).filter(|text| !text.is_empty())
}

/// A view that is only tried, under a name of its own.
pub fn unsaved(query: String, rng: &mut impl Rng) -> Collection {
    let letters = random_text(5, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", rng);
    let mut draft = super::create::blank("view", format!("temp_view_{letters}"), rng);
    draft.view.query = query;
    draft.into_collection()
}

/// The view as it is saved, with the fields of a trial. Fields that only have other ids stay as they are.
/// Refused like any collection, by all that is wrong.
pub fn settle(
    schema: &Schema,
    before: Option<&Collection>,
    after: &Collection,
    trial: Trial,
    rng: &mut impl Rng,
) -> Result<Collection, FieldErrors> {
    let mut draft = Draft::of(after);
    if !is_same(&after.fields, &trial.fields) {
        draft.fields = trial.fields.iter().cloned().map(FieldDraft::new).collect();
    }
    let next = super::create::schema_with(schema, draft.clone().into_collection());
    let validation = Validation {
        draft: &draft,
        old: before,
        existing: before,
        around: schema,
        next: &next,
        fault: trial.fault.as_ref(),
    };
    validate::validate(&validation, rng)?;
    Ok(draft.into_collection())
}

/// Whether fields differ in nothing but their ids.
pub fn is_same(old: &[Field], new: &[Field]) -> bool {
    let without_id = |field: &Field| Field { id: String::new(), ..field.clone() };
    old.iter().map(without_id).eq(new.iter().map(without_id))
}

/// The first field that no collection may have, with what is wrong with it.
fn wrong_field(schema: &Schema, fields: &[Field], rng: &mut impl Rng) -> Option<String> {
    let around = Surroundings { schema, old: None, is_view: true, primary_keys: 1 };
    let mut checked = fields.iter().enumerate().map(|(position, field)| {
        (position, field, field::validate::validate(&FieldDraft::new(field.clone()), &around, rng))
    });
    let (position, field, errors) = checked.find(|(_, _, errors)| !errors.is_empty())?;
    Some(format!("invalid field {:?} ({position}): {}", field.name, one_line(&errors)))
}

/// Field errors as one sentence: `name: must be in a valid format.`
fn one_line(errors: &FieldErrors) -> String {
    let entry = |(name, entry): (&str, ErrorEntry<'_>)| match entry {
        ErrorEntry::Error(error) => format!("{name}: {}", bare_text(error)),
        ErrorEntry::Nested(nested) => format!("{name}: ({})", one_line(nested)),
    };
    let entries: Vec<String> = errors.iter().map(entry).collect();
    format!("{}.", entries.join("; "))
}

/// The error of a view's query.
pub(super) fn invalid_query(fault: &Fault) -> FieldError {
    FieldError::new("validation_invalid_view_query", format!("Invalid query - {fault}"))
}
