//! Conditions on a request's head, ready to be asked.

use std::str::FromStr;

use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

use super::head::{Field, Head};
use super::parser;
use super::tokens::BadCondition;
use crate::networks::Networks;

/// How large what a pattern is made into may be, and what is remembered while one is looked for.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// A condition.
#[derive(Debug, Clone)]
pub struct Condition {
    /// As it was written.
    text: String,
    term: Term,
}

/// A part of a condition.
#[derive(Debug, Clone)]
pub(super) enum Term {
    All(Vec<Term>),
    Any(Vec<Term>),
    Not(Box<Term>),
    /// Of the client's address.
    ComesFrom(Networks),
    Text(Field, Test),
    Length(Field, Order, u64),
}

/// What is asked of a text.
#[derive(Debug, Clone)]
pub(super) enum Test {
    IsOneOf(Vec<Word>),
    StartsWith(Word),
    EndsWith(Word),
    Contains(Box<Finder<'static>>),
    Matches(Regex),
}

/// A text that another is compared with.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) bytes: Box<[u8]>,
    pub(super) ignores_case: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

// === impl Condition ===

impl Condition {
    pub(super) fn holds(&self, head: &Head<'_>) -> bool {
        self.term.holds(head)
    }
}

impl FromStr for Condition {
    type Err = BadCondition;

    fn from_str(text: &str) -> Result<Self, BadCondition> {
        Ok(Self { text: text.to_owned(), term: parser::parse(text)? })
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

// === impl Term ===

impl Term {
    fn holds(&self, head: &Head<'_>) -> bool {
        match self {
            Self::All(terms) => terms.iter().all(|term| term.holds(head)),
            Self::Any(terms) => terms.iter().any(|term| term.holds(head)),
            Self::Not(term) => !term.holds(head),
            Self::ComesFrom(networks) => head.client.is_some_and(|client| networks.contain(client)),
            Self::Text(field, test) => head.any(field, |text| test.passes(text)),
            Self::Length(field, order, than) => order.holds(head.length(field), *than),
        }
    }
}

// === impl Test ===

impl Test {
    pub(super) fn contains(text: &str, ignores_case: bool) -> Result<Self, String> {
        if ignores_case {
            return Self::matches(&regex::escape(text), true);
        }
        Ok(Self::Contains(Box::new(Finder::new(text.as_bytes()).into_owned())))
    }

    pub(super) fn matches(pattern: &str, ignores_case: bool) -> Result<Self, String> {
        let built = RegexBuilder::new(pattern)
            .case_insensitive(ignores_case)
            // Folding all of Unicode's letters makes large patterns of small ones.
            .unicode(!(ignores_case && pattern.is_ascii()))
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES)
            .nest_limit(32)
            .build();
        built.map(Self::Matches).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern is too large".to_owned(),
            error => {
                let text = error.to_string();
                // Its lines draw where it is.
                let last = text.lines().last().unwrap_or_default();
                format!("the pattern cannot be read: {}", last.trim_start_matches("error: "))
            }
        })
    }

    fn passes(&self, text: &[u8]) -> bool {
        match self {
            Self::IsOneOf(words) => words.iter().any(|word| word.is(text)),
            Self::StartsWith(word) => text.get(..word.bytes.len()).is_some_and(|start| word.is(start)),
            Self::EndsWith(word) => {
                let start = text.len().checked_sub(word.bytes.len());
                start.is_some_and(|start| word.is(&text[start..]))
            }
            Self::Contains(finder) => finder.find(text).is_some(),
            Self::Matches(pattern) => pattern.is_match(text),
        }
    }
}

// === impl Word ===

impl Word {
    fn is(&self, text: &[u8]) -> bool {
        if self.ignores_case { self.bytes.eq_ignore_ascii_case(text) } else { *self.bytes == *text }
    }
}

// === impl Order ===

impl Order {
    fn holds(self, length: u64, than: u64) -> bool {
        match self {
            Self::Equal => length == than,
            Self::Less => length < than,
            Self::LessOrEqual => length <= than,
            Self::Greater => length > than,
            Self::GreaterOrEqual => length >= than,
        }
    }
}
