//! From tokens to a condition:
//!
//! ```text
//! any        = all ("or" all)*
//! all        = one ("and" one)*
//! one        = "not" one | "(" any ")" | comparison
//! comparison = "length" "(" field ")" order NUMBER
//!            | "ip" ("==" | "!=" | "in") texts
//!            | field test TEXT | field ("==" | "!=" | "in") texts
//! field      = "lower" "(" plain ")" | plain
//! plain      = "method" | "path" | "raw_path" | "query" | "host" | "header" "[" TEXT "]"
//! texts      = TEXT | "[" TEXT ("," TEXT)* "]"
//! ```

use super::condition::{Order, Term, Test, Word};
use super::head::Field;
use super::tokens::{BadCondition, Kind, Token, bad, tokens};
use crate::networks::Networks;

/// How deep parentheses and `not` may stand within each other.
const MAX_DEPTH: usize = 32;

const FIELDS: &str = "method, path, raw_path, query, host, header[\"name\"], ip or length(…)";
const TESTS: &str = "==, !=, contains, starts_with, ends_with, matches or in";
const ORDERS: &str = "==, !=, <, <=, > or >=";

pub(super) fn parse(text: &str) -> Result<Term, BadCondition> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, depth: 0 };
    let term = parser.any()?;
    match parser.next() {
        Token { kind: Kind::End, .. } => Ok(term),
        other => Err(wrong(other, "and, or, or nothing more")),
    }
}

struct Parser<'t> {
    /// What is left; the last is [`Kind::End`].
    tokens: &'t [Token<'t>],
    depth: usize,
}

/// A text of a request, as a condition has it.
struct Operand {
    field: Field,
    ignores_case: bool,
    /// By `lower(…)`, which has no capitals.
    is_lower: bool,
}

impl<'t> Parser<'t> {
    fn any(&mut self) -> Result<Term, BadCondition> {
        let mut terms = vec![self.all()?];
        while self.take(Kind::Word("or")) {
            terms.push(self.all()?);
        }
        Ok(joined(terms, Term::Any))
    }

    fn all(&mut self) -> Result<Term, BadCondition> {
        let mut terms = vec![self.one()?];
        while self.take(Kind::Word("and")) {
            terms.push(self.one()?);
        }
        Ok(joined(terms, Term::All))
    }

    fn one(&mut self) -> Result<Term, BadCondition> {
        let at = self.peek();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(bad(at.column, format!("is nested deeper than {MAX_DEPTH}; write several rules")));
        }
        let term = if self.take(Kind::Word("not")) {
            Term::Not(Box::new(self.one()?))
        } else if self.take(Kind::Symbol("(")) {
            let inner = self.any()?;
            self.expect(Kind::Symbol(")"))?;
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn comparison(&mut self) -> Result<Term, BadCondition> {
        if self.take(Kind::Word("length")) {
            return self.length();
        }
        if self.take(Kind::Word("ip")) {
            return self.address();
        }
        let operand = self.field()?;
        let operator = self.next();
        let is = |words: Vec<Word>| Term::Text(operand.field.clone(), Test::IsOneOf(words));
        match operator.kind {
            Kind::Symbol("==") => Ok(is(vec![self.word(&operand)?])),
            Kind::Symbol("!=") => Ok(Term::Not(Box::new(is(vec![self.word(&operand)?])))),
            Kind::Word("in") => Ok(is(self.list(|parser| parser.word(&operand))?)),
            Kind::Word("starts_with") => {
                Ok(Term::Text(operand.field.clone(), Test::StartsWith(self.part(&operand)?)))
            }
            Kind::Word("ends_with") => {
                Ok(Term::Text(operand.field.clone(), Test::EndsWith(self.part(&operand)?)))
            }
            Kind::Word("contains") => {
                let at = self.peek().column;
                let part = self.part(&operand)?;
                let text = String::from_utf8_lossy(&part.bytes);
                let test = Test::contains(&text, part.ignores_case).map_err(|message| bad(at, message))?;
                Ok(Term::Text(operand.field, test))
            }
            Kind::Word("matches") => {
                let (at, pattern) = self.text("a pattern between quotes")?;
                let test =
                    Test::matches(pattern, operand.ignores_case).map_err(|message| bad(at, message))?;
                Ok(Term::Text(operand.field, test))
            }
            _ => Err(wrong(operator, TESTS)),
        }
    }

    /// What follows `length`.
    fn length(&mut self) -> Result<Term, BadCondition> {
        self.expect(Kind::Symbol("("))?;
        let field = self.plain_field()?;
        self.expect(Kind::Symbol(")"))?;
        let operator = self.next();
        let order = match operator.kind {
            Kind::Symbol("==" | "!=") => Order::Equal,
            Kind::Symbol("<") => Order::Less,
            Kind::Symbol("<=") => Order::LessOrEqual,
            Kind::Symbol(">") => Order::Greater,
            Kind::Symbol(">=") => Order::GreaterOrEqual,
            _ => return Err(wrong(operator, ORDERS)),
        };
        let number = self.next();
        let Kind::Number(than) = number.kind else { return Err(wrong(number, "a number of bytes")) };
        let term = Term::Length(field, order, than);
        Ok(if operator.kind == Kind::Symbol("!=") { Term::Not(Box::new(term)) } else { term })
    }

    /// What follows `ip`.
    fn address(&mut self) -> Result<Term, BadCondition> {
        let operator = self.next();
        if !matches!(operator.kind, Kind::Symbol("==" | "!=") | Kind::Word("in")) {
            return Err(wrong(operator, "in, == or !="));
        }
        let at = self.peek().column;
        let listed = self.list(|parser| Ok(parser.text("an address or network between quotes")?.1))?;
        let networks = Networks::parse(listed).map_err(|text| {
            bad(at, format!("{text:?} is no address; write addresses and networks such as \"10.0.0.0/8\""))
        })?;
        let term = Term::ComesFrom(networks);
        Ok(if operator.kind == Kind::Symbol("!=") { Term::Not(Box::new(term)) } else { term })
    }

    fn field(&mut self) -> Result<Operand, BadCondition> {
        let is_lower = self.take(Kind::Word("lower"));
        if is_lower {
            self.expect(Kind::Symbol("("))?;
        }
        let field = self.plain_field()?;
        if is_lower {
            self.expect(Kind::Symbol(")"))?;
        }
        // A host is the same in capitals.
        let ignores_case = is_lower || field == Field::Host;
        Ok(Operand { field, ignores_case, is_lower })
    }

    fn plain_field(&mut self) -> Result<Field, BadCondition> {
        let name = self.next();
        Ok(match name.kind {
            Kind::Word("method") => Field::Method,
            Kind::Word("path") => Field::Path,
            Kind::Word("raw_path") => Field::RawPath,
            Kind::Word("query") => Field::Query,
            Kind::Word("host") => Field::Host,
            Kind::Word("header") => self.header()?,
            _ => return Err(wrong(name, FIELDS)),
        })
    }

    /// What follows `header`.
    fn header(&mut self) -> Result<Field, BadCondition> {
        const EXPECTED: &str = "the header's name between quotes";
        self.expect(Kind::Symbol("["))?;
        let (at, name) = self.text(EXPECTED)?;
        let name = name.parse().map_err(|_| bad(at, format!("{name:?} is no header; write {EXPECTED}")))?;
        self.expect(Kind::Symbol("]"))?;
        Ok(Field::Header(name))
    }

    /// A text to compare with.
    fn word(&mut self, operand: &Operand) -> Result<Word, BadCondition> {
        let (at, text) = self.text("a text between quotes")?;
        if operand.is_lower && text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let lower = text.to_ascii_lowercase();
            return Err(bad(at, format!("lower(…) has no capitals, and {text:?} has; write {lower:?}")));
        }
        Ok(Word { bytes: text.as_bytes().into(), ignores_case: operand.ignores_case })
    }

    /// A text to look for. An empty one stands everywhere.
    fn part(&mut self, operand: &Operand) -> Result<Word, BadCondition> {
        let at = self.peek().column;
        let word = self.word(operand)?;
        if word.bytes.is_empty() {
            return Err(bad(at, "an empty text stands in every other; write what is to be there"));
        }
        Ok(word)
    }

    /// One of these, or several in brackets.
    fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, BadCondition>,
    ) -> Result<Vec<T>, BadCondition> {
        if !self.take(Kind::Symbol("[")) {
            return Ok(vec![item(self)?]);
        }
        let mut items = vec![item(self)?];
        while self.take(Kind::Symbol(",")) {
            items.push(item(self)?);
        }
        self.expect(Kind::Symbol("]"))?;
        Ok(items)
    }

    fn text(&mut self, expected: &str) -> Result<(usize, &'t str), BadCondition> {
        match self.next() {
            Token { kind: Kind::Text(text), column } => Ok((column, text)),
            other => Err(wrong(other, expected)),
        }
    }

    fn expect(&mut self, kind: Kind<'static>) -> Result<(), BadCondition> {
        match self.next() {
            found if found.kind == kind => Ok(()),
            found => Err(wrong(found, &kind.to_string())),
        }
    }

    fn take(&mut self, kind: Kind<'static>) -> bool {
        let is_there = self.peek().kind == kind;
        if is_there {
            self.next();
        }
        is_there
    }

    fn peek(&self) -> Token<'t> {
        self.tokens.first().copied().unwrap_or(Token { kind: Kind::End, column: 1 })
    }

    fn next(&mut self) -> Token<'t> {
        let next = self.peek();
        if next.kind != Kind::End {
            self.tokens = &self.tokens[1..];
        }
        next
    }
}

fn joined(mut terms: Vec<Term>, join: impl Fn(Vec<Term>) -> Term) -> Term {
    match terms.pop() {
        Some(only) if terms.is_empty() => only,
        Some(last) => {
            terms.push(last);
            join(terms)
        }
        None => join(terms),
    }
}

fn wrong(found: Token<'_>, expected: &str) -> BadCondition {
    bad(found.column, format!("{} is not right here; write {expected}", found.kind))
}
