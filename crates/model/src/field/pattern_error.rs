//! What is wrong with a regular expression, in the contract's words where they are known.

use regex_syntax::ast;

use super::generate::parser;

/// The message of `validation_invalid_regex`, or nothing when the pattern is fine.
pub(super) fn pattern_error(pattern: &str) -> Option<String> {
    let error = match parser().parse(pattern) {
        Ok(_) => return None,
        Err(regex_syntax::Error::Parse(error)) => parse_error(pattern, &error),
        Err(error) => error.to_string(),
    };
    Some(format!("error parsing regexp: {error}"))
}

fn parse_error(pattern: &str, error: &ast::Error) -> String {
    use ast::ErrorKind;
    let at = &pattern[error.span().start.offset..error.span().end.offset];
    let from = &pattern[error.span().start.offset..];
    match error.kind() {
        ErrorKind::GroupUnclosed => format!("missing closing ): `{pattern}`"),
        ErrorKind::GroupUnopened => format!("unexpected ): `{pattern}`"),
        ErrorKind::ClassUnclosed => format!("missing closing ]: `{from}`"),
        ErrorKind::ClassRangeInvalid => format!("invalid character class range: `{at}`"),
        ErrorKind::RepetitionMissing => format!("missing argument to repetition operator: `{at}`"),
        ErrorKind::RepetitionCountInvalid => format!("invalid repeat count: `{at}`"),
        ErrorKind::EscapeUnexpectedEof => "trailing backslash at end of expression: ``".to_owned(),
        ErrorKind::EscapeUnrecognized => format!("invalid escape sequence: `{at}`"),
        ErrorKind::UnsupportedLookAround | ErrorKind::FlagUnrecognized => {
            format!("invalid or unsupported Perl syntax: `{at}`")
        }
        kind => kind.to_string(),
    }
}
