//! Which rows can match a filter at all, told from columns of text in memory ([`TextColumns`]). The query
//! then looks at those rows alone, and still decides for each.

use contract::store::{ListRecords, RecordPage};
use model::collection::Collection;
use model::filter::Operator;
use model::filter::expr::{Class, Comparison, Expr, Operand, Row};
use model::filter::semantics::Cell;
use rusqlite::Connection;

use super::row_versions::RowVersions;
use super::text_columns::{TableVersion, TextColumns};
use super::{layout, reads};

/// Past so many rows, reading all of them is no slower.
const MOST_ROWS: usize = 4_000;
/// Fewer bytes are in too many texts.
const SHORTEST_NEEDLE: usize = 2;

/// What a list with `~` needs of the store.
#[derive(Debug, Default)]
pub(super) struct TextLookup {
    pub(super) versions: RowVersions,
    pub(super) columns: TextColumns,
}

struct Search<'a> {
    columns: &'a TextColumns,
    conn: &'a Connection,
    collection: &'a Collection,
    table: TableVersion<'a>,
}

impl TextLookup {
    /// Forgets all, when the schema was changed.
    pub(super) fn clear(&self) {
        self.versions.clear();
        self.columns.clear();
    }

    /// A page, by way of the rows that can match where they are known. The connection is in a transaction
    /// that has not read anything yet.
    pub(super) fn list(&self, conn: &Connection, query: &ListRecords) -> rusqlite::Result<RecordPage> {
        let collection = &*query.collection;
        let version = self.versions.get(&collection.id);
        // Opens the snapshot: between two looks at the version, so that it is of that version.
        conn.prepare_cached("SELECT 1 FROM `_gs_meta` LIMIT 1")?.query_row([], |_| Ok(()))?;
        let Some(version) = version.filter(|_| self.versions.get(&collection.id) == version) else {
            return reads::list(conn, query, None);
        };
        let table = TableVersion { collection: &collection.id, name: &collection.name, version };
        let rows = Search { columns: &self.columns, conn, collection, table }.rows_of_query(query)?;
        reads::list(conn, query, rows.as_deref())
    }
}

/// Whether a filter asks for a text within a column of the record.
pub(super) fn is_for(query: &ListRecords) -> bool {
    fn has_like(expr: &Expr) -> bool {
        match expr {
            Expr::All(parts) | Expr::Any(parts) => parts.iter().any(has_like),
            Expr::Compare(comparison) => comparison.operator == Operator::Like,
            _ => false,
        }
    }
    !query.collection.is_view()
        && query.conditions.iter().any(|condition| has_like(&condition.filter.query(&condition.context).expr))
}

// === impl Search ===

impl Search<'_> {
    fn rows_of_query(&self, query: &ListRecords) -> rusqlite::Result<Option<Vec<i64>>> {
        let mut rows = None;
        for condition in &query.conditions {
            let resolved = condition.filter.resolve(&condition.context, &condition.body);
            rows = both(rows, self.rows_of(&resolved.expr)?);
        }
        Ok(rows)
    }

    /// All rows for which the condition can be true, ascending; none when that is not known.
    fn rows_of(&self, expr: &Expr) -> rusqlite::Result<Option<Vec<i64>>> {
        match expr {
            Expr::All(parts) => {
                let mut rows = None;
                for part in parts {
                    rows = both(rows, self.rows_of(part)?);
                }
                Ok(rows)
            }
            Expr::Any(parts) => {
                let mut rows = Vec::new();
                for part in parts {
                    let Some(more) = self.rows_of(part)? else { return Ok(None) };
                    rows.extend(more);
                }
                rows.sort_unstable();
                rows.dedup();
                Ok(Some(rows).filter(|rows| rows.len() <= MOST_ROWS))
            }
            Expr::Compare(comparison) => match contained(self.collection, comparison) {
                Some((column, needle)) => {
                    self.columns.find(self.conn, &self.table, column, needle.as_bytes(), MOST_ROWS)
                }
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

/// The rows that are in both, where both are known.
fn both(left: Option<Vec<i64>>, right: Option<Vec<i64>>) -> Option<Vec<i64>> {
    match (left, right) {
        (Some(mut left), Some(right)) => {
            left.retain(|row| right.binary_search(row).is_ok());
            Some(left)
        }
        (left, right) => left.or(right),
    }
}

/// For `column ~ 'pattern'`, the column and a text that is in every match, in lower case.
fn contained<'c>(collection: &Collection, comparison: &'c Comparison) -> Option<(&'c str, String)> {
    let (Operand::Column(column), Operand::Constant(Cell::Text(pattern), _)) =
        (&comparison.left.operand, &comparison.right.operand)
    else {
        return None;
    };
    let is_own = column.row == Row::Own && comparison.operator == Operator::Like;
    let is_text = collection.fields.get(column.index).is_some_and(layout::is_text);
    if !is_own || !is_text || comparison.right.class != Class::Pattern {
        return None;
    }
    let needle = longest_plain_part(pattern).to_ascii_lowercase();
    (needle.len() >= SHORTEST_NEEDLE).then_some((&column.name, needle))
}

/// The longest run of a LIKE pattern that stands for itself.
fn longest_plain_part(pattern: &str) -> String {
    let (mut longest, mut part) = (String::new(), String::new());
    let mut characters = pattern.chars();
    while let Some(next) = characters.next() {
        match next {
            '%' | '_' => part.clear(),
            '\\' => part.extend(characters.next()),
            plain => part.push(plain),
        }
        if part.len() > longest.len() {
            longest.clone_from(&part);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_plain_part_of_a_pattern_is_in_every_match() {
        let cases = [
            ("%word%", "word"),
            ("ab%cde_f", "cde"),
            ("%100\\%%", "100%"),
            ("%a\\\\b%", "a\\b"),
            ("%", ""),
            ("a\\", "a"),
            ("%é_%", "é"),
        ];
        for (pattern, part) in cases {
            assert_eq!(longest_plain_part(pattern), part, "{pattern}");
        }
    }

    #[test]
    fn rows_that_are_known_twice_must_be_in_both() {
        assert_eq!(both(None, None), None);
        assert_eq!(both(Some(vec![1, 2]), None), Some(vec![1, 2]));
        assert_eq!(both(Some(vec![1, 2, 3]), Some(vec![2, 3, 4])), Some(vec![2, 3]));
    }
}
