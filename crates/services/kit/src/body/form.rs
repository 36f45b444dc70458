//! A form of declared fields: every endpoint but those of records. Each getter says which type the
//! field has; another type is a malformed body, which the endpoint answers with its loading message.

use std::collections::BTreeMap;

use model::json::{Json, JsonObject};

use super::BodyError;
use crate::query::parse_bool;

/// The fields of a form. A field that is absent or null is `None`.
#[derive(Debug, Default)]
pub struct Form {
    /// What was given as JSON: the body, or the `@jsonPayload` of a form.
    json: JsonObject,
    /// What was given as form values.
    values: BTreeMap<String, Vec<String>>,
    /// Whether keys match without regard to case, `_` and `-`: so in JSON bodies, and only there.
    is_caseless: bool,
}

/// A field as it was given.
enum Given<'f> {
    Json(&'f Json),
    Values(&'f [String]),
}

impl Form {
    /// The fields of a JSON body, or of an object within one.
    pub fn from_json(json: JsonObject) -> Form {
        Form { json, values: BTreeMap::new(), is_caseless: true }
    }

    pub(super) fn from_values(values: BTreeMap<String, Vec<String>>, payload: JsonObject) -> Form {
        Form { json: payload, values, is_caseless: false }
    }

    /// Everything that was given, as rules see it.
    pub fn to_object(&self) -> JsonObject {
        let values = self.values.iter().map(|(name, values)| {
            let value = match values.as_slice() {
                [text] => Json::from(text.as_str()),
                texts => Json::Array(texts.iter().map(|text| Json::from(text.as_str())).collect()),
            };
            (name.clone(), value)
        });
        values.chain(self.json.clone()).collect()
    }

    /// Whether the field was given and is not null.
    pub fn has(&self, name: &str) -> Result<bool, BodyError> {
        Ok(self.given(name)?.is_some())
    }

    /// A text field.
    pub fn text(&self, name: &str) -> Result<Option<&str>, BodyError> {
        match self.given(name)? {
            None => Ok(None),
            Some(Given::Json(Json::Text(text))) => Ok(Some(text)),
            Some(Given::Values(values)) => Ok(values.first().map(String::as_str)),
            Some(Given::Json(_)) => Err(mismatch()),
        }
    }

    /// A boolean field.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, BodyError> {
        match self.given(name)? {
            None => Ok(None),
            Some(Given::Json(Json::Bool(value))) => Ok(Some(*value)),
            Some(Given::Values(values)) => match first(values) {
                "" => Ok(Some(false)),
                value => parse_bool(value).map(Some).ok_or_else(mismatch),
            },
            Some(Given::Json(_)) => Err(mismatch()),
        }
    }

    /// A field that holds any number.
    pub fn number(&self, name: &str) -> Result<Option<f64>, BodyError> {
        match self.given(name)? {
            None => Ok(None),
            Some(Given::Json(Json::Number(number))) => Ok(Some(*number)),
            Some(Given::Values(values)) => match first(values) {
                "" => Ok(Some(0.0)),
                value => value.parse().map(Some).map_err(|_| mismatch()),
            },
            Some(Given::Json(_)) => Err(mismatch()),
        }
    }

    /// A field that holds a whole number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, BodyError> {
        match self.given(name)? {
            None => Ok(None),
            Some(Given::Json(Json::Number(number))) => whole(*number).map(Some).ok_or_else(mismatch),
            Some(Given::Values(values)) => match first(values) {
                "" => Ok(Some(0)),
                value => parse_integer(value).map(Some).ok_or_else(mismatch),
            },
            Some(Given::Json(_)) => Err(mismatch()),
        }
    }

    /// A field that holds a list of texts.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>, BodyError> {
        match self.given(name)? {
            None => Ok(None),
            Some(Given::Values(values)) => Ok(Some(values.to_vec())),
            Some(Given::Json(Json::Array(items))) => {
                items.iter().map(item_text).collect::<Result<_, _>>().map(Some)
            }
            Some(Given::Json(_)) => Err(mismatch()),
        }
    }

    /// A field that holds an object. Form values cannot give one, only a payload can.
    pub fn object(&self, name: &str) -> Result<Option<&JsonObject>, BodyError> {
        match self.json(name)? {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(object)),
            Some(_) => Err(mismatch()),
        }
    }

    /// A field that holds a form of its own.
    pub fn form(&self, name: &str) -> Result<Option<Form>, BodyError> {
        let object = self.object(name)?;
        Ok(object.map(|object| Form {
            json: object.clone(),
            values: BTreeMap::new(),
            is_caseless: self.is_caseless,
        }))
    }

    /// A field that holds a list of anything.
    pub fn array(&self, name: &str) -> Result<Option<&[Json]>, BodyError> {
        match self.json(name)? {
            None => Ok(None),
            Some(Json::Array(items)) => Ok(Some(items)),
            Some(_) => Err(mismatch()),
        }
    }

    /// A field of any type, if it was given as JSON and is not null.
    pub fn json(&self, name: &str) -> Result<Option<&Json>, BodyError> {
        match self.given(name)? {
            Some(Given::Json(value)) => Ok(Some(value)),
            Some(Given::Values(_)) | None => Ok(None),
        }
    }

    fn given(&self, name: &str) -> Result<Option<Given<'_>>, BodyError> {
        if self.is_caseless {
            return Ok(self.find_caseless(name)?.filter(|value| **value != Json::Null).map(Given::Json));
        }
        // A payload is decoded over the values: null clears, anything else replaces.
        if let Some(value) = self.json.get(name) {
            return Ok(Some(value).filter(|value| **value != Json::Null).map(Given::Json));
        }
        Ok(self.values.get(name).map(|values| Given::Values(values)))
    }

    fn find_caseless(&self, name: &str) -> Result<Option<&Json>, BodyError> {
        let mut matches = self.json.iter().filter(|(key, _)| is_same_name(key, name));
        let found = matches.next().map(|(_, value)| value);
        match matches.next() {
            Some(_) => Err(BodyError::malformed("a field given twice")),
            None => Ok(found),
        }
    }
}

fn is_same_name(key: &str, name: &str) -> bool {
    key == name || folded(key).eq(folded(name))
}

/// A name without `_` and `-`, in lower case; `ſ` and the Kelvin sign are letters like others here.
fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|letter| !matches!(letter, '_' | '-')).map(|letter| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    })
}

fn mismatch() -> BodyError {
    BodyError::malformed("a field of another type")
}

fn first(values: &[String]) -> &str {
    values.first().map_or("", String::as_str)
}

fn item_text(item: &Json) -> Result<String, BodyError> {
    match item {
        Json::Text(text) => Ok(text.clone()),
        Json::Null => Ok(String::new()),
        _ => Err(mismatch()),
    }
}

/// A float64 that is a whole number within the range of i64.
fn whole(number: f64) -> Option<i64> {
    const RANGE: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && RANGE.contains(&number)).then_some(number as i64)
}

/// A whole number as Go reads one whose base its prefix says: `10`, `-10`, `0x10`, `0o10`, `010`, `0b10`,
/// `1_000`.
fn parse_integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // `_` stands between digits, or between a base's prefix and the first digit.
    let has_prefix = base != 10;
    let is_spaced_well =
        !digits.ends_with('_') && !digits.contains("__") && (has_prefix || !digits.starts_with('_'));
    let digits = digits.replace('_', "");
    if !is_spaced_well || digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(&digits, base).ok()?);
    i64::try_from(sign * magnitude).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Form {
        match Json::parse_whole(text).unwrap() {
            Json::Object(object) => Form::from_json(object),
            _ => panic!("an object"),
        }
    }

    #[test]
    fn json_keys_match_without_regard_to_case_and_separators() {
        for key in ["identity", "IDENTITY", "identi_ty", "ident-ity"] {
            assert_eq!(json(&format!(r#"{{"{key}":"a"}}"#)).text("identity").unwrap(), Some("a"), "{key}");
        }
        assert_eq!(json(r#"{"Paſſword":"a"}"#).text("password").unwrap(), Some("a"));
        assert_eq!(json(r#"{"identıty":"a"}"#).text("identity").unwrap(), None);
        assert!(json(r#"{"identity":"a","IDENTITY":"b"}"#).text("identity").is_err());
        assert_eq!(json(r#"{"a":"a","A":"b","identity":"c"}"#).text("identity").unwrap(), Some("c"));
    }

    #[test]
    fn another_type_is_an_error_and_null_is_absent() {
        let form = json(r#"{"t":1,"n":"1","b":1,"i":1.5,"l":[1],"o":[],"z":null,"s":["a",null]}"#);
        assert!(form.text("t").is_err());
        assert!(form.number("n").is_err());
        assert!(form.boolean("b").is_err());
        assert!(form.integer("i").is_err());
        assert!(form.texts("l").is_err());
        assert!(form.object("o").is_err());
        assert_eq!(form.text("z").unwrap(), None);
        assert_eq!(form.texts("s").unwrap(), Some(vec!["a".to_owned(), String::new()]));
    }

    #[test]
    fn integers_of_forms_are_read_as_seen() {
        let cases = [
            ("10", Some(10)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("1_0", Some(10)),
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("1.5", None),
            ("a", None),
            ("_1", None),
            (" 5", None),
            ("--5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_integer(text), expected, "{text}");
        }
    }
}
