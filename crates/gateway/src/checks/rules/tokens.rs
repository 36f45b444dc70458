//! The text of a condition, cut into words, texts, numbers and symbols.

/// What a condition's text is made of, and the character where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind<'t>,
    pub(super) column: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'t> {
    /// A name, or one of `and`, `or`, `not`, `in` and the like.
    Word(&'t str),
    /// What stands between quotes.
    Text(&'t str),
    Number(u64),
    Symbol(&'static str),
    /// Behind the last.
    End,
}

/// Why a text is no condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {column}: {message}")]
pub struct BadCondition {
    /// The first character is 1.
    pub column: usize,
    /// What is wrong, and what to write.
    pub message: String,
}

/// The longer before the shorter.
const SYMBOLS: [&str; 11] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ","];

/// How long a condition may be.
const MAX_BYTES: usize = 8 << 10;

/// All of a text, with an [`Kind::End`] at its end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, BadCondition> {
    if text.len() > MAX_BYTES {
        return Err(bad(1, format!("a condition has at most {MAX_BYTES} bytes; write several rules")));
    }
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    let column = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
    while !rest.is_empty() {
        let at = column(rest);
        let (kind, length) = token(rest).map_err(|message| bad(at, message))?;
        tokens.push(Token { kind, column: at });
        rest = rest[length..].trim_start();
    }
    tokens.push(Token { kind: Kind::End, column: column(rest) });
    Ok(tokens)
}

pub(super) fn bad(column: usize, message: impl Into<String>) -> BadCondition {
    BadCondition { column, message: message.into() }
}

/// The first token of a text, and how many bytes it takes.
fn token(text: &str) -> Result<(Kind<'_>, usize), String> {
    if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| text.starts_with(symbol)) {
        return Ok((Kind::Symbol(symbol), symbol.len()));
    }
    let first = text.chars().next().unwrap_or_default();
    if matches!(first, '"' | '\'') {
        let inner = &text[1..];
        let Some(end) = inner.find(first) else {
            return Err(format!("the text has no end; write {first} behind it"));
        };
        return Ok((Kind::Text(&inner[..end]), end + 2));
    }
    let end = text.find(|character: char| !is_of_a_word(character)).unwrap_or(text.len());
    let word = &text[..end];
    match first {
        _ if word.is_empty() => Err(format!("{first:?} stands for nothing; texts stand between \" or '")),
        '0'..='9' => match word.parse() {
            Ok(number) => Ok((Kind::Number(number), end)),
            Err(_) => Err(format!("{word} is no number; write one such as 2000, or a text between quotes")),
        },
        _ => Ok((Kind::Word(word), end)),
    }
}

fn is_of_a_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

// === impl Kind ===

impl std::fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{word:?}"),
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Symbol(symbol) => write!(f, "{symbol:?}"),
            Self::End => f.write_str("the end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_into_its_tokens_and_their_places() {
        let found = tokens(" path!= 'a\"b' \u{e9}").unwrap_err();
        assert_eq!((found.column, found.message.starts_with("'\u{e9}'")), (15, true), "{found}");
        let found = tokens("length(path)>=20 and x").unwrap();
        let kinds: Vec<String> = found.iter().map(|token| token.kind.to_string()).collect();
        let expected =
            ["\"length\"", "\"(\"", "\"path\"", "\")\"", "\">=\"", "20", "\"and\"", "\"x\"", "the end"];
        assert_eq!(kinds, expected);
        assert_eq!(found[6].column, 18);
    }

    #[test]
    fn what_is_no_token_says_what_to_write() {
        for (text, expected) in [
            ("path == \"a", "at character 9: the text has no end; write \" behind it"),
            ("path = \"a\"", "at character 6: '=' stands for nothing; texts stand between \" or '"),
            ("1x", "at character 1: 1x is no number"),
            ("99999999999999999999", "at character 1: 99999999999999999999 is no number"),
        ] {
            let found = tokens(text).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}");
        }
        assert!(tokens(&" ".repeat(9000)).is_err());
    }
}
