//! The contract's dialect of regular expressions (RE2, as in Go), written in that of the `regex` crate.
//!
//! They differ in little: `\w`, `\d`, `\s` and `\b` are ASCII, `[` and `&&` mean nothing in a class,
//! `{` may stand alone, group names may repeat, `\Q…\E` quotes, and one repetition cannot follow another.

use std::iter::Peekable;
use std::str::CharIndices;

/// The same expression for the `regex` crate, or the contract's message about what is wrong. What both
/// dialects refuse may pass here.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    let mut translation = Translation {
        pattern,
        chars: pattern.char_indices().peekable(),
        out: String::new(),
        last_repeat: None,
    };
    translation.run()?;
    Ok(translation.out)
}

struct Translation<'a> {
    pattern: &'a str,
    chars: Peekable<CharIndices<'a>>,
    out: String,
    /// Where the repetition that has just ended began.
    last_repeat: Option<usize>,
}

impl Translation<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some((at, character)) = self.chars.next() {
            let last_repeat = self.last_repeat.take();
            match character {
                '\\' => self.escape(at, false)?,
                '[' => self.class(at)?,
                '(' => self.group(at)?,
                '*' | '+' | '?' => self.repeat(at, at + 1, last_repeat)?,
                '{' => match self.repeat_count(at)? {
                    Some(end) => self.repeat(at, end, last_repeat)?,
                    None => self.out.push_str("\\{"),
                },
                other => self.out.push(other),
            }
        }
        Ok(())
    }

    fn rest(&self, at: usize) -> &str {
        &self.pattern[at..]
    }

    /// Takes characters up to this position.
    fn skip_to(&mut self, end: usize) {
        while self.chars.next_if(|(at, _)| *at < end).is_some() {}
    }

    fn repeat(&mut self, at: usize, end: usize, last_repeat: Option<usize>) -> Result<(), String> {
        self.skip_to(end);
        let lazy = self.chars.next_if(|(_, character)| *character == '?');
        let end = end + usize::from(lazy.is_some());
        if let Some(start) = last_repeat {
            return Err(format!("invalid nested repetition operator: `{}`", &self.pattern[start..end]));
        }
        self.out.push_str(&self.pattern[at..end]);
        self.last_repeat = Some(at);
        Ok(())
    }

    /// The end of `{n}`, `{n,}` or `{n,m}`; nothing when the brace stands for itself.
    fn repeat_count(&self, at: usize) -> Result<Option<usize>, String> {
        const MOST: u32 = 1000;
        let Some(length) = self.rest(at).find('}') else { return Ok(None) };
        let inner = &self.rest(at)[1..length];
        let (min, max) = match inner.split_once(',') {
            Some((min, "")) => (min, min),
            Some((min, max)) => (min, max),
            None => (inner, inner),
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(min) || !is_number(max) {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
        if number(max) > MOST || number(min) > number(max) {
            return Err(format!("invalid repeat count: `{{{inner}}}`"));
        }
        Ok(Some(at + length + 1))
    }

    fn group(&mut self, at: usize) -> Result<(), String> {
        self.out.push('(');
        let Some(rest) = self.rest(at).strip_prefix("(?") else { return Ok(()) };
        let named = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<'));
        if let Some(name) = named.filter(|name| !name.starts_with(['=', '!'])) {
            // Names are of no use here, and may repeat.
            let length = name.find('>').ok_or_else(|| format!("invalid named capture: `(?{rest}`"))?;
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if length == 0 || !name[..length].bytes().all(is_word) {
                let end = self.pattern.len() - name.len() + length + 1;
                return Err(format!("invalid named capture: `{}`", &self.pattern[at..end]));
            }
            self.skip_to(self.pattern.len() - name.len() + length + 1);
            return Ok(());
        }
        let unknown = rest.find(|character| !matches!(character, 'i' | 'm' | 's' | 'U' | '-'));
        match unknown.map(|length| (length, &rest[length..])) {
            Some((_, rest)) if rest.starts_with([':', ')']) => Ok(()),
            Some((length, rest)) => {
                let character = rest.chars().next().map_or(0, char::len_utf8);
                let end = at + 2 + length + character;
                Err(format!("invalid or unsupported Perl syntax: `{}`", &self.pattern[at..end]))
            }
            None => Err(format!("missing argument to repetition operator: `{}`", self.rest(at))),
        }
    }

    fn escape(&mut self, at: usize, in_class: bool) -> Result<(), String> {
        let Some((_, character)) = self.chars.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let set = match character {
            'd' | 'D' => "0-9",
            'w' | 'W' => "0-9A-Za-z_",
            's' | 'S' => "\\t\\n\\f\\r ",
            _ => "",
        };
        match character {
            'd' | 'w' | 's' if in_class => self.out.push_str(set),
            'd' | 'w' | 's' => self.out.push_str(&format!("[{set}]")),
            'D' | 'W' | 'S' => self.out.push_str(&format!("[^{set}]")),
            'b' if !in_class => self.out.push_str("(?-u:\\b)"),
            'Q' if !in_class => self.quote(at),
            'p' | 'P' => self.unicode_class(at),
            '0'..='7' => self.octal(at)?,
            'u' | 'U' => return Err(format!("invalid escape sequence: `\\{character}`")),
            _ if character.is_ascii_punctuation() => {
                self.out.push('\\');
                // Escaped angle brackets mean words' ends to the crate; bare ones are themselves.
                if matches!(character, '<' | '>') {
                    self.out.pop();
                }
                self.out.push(character);
            }
            _ => self.out.extend(['\\', character]),
        }
        Ok(())
    }

    /// `\0` and up to two more digits, or three digits; fewer would refer back to a group.
    fn octal(&mut self, at: usize) -> Result<(), String> {
        let digits = &self.pattern[at + 1..];
        let count = digits.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
        if count == 1 && !digits.starts_with('0') {
            return Err(format!("invalid escape sequence: `\\{}`", &digits[..1]));
        }
        let value = u32::from_str_radix(&digits[..count], 8).unwrap_or_default();
        self.out.push_str(&format!("\\x{{{value:x}}}"));
        self.skip_to(at + 1 + count);
        Ok(())
    }

    /// `\Q` quotes up to `\E`, or to the end.
    fn quote(&mut self, at: usize) {
        let quoted = &self.pattern[at + 2..];
        let length = quoted.find("\\E");
        self.out.push_str(&regex_syntax::escape(&quoted[..length.unwrap_or(quoted.len())]));
        self.skip_to(length.map_or(self.pattern.len(), |length| at + 2 + length + 2));
    }

    fn unicode_class(&mut self, at: usize) {
        let rest = self.rest(at);
        let length = match rest.chars().nth(2) {
            Some('{') => rest.find('}').map_or(rest.len(), |end| end + 1),
            Some(letter) => 2 + letter.len_utf8(),
            None => rest.len(),
        };
        let end = at + length;
        self.out.push_str(&self.pattern[at..end]);
        self.skip_to(end);
    }

    fn class(&mut self, start: usize) -> Result<(), String> {
        self.out.push('[');
        if self.chars.next_if(|(_, character)| *character == '^').is_some() {
            self.out.push('^');
        }
        let mut is_first = true;
        while let Some((at, character)) = self.chars.next() {
            match character {
                ']' if !is_first => {
                    self.out.push(']');
                    return Ok(());
                }
                '\\' => self.escape(at, true)?,
                '[' => self.posix_class(at)?,
                ']' | '&' | '~' => self.out.extend(['\\', character]),
                '-' if self.out.ends_with('-') => self.out.push_str("\\-"),
                other => self.out.push(other),
            }
            is_first = false;
        }
        Err(format!("missing closing ]: `{}`", self.rest(start)))
    }

    /// `[:name:]`, or a bracket that stands for itself.
    fn posix_class(&mut self, at: usize) -> Result<(), String> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        let length = self.rest(at).strip_prefix("[:").and_then(|rest| rest.find(":]"));
        let Some(length) = length else {
            self.out.push_str("\\[");
            return Ok(());
        };
        let end = at + 2 + length + 2;
        let text = &self.pattern[at..end];
        let name = self.pattern[at + 2..end - 2].trim_start_matches('^');
        if !NAMES.contains(&name) {
            return Err(format!("invalid character class range: `{text}`"));
        }
        self.out.push_str(text);
        self.skip_to(end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        regex::Regex::new(&translate(pattern).unwrap()).unwrap().is_match(text)
    }

    #[test]
    fn perl_classes_are_ascii() {
        assert!(matches(r"^\w+\s\d$", "a_1 2") && !matches(r"^\w$", "é") && !matches(r"^\d$", "٣"));
        assert!(matches(r"^[\w-]+$", "a-b") && matches(r"^[^\W]$", "a") && matches(r"^\W$", "é"));
        assert!(matches(r"\bfoo\b", "éfoo"));
    }

    #[test]
    fn brackets_braces_and_names_are_taken_as_in_the_contract() {
        for (pattern, text) in [
            ("^[[a&&b]+$", "[&ab"),
            ("^[]a]$", "]"),
            ("^a{,5}$", "a{,5}"),
            ("^a{$", "a{"),
            ("^a{2,3}?$", "aa"),
            ("(?P<n>a)(?P<n>b)", "ab"),
            (r"^\Qa.b*\E$", "a.b*"),
            (r"^\<\-\@$", "<-@"),
            ("^[[:alpha:]]$", "x"),
            (r"^\p{L}{2}$", "éa"),
            ("(?i)ab", "AB"),
            ("(?:a|b)(?s:.)", "a\n"),
            ("^[+--]$", ","),
        ] {
            assert!(matches(pattern, text), "{pattern}");
        }
    }

    #[test]
    fn what_only_the_contract_refuses_has_its_words() {
        for (pattern, message) in [
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("x{2,1}", "invalid repeat count: `{2,1}`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("(?z)", "invalid or unsupported Perl syntax: `(?z`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("[a", "missing closing ]: `[a`"),
            ("\\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(translate(pattern).unwrap_err(), message);
        }
    }
}
