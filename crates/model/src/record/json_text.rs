//! JSON that is given as a text, for a `json` field: it keeps the order of its keys and the digits of its
//! numbers, and loses its whitespace.

use std::collections::HashSet;

use crate::json::write_string;

/// What a text is.
#[derive(Debug, PartialEq)]
pub(crate) enum JsonText {
    /// One JSON value, here without whitespace.
    Valid(String),
    /// One JSON value that a field refuses: an object has a key twice, or a number is beyond float64.
    Refused,
    /// Not JSON.
    Not,
}

/// Nesting past this is refused, as everywhere ([`crate::json::Json::parse_first`]).
const MAX_DEPTH: usize = 128;

/// Reads a text that may be one JSON value.
pub(crate) fn read(text: &str) -> JsonText {
    let mut reader = Reader { text, position: 0, out: String::with_capacity(text.len()), is_refused: false };
    let value = reader.value(0);
    reader.whitespace();
    match value {
        Err(Stop::TooDeep) => JsonText::Refused,
        Ok(()) if reader.position < text.len() => JsonText::Not,
        Err(Stop::Syntax) => JsonText::Not,
        Ok(()) if reader.is_refused => JsonText::Refused,
        Ok(()) => JsonText::Valid(reader.out),
    }
}

enum Stop {
    Syntax,
    TooDeep,
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
    out: String,
    is_refused: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.position += 1;
        }
    }

    /// Takes one byte if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::TooDeep);
        }
        self.whitespace();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => {
                let text = self.string()?;
                write_string(&text, &mut self.out);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<(), Stop> {
        let rest = &self.text[self.position..];
        let word = ["null", "true", "false"].into_iter().find(|word| rest.starts_with(word));
        let word = word.ok_or(Stop::Syntax)?;
        self.position += word.len();
        self.out.push_str(word);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Stop> {
        let mut keys = HashSet::new();
        self.members(b'}', |reader| {
            let key = reader.string()?;
            write_string(&key, &mut reader.out);
            reader.is_refused |= !keys.insert(key);
            reader.whitespace();
            if !reader.take(b':') {
                return Err(Stop::Syntax);
            }
            reader.out.push(':');
            reader.value(depth + 1)
        })
    }

    fn array(&mut self, depth: usize) -> Result<(), Stop> {
        self.members(b']', |reader| reader.value(depth + 1))
    }

    /// Reads the opening, what is separated by commas, and the closing.
    fn members(
        &mut self,
        close: u8,
        mut member: impl FnMut(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.out.push(if close == b'}' { '{' } else { '[' });
        self.position += 1;
        self.whitespace();
        let mut is_closed = self.take(close);
        while !is_closed {
            self.whitespace();
            member(self)?;
            self.whitespace();
            is_closed = self.take(close);
            if !is_closed {
                if !self.take(b',') {
                    return Err(Stop::Syntax);
                }
                self.out.push(',');
            }
        }
        self.out.push(char::from(close));
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stop> {
        let start = self.position;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let text = &self.text[start..self.position];
        self.is_refused |= !text.parse::<f64>().is_ok_and(f64::is_finite);
        self.out.push_str(text);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let start = self.position;
        while let Some(b'0'..=b'9') = self.peek() {
            self.position += 1;
        }
        if self.position > start { Ok(()) } else { Err(Stop::Syntax) }
    }

    /// Reads a string and decodes it.
    fn string(&mut self) -> Result<String, Stop> {
        if !self.take(b'"') {
            return Err(Stop::Syntax);
        }
        let mut decoded = String::new();
        let mut start = self.position;
        loop {
            let byte = self.peek().ok_or(Stop::Syntax)?;
            if !matches!(byte, b'"' | b'\\' | 0..0x20) {
                self.position += 1;
                continue;
            }
            decoded.push_str(&self.text[start..self.position]);
            self.position += 1;
            match byte {
                b'"' => return Ok(decoded),
                b'\\' => decoded.push(self.escape()?),
                _ => return Err(Stop::Syntax),
            }
            start = self.position;
        }
    }

    fn escape(&mut self) -> Result<char, Stop> {
        let byte = self.peek().ok_or(Stop::Syntax)?;
        self.position += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode_escape()?,
            _ => return Err(Stop::Syntax),
        })
    }

    /// What follows `\u`; half a surrogate pair becomes the replacement character.
    fn unicode_escape(&mut self) -> Result<char, Stop> {
        let first = self.four_hexadecimals()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.position..].starts_with("\\u") {
            let back = self.position;
            self.position += 2;
            let second = self.four_hexadecimals()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.position = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_hexadecimals(&mut self) -> Result<u32, Stop> {
        let digits = self.text.get(self.position..self.position + 4).ok_or(Stop::Syntax)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Stop::Syntax);
        }
        self.position += 4;
        u32::from_str_radix(digits, 16).map_err(|_| Stop::Syntax)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_digits_are_kept_and_whitespace_is_not() {
        let text = " {\"b\" : [ 1.50 , -0, 1e3 ] ,\n \"a\":\"\\u003c\\/\\ud83d\\ude00\\ud800x\" } ";
        let expected = "{\"b\":[1.50,-0,1e3],\"a\":\"</😀\u{fffd}x\"}";
        assert_eq!(read(text), JsonText::Valid(expected.to_owned()));
        assert_eq!(read("[ ]"), JsonText::Valid("[]".to_owned()));
    }

    #[test]
    fn doubled_keys_and_numbers_out_of_range_are_refused() {
        for text in ["{\"a\":1,\"\\u0061\":2}", "1e400", "[[-1e999]]"] {
            assert_eq!(read(text), JsonText::Refused, "{text}");
        }
        assert_eq!(read(&"[".repeat(100_000)), JsonText::Refused);
    }

    #[test]
    fn anything_else_is_not_json() {
        let texts = [
            "", "01", "1a", "-", "1.", ".5", "[1,]", "{,}", "{\"a\"}", "{bad}", "nul", "\"a", "\"\n\"",
            "1 2", "\"\\x\"", "[1}",
        ];
        for text in texts {
            assert_eq!(read(text), JsonText::Not, "{text}");
        }
    }
}
