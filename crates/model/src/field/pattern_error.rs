//! What is wrong with a regular expression, in the contract's words where they are known.

use regex_syntax::ast;

use super::Pattern;
use super::dialect::translate;
use super::generate::parser;

/// The message of `validation_invalid_regex`, or nothing when the pattern is fine.
pub(super) fn pattern_error(pattern: &str) -> Option<String> {
    let error = match translate(pattern) {
        Err(error) => error,
        Ok(translated) => match parser().parse(&translated) {
            Ok(_) if Pattern::new(pattern).is_valid() => return None,
            Ok(_) => format!("expression nests too deeply: `{pattern}`"),
            Err(regex_syntax::Error::Parse(error)) => parse_error(pattern, &translated, &error),
            Err(error) => error.to_string(),
        },
    };
    Some(format!("error parsing regexp: {error}"))
}

fn parse_error(pattern: &str, translated: &str, error: &ast::Error) -> String {
    use ast::ErrorKind;
    let at = &translated[error.span().start.offset..error.span().end.offset];
    match error.kind() {
        ErrorKind::GroupUnclosed => format!("missing closing ): `{pattern}`"),
        ErrorKind::GroupUnopened => format!("unexpected ): `{pattern}`"),
        ErrorKind::ClassRangeInvalid => format!("invalid character class range: `{at}`"),
        ErrorKind::RepetitionMissing => format!("missing argument to repetition operator: `{at}`"),
        ErrorKind::EscapeUnrecognized | ErrorKind::UnsupportedBackreference => {
            format!("invalid escape sequence: `{at}`")
        }
        kind => kind.to_string(),
    }
}
