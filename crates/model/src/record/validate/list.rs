//! Selects and relations.

use super::{Check, Checked};
use crate::errors::FieldError;
use crate::field::{RelationOptions, SelectOptions};
use crate::record::lookup::Lookup;

// === impl Check ===

impl Check<'_> {
    pub(super) fn select(&self, options: &SelectOptions) -> Checked {
        let chosen = self.names();
        if chosen.is_empty() {
            return self.required(false);
        }
        at_most(options.max_select, chosen.len())?;
        match chosen.into_iter().find(|value| !options.values.contains(value)) {
            Some(value) => {
                let message = format!("Invalid value {value}");
                Err(FieldError::new("validation_invalid_value", message).with("value", value))
            }
            None => Ok(()),
        }
    }

    /// The store is asked only for what the write changes: what was stored existed then, and goes from
    /// the row when its record is deleted.
    pub(super) fn relation(&self, options: &RelationOptions, lookups: &mut Vec<Lookup>) -> Checked {
        let ids = self.names();
        if ids.is_empty() {
            return self.required(false);
        }
        if (ids.len() as u64) < options.min_select {
            let message = format!("Select at least {}.", options.min_select);
            let error = FieldError::new("validation_not_enough_values", message);
            return Err(error.with("minSelect", options.min_select as f64));
        }
        at_most(options.max_select, ids.len())?;
        let is_stored = self.old.is_some_and(|old| old.values.get(self.position) == Some(self.value));
        if !is_stored {
            lookups.push(Lookup::RecordsExist {
                field: self.field.name.clone(),
                collection_id: options.collection_id.clone(),
                ids,
            });
        }
        Ok(())
    }
}

fn at_most(max_select: u64, count: usize) -> Checked {
    let max = max_select.max(1);
    if count as u64 <= max {
        return Ok(());
    }
    let message = format!("Select no more than {max}.");
    Err(FieldError::new("validation_too_many_values", message).with("maxSelect", max as f64))
}
