//! The contract's `CREATE INDEX` statements, which are SQLite's, as PostgreSQL's.

use model::collection::Collection;
use model::collection::index::{Index, IndexColumn};

use super::layout::{ColumnKind, column_kind, quoted};

/// The statement that makes an index of a collection; the text says why there is none.
///
/// Names are quoted PostgreSQL's way, and `COLLATE NOCASE` becomes an index of `lower(column)`. Expressions and
/// conditions are PostgreSQL's own SQL, but for names in backticks, which are quoted anew.
pub(super) fn statement(collection: &Collection, index: &Index) -> Result<String, String> {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let columns: Vec<String> =
        index.columns.iter().map(|column| column_sql(collection, column)).collect::<Result<_, _>>()?;
    let condition = if index.condition.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", requoted(&index.condition))
    };
    let (name, table) = (quoted(&index.name), quoted(&index.table));
    Ok(format!("CREATE {unique}INDEX {name} ON {table} ({}){condition}", columns.join(", ")))
}

fn column_sql(collection: &Collection, column: &IndexColumn) -> Result<String, String> {
    let order = if column.order.eq_ignore_ascii_case("desc") { " DESC NULLS LAST" } else { " NULLS FIRST" };
    let field = collection.field(&column.name);
    let has_case =
        field.is_none_or(|field| matches!(column_kind(field), ColumnKind::Text | ColumnKind::Json));
    let what = match field {
        Some(field) => quoted(&field.name),
        None if column.name.contains(['(', ' ']) => format!("({})", requoted(&column.name)),
        None => quoted(&column.name),
    };
    match column.collate.to_ascii_lowercase().as_str() {
        "" | "binary" => Ok(format!("{what}{order}")),
        // In the collation "C" it is ASCII's.
        "nocase" if !has_case => Ok(format!("{what}{order}")),
        "nocase" => Ok(format!("lower({what}){order}")),
        other => Err(format!("the collation {other} is not known here; NOCASE and BINARY are")),
    }
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
