//! What a store has to do to its tables when a collection changes (CONTRACT §3.6).

use super::Collection;
use super::index::Index;
use crate::field::Field;

/// One step, in the order in which a store takes them.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaChange {
    /// Creates the collection's table with all columns. Its indexes follow as steps of their own.
    CreateTable {
        /// The table.
        table: String,
        /// Its columns, in the order of the collection's fields.
        fields: Vec<Field>,
    },
    /// Drops the table with its indexes.
    DropTable {
        /// The table.
        table: String,
    },
    /// Renames the table. It may be a change of case alone.
    RenameTable {
        /// The name so far.
        from: String,
        /// The name from here on.
        to: String,
    },
    /// Drops an index, if it is there.
    DropIndex {
        /// The index.
        name: String,
    },
    /// Drops a column with its values.
    DropColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// Renames a column. A name that no field can have stands between two fields that swap theirs.
    RenameColumn {
        /// The table.
        table: String,
        /// The name so far.
        from: String,
        /// The name from here on.
        to: String,
    },
    /// Adds a column with the type's default.
    AddColumn {
        /// The table.
        table: String,
        /// The field to be stored.
        field: Field,
    },
    /// Turns each value `x` into `["x"]`, and an empty one into `[]`; the column takes the type of lists.
    SingleToMultiple {
        /// The table.
        table: String,
        /// The field as it will be.
        field: Field,
    },
    /// Keeps the last element of each list; the column takes the type of single values.
    MultipleToSingle {
        /// The table.
        table: String,
        /// The field as it will be.
        field: Field,
    },
    /// Creates an index. A store that refuses it answers with
    /// [`super::store_errors::refused_index`].
    CreateIndex {
        /// The position in the collection's list.
        position: usize,
        /// The index. The store writes the statement: unlike the collection's text, nothing precedes it.
        index: Index,
    },
}

/// The steps from the old collection to the new one: creation without an old one, deletion without a
/// new one. Views have no table.
pub fn diff(old: Option<&Collection>, new: Option<&Collection>) -> Vec<SchemaChange> {
    let old = old.filter(|collection| !collection.is_view());
    let new = new.filter(|collection| !collection.is_view());
    match (old, new) {
        (None, None) => Vec::new(),
        (None, Some(new)) => created(new),
        (Some(old), None) => vec![SchemaChange::DropTable { table: old.name.clone() }],
        (Some(old), Some(new)) => changed(old, new),
    }
}

fn created(new: &Collection) -> Vec<SchemaChange> {
    let table = SchemaChange::CreateTable { table: new.name.clone(), fields: new.fields.clone() };
    let indexes = indexes_of(new).map(|(position, index)| SchemaChange::CreateIndex { position, index });
    std::iter::once(table).chain(indexes).collect()
}

fn changed(old: &Collection, new: &Collection) -> Vec<SchemaChange> {
    let columns = column_changes(old, new);
    let (dropped, created) = index_changes(old, new, !columns.is_empty());
    let mut changes = dropped;
    if old.name != new.name {
        changes.push(SchemaChange::RenameTable { from: old.name.clone(), to: new.name.clone() });
    }
    changes.extend(columns);
    changes.extend(created);
    changes
}

fn column_changes(old: &Collection, new: &Collection) -> Vec<SchemaChange> {
    let table = &new.name;
    let in_new = |field: &Field| new.fields.iter().find(|other| other.id == field.id);
    let in_old = |field: &Field| old.fields.iter().find(|other| other.id == field.id);
    let mut changes = Vec::new();
    for field in old.fields.iter().filter(|field| in_new(field).is_none()) {
        changes.push(SchemaChange::DropColumn { table: table.clone(), column: field.name.clone() });
    }
    let kept: Vec<(&Field, &Field)> =
        new.fields.iter().filter_map(|field| Some((in_old(field)?, field))).collect();
    changes.extend(renames(table, &kept));
    for field in new.fields.iter().filter(|field| in_old(field).is_none()) {
        changes.push(SchemaChange::AddColumn { table: table.clone(), field: field.clone() });
    }
    for (old_field, field) in kept {
        match (old_field.is_multiple(), field.is_multiple()) {
            (false, true) => {
                changes.push(SchemaChange::SingleToMultiple { table: table.clone(), field: field.clone() })
            }
            (true, false) => {
                changes.push(SchemaChange::MultipleToSingle { table: table.clone(), field: field.clone() })
            }
            _ => {}
        }
    }
    changes
}

/// Renames go by way of a name that no field can have when another column still has the wanted one.
fn renames(table: &str, kept: &[(&Field, &Field)]) -> Vec<SchemaChange> {
    let rename = |from: &str, to: &str| SchemaChange::RenameColumn {
        table: table.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let is_taken = |name: &str| kept.iter().any(|(old, _)| old.name.eq_ignore_ascii_case(name));
    let mut first = Vec::new();
    let mut last = Vec::new();
    for (old, new) in kept.iter().filter(|(old, new)| old.name != new.name) {
        if is_taken(&new.name) {
            let between = format!("{}~", new.name);
            first.push(rename(&old.name, &between));
            last.push(rename(&between, &new.name));
        } else {
            last.push(rename(&old.name, &new.name));
        }
    }
    first.extend(last);
    first
}

/// The indexes to drop before and to create after the other steps: those that differ, or all when the
/// columns change.
fn index_changes(
    old: &Collection,
    new: &Collection,
    columns_change: bool,
) -> (Vec<SchemaChange>, Vec<SchemaChange>) {
    let old_indexes: Vec<Index> = indexes_of(old).map(|(_, index)| index).collect();
    let new_indexes: Vec<(usize, Index)> = indexes_of(new).collect();
    let is_same = |old_index: &Index, index: &Index| {
        !columns_change
            && Index { table: String::new(), ..old_index.clone() }
                == Index { table: String::new(), ..index.clone() }
    };
    let dropped = old_indexes
        .iter()
        .filter(|old_index| !new_indexes.iter().any(|(_, index)| is_same(old_index, index)));
    let created = new_indexes
        .iter()
        .filter(|(_, index)| !old_indexes.iter().any(|old_index| is_same(old_index, index)));
    (
        dropped.map(|index| SchemaChange::DropIndex { name: index.name.clone() }).collect(),
        created
            .map(|(position, index)| SchemaChange::CreateIndex { position: *position, index: index.clone() })
            .collect(),
    )
}

/// The indexes that can be read, each for its own collection's table.
fn indexes_of(collection: &Collection) -> impl Iterator<Item = (usize, Index)> {
    let parsed = collection.indexes.iter().enumerate();
    parsed.filter_map(|(position, text)| {
        let index = Index::parse(text)?;
        Some((position, Index { table: collection.name.clone(), ..index }))
    })
}
