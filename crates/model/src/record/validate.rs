//! The checks of a row's fields, with the contract's codes and messages (CONTRACT §3.3). The first check
//! that fails is a field's error; all fields are reported together.

mod file;
mod list;
mod number;
mod text;

pub use file::accepts_upload;

use super::Record;
use super::lookup::Lookup;
use super::resolve::Resolved;
use super::{coerce, email, url};
use crate::errors::{FieldError, FieldErrors};
use crate::field::{DateOptions, DomainOptions, Field, FieldKind, JsonOptions};
use crate::value::Value;

pub use text::{MAX_PASSWORD_BYTES, validate_password};

/// Most bytes of an editor's text where its field says nothing.
const DEFAULT_EDITOR_SIZE: u64 = 5 << 20;
/// Most bytes of a json value where its field says nothing.
const DEFAULT_JSON_SIZE: u64 = 1 << 20;

/// Checks every field of a row that is about to be stored; a new row's generated texts are filled by then.
/// Returns what is wrong, and what only the store can tell.
pub fn validate(resolved: &Resolved, old: Option<&Record>) -> (FieldErrors, Vec<Lookup>) {
    let mut errors = FieldErrors::new();
    let mut lookups = Vec::new();
    let record = &resolved.record;
    for (position, field) in record.collection.fields.iter().enumerate() {
        let check = Check { resolved, old, position, field, value: &record.values[position] };
        if let Err(error) = check.run(&mut lookups) {
            errors.add(&field.name, error);
        }
    }
    if old.is_none() && record.collection.is_auth() {
        lookups.push(Lookup::NoAuthTwin { id: record.id().to_owned() });
    }
    (errors, lookups)
}

/// One field of one row.
struct Check<'a> {
    resolved: &'a Resolved,
    old: Option<&'a Record>,
    position: usize,
    field: &'a Field,
    value: &'a Value,
}

type Checked = Result<(), FieldError>;

// === impl Check ===

impl Check<'_> {
    fn run(&self, lookups: &mut Vec<Lookup>) -> Checked {
        let text = self.value.as_str();
        match &self.field.kind {
            FieldKind::Text(options) if options.primary_key => self.primary_key(options, lookups),
            FieldKind::Text(options) => text::validate_text(options, self.field.required, text),
            FieldKind::Editor(options) => {
                self.required(!text.is_empty())?;
                let max = or_default(options.max_size, DEFAULT_EDITOR_SIZE);
                within_size(text.len(), max, "validation_content_size_limit", "content size")
            }
            FieldKind::Number(options) => number::validate(options, self.field.required, self.value),
            FieldKind::Bool => self.required(self.value.as_bool()),
            FieldKind::Email(options) => self.email(options, text),
            FieldKind::Url(options) => self.url(options, text),
            FieldKind::Date(options) => self.date(options, text),
            FieldKind::Autodate(_) => Ok(()),
            FieldKind::Select(options) => self.select(options),
            FieldKind::File(options) => self.file(options),
            FieldKind::Relation(options) => self.relation(options, lookups),
            FieldKind::Json(options) => self.json(options),
            FieldKind::Password(options) => match self.resolved.password(self.position) {
                Some(plain) => text::validate_new_password(options, self.field.required, plain),
                None => self.required(!text.is_empty()),
            },
            FieldKind::GeoPoint => self.geo_point(text),
        }
    }

    /// `validation_required` unless the field has a value, if it must have one.
    fn required(&self, has_value: bool) -> Checked {
        if self.field.required && !has_value { Err(FieldError::required()) } else { Ok(()) }
    }

    /// What a select, file or relation lists. A single name that holds a broken array counts as several.
    fn names(&self) -> Vec<String> {
        match self.value {
            Value::Text(text) => coerce::names_in_text(text),
            value => value.list(),
        }
    }

    fn email(&self, options: &DomainOptions, text: &str) -> Checked {
        if text.is_empty() {
            return self.required(false);
        }
        if !email::is_email(text) {
            return Err(FieldError::new("validation_is_email", "Must be a valid email address."));
        }
        in_domains(options, email::domain(text), || {
            FieldError::new("validation_email_domain_not_allowed", "Email domain is not allowed.")
        })
    }

    fn url(&self, options: &DomainOptions, text: &str) -> Checked {
        if text.is_empty() {
            return self.required(false);
        }
        if !url::is_url(text) {
            return Err(FieldError::new("validation_invalid_url", "Must be a valid url."));
        }
        in_domains(options, url::host(text), || {
            FieldError::new("validation_url_domain_not_allowed", "Url domain is not allowed.")
        })
    }

    /// Dates in the contract's form sort as texts.
    fn date(&self, options: &DateOptions, text: &str) -> Checked {
        if text.is_empty() {
            return self.required(false);
        }
        if !options.min.is_empty() && text < options.min.as_str() {
            let code = "validation_min_greater_equal_than_required";
            return Err(date_threshold(code, "no less", &options.min));
        }
        if !options.max.is_empty() && text > options.max.as_str() {
            let code = "validation_max_less_equal_than_required";
            return Err(date_threshold(code, "no greater", &options.max));
        }
        Ok(())
    }

    fn json(&self, options: &JsonOptions) -> Checked {
        let Value::Json(text) = self.value else { return self.required(false) };
        let sent = self.resolved.json_lengths.iter().find(|(position, _)| *position == self.position);
        let length = sent.map_or(text.len(), |(_, length)| *length);
        let max = or_default(options.max_size, DEFAULT_JSON_SIZE);
        within_size(length, max, "validation_json_size_limit", "JSON size")?;
        if text.is_empty() {
            return Err(FieldError::new("validation_invalid_json", "Must be a valid json value."));
        }
        let is_blank = length == text.len() && matches!(text.as_str(), "null" | "\"\"" | "[]" | "{}");
        self.required(!is_blank)
    }

    fn geo_point(&self, text: &str) -> Checked {
        let (longitude, latitude) = coordinates(text);
        if longitude == 0.0 && latitude == 0.0 {
            return self.required(false);
        }
        if !(-90.0..=90.0).contains(&latitude) {
            let message = "Latitude must be between -90 and 90 degrees.";
            return Err(FieldError::new("validation_invalid_latitude", message));
        }
        if !(-180.0..=180.0).contains(&longitude) {
            let message = "Longitude must be between -180 and 180 degrees.";
            return Err(FieldError::new("validation_invalid_longitude", message));
        }
        Ok(())
    }
}

/// An option where 0 means a default.
fn or_default(option: u64, default: u64) -> u64 {
    if option == 0 { default } else { option }
}

fn within_size(length: usize, max: u64, code: &'static str, what: &str) -> Checked {
    if length as u64 <= max {
        return Ok(());
    }
    let message = format!("The maximum allowed {what} is {max} bytes.");
    Err(FieldError::new(code, message).with("maxSize", max as f64))
}

fn in_domains(options: &DomainOptions, domain: &str, error: impl FnOnce() -> FieldError) -> Checked {
    let is_listed = |domains: &[String]| domains.iter().any(|listed| listed == domain);
    let is_refused = !options.only_domains.is_empty() && !is_listed(&options.only_domains)
        || is_listed(&options.except_domains);
    if is_refused { Err(error()) } else { Ok(()) }
}

/// A date in the two forms of these errors: both without the fraction's trailing zeros.
fn date_threshold(code: &'static str, than: &str, threshold: &str) -> FieldError {
    let short = threshold.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    let message = format!("Must be {than} than {short} +0000 UTC.");
    FieldError::new(code, message).with("threshold", format!("{}Z", short.replacen(' ', "T", 1)))
}

/// The coordinates of a stored point.
fn coordinates(text: &str) -> (f64, f64) {
    let numbers = text.strip_prefix("{\"lon\":").and_then(|rest| rest.strip_suffix('}'));
    let pair = numbers.and_then(|numbers| numbers.split_once(",\"lat\":"));
    let number = |text: &str| text.parse().unwrap_or(0.0);
    pair.map_or((0.0, 0.0), |(longitude, latitude)| (number(longitude), number(latitude)))
}

#[cfg(test)]
mod tests;
