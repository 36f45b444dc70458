//! Reading inside JSON text without parsing all of it. The text is what records store: valid, no
//! blanks; on anything else the answers are "nothing there".

use std::borrow::Cow;

use super::Cell;

/// One step of a path into JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonStep {
    /// A member of an object.
    Key(String),
    /// An item of an array.
    Index(usize),
}

/// The JSON text at a path.
pub fn json_at<'a>(text: &'a str, path: &[JsonStep]) -> Option<&'a str> {
    let mut value = Scanner::new(text).value()?;
    for step in path {
        value = match step {
            JsonStep::Key(key) => member(value, key)?,
            JsonStep::Index(index) => json_items(value).nth(*index)?,
        };
    }
    Some(value)
}

/// The items of an array; none of anything else.
pub fn json_items(text: &str) -> impl Iterator<Item = &str> {
    let mut scanner = Scanner::new(text);
    let mut open = scanner.take(b'[') && !scanner.take(b']');
    std::iter::from_fn(move || {
        if !open {
            return None;
        }
        let item = scanner.value();
        open = item.is_some() && scanner.take(b',');
        item
    })
}

/// The SQL value of a JSON text, as `json_extract` gives it: objects and arrays stay text.
pub fn json_cell(text: &str) -> Cell<'_> {
    match text.as_bytes().first() {
        Some(b'"') => unquote(text).map_or(Cell::Null, Cell::Text),
        Some(b't') => Cell::Integer(1),
        Some(b'f') => Cell::Integer(0),
        Some(b'{' | b'[') => Cell::Text(Cow::Borrowed(text)),
        Some(b'-' | b'0'..=b'9') => json_number(text),
        _ => Cell::Null,
    }
}

fn json_number(text: &str) -> Cell<'static> {
    match text.parse() {
        Ok(whole) => Cell::Integer(whole),
        Err(_) => text.parse().map_or(Cell::Null, Cell::Real),
    }
}

fn unquote(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(text).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let mut scanner = Scanner::new(object);
    if !scanner.take(b'{') || scanner.take(b'}') {
        return None;
    }
    loop {
        let name = unquote(scanner.value()?)?;
        if !scanner.take(b':') {
            return None;
        }
        let value = scanner.value()?;
        if name == key {
            return Some(value);
        }
        if !scanner.take(b',') {
            return None;
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    fn skip_blank(&mut self) {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        self.skip_blank();
        let found = self.text.as_bytes().get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    /// The next whole value, however deep: brackets are counted, not followed.
    fn value(&mut self) -> Option<&'a str> {
        self.skip_blank();
        let start = self.at;
        let bytes = self.text.as_bytes();
        match bytes.get(start)? {
            b'"' => self.string()?,
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    match bytes.get(self.at)? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                while bytes
                    .get(self.at)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
                {
                    self.at += 1;
                }
            }
        }
        (self.at > start).then(|| &self.text[start..self.at])
    }

    fn string(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> JsonStep {
        JsonStep::Key(name.to_owned())
    }

    #[test]
    fn paths_reach_into_objects_and_arrays() {
        let text = r#"{"a":{"b":[1,"x\"y",{"c":null}]},"é":true}"#;
        assert_eq!(json_at(text, &[key("a"), key("b"), JsonStep::Index(1)]), Some(r#""x\"y""#));
        assert_eq!(json_at(text, &[key("a"), key("b"), JsonStep::Index(2), key("c")]), Some("null"));
        assert_eq!(json_at(text, &[key("é")]), Some("true"));
        assert_eq!(json_at(text, &[key("z")]), None);
        assert_eq!(json_at(text, &[JsonStep::Index(0)]), None);
        assert_eq!(json_at("[]", &[JsonStep::Index(0)]), None);
    }

    #[test]
    fn values_have_the_classes_of_json_extract() {
        assert_eq!(json_cell("1"), Cell::Integer(1));
        assert_eq!(json_cell("1.5"), Cell::Real(1.5));
        assert_eq!(json_cell("true"), Cell::Integer(1));
        assert_eq!(json_cell("null"), Cell::Null);
        assert_eq!(json_cell(r#""a\n""#), Cell::Text(Cow::Borrowed("a\n")));
        assert_eq!(json_cell("[1]"), Cell::Text(Cow::Borrowed("[1]")));
    }

    #[test]
    fn broken_text_has_nothing_in_it() {
        for broken in ["", "{", "[1", "\"", "\"a", "{\"a\"", "{\"a\":", "]", "nonsense!", "\"\\"] {
            assert_eq!(json_at(broken, &[key("a")]), None, "{broken}");
            assert!(json_items(broken).count() <= 1, "{broken}");
        }
    }
}
