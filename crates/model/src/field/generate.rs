//! Random text that matches a pattern: the values of `autogeneratePattern`.

use rand::{Rng, RngExt};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::dialect::translate;

/// Repetitions without an upper bound are held at this, as in the contract.
const MOST_REPEATS: u32 = 6;

/// Why nothing can be generated. The text goes into a field message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GenerateError(String);

/// A text that matches the pattern. Anchors and word boundaries are errors.
pub fn generate(pattern: &str, rng: &mut impl Rng) -> Result<String, GenerateError> {
    let translated = translate(pattern).map_err(GenerateError)?;
    let hir = parser().parse(&translated).map_err(|error| GenerateError(error.to_string()))?;
    let mut text = String::new();
    write(&hir, rng, &mut text)?;
    Ok(text)
}

/// The one set of regular expression options of the crate.
pub(super) fn parser() -> regex_syntax::Parser {
    regex_syntax::Parser::new()
}

fn write(hir: &Hir, rng: &mut impl Rng, text: &mut String) -> Result<(), GenerateError> {
    match hir.kind() {
        // The numbers are those of the contract's regular expression operators.
        HirKind::Empty => Err(unsupported(2)),
        HirKind::Look(look) => Err(unsupported(look_operator(*look))),
        HirKind::Literal(literal) => {
            text.push_str(&String::from_utf8_lossy(&literal.0));
            Ok(())
        }
        HirKind::Class(class) => {
            text.push(choose(class, rng)?);
            Ok(())
        }
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(MOST_REPEATS).max(repetition.min);
            // The upper bound itself is never reached, as in the contract, unless it is the lower one.
            let count = if most == repetition.min { most } else { rng.random_range(repetition.min..most) };
            (0..count).try_for_each(|_| write(&repetition.sub, rng, text))
        }
        HirKind::Capture(capture) => write(&capture.sub, rng, text),
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, rng, text)),
        HirKind::Alternation(choices) => write(&choices[rng.random_range(0..choices.len())], rng, text),
    }
}

fn look_operator(look: regex_syntax::hir::Look) -> u8 {
    use regex_syntax::hir::Look;
    match look {
        Look::Start => 9,
        Look::End => 10,
        Look::StartLF | Look::StartCRLF => 7,
        Look::EndLF | Look::EndCRLF => 8,
        Look::WordAsciiNegate | Look::WordUnicodeNegate => 12,
        _ => 11,
    }
}

fn unsupported(operator: u8) -> GenerateError {
    GenerateError(format!("unsupported pattern operator {operator}"))
}

fn choose(class: &Class, rng: &mut impl Rng) -> Result<char, GenerateError> {
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => {
            class.ranges().iter().map(|range| (range.start().into(), range.end().into())).collect()
        }
        Class::Bytes(class) => {
            class.ranges().iter().map(|range| (range.start().into(), range.end().into())).collect()
        }
    };
    const ALL: (u32, u32) = (0, 0x10_ffff);
    const BUT_NEWLINE: [(u32, u32); 2] = [(0, 9), (11, 0x10_ffff)];
    if ranges == [ALL] || ranges == BUT_NEWLINE {
        // `.` gives a letter or digit, as in the contract.
        return choose_in(&[(65, 90), (97, 122), (48, 57)], rng);
    }
    choose_in(&ranges, rng)
}

fn choose_in(ranges: &[(u32, u32)], rng: &mut impl Rng) -> Result<char, GenerateError> {
    let total: u32 = ranges.iter().map(|(start, end)| end - start + 1).sum();
    if total == 0 {
        return Err(GenerateError("no runes to choose from".to_owned()));
    }
    let mut left = rng.random_range(0..total);
    for (start, end) in ranges {
        let size = end - start + 1;
        if left < size {
            return Ok(char::from_u32(start + left).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        left -= size;
    }
    Err(GenerateError("no runes to choose from".to_owned()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn generated(pattern: &str) -> Result<String, GenerateError> {
        generate(pattern, &mut rand::rngs::StdRng::seed_from_u64(1))
    }

    #[test]
    fn texts_match_their_pattern() {
        for pattern in ["[a-z0-9]{15}", "a{5}", "(a|bc)?x+", ".*", r"\d[^a]", "(?i)ab"] {
            let text = generated(pattern).unwrap();
            assert!(
                regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(&text),
                "{pattern}: {text}"
            );
        }
    }

    #[test]
    fn anchors_are_refused_with_the_contracts_number() {
        assert_eq!(generated("^a$"), Err(GenerateError("unsupported pattern operator 9".to_owned())));
        assert_eq!(generated(r"\bfoo"), Err(GenerateError("unsupported pattern operator 11".to_owned())));
        assert_eq!(generated("()"), Err(GenerateError("unsupported pattern operator 2".to_owned())));
    }
}
