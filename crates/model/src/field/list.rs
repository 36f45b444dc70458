//! The list of a collection's fields as it is put together from a body: who replaces whom, and how
//! ids are given (CONTRACT §1.8, §3.4).

use super::draft::FieldDraft;

/// Adds fields to an empty list, one by one.
pub(crate) fn collect(fields: impl IntoIterator<Item = FieldDraft>) -> Vec<FieldDraft> {
    let mut list = Vec::new();
    for field in fields {
        add(&mut list, field);
    }
    list
}

/// Adds a field. One with an id replaces the field with this id; one without takes the place and the
/// id of the field with its name, or else gets an id made of its type and name.
pub(crate) fn add(list: &mut Vec<FieldDraft>, mut added: FieldDraft) {
    let name = &added.field.name;
    let replaced = if added.field.id.is_empty() {
        list.iter().position(|other| !name.is_empty() && other.field.name == *name)
    } else {
        list.iter().position(|other| other.field.id == added.field.id)
    };
    match replaced {
        Some(position) => {
            added.field.id.clone_from(&list[position].field.id);
            list[position] = added;
        }
        None => {
            if added.field.id.is_empty() {
                added.field.id = free_id(list, &added);
            }
            list.push(added);
        }
    }
}

fn free_id(list: &[FieldDraft], added: &FieldDraft) -> String {
    let checksum = crc32fast::hash(added.field.name.as_bytes());
    let base = format!("{}{checksum}", added.field.kind.type_name());
    let is_free = |id: &String| list.iter().all(|other| other.field.id != *id);
    if is_free(&base) {
        return base;
    }
    let mut numbered = (2..1000).map(|number| format!("{base}{number}"));
    numbered.find(is_free).unwrap_or(base)
}
