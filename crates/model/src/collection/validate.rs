//! Checks of a whole collection (CONTRACT §3.4).

use rand::Rng;

use super::draft::Draft;
use super::rules::check_rule;
use super::view::{Fault, invalid_query};
use super::{Collection, Rules};
use crate::checks::{self, Check};
use crate::errors::{FieldError, FieldErrors};
use crate::not_yet::Feature;
use crate::schema::Schema;

mod auth;
mod fields;
mod indexes;

/// A collection with what it is judged against.
pub(super) struct Validation<'a> {
    /// What is judged.
    pub(super) draft: &'a Draft,
    /// The collection as it was, if it existed: what may not change is compared with it.
    pub(super) old: Option<&'a Collection>,
    /// The same, except that a new collection of an import has none: what is not built yet may not be
    /// switched on, but may stay on.
    pub(super) existing: Option<&'a Collection>,
    /// The collections whose names, ids and indexes must not clash.
    pub(super) around: &'a Schema,
    /// The collections as they will be, this one included: rules are read against it.
    pub(super) next: &'a Schema,
    /// What is wrong with a view's query.
    pub(super) fault: Option<&'a Fault>,
}

/// `Ok`, or everything that is wrong.
pub(super) fn validate(validation: &Validation<'_>, rng: &mut impl Rng) -> Result<(), FieldErrors> {
    let draft = validation.draft;
    let mut errors = FieldErrors::new();
    check("id", validation.id(), &mut errors);
    check("system", validation.system_flag(), &mut errors);
    check("type", validation.type_name(), &mut errors);
    check("name", validation.name(), &mut errors);
    fields::check_fields(validation, rng, &mut errors);
    check("viewQuery", validation.view_query(), &mut errors);
    validation.rules(&mut errors);
    indexes::check_indexes(validation, &mut errors);
    if draft.is_auth() {
        auth::check_auth(validation, &mut errors);
    }
    validation.refuse_what_is_not_built(&mut errors);
    errors.into_result()
}

/// Adds the error of one check.
fn check(name: &str, result: Check, errors: &mut FieldErrors) {
    if let Err(error) = result {
        errors.add(name, error);
    }
}

impl Validation<'_> {
    fn id(&self) -> Check {
        let id = &self.draft.id;
        checks::required(id)?;
        if let Some(old) = self.old {
            return if *id == old.id { Ok(()) } else { Err(FieldError::values_mismatch()) };
        }
        checks::length(id, 1, 100)?;
        checks::word(id)?;
        if self.around.by_id(id).is_some() {
            let message = "The model id is invalid or already exists.";
            return Err(FieldError::new("validation_invalid_or_existing_id", message));
        }
        Ok(())
    }

    fn system_flag(&self) -> Check {
        match self.old {
            Some(old) if old.system != self.draft.system => Err(FieldError::new(
                "validation_collection_system_flag_change",
                "System collection state cannot be changed.",
            )),
            _ => Ok(()),
        }
    }

    fn type_name(&self) -> Check {
        let type_name = self.draft.type_name.as_str();
        if !matches!(type_name, "base" | "auth" | "view") {
            return Err(checks::in_invalid());
        }
        match self.old {
            Some(old) if old.type_name() != type_name => Err(FieldError::new(
                "validation_collection_type_change",
                "Collection type cannot be changed.",
            )),
            _ => Ok(()),
        }
    }

    fn name(&self) -> Check {
        let name = &self.draft.name;
        checks::required(name)?;
        checks::length(name, 1, 255)?;
        checks::without_via(name)?;
        checks::word(name)?;
        if let Some(old) = self.old
            && old.system
            && old.name != *name
        {
            return Err(FieldError::new(
                "validation_collection_system_name_change",
                "System collection name cannot be changed.",
            ));
        }
        self.unique_name(name)
    }

    fn unique_name(&self, name: &str) -> Check {
        let own_id = self.old.map_or("", |old| &old.id);
        if self.around.by_name(name).is_some_and(|other| other.id != own_id) {
            return Err(FieldError::new(
                "validation_collection_name_exists",
                "Collection name must be unique (case insensitive).",
            ));
        }
        if self.around.by_id(name).is_some() {
            return Err(FieldError::new(
                "validation_collection_name_id_duplicate",
                "The name must not match an existing collection id.",
            ));
        }
        let is_kept = self.old.is_some_and(|old| old.name == name);
        if !is_kept && is_internal_table(name) {
            return Err(super::store_errors::internal_table());
        }
        Ok(())
    }

    fn view_query(&self) -> Check {
        if !self.draft.is_view() {
            return Ok(());
        }
        checks::required(&self.draft.view.query)?;
        self.fault.map_or(Ok(()), |fault| Err(invalid_query(fault)))
    }

    fn rules(&self, errors: &mut FieldErrors) {
        let new = named_rules(&self.draft.rules);
        let old = self.old.map(|old| named_rules(&old.rules));
        for (position, (name, rule)) in new.into_iter().enumerate() {
            if self.draft.is_view() && rule.is_some() && !matches!(name, "listRule" | "viewRule") {
                errors.add(name, FieldError::new("validation_nil", "Must be blank."));
                continue;
            }
            let old_rule = old.as_ref().map(|rules| rules[position].1);
            check(name, self.rule(rule, old_rule), errors);
        }
    }

    /// A rule is readable, and stays as it is in a system collection.
    fn rule(&self, rule: &Option<String>, old_rule: Option<&Option<String>>) -> Check {
        if let (Some(text), Some(collection)) = (rule, self.next.by_id(&self.draft.id)) {
            check_rule(self.next, collection, text)?;
        }
        let is_system = self.old.is_some_and(|old| old.system);
        match old_rule {
            Some(old_rule) if is_system && old_rule != rule => Err(FieldError::new(
                "validation_collection_system_rule_change",
                "System collection API rule cannot be changed.",
            )),
            _ => Ok(()),
        }
    }

    fn refuse_what_is_not_built(&self, errors: &mut FieldErrors) {
        let draft = self.draft;
        if !draft.is_auth() {
            return;
        }
        let old = self.existing.and_then(Collection::auth);
        let (auth, was_on) = (&draft.auth, |is_on: fn(&super::AuthOptions) -> bool| old.is_some_and(is_on));
        if auth.mfa.enabled && !was_on(|auth| auth.mfa.enabled) {
            Feature::Mfa.refuse(errors);
        }
        if auth.otp.enabled && !was_on(|auth| auth.otp.enabled) {
            Feature::Otp.refuse(errors);
        }
        if auth.oauth2.enabled && !was_on(|auth| auth.oauth2.enabled) {
            Feature::OAuth2.refuse(errors);
        }
    }
}

fn named_rules(rules: &Rules) -> [(&'static str, &Option<String>); 5] {
    [
        ("listRule", &rules.list),
        ("viewRule", &rules.view),
        ("createRule", &rules.create),
        ("updateRule", &rules.update),
        ("deleteRule", &rules.delete),
    ]
}

/// The tables that every store has beside those of collections. A store may know more.
pub(super) fn is_internal_table(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "_collections" | "_params" | "_migrations")
        || name.starts_with("_gs_")
        || name.starts_with("sqlite_")
}
