//! JSON that keeps what a byte comparison cares about: the order of keys, duplicates, the text of scalars.

use std::fmt;

/// A JSON value. Keys and scalars are kept as written, a key without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// Members in the order of the text.
    Object(Vec<(String, Json)>),
    /// Elements.
    Array(Vec<Json>),
    /// A string (with quotes and escapes), number, boolean or null.
    Scalar(String),
}

impl Json {
    /// Parses a whole text; `None` when it is not one JSON value.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value()?;
        parser.skip_space();
        (parser.at == text.len()).then_some(value)
    }

    /// The value at a JSON pointer, without its `~` escapes.
    pub fn at(&self, pointer: &str) -> Option<&Self> {
        pointer.split('/').skip(1).try_fold(self, |value, step| match value {
            Self::Object(members) => members.iter().find(|(key, _)| key == step).map(|(_, value)| value),
            Self::Array(items) => items.get(step.parse::<usize>().ok()?),
            Self::Scalar(_) => None,
        })
    }

    /// As [`Json::at`], to change the value.
    pub fn at_mut(&mut self, pointer: &str) -> Option<&mut Self> {
        pointer.split('/').skip(1).try_fold(self, |value, step| match value {
            Self::Object(members) => members.iter_mut().find(|(key, _)| key == step).map(|(_, value)| value),
            Self::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
            Self::Scalar(_) => None,
        })
    }

    /// The text of a string, unescaped; of another scalar, array or object its JSON.
    pub fn plain_text(&self) -> String {
        let text = self.to_string();
        serde_json::from_str::<String>(&text).unwrap_or(text)
    }

    /// What kind of value it is, with the length of strings and lists.
    pub fn shape(&self) -> String {
        match self {
            Self::Object(_) => "object".to_owned(),
            Self::Array(items) => format!("array of {}", items.len()),
            Self::Scalar(text) if text.starts_with('"') => format!("string of {}", self.plain_text().len()),
            Self::Scalar(text) if text == "true" || text == "false" => "boolean".to_owned(),
            Self::Scalar(text) if text == "null" => "null".to_owned(),
            Self::Scalar(_) => "number".to_owned(),
        }
    }

    /// Orders the keys of every object, duplicates kept.
    pub fn sort_keys(&mut self) {
        match self {
            Self::Object(members) => {
                members.iter_mut().for_each(|(_, value)| value.sort_keys());
                members.sort_by(|(left, _), (right, _)| left.cmp(right));
            }
            Self::Array(items) => items.iter_mut().for_each(Self::sort_keys),
            Self::Scalar(_) => {}
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}\"{key}\":{value}")?;
                }
                f.write_str("}")
            }
            Self::Array(items) => {
                f.write_str("[")?;
                for (index, value) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{value}")?;
                }
                f.write_str("]")
            }
            Self::Scalar(text) => f.write_str(text),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self) -> Option<Json> {
        self.skip_space();
        match self.peek()? {
            b'{' => self
                .list(b'}', |parser| {
                    let quoted = parser.string()?;
                    let key = quoted[1..quoted.len() - 1].to_owned();
                    parser.skip_space();
                    parser.take(b':')?;
                    Some((key, parser.value()?))
                })
                .map(Json::Object),
            b'[' => self.list(b']', Self::value).map(Json::Array),
            b'"' => self.string().map(|text| Json::Scalar(text.to_owned())),
            _ => self.word().map(|text| Json::Scalar(text.to_owned())),
        }
    }

    fn list<T>(&mut self, end: u8, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.take(end).is_some() {
            return Some(items);
        }
        loop {
            self.skip_space();
            items.push(item(self)?);
            self.skip_space();
            if self.take(end).is_some() {
                return Some(items);
            }
            self.take(b',')?;
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    fn word(&mut self) -> Option<&'a str> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            self.at += 1;
        }
        self.text.get(start..self.at).filter(|word| !word.is_empty())
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_parsed_prints_as_it_was_written() {
        let text = r#"{"b":[1.50,-0,1e+21,"a\"\\é"],"a":{},"a":[],"c":[true,null]}"#;
        assert_eq!(Json::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn half_a_value_and_more_than_one_are_refused() {
        assert_eq!(Json::parse(r#"{"a":"#), None);
        assert_eq!(Json::parse(r#""a"#), None);
        assert_eq!(Json::parse("1 2"), None);
    }
}
