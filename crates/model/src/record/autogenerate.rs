//! Random texts from a regular expression (`autogeneratePattern`), such as record ids.

use rand::{Rng, RngExt};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

use crate::dialect::translate;

/// How often an unbounded repetition repeats at most.
const MAX_UNBOUNDED: u32 = 6;

/// Appends a random text that matches the pattern: nothing for an empty one, or one that
/// [`is_supported`] does not accept.
pub fn generate(pattern: &str, random: &mut impl Rng, out: &mut String) {
    if let Some(plain) = PlainPattern::read(pattern) {
        return plain.generate(random, out);
    }
    if let Some(expression) = parse(pattern) {
        write(&expression, random, out);
    }
}

/// Whether texts can be generated from a pattern: it is a regular expression without anchors.
pub fn is_supported(pattern: &str) -> bool {
    parse(pattern).is_some_and(|expression| expression.properties().look_set().is_empty())
}

fn parse(pattern: &str) -> Option<Hir> {
    regex_syntax::ParserBuilder::new().build().parse(&translate(pattern)).ok()
}

fn write(expression: &Hir, random: &mut impl Rng, out: &mut String) {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(Class::Unicode(class)) => out.extend(pick(class, random)),
        HirKind::Class(Class::Bytes(_)) => {}
        HirKind::Capture(capture) => write(&capture.sub, random, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write(part, random, out)),
        HirKind::Alternation(parts) => write(&parts[random.random_range(0..parts.len())], random, out),
        HirKind::Repetition(repetition) => {
            let max = repetition.max.unwrap_or(MAX_UNBOUNDED).max(repetition.min);
            for _ in 0..random.random_range(repetition.min..=max) {
                write(&repetition.sub, random, out);
            }
        }
    }
}

/// A character of a class: a letter or digit if it has one, else a printable ASCII character, else any.
fn pick(class: &ClassUnicode, random: &mut impl Rng) -> Option<char> {
    let letters_and_digits = [('0', '9'), ('A', 'Z'), ('a', 'z')];
    [&letters_and_digits[..], &[(' ', '~')], &[('\0', char::MAX)]].iter().find_map(|preferred| {
        let mut candidates = class.clone();
        candidates.intersect(&ClassUnicode::new(
            preferred.iter().map(|(start, end)| ClassUnicodeRange::new(*start, *end)),
        ));
        pick_any(&candidates, random)
    })
}

fn pick_any(class: &ClassUnicode, random: &mut impl Rng) -> Option<char> {
    let ranges = class.ranges();
    let size = |range: &ClassUnicodeRange| u32::from(range.end()) - u32::from(range.start()) + 1;
    let total: u32 = ranges.iter().map(size).sum();
    if total == 0 {
        return None;
    }
    let mut position = random.random_range(0..total);
    for range in ranges {
        if position < size(range) {
            // A range may span the surrogates, which are no characters.
            return Some(char::from_u32(u32::from(range.start()) + position).unwrap_or(range.start()));
        }
        position -= size(range);
    }
    None
}

/// The common form, `[a-z0-9]{15}`: ASCII letters and digits in brackets, and how many of them.
/// Read in place, so that an id costs no parse of a regular expression.
struct PlainPattern {
    alphabet: [u8; 62],
    size: usize,
    count: usize,
}

impl PlainPattern {
    fn read(pattern: &str) -> Option<PlainPattern> {
        let (class, count) = pattern.strip_prefix('[')?.strip_suffix('}')?.split_once("]{")?;
        let mut plain = PlainPattern { alphabet: [0; 62], size: 0, count: count.parse().ok()? };
        let mut class = class.as_bytes();
        while let [start, rest @ ..] = class {
            let (end, rest) = match rest {
                [b'-', end, rest @ ..] => (end, rest),
                _ => (start, rest),
            };
            plain.add(*start, *end)?;
            class = rest;
        }
        (plain.size > 0).then_some(plain)
    }

    /// Adds a range; gives up on one that overlaps, runs backwards, or has other characters.
    fn add(&mut self, start: u8, end: u8) -> Option<()> {
        for byte in start..=end {
            if !byte.is_ascii_alphanumeric() || self.alphabet[..self.size].contains(&byte) {
                return None;
            }
            self.alphabet[self.size] = byte;
            self.size += 1;
        }
        (start <= end).then_some(())
    }

    fn generate(&self, random: &mut impl Rng, out: &mut String) {
        out.extend((0..self.count).map(|_| char::from(self.alphabet[random.random_range(0..self.size)])));
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use regex::Regex;

    use super::*;

    #[test]
    fn generated_texts_match_their_pattern() {
        let patterns = [
            "[a-z0-9]{15}",
            "[a-zA-Z0-9]{50}",
            "[abc]{3}",
            "[a-aa]{3}",
            "[a-]{4}",
            "[z-]{4}",
            "x-[0-9]{3,5}(a|bc|d)?",
            "\\d+\\w*\\s.",
            "[^a]{5}",
            "é{2}[\\x{1F600}-\\x{1F64F}]",
            "(?i)abc",
            "a{0}b?",
        ];
        let mut random = StdRng::seed_from_u64(7);
        for pattern in patterns {
            let expected = Regex::new(&format!("^(?:{pattern})$")).unwrap();
            for _ in 0..200 {
                let mut text = String::new();
                generate(pattern, &mut random, &mut text);
                assert!(expected.is_match(&text), "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn anchors_and_bad_expressions_are_not_supported() {
        assert!(is_supported("[a-z]{3}") && is_supported(".+"));
        assert!(!is_supported("^a$") && !is_supported("[a") && !is_supported("a\\b"));
    }

    #[test]
    fn every_character_of_an_alphabet_comes_up() {
        let mut random = StdRng::seed_from_u64(7);
        let mut text = String::new();
        generate("[a-c]{300}", &mut random, &mut text);
        assert!(text.len() == 300 && "abc".chars().all(|char| text.contains(char)));
    }
}
