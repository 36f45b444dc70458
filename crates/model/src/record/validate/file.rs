//! Files.

use super::{Check, Checked, or_default};
use crate::collection::Collection;
use crate::errors::FieldError;
use crate::field::{FieldKind, FileOptions};
use crate::json::Json;
use crate::record::modifiers;
use crate::record::resolve::Upload;

/// Most bytes of a file where its field says nothing.
const DEFAULT_MAX_SIZE: u64 = 5 << 20;
/// How many bytes of an unknown name an error repeats.
const MAX_NAME_IN_ERROR: usize = 250;
/// Most characters of a stored name.
const MAX_NAME: usize = 150;

// === impl Check ===

impl Check<'_> {
    /// A row may name stored files and new ones, and no others.
    pub(super) fn file(&self, options: &FileOptions) -> Checked {
        let names = self.names();
        if names.is_empty() {
            return self.required(false);
        }
        let stored = self.old.and_then(|old| old.values.get(self.position)).map(|value| value.list());
        let is_stored = |name: &String| stored.as_ref().is_some_and(|stored| stored.contains(name));
        let uploads = &self.resolved.uploads;
        let upload = |name: &String| uploads.iter().find(|upload| upload.name == *name);
        let unknown: Vec<&String> =
            names.iter().filter(|name| upload(name).is_none() && !is_stored(name)).collect();
        if !unknown.is_empty() {
            return Err(unknown_files(&unknown));
        }
        let max = options.max_select.max(1);
        if names.len() as u64 > max {
            let message = format!("The maximum allowed files is {max}.");
            return Err(FieldError::new("validation_too_many_files", message).with("maxSelect", max as f64));
        }
        names.iter().filter_map(upload).try_for_each(|upload| new_file(options, upload))
    }
}

/// Whether a record of the collection can name the file: its part is named as a file field, and the field
/// takes its size and type. What this refuses, the checks of the write refuse too.
pub fn accepts_upload(collection: &Collection, upload: &Upload) -> bool {
    let field = modifiers::target(collection, &upload.key).map(|(position, _)| &collection.fields[position]);
    match field.map(|field| &field.kind) {
        Some(FieldKind::File(options)) => new_file(options, upload).is_ok(),
        _ => false,
    }
}

fn unknown_files(names: &[&String]) -> FieldError {
    let names: Vec<&str> =
        names.iter().map(|name| &name[..name.floor_char_boundary(MAX_NAME_IN_ERROR)]).collect();
    let message = format!("Invalid new files: [{}].", names.join(" "));
    let listed = names.into_iter().map(Json::from).collect();
    FieldError::new("validation_invalid_file", message).with("invalidFiles", Json::Array(listed))
}

fn new_file(options: &FileOptions, upload: &Upload) -> Checked {
    let length = upload.name.chars().count();
    if !(1..=MAX_NAME).contains(&length) {
        let message = format!("The length must be between 1 and {MAX_NAME}.");
        let error = FieldError::new("validation_length_out_of_range", message);
        return Err(error.with("min", 1.0).with("max", MAX_NAME as f64));
    }
    if length < 2 || upload.name.starts_with('.') || upload.name.contains(['/', '\\']) {
        return Err(FieldError::new("validation_match_invalid", "Must be in a valid format."));
    }
    let max_size = or_default(options.max_size, DEFAULT_MAX_SIZE);
    if upload.size > max_size {
        let name = &upload.original_name;
        let message = format!("Failed to upload {name} - the maximum allowed file size is {max_size} bytes.");
        let error = FieldError::new("validation_file_size_limit", message);
        return Err(error.with("file", name.as_str()).with("maxSize", max_size as f64));
    }
    let is_accepted = options.mime_types.is_empty()
        || options.mime_types.iter().any(|accepted| essence(accepted) == essence(&upload.mime_type));
    if is_accepted {
        return Ok(());
    }
    let message = format!("\"{}\" mime type must be one of: {}.", upload.name, options.mime_types.join(", "));
    Err(FieldError::new("validation_invalid_mime_type", message))
}

/// A media type without its parameters.
fn essence(mime_type: &str) -> &str {
    mime_type.split(';').next().unwrap_or_default().trim()
}
