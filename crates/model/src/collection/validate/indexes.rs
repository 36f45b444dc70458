//! Checks of a collection's indexes (CONTRACT §3.5). The first one that fails is reported alone.

use std::collections::HashSet;

use super::Validation;
use crate::checks::named;
use crate::collection::Collection;
use crate::collection::index::{Index, has_unique};
use crate::collection::store_errors::unreadable_index;
use crate::errors::{FieldError, FieldErrors};

/// Adds what is wrong with the indexes.
pub(super) fn check_indexes(validation: &Validation<'_>, errors: &mut FieldErrors) {
    let statements = &validation.draft.indexes;
    if validation.draft.is_view() {
        if !statements.is_empty() {
            let message = "View collections don't support indexes.";
            errors.add("indexes", FieldError::new("validation_indexes_not_supported", message));
        }
        return;
    }
    let mut seen = Seen::default();
    for (position, statement) in statements.iter().enumerate() {
        if let Err(error) = seen.check(validation, statement) {
            errors.add_at(&["indexes", &position.to_string()], error);
            return;
        }
    }
    let whole = unique_system_fields(validation).and_then(|()| required_indexes(validation));
    if let Err(error) = whole {
        errors.add("indexes", error);
    }
}

#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    definitions: HashSet<String>,
}

impl Seen {
    fn check(&mut self, validation: &Validation<'_>, statement: &str) -> Result<(), FieldError> {
        let mut index = Index::parse(statement).ok_or_else(unreadable_index)?;
        if !self.names.insert(index.name.to_lowercase()) {
            let message = "The index name already exists.";
            return Err(FieldError::new("validation_duplicated_index_name", message));
        }
        if let Some(table) = table_with_index(validation, &index.name) {
            let message = format!("The index name is already used in {table} collection.");
            return Err(named("validation_existing_index_name", message, "usedTableName", table));
        }
        for name in [&mut index.schema_name, &mut index.name, &mut index.table] {
            name.clear();
        }
        if !self.definitions.insert(index.render()) {
            let message = "The index definition already exists.";
            return Err(FieldError::new("validation_duplicated_index_definition", message));
        }
        Ok(())
    }
}

fn table_with_index(validation: &Validation<'_>, name: &str) -> Option<String> {
    let has_it = |statement: &String| {
        Index::parse(statement).is_some_and(|index| index.name.eq_ignore_ascii_case(name))
    };
    let own_names = [Some(&validation.draft.name), validation.old.map(|old| &old.name)];
    let is_own = |name: &str| own_names.iter().flatten().any(|own| own.eq_ignore_ascii_case(name));
    let mut others = validation.around.collections().filter(|other| !is_own(&other.name));
    others.find(|other| other.indexes.iter().any(has_it)).map(|other| other.name.clone())
}

/// A unique index on a system field stays, whatever its name, order, collation and condition.
fn unique_system_fields(validation: &Validation<'_>) -> Result<(), FieldError> {
    let Some(old) = validation.old else { return Ok(()) };
    let new: Vec<Index> = validation.draft.indexes.iter().filter_map(|text| Index::parse(text)).collect();
    for old_index in old.indexes.iter().filter_map(|text| Index::parse(text)).filter(|index| index.unique) {
        let Some(field) = system_field_of(old, &old_index) else { continue };
        if !new.iter().any(|index| constrains_alike(index, &old_index)) {
            let message =
                format!("Unique index definition on system fields ({field}) is invalid or missing.");
            return Err(named("validation_invalid_unique_system_field_index", message, "fieldName", field));
        }
    }
    Ok(())
}

fn system_field_of<'a>(collection: &'a Collection, index: &Index) -> Option<&'a str> {
    let mut found = index.columns.iter().filter_map(|column| {
        let mut fields = collection.fields.iter();
        fields.find(|field| field.system && field.name.eq_ignore_ascii_case(&column.name))
    });
    found.next().map(|field| field.name.as_str())
}

fn constrains_alike(new: &Index, old: &Index) -> bool {
    let names = |index: &Index| index.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    new.unique && new.if_not_exists == old.if_not_exists && names(new) == names(old)
}

fn required_indexes(validation: &Validation<'_>) -> Result<(), FieldError> {
    if !validation.draft.is_auth() {
        return Ok(());
    }
    for field in ["tokenKey", "email"] {
        if !has_unique(&validation.draft.indexes, field) {
            let message = format!("Missing required unique index for field \"{field}\".");
            return Err(named("validation_missing_required_unique_index", message, "fieldName", field));
        }
    }
    Ok(())
}
