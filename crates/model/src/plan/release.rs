//! What a deletion does to the records that refer to what goes (CONTRACT §4.8). Finding them is the
//! adapter's: one by one, or all of a level at once.

use crate::record::Record;
use crate::step::Why;
use crate::value::Value;

/// The system collections whose records belong to a record of an auth collection, by `collectionRef` and
/// `recordRef`: they go with it.
pub const AUTH_SATELLITES: [&str; 4] = ["_externalAuths", "_mfas", "_otps", "_authOrigins"];

/// What becomes of a record that refers to one that goes.
#[derive(Debug, Clone)]
pub enum Released {
    /// It goes, too.
    Goes,
    /// It stays, in this form.
    Stays(Record),
}

/// Takes what goes out of a relation field of a record that holds it. `field` is the field's position;
/// `goes` tells of an id whether its record goes.
pub fn release(holder: &Record, field: usize, goes: impl Fn(&str) -> bool) -> Result<Released, Why> {
    let collection = &holder.collection;
    let options = &collection.fields[field];
    let mut ids = holder.values[field].list();
    ids.retain(|id| !goes(id));
    if ids.is_empty() && options.relation().is_some_and(|relation| relation.cascade_delete) {
        return Ok(Released::Goes);
    }
    if ids.is_empty() && options.required {
        let (collection, field) = (collection.name.clone(), options.name.clone());
        return Err(Why::RestrictedBy { collection, field });
    }
    let mut record = holder.clone();
    record.values[field] = if options.is_multiple() {
        Value::from_list(&ids)
    } else {
        Value::Text(ids.pop().unwrap_or_default())
    };
    Ok(Released::Stays(record))
}
