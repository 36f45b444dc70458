//! `CREATE INDEX` statements: the little of SQL that the contract reads in them (CONTRACT §3.5).

use std::sync::LazyLock;

use regex::Regex;

/// The parts of a `CREATE INDEX` statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// Whether it is UNIQUE.
    pub unique: bool,
    /// Whether it says IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The schema before the index name, mostly empty.
    pub schema_name: String,
    /// The index.
    pub name: String,
    /// The table.
    pub table: String,
    /// What is indexed.
    pub columns: Vec<IndexColumn>,
    /// The condition after WHERE, or empty.
    pub condition: String,
}

/// One column or expression of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexColumn {
    /// A column's name without quotes, or an expression.
    pub name: String,
    /// The collation, or empty.
    pub collate: String,
    /// `ASC`, `DESC` or empty.
    pub order: String,
}

const QUOTES: &[char] = &['`', '"', '\'', '[', ']', '\r', '\n', '\t', '\u{c}', '\u{b}', ' '];

impl Index {
    /// Reads a statement; nothing when it is none that the contract accepts.
    pub fn parse(statement: &str) -> Option<Index> {
        static STATEMENT: LazyLock<Regex> = LazyLock::new(|| {
            let pattern = r"(?is)create\s+(unique\s+)?\s*index\s*(if\s+not\s+exists\s+)?(\S*)\s+on\s+(\S*?)\s*\((.*)\)(?:\s+where\s+(.*))?\s*$";
            Regex::new(pattern).expect("the pattern is a constant")
        });
        let found = STATEMENT.captures(statement)?;
        let part = |group: usize| found.get(group).map_or("", |part| part.as_str());
        let names = split(part(3), '.')?;
        let (schema_name, name) = match names.as_slice() {
            [name] => ("", *name),
            [schema, name] => (*schema, *name),
            _ => return None,
        };
        let index = Index {
            unique: !part(1).is_empty(),
            if_not_exists: !part(2).is_empty(),
            schema_name: schema_name.trim_matches(QUOTES).to_owned(),
            name: name.trim_matches(QUOTES).to_owned(),
            table: part(4).trim_matches(QUOTES).to_owned(),
            columns: split(part(5), ',')?.into_iter().filter_map(IndexColumn::parse).collect(),
            condition: part(6).trim().to_owned(),
        };
        (!index.name.is_empty() && !index.columns.is_empty()).then_some(index)
    }

    /// The statement in the contract's form.
    pub fn render(&self) -> String {
        let unique = if self.unique { "UNIQUE " } else { "" };
        let if_not_exists = if self.if_not_exists { "IF NOT EXISTS " } else { "" };
        let schema =
            if self.schema_name.is_empty() { String::new() } else { format!("`{}`.", self.schema_name) };
        let (name, table) = (&self.name, &self.table);
        let columns: Vec<String> = self.columns.iter().map(IndexColumn::render).collect();
        let columns = match columns.as_slice() {
            [column] => column.clone(),
            columns => format!("\n  {}\n", columns.join(",\n  ")),
        };
        let condition =
            if self.condition.is_empty() { String::new() } else { format!(" WHERE {}", self.condition) };
        format!("CREATE {unique}INDEX {if_not_exists}{schema}`{name}` ON `{table}` ({columns}){condition}")
    }

    /// Whether the index is of all values of this one column, least first.
    pub fn is_plain_on(&self, column: &str) -> bool {
        let is_plain = |only: &IndexColumn| {
            only.name.eq_ignore_ascii_case(column)
                && (only.collate.is_empty() || only.collate.eq_ignore_ascii_case("binary"))
                && !only.order.eq_ignore_ascii_case("desc")
        };
        self.condition.is_empty() && matches!(self.columns.as_slice(), [only] if is_plain(only))
    }

    /// Whether the index makes this one column unique (whatever its condition).
    pub fn is_unique_on(&self, column: &str) -> bool {
        self.unique && matches!(self.columns.as_slice(), [only] if only.name.eq_ignore_ascii_case(column))
    }
}

impl IndexColumn {
    fn parse(text: &str) -> Option<IndexColumn> {
        static COLUMN: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?is)^(.+?)(?:\s+collate\s+(\w+))?(?:\s+(asc|desc))?$")
                .expect("the pattern is a constant")
        });
        let found = COLUMN.captures(text)?;
        let part = |group: usize| found.get(group).map_or("", |part| part.as_str());
        let name = part(1).trim_matches(QUOTES);
        (!name.is_empty()).then(|| IndexColumn {
            name: name.to_owned(),
            collate: part(2).to_owned(),
            order: part(3).to_ascii_uppercase(),
        })
    }

    fn render(&self) -> String {
        let is_expression = self.name.contains(['(', ' ']);
        let mut text = if is_expression { self.name.clone() } else { format!("`{}`", self.name) };
        if !self.collate.is_empty() {
            text.push_str(" COLLATE ");
            text.push_str(&self.collate);
        }
        if !self.order.is_empty() {
            text.push(' ');
            text.push_str(&self.order);
        }
        text
    }
}

/// Whether some statement is of all values of this one column, least first.
pub fn has_plain(statements: &[String], column: &str) -> bool {
    statements.iter().filter_map(|text| Index::parse(text)).any(|index| index.is_plain_on(column))
}

/// Whether some statement makes this one column unique.
pub fn has_unique(statements: &[String], column: &str) -> bool {
    statements.iter().filter_map(|text| Index::parse(text)).any(|index| index.is_unique_on(column))
}

/// Whether some statement makes this one column unique without regard to case.
pub fn is_unique_ignoring_case(statements: &[String], column: &str) -> bool {
    let ignores_case =
        |index: &Index| index.columns.iter().all(|column| column.collate.eq_ignore_ascii_case("nocase"));
    let mut indexes = statements.iter().filter_map(|text| Index::parse(text));
    indexes.any(|index| index.is_unique_on(column) && ignores_case(&index))
}

/// The statement for this table: the text as it is when it names the table, rendered anew otherwise,
/// and untouched when it cannot be read.
pub fn for_table(statement: &str, table: &str) -> String {
    match Index::parse(statement) {
        Some(mut index) if index.table != table => {
            table.clone_into(&mut index.table);
            index.render()
        }
        _ => statement.to_owned(),
    }
}

/// Splits at a separator outside of quotes and parentheses; nothing when one of them is left open.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut depth, mut quote) = (0, 0_i32, None);
    let mut previous = ' ';
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character && previous != '\\' => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(character),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) if character == separator && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + character.len_utf8();
            }
            _ => {}
        }
        previous = character;
    }
    if quote.is_some() || depth != 0 {
        return None;
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The statements and what the binary made of them in a collection named `t1`.
    #[test]
    fn statements_for_another_table_are_rendered_anew() {
        let cases = [
            ("create index i1 on t1 (a)", "create index i1 on t1 (a)"),
            ("create index i1 on T1 (a)", "CREATE INDEX `i1` ON `t1` (`a`)"),
            ("  create\n index\ti1 on x(a)", "CREATE INDEX `i1` ON `t1` (`a`)"),
            (
                "CREATE UNIQUE INDEX IF NOT EXISTS `i1` ON `other` (`a` COLLATE NOCASE desc, b, lower(a)) where a != ''",
                "CREATE UNIQUE INDEX IF NOT EXISTS `i1` ON `t1` (\n  `a` COLLATE NOCASE DESC,\n  `b`,\n  lower(a)\n) WHERE a != ''",
            ),
            ("create index main.i1 on x (a)", "CREATE INDEX `main`.`i1` ON `t1` (`a`)"),
            (
                "create unique index [i1] on [x] ([a],\"b\") WHERE a='(' ;",
                "CREATE UNIQUE INDEX `i1` ON `t1` (\n  `a`,\n  `b`\n) WHERE a='(' ;",
            ),
            ("drop table users; create index i1 on x (a)", "CREATE INDEX `i1` ON `t1` (`a`)"),
            (
                "create index i1 on x (json_extract(a, '$.b') desc)",
                "CREATE INDEX `i1` ON `t1` (json_extract(a, '$.b') DESC)",
            ),
            ("create index i1 on x (a,,b)", "CREATE INDEX `i1` ON `t1` (\n  `a`,\n  `b`\n)"),
            ("create index i1 on x ((a))", "CREATE INDEX `i1` ON `t1` ((a))"),
            ("create index i1 on x (a || ')' || b)", "CREATE INDEX `i1` ON `t1` (a || ')' || b)"),
            ("create index i1 on x ([a,b])", "CREATE INDEX `i1` ON `t1` (\n  `a`,\n  `b`\n)"),
            ("create index i1 on a.t1 (a)", "CREATE INDEX `i1` ON `t1` (`a`)"),
            ("create index \"i1\" on 't1' (a)", "create index \"i1\" on 't1' (a)"),
        ];
        for (statement, expected) in cases {
            assert!(Index::parse(statement).is_some(), "{statement}");
            assert_eq!(for_table(statement, "t1"), expected);
        }
    }

    #[test]
    fn what_the_contract_cannot_read_is_refused() {
        let cases = [
            "x",
            "",
            "create index on x (a)",
            "create index i1 on x ()",
            "create index 'i 1' on x (a)",
            "create index i1 on t1 (a); drop table zzz",
            "create index i1 on t1 (a) ;",
            "create index i1 on x (a) where",
            "create index i1 on x (a)where b",
            "create index i1 on x (a,(b)",
            "create index a.b.c on x (a)",
            "create index i`1 on x (a)",
        ];
        for statement in cases {
            assert_eq!(Index::parse(statement), None, "{statement}");
        }
    }
}
