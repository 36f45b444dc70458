//! What stands in a SELECT's text: columns, their aliases, and the tables that they come from.
//!
//! One pass over words that are separated by blanks and commas outside of quotes and parentheses. What
//! stands inside of them is one word and is not looked into, so nothing here nests, and the time grows
//! with the text alone.

use std::collections::HashMap;
use std::sync::Arc;

use rand::Rng;

use crate::collection::Collection;
use crate::collection::defaults::{ID_PATTERN, random_text};
use crate::field::draft::FieldDraft;
use crate::field::{
    Field, FieldKind, JsonOptions, NumberOptions, Pattern, RelationOptions, TextOptions, list,
};
use crate::schema::Schema;

/// Longest query. Every save of a collection tries every view's query again.
const MAX_BYTES: usize = 100_000;

/// The columns and tables of a SELECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectList {
    query: String,
    columns: Vec<Named>,
    tables: Vec<Named>,
}

/// A column or table, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    original: String,
    alias: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Comma,
}

/// The words between two commas.
type Item<'a> = Vec<&'a str>;

/// The parts of a SELECT that name something.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Select,
    From,
    Join,
}

// === impl SelectList ===

impl SelectList {
    /// Reads a query. The error says what is wrong, in words that go on in a sentence.
    pub fn parse(query: &str) -> Result<SelectList, String> {
        if query.len() > MAX_BYTES {
            return Err(format!("the query is longer than {MAX_BYTES} bytes"));
        }
        let query = query.trim().trim_matches(';');
        if has_several_statements(query) {
            return Err("multiple statements are not supported".to_owned());
        }
        let text = without_comments(query);
        let [columns, froms, joins] = parts(&tokens(&text)?);
        let columns = named(columns)?;
        let mut tables = named(froms)?;
        tables.extend(named(joins)?);
        if columns.iter().any(|column| column.original == "*" || column.original.ends_with(".*")) {
            return Err("wildcard columns (*) are not supported - manually type the collection field names \
                        you want the view query to have"
                .to_owned());
        }
        Ok(SelectList { query: query.to_owned(), columns, tables })
    }

    /// The query without semicolons around it.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// What the columns are called as far as the text tells.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.alias.as_str())
    }

    /// The fields of the columns that a store found in the query.
    pub(super) fn fields(&self, schema: &Schema, columns: &[String], rng: &mut impl Rng) -> Vec<Field> {
        let sources = self.sources(schema);
        let fields = columns.iter().map(|name| {
            let column = self.columns.iter().rfind(|column| column.alias == *name);
            match column {
                _ if name == "id" => id_field(),
                Some(column) => self.field_of(column, &sources, rng),
                None => untyped(name),
            }
        });
        list::collect(fields.map(FieldDraft::new)).into_iter().map(|draft| draft.field).collect()
    }

    /// The collections that the tables are, by what the query calls them.
    fn sources<'a>(&'a self, schema: &'a Schema) -> HashMap<&'a str, &'a Arc<Collection>> {
        let collection = |table: &'a Named| {
            let found = schema.by_name(&table.original).filter(|found| found.name == table.original)?;
            Some((table.alias.as_str(), found))
        };
        self.tables.iter().filter_map(collection).collect()
    }

    fn field_of(
        &self,
        column: &Named,
        sources: &HashMap<&str, &Arc<Collection>>,
        rng: &mut impl Rng,
    ) -> Field {
        let name = column.alias.as_str();
        if let Some(kind) = kind_of_call(&column.original.to_lowercase()) {
            return plain(name, kind);
        }
        match self.source_of(column, sources) {
            None => untyped(name),
            Some((source, field)) if field.name == "id" => plain(name, relation_to(source)),
            Some((_, field)) => {
                let id = format!("_clone_{}", random_text(4, CLONE_ALPHABET, rng));
                Field { id, name: name.to_owned(), ..field.clone() }
            }
        }
    }
}

impl SelectList {
    /// The collection and the field that a view's field is a copy of, if it is one.
    pub fn origin(&self, schema: &Schema, name: &str) -> Option<(Arc<Collection>, Field)> {
        let sources = self.sources(schema);
        let column = self.columns.iter().rfind(|column| column.alias == name)?;
        let (source, field) = self.source_of(column, &sources)?;
        Some((source.clone(), field.clone()))
    }

    fn source_of<'a>(
        &self,
        column: &Named,
        sources: &HashMap<&str, &'a Arc<Collection>>,
    ) -> Option<(&'a Arc<Collection>, &'a Field)> {
        let parts: Vec<&str> = column.original.split('.').collect();
        let (source, field_name) = match parts[..] {
            [table, field] => (sources.get(table), field),
            _ => (self.tables.first().and_then(|table| sources.get(table.alias.as_str())), parts[0]),
        };
        let source = *source?;
        let field_name = field_name.to_lowercase();
        Some((source, source.fields.iter().find(|field| field.name.to_lowercase() == field_name)?))
    }
}

const CLONE_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

// === fields ===

fn id_field() -> Field {
    let options =
        TextOptions { pattern: Pattern::new(ID_PATTERN), primary_key: true, ..TextOptions::default() };
    Field { system: true, required: true, ..plain("id", FieldKind::Text(options)) }
}

/// What nothing is known of.
fn untyped(name: &str) -> Field {
    plain(name, FieldKind::Json(JsonOptions { max_size: 1 }))
}

fn relation_to(collection: &Collection) -> FieldKind {
    FieldKind::Relation(RelationOptions {
        collection_id: collection.id.clone(),
        max_select: 1,
        ..RelationOptions::default()
    })
}

/// A field without an id.
fn plain(name: &str, kind: FieldKind) -> Field {
    Field {
        id: String::new(),
        name: name.to_owned(),
        system: false,
        hidden: false,
        presentable: false,
        required: false,
        help: String::new(),
        kind,
    }
}

/// The type of what `count`, `total` or a cast gives. The text is in lower case.
fn kind_of_call(text: &str) -> Option<FieldKind> {
    let number = |only_int| Some(FieldKind::Number(NumberOptions { only_int, ..NumberOptions::default() }));
    if text.starts_with("count(") {
        return number(true);
    }
    if text.starts_with("total(") {
        return number(false);
    }
    match cast_type(text)? {
        "int" | "integer" => number(true),
        "real" | "decimal" | "numeric" => number(false),
        "text" => Some(FieldKind::Text(TextOptions::default())),
        "bool" | "boolean" => Some(FieldKind::Bool),
        _ => None,
    }
}

/// The last word of `cast(… as word)`.
fn cast_type(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("cast")?.trim_start().strip_prefix('(')?.strip_suffix(')')?.trim_end();
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let before = inside.trim_end_matches(is_word);
    let operand = before.trim_end().strip_suffix("as")?;
    let is_apart = before.ends_with(char::is_whitespace) && operand.ends_with(char::is_whitespace);
    is_apart.then(|| &inside[before.len()..])
}

// === the text ===

/// The text with a blank for each comment. Comments are seen before strings, so they are cut out of
/// strings too.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Looked for once: a text of many beginnings and no end is not searched for each.
    let last_end = text.rfind("*/").map_or(0, |end| text.len() - end);
    while let Some(start) = rest.find(['/', '-']) {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let can_end = from.len() >= last_end + "/*".len() && last_end > 0;
        let length = if from.starts_with("/*") && !can_end { 0 } else { comment_length(from) };
        if length > 0 {
            out.push(' ');
            rest = &from[length..];
        } else {
            out.push_str(&from[..1]);
            rest = &from[1..];
        }
    }
    out.push_str(rest);
    out
}

/// The bytes of the comment that a text begins with; one to the end of the line holds at least a letter.
fn comment_length(text: &str) -> usize {
    if let Some(inside) = text.strip_prefix("/*") {
        return inside.find("*/").map_or(0, |end| end + 4);
    }
    match text.strip_prefix("--").map(|inside| inside.find('\n').unwrap_or(inside.len())) {
        None | Some(0) => 0,
        Some(length) => length + 2,
    }
}

/// The words and commas outside of quotes and parentheses.
fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\n', '\t']);
        if rest.is_empty() {
            return Ok(tokens);
        }
        if let Some(after) = rest.strip_prefix(',') {
            tokens.push(Token::Comma);
            rest = after;
            continue;
        }
        let (length, is_closed) = word_length(rest, &[' ', '\n', '\t', ',']);
        let (word, after) = rest.split_at(length);
        if !is_closed {
            return Err(format!("unbalanced parenthesis or quoted expression: {word:?}"));
        }
        tokens.push(Token::Word(word));
        rest = after;
    }
}

/// The bytes before the first separator outside of quotes and parentheses, and whether all of those are
/// closed.
fn word_length(text: &str, separators: &[char]) -> (usize, bool) {
    let (mut depth, mut quote, mut previous) = (0_usize, None, ' ');
    for (position, letter) in text.char_indices() {
        if previous != '\\' {
            match (letter, quote) {
                ('(', None) => depth += 1,
                (')', None) => depth = depth.saturating_sub(1),
                ('\'' | '"' | '`', None) => quote = Some(letter),
                (letter, Some(open)) if letter == open => quote = None,
                _ => {}
            }
        }
        if depth == 0 && quote.is_none() && separators.contains(&letter) {
            return (position, true);
        }
        previous = letter;
    }
    (text.len(), depth == 0 && quote.is_none())
}

fn has_several_statements(query: &str) -> bool {
    let (length, _) = word_length(query, &[';']);
    !query[length..].trim_start_matches(';').trim().is_empty()
}

/// What follows `SELECT`, `FROM` and the joins. A second SELECT, as after UNION, goes on in the same lists.
fn parts<'a>(tokens: &[Token<'a>]) -> [Vec<Item<'a>>; 3] {
    let mut lists = [const { Vec::new() }; 3];
    let (mut part, mut is_skipped) = (None, false);
    let mut position = 0;
    while let Some(token) = tokens.get(position) {
        let join = join_length(&tokens[position..]);
        let word = match token {
            Token::Word(word) => word.trim().to_ascii_lowercase(),
            Token::Comma => String::new(),
        };
        position += join.max(1);
        match word.as_str() {
            _ if join > 0 => {
                if part == Some(Part::Join) {
                    lists[Part::Join as usize].push(Item::new());
                }
                (part, is_skipped) = (Some(Part::Join), false);
            }
            "select" => (part, is_skipped) = (Some(Part::Select), false),
            "from" => (part, is_skipped) = (Some(Part::From), false),
            "distinct" => {}
            "where" | "having" | "order" | "limit" | "with" => is_skipped = true,
            "group" if is_word(tokens.get(position), "by") => is_skipped = true,
            _ => {
                is_skipped |= part == Some(Part::Join) && word == "on";
                if let Some(part) = part.filter(|_| !is_skipped) {
                    add(&mut lists[part as usize], *token);
                }
            }
        }
    }
    lists
}

fn add<'a>(items: &mut Vec<Item<'a>>, token: Token<'a>) {
    match token {
        Token::Comma => items.push(Item::new()),
        Token::Word(word) => match items.last_mut() {
            Some(item) => item.push(word),
            None => items.push(vec![word]),
        },
    }
}

/// The words of the join that the tokens begin with: `left outer join`.
fn join_length(tokens: &[Token<'_>]) -> usize {
    let has = |position: usize, words: &[&str]| words.iter().any(|word| is_word(tokens.get(position), word));
    if has(0, &["join"]) {
        1
    } else if has(0, &["cross", "inner", "outer", "left", "right", "full"]) && has(1, &["join"]) {
        2
    } else if has(0, &["left", "right", "full"]) && has(1, &["outer"]) && has(2, &["join"]) {
        3
    } else {
        0
    }
}

fn is_word(token: Option<&Token<'_>>, word: &str) -> bool {
    matches!(token, Some(Token::Word(other)) if other.eq_ignore_ascii_case(word))
}

fn named(items: Vec<Item<'_>>) -> Result<Vec<Named>, String> {
    items.iter().filter(|item| !item.is_empty()).map(|item| one_named(item)).collect()
}

fn one_named(item: &[&str]) -> Result<Named, String> {
    let (original, alias) = match *item {
        [one] => (one, one.rsplit('.').next().unwrap_or(one)),
        [original, alias] => (original, alias),
        [original, word, alias] if word.eq_ignore_ascii_case("as") => (original, alias),
        [_, word, _] => return Err(format!("invalid identifier part - expected \"as\", got {word}")),
        _ => return Err(format!("invalid identifier parts [{}]", item.join(" "))),
    };
    // An alias may stand in single quotes, too, as SQLite allows it.
    Ok(Named { original: unquoted(original, ""), alias: unquoted(alias, "'") })
}

/// A dotted name without the quotes of its parts.
fn unquoted(name: &str, more_quotes: &str) -> String {
    let is_quote = |letter: char| "`\"[];".contains(letter) || more_quotes.contains(letter);
    let parts: Vec<&str> = name.split('.').map(|part| part.trim_matches(is_quote)).collect();
    parts.join(".")
}
