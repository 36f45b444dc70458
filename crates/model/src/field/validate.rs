//! Checks of a field's options (CONTRACT §3.2).

use std::sync::LazyLock;

use rand::Rng;
use regex::Regex;

use super::draft::FieldDraft;
use super::generate::generate;
use super::pattern_error::pattern_error;
use super::{
    AutodateOptions, DomainOptions, EditorOptions, Field, FieldKind, FileOptions, JsonOptions, NumberOptions,
    PasswordOptions, RelationOptions, SelectOptions, TextOptions,
};
use crate::checks::{self, Check, MAX_SAFE_INTEGER};
use crate::collection::Collection;
use crate::errors::{FieldError, FieldErrors};
use crate::schema::Schema;

/// What a field's options are judged against.
pub(crate) struct Surroundings<'a> {
    /// The collections, as they were or as they will be.
    pub(crate) schema: &'a Schema,
    /// The collection as it was, if it existed.
    pub(crate) old: Option<&'a Collection>,
    /// Whether the collection is a view.
    pub(crate) is_view: bool,
    /// The number of primary keys among all fields.
    pub(crate) primary_keys: usize,
}

/// Everything that is wrong with one field.
pub(crate) fn validate(draft: &FieldDraft, around: &Surroundings<'_>, rng: &mut impl Rng) -> FieldErrors {
    let field = &draft.field;
    let mut errors = Errors { draft, errors: FieldErrors::new() };
    errors.check("id", || checks::required(&field.id).and_then(|()| checks::length(&field.id, 1, 100)));
    errors.check("name", || name(&field.name));
    errors.check("help", || checks::length(&field.help, 1, 300));
    match &field.kind {
        FieldKind::Text(options) => text(field, options, around, rng, &mut errors),
        FieldKind::Editor(EditorOptions { max_size, .. }) | FieldKind::Json(JsonOptions { max_size }) => {
            errors.size("maxSize", *max_size, 0, MAX_SAFE_INTEGER);
        }
        FieldKind::Number(options) => number(options, &mut errors),
        FieldKind::Email(options) | FieldKind::Url(options) => domains(options, &mut errors),
        FieldKind::Autodate(options) => autodate(options, &mut errors),
        FieldKind::Select(options) => select(options, &mut errors),
        FieldKind::File(options) => file(options, &mut errors),
        FieldKind::Relation(options) => relation(field, options, around, &mut errors),
        FieldKind::Password(options) => password(options, &mut errors),
        FieldKind::Bool | FieldKind::Date(_) | FieldKind::GeoPoint => {}
    }
    errors.errors
}

struct Errors<'a> {
    draft: &'a FieldDraft,
    errors: FieldErrors,
}

impl Errors<'_> {
    fn check(&mut self, option: &str, check: impl FnOnce() -> Check) {
        if let Err(error) = check() {
            self.errors.add(option, error);
        }
    }

    fn check_each<'a>(&mut self, option: &str, items: &'a [String], check: impl Fn(&'a str) -> Check) {
        for (index, item) in items.iter().enumerate() {
            if let Err(error) = check(item) {
                self.errors.add_at(&[option, &index.to_string()], error);
            }
        }
    }

    fn size(&mut self, option: &'static str, stored: u64, min: i64, max: i64) {
        let number = self.draft.size(option, stored);
        self.check(option, || checks::at_least(number, min).and_then(|()| checks::at_most(number, max)));
    }
}

fn name(name: &str) -> Check {
    const RESERVED: [&str; 7] =
        ["null", "true", "false", "_rowid_", "collectionId", "collectionName", "expand"];
    checks::required(name)?;
    checks::length(name, 1, 100)?;
    checks::word(name)?;
    if RESERVED.contains(&name) {
        return Err(checks::not_in_invalid());
    }
    checks::without_via(name)
}

fn text(
    field: &Field,
    options: &TextOptions,
    around: &Surroundings<'_>,
    rng: &mut impl Rng,
    errors: &mut Errors<'_>,
) {
    if options.primary_key {
        primary_key(field, options, around, errors);
    }
    errors.size("min", options.min, 0, MAX_SAFE_INTEGER);
    let min = errors.draft.size("min", options.min);
    errors.size("max", options.max, min, MAX_SAFE_INTEGER);
    errors.check("pattern", || regex(options.pattern.as_str()));
    errors.check("autogeneratePattern", || {
        regex(&options.autogenerate_pattern)?;
        autogenerate(field, options, rng)
    });
}

fn primary_key(field: &Field, options: &TextOptions, around: &Surroundings<'_>, errors: &mut Errors<'_>) {
    if field.name != "id" {
        errors.check("name", || {
            Err(FieldError::new("validation_in_invalid", "The primary key must be named \"id\"."))
        });
    }
    if around.primary_keys > 1 {
        let message = "Composite PKs are not supported and the collection must have only 1 PK.";
        errors.check("primaryKey", || Err(FieldError::new("validation_unsupported_composite_pk", message)));
    }
    errors.check("pattern", || checks::required(options.pattern.as_str()));
    if field.hidden {
        errors.check("hidden", || Err(must_be_blank()));
    }
    if !field.required {
        errors.check("required", || Err(FieldError::required()));
    }
}

fn must_be_blank() -> FieldError {
    FieldError::new("validation_empty", "Must be blank.")
}

fn regex(pattern: &str) -> Check {
    match pattern_error(pattern) {
        Some(message) => Err(FieldError::new("validation_invalid_regex", message)),
        None => Ok(()),
    }
}

fn autogenerate(field: &Field, options: &TextOptions, rng: &mut impl Rng) -> Check {
    if options.autogenerate_pattern.is_empty() {
        return Ok(());
    }
    // Ten samples, as in the contract: a pattern that only rarely gives a bad value may pass.
    for _ in 0..10 {
        let sample = generate(&options.autogenerate_pattern, rng)
            .map_err(|error| FieldError::new("validation_invalid_autogenerate_pattern", error.to_string()))?;
        if !fits(&sample, field.required || options.primary_key, options) {
            let message = format!(
                "The provided autogenerate pattern could produce invalid field values, ex.: {sample:?}"
            );
            return Err(FieldError::new("validation_invalid_autogenerate_pattern_value", message));
        }
    }
    Ok(())
}

fn fits(sample: &str, is_required: bool, options: &TextOptions) -> bool {
    if sample.is_empty() {
        return !is_required;
    }
    let count = sample.chars().count() as u64;
    let max = if options.max == 0 { 5000 } else { options.max };
    (options.min..=max).contains(&count) && options.pattern.matches(sample)
}

fn number(options: &NumberOptions, errors: &mut Errors<'_>) {
    let whole = |number: Option<f64>| match number {
        Some(number) if options.only_int && number.fract() != 0.0 => {
            Err(FieldError::new("validation_only_int_constraint", "Decimal numbers are not allowed."))
        }
        _ => Ok(()),
    };
    errors.check("min", || whole(options.min));
    errors.check("max", || {
        whole(options.max)?;
        match (options.min, options.max) {
            (Some(min), Some(max)) if max < min => Err(below(min)),
            _ => Ok(()),
        }
    });
}

fn below(min: f64) -> FieldError {
    let mut message = String::from("Must be greater or equal than ");
    crate::json::write_number(min, &mut message);
    FieldError::new("validation_min_number_constraint", message).with("min", min)
}

fn domains(options: &DomainOptions, errors: &mut Errors<'_>) {
    if !options.except_domains.is_empty() && !options.only_domains.is_empty() {
        errors.check("exceptDomains", || Err(must_be_blank()));
        errors.check("onlyDomains", || Err(must_be_blank()));
        return;
    }
    errors.check_each("exceptDomains", &options.except_domains, checks::domain);
    errors.check_each("onlyDomains", &options.only_domains, checks::domain);
}

fn autodate(options: &AutodateOptions, errors: &mut Errors<'_>) {
    if !options.on_create && !options.on_update {
        let message = "Either onCreate or onUpdate must be enabled.";
        errors.check("onCreate", || Err(FieldError::new("validation_required", message)));
        errors.check("onUpdate", || Err(FieldError::new("validation_required", message)));
    }
}

fn select(options: &SelectOptions, errors: &mut Errors<'_>) {
    if options.values.is_empty() {
        errors.check("values", || Err(FieldError::required()));
    }
    let most = i64::try_from(options.values.len().max(1)).unwrap_or(i64::MAX);
    errors.size("maxSelect", options.max_select, 0, most);
}

fn file(options: &FileOptions, errors: &mut Errors<'_>) {
    static THUMB: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[0-9]+x[0-9]+[tbf]?$").expect("the pattern is a constant"));
    errors.size("maxSelect", options.max_select, 0, MAX_SAFE_INTEGER);
    errors.size("maxSize", options.max_size, 0, MAX_SAFE_INTEGER);
    errors.check_each("thumbs", &options.thumbs, |thumb| {
        if ["0x0", "0x0t", "0x0b", "0x0f"].contains(&thumb) {
            Err(checks::not_in_invalid())
        } else if thumb.is_empty() || THUMB.is_match(thumb) {
            Ok(())
        } else {
            Err(checks::match_invalid())
        }
    });
}

fn relation(field: &Field, options: &RelationOptions, around: &Surroundings<'_>, errors: &mut Errors<'_>) {
    errors.check("collectionId", || relation_target(field, options, around));
    errors.size("minSelect", options.min_select, 0, i64::MAX);
    let min = errors.draft.size("minSelect", options.min_select);
    let max = errors.draft.size("maxSelect", options.max_select);
    errors.check("maxSelect", || {
        if min > 0 {
            checks::required_number(max)?;
        }
        checks::at_least(max, min)
    });
}

fn relation_target(field: &Field, options: &RelationOptions, around: &Surroundings<'_>) -> Check {
    let target = options.collection_id.as_str();
    checks::required(target)?;
    let old_field = around.old.and_then(|old| old.fields.iter().find(|other| other.id == field.id));
    if old_field.and_then(Field::relation).is_some_and(|old| old.collection_id != target) {
        let message = "The relation collection cannot be changed.";
        return Err(FieldError::new("validation_field_relation_change", message));
    }
    let Some(collection) = around.schema.by_id(target) else {
        let message = "The relation collection doesn't exist.";
        return Err(FieldError::new("validation_field_relation_missing_collection", message));
    };
    if collection.is_view() && !around.is_view {
        let message = "Only view collections are allowed to have relations to other views.";
        return Err(FieldError::new("validation_relation_field_non_view_base_collection", message));
    }
    Ok(())
}

fn password(options: &PasswordOptions, errors: &mut Errors<'_>) {
    errors.size("min", options.min, 1, 71);
    let min = errors.draft.size("min", options.min);
    errors.size("max", options.max, min, 71);
    errors.size("cost", options.cost, 4, 31);
    errors.check("pattern", || regex(options.pattern.as_str()));
}
