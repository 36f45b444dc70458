//! The contract's `CREATE INDEX` statements, which are SQLite's, as PostgreSQL's.

use model::collection::Collection;
use model::collection::index::{Index, IndexColumn};
use model::field::{Field, FieldKind};

use super::layout::{ColumnKind, column_kind, quoted};

/// The statement that makes an index of a collection; the text says why there is none.
///
/// Names are quoted PostgreSQL's way, and `COLLATE NOCASE` becomes an index of `lower(column)`. Expressions and
/// conditions are PostgreSQL's own SQL, but for names in backticks, which are quoted anew.
pub(super) fn statement(collection: &Collection, index: &Index) -> Result<String, String> {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let further = FURTHER_LETTERS / index.columns.len().saturating_sub(1).max(1);
    let letters = |position: usize| if position == 0 { INDEXED_LETTERS } else { further };
    let columns: Vec<String> = index
        .columns
        .iter()
        .enumerate()
        .map(|(position, column)| column_sql(collection, column, (index.unique, letters(position))))
        .collect::<Result<_, _>>()?;
    let condition = if index.condition.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", requoted(&index.condition))
    };
    let (name, table) = (quoted(&index.name), quoted(&index.table));
    Ok(format!("CREATE {unique}INDEX {name} ON {table} ({}){condition}", columns.join(", ")))
}

/// So many characters of a text that may be long are indexed, of four bytes at most each, in the first column of an
/// index. An entry of an index holds 2,704 bytes at most, and a longer one makes its INSERT fail.
pub(super) const INDEXED_LETTERS: usize = 400;

/// The same in all further columns together.
const FURTHER_LETTERS: usize = 200;

/// Whether a column's text may be longer than an index takes.
pub(super) fn may_be_long(field: &Field) -> bool {
    match &field.kind {
        // None means 5,000.
        FieldKind::Text(options) => options.max == 0 || options.max > FURTHER_LETTERS as u64,
        FieldKind::Editor(_) | FieldKind::Json(_) | FieldKind::Url(_) => true,
        _ => field.is_multiple(),
    }
}

/// Whether some index of the collection begins with this column, whose text may be long: then it is looked for by
/// the beginning of its text, too.
pub(super) fn is_indexed_by_beginning(collection: &Collection, name: &str) -> bool {
    collection.field(name).is_some_and(may_be_long)
        && collection.indexes.iter().filter_map(|text| Index::parse(text)).any(|index| {
            index.columns.first().is_some_and(|first| first.name == name && first.collate.is_empty())
        })
}

fn column_sql(
    collection: &Collection,
    column: &IndexColumn,
    (unique, letters): (bool, usize),
) -> Result<String, String> {
    let order = if column.order.eq_ignore_ascii_case("desc") { " DESC NULLS LAST" } else { " NULLS FIRST" };
    let field = collection.field(&column.name);
    let has_case =
        field.is_none_or(|field| matches!(column_kind(field), ColumnKind::Text | ColumnKind::Json));
    let what = match field {
        Some(field) => quoted(&field.name),
        None if column.name.contains(['(', ' ']) => format!("({})", requoted(&column.name)),
        None => quoted(&column.name),
    };
    let what = match column.collate.to_ascii_lowercase().as_str() {
        "" | "binary" => what,
        "nocase" if !has_case => what,
        // In the collation "C" it is ASCII's.
        "nocase" => format!("lower({what})"),
        other => return Err(format!("the collation {other} is not known here; NOCASE and BINARY are")),
    };
    if !field.is_some_and(may_be_long) {
        return Ok(format!("{what}{order}"));
    }
    let beginning = format!("\"left\"({what}, {letters}){order}");
    // What makes it unique is all of the text.
    Ok(if unique { format!("{beginning}, md5({what})") } else { beginning })
}

/// Names in backticks in double quotes. What stands in single quotes stays as it is.
fn requoted(sql: &str) -> String {
    let mut quoted = String::with_capacity(sql.len());
    let mut is_text = false;
    for letter in sql.chars() {
        match letter {
            '\'' => {
                is_text = !is_text;
                quoted.push(letter);
            }
            '`' if !is_text => quoted.push('"'),
            letter => quoted.push(letter),
        }
    }
    quoted
}
