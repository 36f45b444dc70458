//! Regular expressions of the contract in the dialect of our library.
//!
//! Both are RE2's kind, but the contract's `\d`, `\w`, `\s` and `\b` are ASCII, its brackets do not nest or
//! know set operators, `\Q...\E` quotes, `\<` is a plain character, and a `{` that starts no count is one
//! too.

use std::iter::Peekable;
use std::str::CharIndices;

const DIGITS: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = "\\t\\n\\f\\r ";

/// The same expression for [`regex`]. What is wrong in the contract's dialect may be right in ours.
pub(crate) fn translate(pattern: &str) -> String {
    let mut translator = Translator {
        pattern,
        chars: pattern.char_indices().peekable(),
        out: String::with_capacity(pattern.len()),
    };
    while let Some((position, char)) = translator.chars.next() {
        match char {
            '\\' => translator.escape(false),
            '[' => translator.class(),
            '{' if !starts_count(&pattern[position + 1..]) => translator.out.push_str("\\{"),
            char => translator.out.push(char),
        }
    }
    translator.out
}

/// Whether what follows a `{` is `n}`, `n,}` or `n,m}`.
fn starts_count(rest: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((count, _)) = rest.split_once('}') else { return false };
    match count.split_once(',') {
        Some((min, max)) => is_number(min) && (max.is_empty() || is_number(max)),
        None => is_number(count),
    }
}

struct Translator<'a> {
    pattern: &'a str,
    chars: Peekable<CharIndices<'a>>,
    out: String,
}

// === impl Translator ===

impl Translator<'_> {
    /// Takes one character if it is this one.
    fn take(&mut self, char: char) -> bool {
        self.chars.next_if(|(_, next)| *next == char).is_some()
    }

    /// What follows a backslash.
    fn escape(&mut self, in_class: bool) {
        let Some((position, char)) = self.chars.next() else { return self.out.push('\\') };
        match char {
            'd' => self.set(DIGITS, false, in_class),
            'D' => self.set(DIGITS, true, in_class),
            'w' => self.set(WORD, false, in_class),
            'W' => self.set(WORD, true, in_class),
            's' => self.set(SPACE, false, in_class),
            'S' => self.set(SPACE, true, in_class),
            'b' if !in_class => self.out.push_str("(?-u:\\b)"),
            'Q' if !in_class => self.quoted(position + 1),
            '0'..='7' => self.octal(char),
            '<' | '>' => self.out.push(char),
            char => self.out.extend(['\\', char]),
        }
    }

    fn set(&mut self, members: &str, is_negated: bool, in_class: bool) {
        if in_class && !is_negated {
            return self.out.push_str(members);
        }
        self.out.push_str(if is_negated { "[^" } else { "[" });
        self.out.push_str(members);
        self.out.push(']');
    }

    /// Up to three octal digits; a single one that is not 0 would refer back, which neither dialect knows.
    fn octal(&mut self, first: char) {
        let mut digits = String::from(first);
        while let Some((_, digit)) =
            self.chars.next_if(|(_, next)| digits.len() < 3 && matches!(next, '0'..='7'))
        {
            digits.push(digit);
        }
        match u32::from_str_radix(&digits, 8) {
            Ok(code) if digits.len() > 1 || first == '0' => self.out.push_str(&format!("\\x{{{code:x}}}")),
            _ => self.out.extend(['\\', first]),
        }
    }

    /// Everything up to `\E`, or to the end.
    fn quoted(&mut self, start: usize) {
        let rest = &self.pattern[start..];
        let literal = rest.split("\\E").next().unwrap_or_default();
        self.out.push_str(&regex::escape(literal));
        let end = start + literal.len() + if literal.len() < rest.len() { "\\E".len() } else { 0 };
        while self.chars.next_if(|(position, _)| *position < end).is_some() {}
    }

    /// What follows an opening bracket, through the closing one.
    fn class(&mut self) {
        self.out.push('[');
        if self.take('^') {
            self.out.push('^');
        }
        if self.take(']') {
            self.out.push_str("\\]");
        }
        while let Some((position, char)) = self.chars.next() {
            match char {
                ']' => return self.out.push(']'),
                '\\' => self.escape(true),
                '[' if self.pattern[position..].starts_with("[:")
                    && self.pattern[position..].contains(":]") =>
                {
                    self.named_class();
                }
                '[' | '&' | '~' => self.out.extend(['\\', char]),
                char => self.out.push(char),
            }
        }
    }

    /// The rest of a class such as `[:alpha:]`.
    fn named_class(&mut self) {
        self.out.push('[');
        for (_, char) in self.chars.by_ref() {
            self.out.push(char);
            if char == ']' {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_the_contract() {
        let cases: &[(&str, &str, bool)] = &[
            ("^\\d+$", "12", true),
            ("^\\d+$", "٣", false),
            ("^\\w+$", "é", false),
            ("^[\\w-]+$", "a-b", true),
            ("^[\\W]$", "é", true),
            ("^\\s$", "\u{a0}", false),
            ("^\\bа", "а", false),
            ("^[[:alpha:]]+$", "ab", true),
            ("^[[a]$", "[", true),
            ("^[a&&b]+$", "&a", true),
            ("^[]a]+$", "]a", true),
            ("^[^]a]$", "b", true),
            ("^\\Qa.b\\E$", "a.b", true),
            ("^\\Qa.b\\E$", "axb", false),
            ("\\Q[", "[", true),
            ("^\\<\\_\\/$", "<_/", true),
            ("^a{,3}$", "a{,3}", true),
            ("^a{2}$", "aa", true),
            ("{", "{", true),
            ("^\\07$", "\u{7}", true),
            ("^\\x{41}\\pL$", "Aé", true),
            ("^(?P<x>a)$", "a", true),
            ("^a$", "a\n", false),
            ("^.$", "\n", false),
            ("a\\z", "a", true),
        ];
        for (pattern, text, matches) in cases {
            let regex = Regex::new(&translate(pattern)).unwrap();
            assert_eq!(regex.is_match(text), *matches, "{pattern} {text:?} {regex}");
        }
    }

    #[test]
    fn back_references_stay_wrong() {
        assert!(Regex::new(&translate("(a)\\1")).is_err());
        assert!(Regex::new(&translate("[a")).is_err());
    }
}
