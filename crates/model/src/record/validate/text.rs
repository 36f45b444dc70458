//! Texts, primary keys and passwords.

use super::{Check, Checked, or_default};
use crate::errors::FieldError;
use crate::field::{PasswordOptions, TextOptions};
use crate::record::lookup::Lookup;

/// Most characters of a text where its field says nothing.
const DEFAULT_MAX: u64 = 5000;
/// Most characters of a password where its field says nothing.
const DEFAULT_PASSWORD_MAX: u64 = 71;
/// Most bytes of a password: those that PocketBase's hash reads.
const MAX_PASSWORD_BYTES: usize = 72;
/// The pattern of ids that the server makes; others may hold more than lower case letters and digits.
const DEFAULT_ID_PATTERN: &str = "^[a-z0-9]+$";

/// Ids name folders too: these characters would not do there.
const FORBIDDEN_IN_IDS: [char; 19] =
    ['.', '/', '\\', '|', '"', '\'', '`', '<', '>', ':', '?', '*', '%', '$', '\0', '\t', '\n', '\r', ' '];

/// File names with a meaning of their own on some systems.
const RESERVED_IDS: [&str; 22] = [
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9",
    "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];

// === impl Check ===

impl Check<'_> {
    /// An id is checked when the record is new, and never changes.
    pub(super) fn primary_key(&self, options: &TextOptions, lookups: &mut Vec<Lookup>) -> Checked {
        let id = self.value.as_str();
        if let Some(old) = self.old {
            let message = "The record primary key cannot be changed.";
            let is_changed = old.values.get(self.position).is_some_and(|value| value.as_str() != id);
            return if is_changed { Err(FieldError::new("validation_pk_change", message)) } else { Ok(()) };
        }
        let is_custom = options.pattern.as_str() != DEFAULT_ID_PATTERN;
        if is_custom {
            lookups.push(Lookup::NoIdTwin { id: id.to_lowercase() });
        }
        validate_text(options, true, id)?;
        if is_custom { can_name_a_folder(id) } else { Ok(()) }
    }
}

pub(super) fn validate_text(options: &TextOptions, is_required: bool, text: &str) -> Checked {
    if text.is_empty() {
        return if is_required { Err(FieldError::required()) } else { Ok(()) };
    }
    let length = text.chars().count() as u64;
    if length < options.min {
        return Err(too_short(options.min).with("min", options.min as f64));
    }
    let max = or_default(options.max, DEFAULT_MAX);
    if length > max {
        let message = format!("Must be no more than {max} character(s).");
        return Err(FieldError::new("validation_max_text_constraint", message).with("max", max as f64));
    }
    matches_pattern(options.pattern.matches(text))
}

/// Checks a plain password against the options of its field; an empty one passes.
pub fn validate_password(options: &PasswordOptions, plain: &str) -> Result<(), FieldError> {
    if plain.is_empty() {
        return Ok(());
    }
    if plain.len() > MAX_PASSWORD_BYTES {
        return Err(FieldError::invalid_value());
    }
    let length = plain.chars().count() as u64;
    if length < options.min {
        return Err(too_short(options.min));
    }
    let max = or_default(options.max, DEFAULT_PASSWORD_MAX);
    if length > max {
        let message = format!("Must be less than {max} character(s).");
        return Err(FieldError::new("validation_max_text_constraint", message));
    }
    matches_pattern(options.pattern.matches(plain))
}

/// Checks a password that a write sets: an empty one removes it.
pub(super) fn validate_new_password(options: &PasswordOptions, is_required: bool, plain: &str) -> Checked {
    if is_required && plain.is_empty() {
        return Err(FieldError::required());
    }
    validate_password(options, plain)
}

fn too_short(min: u64) -> FieldError {
    FieldError::new("validation_min_text_constraint", format!("Must be at least {min} character(s)."))
}

fn matches_pattern(matches: bool) -> Checked {
    if matches { Ok(()) } else { Err(FieldError::new("validation_invalid_format", "Invalid value format.")) }
}

fn can_name_a_folder(id: &str) -> Checked {
    if let Some(forbidden) = FORBIDDEN_IN_IDS.into_iter().find(|forbidden| id.contains(*forbidden)) {
        let message = format!("'{forbidden}' is not a valid primary key character.");
        let error = FieldError::new("validation_forbidden_pk_character", message);
        return Err(error.with("ch", forbidden.to_string()));
    }
    if let Some(reserved) = RESERVED_IDS.into_iter().find(|reserved| reserved.eq_ignore_ascii_case(id)) {
        let message = format!("The primary key '{reserved}' is reserved and cannot be used.");
        return Err(FieldError::new("validation_reserved_pk", message).with("reserved", reserved));
    }
    Ok(())
}
