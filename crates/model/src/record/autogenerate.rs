//! Random texts from a regular expression (`autogeneratePattern`), such as record ids: the common form
//! in place, any other by [`crate::field::generate`].

use rand::{Rng, RngExt};

use crate::field;

/// Appends a random text that matches the pattern: nothing for an empty one, or one from which nothing
/// can be generated. Field options with such a pattern are refused when they are saved.
pub fn generate(pattern: &str, random: &mut impl Rng, out: &mut String) {
    if let Some(plain) = PlainPattern::read(pattern) {
        return plain.generate(random, out);
    }
    if let Ok(text) = field::generate::generate(pattern, random) {
        out.push_str(&text);
    }
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
    fn every_character_of_an_alphabet_comes_up() {
        let mut random = StdRng::seed_from_u64(7);
        let mut text = String::new();
        generate("[a-c]{300}", &mut random, &mut text);
        assert!(text.len() == 300 && "abc".chars().all(|char| text.contains(char)));
    }
}
