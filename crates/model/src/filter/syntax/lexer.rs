//! The pieces of a filter text.

use std::fmt;

use super::Sign;
use crate::filter::{FilterError, Operator};

/// Functions inside functions: the contract's bound.
const MAX_FUNCTION_DEPTH: usize = 3;

/// An operand as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::filter) struct Token {
    /// The name, the digits, or the decoded text.
    pub(in crate::filter) text: String,
    /// What it is.
    pub(in crate::filter) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::filter) enum TokenKind {
    /// A field path, a keyword or a macro.
    Identifier,
    /// A finite number.
    Number(f64),
    /// A quoted text.
    Text,
    /// A call with these arguments.
    Function(Vec<Token>),
}

/// The next thing in a text.
pub(super) enum Piece<'a> {
    Operand(Token),
    Sign(Sign),
    And,
    Or,
    /// What stands between a bracket and its partner.
    Group(&'a str),
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        // A NUL outside quotes ends the text right after a text or a group and is read over elsewhere;
        // inside quotes it leaves the quote open, an error (seen).
        Lexer { text, at: 0 }
    }

    /// The next piece; `None` at the end.
    pub(super) fn next_piece(&mut self) -> Result<Option<Piece<'a>>, FilterError> {
        self.skip_blank();
        let Some(first) = self.peek() else { return Ok(None) };
        let piece = match first {
            '(' => Piece::Group(self.group()?),
            '=' | '!' | '>' | '<' | '~' | '?' => Piece::Sign(self.sign()?),
            '&' | '|' => self.join()?,
            _ => Piece::Operand(self.operand(0)?),
        };
        Ok(Some(piece))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next().filter(|next| *next != '\0')
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            if rest.starts_with([' ', '\t', '\n']) || rest.starts_with('\0') && self.reads_over_nul() {
                self.at += 1;
            } else if rest.starts_with("//") {
                self.at += rest.find(['\n', '\0']).unwrap_or(rest.len());
            } else {
                return;
            }
        }
    }

    fn reads_over_nul(&self) -> bool {
        self.at > 0 && !self.text[..self.at].ends_with(['\'', '"', ')'])
    }

    fn take_while(&mut self, mut belongs: impl FnMut(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.find(|next| !belongs(next)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn operand(&mut self, depth: usize) -> Result<Token, FilterError> {
        match self.peek() {
            Some('a'..='z' | 'A'..='Z' | '_' | '@' | '#') => self.name(depth),
            Some('0'..='9' | '-') => self.number(),
            Some('\'' | '"') => self.quoted(),
            Some(other) => Err(FilterError(format!("unexpected character {}", quote_char(other)))),
            None => Err(FilterError::new("invalid or incomplete filter expression")),
        }
    }

    fn name(&mut self, depth: usize) -> Result<Token, FilterError> {
        let name = self
            .take_while(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '@' | '#' | '.' | ':'));
        let ends_well = name.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_');
        if !ends_well || name == "_" {
            return Err(FilterError(format!("invalid identifier {}", quote(name))));
        }
        let kind = match self.peek() {
            Some('(') => TokenKind::Function(self.arguments(name, depth)?),
            _ => TokenKind::Identifier,
        };
        Ok(Token { text: name.to_owned(), kind })
    }

    /// The arguments of a function, brackets and all. A comma before the closing bracket is accepted.
    fn arguments(&mut self, name: &str, depth: usize) -> Result<Vec<Token>, FilterError> {
        if depth >= MAX_FUNCTION_DEPTH {
            return Err(FilterError(format!("max nested function arguments reached in {}", quote(name))));
        }
        self.at += 1;
        let mut arguments = Vec::new();
        loop {
            self.skip_blank();
            if self.peek() == Some(')') {
                self.at += 1;
                return Ok(arguments);
            }
            arguments.push(self.operand(depth + 1)?);
            self.skip_blank();
            match self.peek() {
                Some(',') => self.at += 1,
                Some(')') => {}
                _ => return Err(FilterError(format!("invalid arguments of function {}", quote(name)))),
            }
        }
    }

    fn number(&mut self) -> Result<Token, FilterError> {
        let start = self.at;
        if self.peek() == Some('-') {
            self.at += 1;
        }
        let mut dots = 0;
        self.take_while(|next| {
            dots += usize::from(next == '.');
            next.is_ascii_digit() || (next == '.' && dots == 1)
        });
        let digits = &self.text[start..self.at];
        let number = if digits.ends_with('.') { None } else { digits.parse().ok() };
        match number.filter(|number: &f64| number.is_finite()) {
            Some(number) => Ok(Token { text: digits.to_owned(), kind: TokenKind::Number(number) }),
            None => Err(FilterError(format!("invalid number {}", quote(digits)))),
        }
    }

    fn quoted(&mut self) -> Result<Token, FilterError> {
        let start = self.at;
        let end = self
            .quote_end(start)
            .ok_or_else(|| FilterError(format!("invalid quoted text {}", quote(&self.text[start..]))))?;
        self.at = end;
        Ok(Token { text: decode(&self.text[start + 1..end - 1]), kind: TokenKind::Text })
    }

    /// Where the text quoted from `start` ends, past its closing quote.
    fn quote_end(&self, start: usize) -> Option<usize> {
        let mut bytes = self.text.as_bytes()[start..].iter().enumerate();
        let (_, mark) = bytes.next()?;
        while let Some((offset, byte)) = bytes.next() {
            match byte {
                0 => return None,
                b'\\' => {
                    bytes.next().filter(|(_, escaped)| **escaped != 0)?;
                }
                _ if byte == mark => return Some(start + offset + 1),
                _ => {}
            }
        }
        None
    }

    fn group(&mut self) -> Result<&'a str, FilterError> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut open = 1;
        let mut at = start;
        while open > 0 {
            match bytes.get(at) {
                None | Some(0) => {
                    let text = format!("invalid formatted group - missing {open} closing bracket(s)");
                    return Err(FilterError(text));
                }
                Some(b'(') => open += 1,
                Some(b')') => open -= 1,
                Some(b'\'' | b'"') => {
                    let end = self.quote_end(at).ok_or_else(|| {
                        FilterError(format!("invalid quoted text {}", quote(&self.text[at..])))
                    })?;
                    at = end - 1;
                }
                Some(_) => {}
            }
            at += 1;
        }
        self.at = at;
        Ok(&self.text[start..at - 1])
    }

    fn sign(&mut self) -> Result<Sign, FilterError> {
        let text = self.take_while(|next| matches!(next, '=' | '!' | '>' | '<' | '~' | '?'));
        let (any, operator) = match text.strip_prefix('?') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let operator = match operator {
            "=" => Operator::Equal,
            "!=" => Operator::NotEqual,
            "~" => Operator::Like,
            "!~" => Operator::NotLike,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            _ => return Err(FilterError(format!("invalid sign operator {}", quote(text)))),
        };
        Ok(Sign { operator, any })
    }

    fn join(&mut self) -> Result<Piece<'a>, FilterError> {
        match self.take_while(|next| matches!(next, '&' | '|')) {
            "&&" => Ok(Piece::And),
            "||" => Ok(Piece::Or),
            other => Err(FilterError(format!("invalid join operator {}", quote(other)))),
        }
    }
}

/// The six escapes; any other pair stays as it was typed.
fn decode(raw: &str) -> String {
    let mut decoded = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(position) = rest.find('\\') {
        decoded.push_str(&rest[..position]);
        let mut after = rest[position + 1..].chars();
        match after.next() {
            Some(plain @ ('\\' | '\'' | '"')) => decoded.push(plain),
            Some('n') => decoded.push('\n'),
            Some('t') => decoded.push('\t'),
            Some('r') => decoded.push('\r'),
            Some(other) => decoded.extend(['\\', other]),
            None => decoded.push('\\'),
        }
        rest = after.as_str();
    }
    decoded.push_str(rest);
    decoded
}

/// A text in double quotes, for error messages.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::new();
    crate::json::write_string(text, &mut quoted);
    quoted
}

fn quote_char(character: char) -> String {
    match character {
        '\'' => "'\\''".to_owned(),
        '\r' => "'\\r'".to_owned(),
        '\\' => "'\\\\'".to_owned(),
        other => format!("'{other}'"),
    }
}

impl fmt::Display for Piece<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, kind) = match self {
            Piece::Operand(token) => (token.text.as_str(), token.kind.word()),
            Piece::Sign(sign) => (sign.as_str(), "sign"),
            Piece::And => ("&&", "join"),
            Piece::Or => ("||", "join"),
            Piece::Group(text) => (*text, "group"),
        };
        write!(formatter, "{} ({kind})", quote(text))
    }
}

impl Sign {
    fn as_str(self) -> &'static str {
        match (self.any, self.operator) {
            (false, Operator::Equal) => "=",
            (false, Operator::NotEqual) => "!=",
            (false, Operator::Like) => "~",
            (false, Operator::NotLike) => "!~",
            (false, Operator::Less) => "<",
            (false, Operator::LessOrEqual) => "<=",
            (false, Operator::Greater) => ">",
            (false, Operator::GreaterOrEqual) => ">=",
            (true, Operator::Equal) => "?=",
            (true, Operator::NotEqual) => "?!=",
            (true, Operator::Like) => "?~",
            (true, Operator::NotLike) => "?!~",
            (true, Operator::Less) => "?<",
            (true, Operator::LessOrEqual) => "?<=",
            (true, Operator::Greater) => "?>",
            (true, Operator::GreaterOrEqual) => "?>=",
        }
    }
}

impl TokenKind {
    fn word(&self) -> &'static str {
        match self {
            TokenKind::Identifier => "identifier",
            TokenKind::Number(_) => "number",
            TokenKind::Text => "text",
            TokenKind::Function(_) => "function",
        }
    }
}
