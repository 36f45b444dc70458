//! ORDER BY.

use model::filter::expr::{Join, JoinId, Operand};
use model::filter::{Sort, SortKey};

use super::{Fragment, Root, RootKind, Writer};

/// The terms after ORDER BY. The last one is the order in which rows were made, where there is one:
/// a view has none.
pub fn order_by(sort: &Sort, root: Root<'_>) -> Fragment {
    let mut writer = Writer::new(&[], root);
    let mut last = root.kind == RootKind::Table;
    for (position, term) in sort.terms.iter().enumerate() {
        if position > 0 {
            writer.text(", ");
        }
        match &term.key {
            SortKey::Random => writer.text("RANDOM()"),
            SortKey::RowId => {
                writer.row_id();
                last = false;
            }
            SortKey::Value { joins, operand } => writer.first_value(joins, operand),
        }
        if term.descending {
            writer.text(" DESC");
        }
    }
    if last {
        if !sort.terms.is_empty() {
            writer.text(", ");
        }
        writer.row_id();
        if sort.newest_first {
            writer.text(" DESC");
        }
    }
    writer.done()
}

impl Writer<'_> {
    fn row_id(&mut self) {
        let alias = self.root.alias;
        self.name(alias);
        self.text(".rowid");
    }

    /// The operand at the first of the joined rows.
    fn first_value(&mut self, joins: &[Join], operand: &Operand) {
        if joins.is_empty() {
            return self.operand(operand);
        }
        let all = (0..joins.len()).map(|position| JoinId(JoinId::PRIVATE + position as u16)).collect();
        self.text("(SELECT ");
        self.operand(operand);
        self.text(" FROM ");
        self.all_rows(all, joins);
        self.text(" LIMIT 1)");
    }
}
