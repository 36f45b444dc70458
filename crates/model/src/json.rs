//! JSON as the contract knows it: every number is a float64, object keys are sorted, duplicate keys
//! are refused, and what follows the first complete value is ignored (CONTRACT §1.4, §1.8).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

pub mod shape;

/// A parsed JSON value. Objects keep their keys in byte order, as the contract writes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Json {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number; always finite.
    Number(f64),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(JsonObject),
}

/// A JSON object with its keys in byte order.
pub type JsonObject = BTreeMap<String, Json>;

/// Why a text is not JSON that the contract accepts. The text is for logs and for the field message
/// of a bad `json` value, never for the top-level answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl Json {
    /// Parses the first JSON value in `bytes`; what follows it is ignored. Nesting past 127 levels
    /// (serde_json's limit: the 128th is refused), a key given twice, invalid UTF-8, a byte of zero in a text
    /// or a key and a number beyond float64 are errors.
    pub fn parse_first(bytes: &[u8]) -> Result<Json, JsonError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        AnyJson.deserialize(&mut deserializer).map_err(|error| JsonError(error.to_string()))
    }

    /// Parses a text that must be one whole JSON value.
    pub fn parse_whole(text: &str) -> Result<Json, JsonError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = AnyJson.deserialize(&mut deserializer).map_err(|error| JsonError(error.to_string()))?;
        deserializer.end().map_err(|error| JsonError(error.to_string()))?;
        Ok(value)
    }

    /// An object of these members.
    pub fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
        Json::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of an object value.
    pub fn as_object(&self) -> Option<&JsonObject> {
        match self {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The items of an array value.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A member of an object value.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.as_object()?.get(key)
    }

    /// Appends the compact text, in the contract's form, to `out`.
    pub fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Number(number) => write_number(*number, out),
            Json::Text(text) => write_string(text, out),
            Json::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(object) => write_object(object, out),
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        formatter.write_str(&text)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl From<f64> for Json {
    fn from(number: f64) -> Json {
        Json::Number(number)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

fn write_object(object: &JsonObject, out: &mut String) {
    out.push('{');
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(key, out);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

/// Appends the contract's text of a number: shortest float64, plain below 1e21 (the ECMAScript form:
/// CONTRACT §1.8), but for `-0`, which keeps its sign until a store has taken it.
pub fn write_number(number: f64, out: &mut String) {
    if number == 0.0 {
        out.push_str(if number.is_sign_negative() { "-0" } else { "0" });
        return;
    }
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        // Most numbers are small integers; this is their exact shortest text.
        use fmt::Write as _;
        let _ = write!(out, "{}", number as i64);
        return;
    }
    out.push_str(ryu_js::Buffer::new().format(number));
}

/// Appends a JSON string: no HTML escapes, short escapes where JSON has them, `\u00XX` for the other
/// control characters (CONTRACT §1.8).
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0x00..0x20 => {
                out.push_str(&text[start..index]);
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
                start = index + 1;
                continue;
            }
            _ => continue,
        };
        out.push_str(&text[start..index]);
        out.push_str(escape);
        start = index + 1;
    }
    out.push_str(&text[start..]);
    out.push('"');
}

struct AnyJson;

impl<'de> DeserializeSeed<'de> for AnyJson {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        if value.is_finite() { Ok(Json::Number(value)) } else { Err(E::custom("number out of range")) }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Json, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Json, E> {
        refuse_zero_byte(&value)?;
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(AnyJson)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = JsonObject::new();
        while let Some(key) = members.next_key::<String>()? {
            refuse_zero_byte(&key)?;
            let value = members.next_value_seed(AnyJson)?;
            if let Some(previous) = object.insert(key, value) {
                drop(previous);
                return Err(de::Error::custom("duplicate object key"));
            }
        }
        Ok(Json::Object(object))
    }
}

/// SQLite's functions end a text at a byte of zero, and PostgreSQL stores none.
fn refuse_zero_byte<E: de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("a text holds a byte of zero")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(input: &str) -> String {
        Json::parse_first(input.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn numbers_are_written_as_the_contract_says() {
        assert_eq!(text_of("100000000000000000000"), "100000000000000000000");
        assert_eq!(text_of("1e21"), "1e+21");
        assert_eq!(text_of("0.0000001"), "1e-7");
        assert_eq!(text_of("0.000001"), "0.000001");
        assert_eq!(text_of("-0"), "-0");
        assert_eq!(text_of("9007199254740993"), "9007199254740992");
        assert_eq!(text_of("1.0"), "1");
        assert_eq!(text_of("-12.5"), "-12.5");
    }

    #[test]
    fn keys_are_sorted_and_duplicates_refused() {
        assert_eq!(text_of(r#"{"b":1,"a":{"d":1,"C":2}}"#), r#"{"a":{"C":2,"d":1},"b":1}"#);
        assert!(Json::parse_first(br#"{"a":1,"a":2}"#).is_err());
        assert!(Json::parse_first(b"{\"a\":\"\xff\"}").is_err());
        assert!(Json::parse_first(b"1e400").is_err());
    }

    #[test]
    fn bytes_after_the_first_value_are_ignored() {
        assert_eq!(text_of("{\"a\":1} trailing"), "{\"a\":1}");
        assert!(Json::parse_whole("{} x").is_err());
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let deep = "[".repeat(100_000);
        assert!(Json::parse_first(deep.as_bytes()).is_err());
    }

    #[test]
    fn the_limit_of_nesting_is_127_levels() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Json::parse_first(nested(127).as_bytes()).is_ok());
        assert!(Json::parse_first(nested(128).as_bytes()).is_err());
    }

    #[test]
    fn a_byte_of_zero_is_refused_in_texts_and_keys() {
        for text in [r#""a\u0000""#, r#"{"a\u0000":1}"#, r#"{"a":{"\u0000":1}}"#] {
            assert!(Json::parse_first(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn strings_escape_only_what_json_needs() {
        assert_eq!(text_of(r#""<a&\u2028\u0001\n\"\/""#), "\"<a&\u{2028}\\u0001\\n\\\"/\"");
    }
}
