//! A record: a row of a collection, with the collection that says what its values mean.
//!
//! A write goes through the modules below in this order: [`resolve`] makes a row of a body; the rule is
//! judged; [`forms`] checks what auth records ask for; [`fill`] generates what is missing; [`validate`]
//! checks the fields and asks the store ([`lookup`]); [`fill`] sets dates; and [`unique`] says what a
//! unique index refused.

pub mod autogenerate;
pub mod coerce;
pub mod email;
pub mod file_name;
pub mod fill;
pub mod forms;
pub mod lookup;
pub mod resolve;
pub mod unique;
pub mod url;
pub mod validate;

mod date;
mod json_text;
mod modifiers;
mod number;

#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use modifiers::field_of_key;

use crate::collection::Collection;
use crate::field::FieldKind;
use crate::value::Value;

/// A row. `values` stand in the order of `collection.fields` and are as many.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where the row belongs, as of the schema it was read under.
    pub collection: Arc<Collection>,
    /// One value a field.
    pub values: Vec<Value>,
}

impl Record {
    /// A row of nulls.
    pub fn empty(collection: Arc<Collection>) -> Record {
        let values = vec![Value::Null; collection.fields.len()];
        Record { collection, values }
    }

    /// A row of zero values, as a new record starts.
    pub fn zero(collection: Arc<Collection>) -> Record {
        let values = collection.fields.iter().map(coerce::zero).collect();
        Record { collection, values }
    }

    /// The value of a field, null when there is no such field.
    pub fn get(&self, name: &str) -> &Value {
        const NULL: &Value = &Value::Null;
        self.collection.field_index(name).map_or(NULL, |index| &self.values[index])
    }

    /// Sets the value of a field; does nothing when there is no such field.
    pub fn set(&mut self, name: &str, value: Value) {
        if let Some(index) = self.collection.field_index(name) {
            self.values[index] = value;
        }
    }

    /// The names of the record's files.
    pub fn file_names(&self) -> impl Iterator<Item = String> {
        let fields = self.collection.fields.iter().zip(&self.values);
        let files = fields.filter(|(field, _)| matches!(field.kind, FieldKind::File(_)));
        files.flat_map(|(_, value)| value.list())
    }

    /// The key under which one of the record's files is stored (CONTRACT §6.4).
    pub fn file_key(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.collection.id, self.id())
    }

    /// The record id.
    pub fn id(&self) -> &str {
        self.get("id").as_str()
    }
}
