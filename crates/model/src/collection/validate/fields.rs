//! Checks of a collection's list of fields. The first check that fails is reported alone.

use std::collections::HashSet;

use rand::Rng;

use super::Validation;
use crate::errors::{FieldError, FieldErrors};
use crate::field::validate::{Surroundings, validate};

/// Adds what is wrong with the fields.
pub(super) fn check_fields(validation: &Validation<'_>, rng: &mut impl Rng, errors: &mut FieldErrors) {
    // A view's fields are what its query gives at the time.
    let is_view = validation.draft.is_view();
    let found = duplicates(validation)
        .and_then(|()| primary_key(validation))
        .and_then(
            |()| if is_view { Ok(()) } else { system_fields(validation).and_then(|()| types(validation)) },
        )
        .and_then(|()| reserved_names(validation))
        .and_then(|()| options(validation, rng));
    if let Err(Found(found)) = found {
        errors.merge(found);
    }
}

/// Errors below `fields`.
struct Found(FieldErrors);

impl Found {
    fn list(code: &'static str, message: &'static str) -> Found {
        Found(FieldErrors::one("fields", FieldError::new(code, message)))
    }

    fn below(errors: FieldErrors) -> Result<(), Found> {
        if errors.is_empty() {
            return Ok(());
        }
        let mut found = FieldErrors::new();
        found.nest("fields", errors);
        Err(Found(found))
    }
}

fn duplicates(validation: &Validation<'_>) -> Result<(), Found> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for (position, draft) in validation.draft.fields.iter().enumerate() {
        let field = &draft.field;
        let mut errors = FieldErrors::new();
        if !ids.insert(&field.id) {
            let message = format!("Duplicated or invalid field id {:?}", field.id);
            errors.add_at(
                &[&position.to_string(), "id"],
                FieldError::new("validation_duplicated_field_id", message),
            );
        } else if !names.insert(field.name.to_lowercase()) {
            let message = format!("Duplicated or invalid field name {}", field.name);
            let error = FieldError::new("validation_duplicated_field_name", message)
                .with("fieldName", field.name.as_str());
            errors.add_at(&[&position.to_string(), "name"], error);
        }
        Found::below(errors)?;
    }
    Ok(())
}

fn primary_key(validation: &Validation<'_>) -> Result<(), Found> {
    let mut fields = validation.draft.fields.iter().map(|draft| &draft.field);
    if validation.draft.fields.is_empty() {
        return Err(Found(FieldErrors::one("fields", FieldError::required())));
    }
    if fields.any(|field| field.name == "id" && field.is_primary_key()) {
        return Ok(());
    }
    Err(Found::list("validation_missing_primary_key", "Missing or invalid \"id\" PK field."))
}

fn system_fields(validation: &Validation<'_>) -> Result<(), Found> {
    let Some(old) = validation.old else { return Ok(()) };
    let is_kept = |old_field: &crate::field::Field| {
        let mut fields = validation.draft.fields.iter().map(|draft| &draft.field);
        fields.any(|field| field.id == old_field.id && field.name == old_field.name)
    };
    if old.fields.iter().filter(|field| field.system).all(is_kept) {
        return Ok(());
    }
    Err(Found::list("validation_system_field_change", "System fields cannot be deleted or renamed."))
}

fn types(validation: &Validation<'_>) -> Result<(), Found> {
    let Some(old) = validation.old else { return Ok(()) };
    let mut errors = FieldErrors::new();
    for (position, draft) in validation.draft.fields.iter().enumerate() {
        let field = &draft.field;
        let old_field = old.fields.iter().find(|other| other.id == field.id);
        if old_field.is_some_and(|old_field| old_field.kind.type_name() != field.kind.type_name()) {
            let error = FieldError::new("validation_field_type_change", "Field type cannot be changed.");
            errors.add(&position.to_string(), error);
        }
    }
    Found::below(errors)
}

fn reserved_names(validation: &Validation<'_>) -> Result<(), Found> {
    let mut errors = FieldErrors::new();
    if validation.draft.is_auth() {
        for (position, draft) in validation.draft.fields.iter().enumerate() {
            if ["passwordConfirm", "oldPassword"].contains(&draft.field.name.as_str()) {
                let message = "The field name is reserved and cannot be used.";
                let error = FieldError::new("validation_reserved_field_name", message);
                errors.add_at(&[&position.to_string(), "name"], error);
            }
        }
    }
    Found::below(errors)
}

fn options(validation: &Validation<'_>, rng: &mut impl Rng) -> Result<(), Found> {
    let fields = &validation.draft.fields;
    let surroundings = Surroundings {
        schema: validation.around,
        old: validation.old,
        is_view: validation.draft.is_view(),
        primary_keys: fields.iter().filter(|draft| draft.field.is_primary_key()).count(),
    };
    let mut errors = FieldErrors::new();
    for (position, draft) in fields.iter().enumerate() {
        errors.nest(&position.to_string(), validate(draft, &surroundings, rng));
    }
    Found::below(errors)
}
