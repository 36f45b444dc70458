//! Pairs of a query string or form, split and decoded as Go does, and what a form value means where
//! no type is declared (CONTRACT §1.4).

use std::borrow::Cow;

use model::json::{Json, JsonObject};

/// A pair that cannot be read: it holds a `;` (which once separated pairs), or a `%` without two
/// hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPair;

/// A query string or form of more pairs, empty ones included, is not read at all.
const MAX_PAIRS: usize = 10_000;

/// Whether there are more pairs than are read.
pub(crate) fn has_too_many_pairs(raw: &[u8]) -> bool {
    raw.iter().filter(|byte| **byte == b'&').count() >= MAX_PAIRS
}

/// The pairs of a raw query string or form, undecoded; empty ones are left out.
pub(crate) fn pairs(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty())
}

/// Splits a pair at its first `=` and decodes both sides.
pub(crate) fn decode_pair(pair: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), BadPair> {
    if pair.contains(&b';') {
        return Err(BadPair);
    }
    let split = pair.iter().position(|byte| *byte == b'=');
    let (name, value) = match split {
        Some(split) => (&pair[..split], &pair[split + 1..]),
        None => (pair, &pair[pair.len()..]),
    };
    Ok((decode(name)?, decode(value)?))
}

fn decode(raw: &[u8]) -> Result<Cow<'_, str>, BadPair> {
    if !raw.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(String::from_utf8_lossy(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let [high, low, after @ ..] = after else { return Err(BadPair) };
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
                    return Err(BadPair);
                };
                bytes.push(high << 4 | low);
                rest = after;
            }
            byte => bytes.push(*byte),
        }
    }
    let text = String::from_utf8(bytes);
    Ok(Cow::Owned(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// What a form value is, where no type is declared: a boolean, a number whose shortest decimal text is
/// the value itself, or a string.
pub(crate) fn infer(raw: String) -> Json {
    match raw.as_str() {
        "true" => return Json::Bool(true),
        "false" => return Json::Bool(false),
        _ => {}
    }
    let starts_as_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let is_plain = || raw.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    if starts_as_number && is_plain() {
        // Rust prints a float64 in its shortest digits and never with an exponent, as the rule wants.
        let number = raw.parse::<f64>().ok().filter(|number| number.is_finite() && number.to_string() == raw);
        if let Some(number) = number {
            return Json::Number(number);
        }
    }
    Json::Text(raw)
}

/// Decodes an object over what is there: objects merge, a null clears, and any other value replaces one
/// of its own type only. `false` when a type differs.
pub(crate) fn merge_over(target: &mut JsonObject, payload: JsonObject) -> bool {
    payload.into_iter().all(|(name, value)| match target.get_mut(&name) {
        Some(present) => merge_value(present, value),
        None => {
            target.insert(name, value);
            true
        }
    })
}

fn merge_value(present: &mut Json, value: Json) -> bool {
    let value = match (&mut *present, value) {
        (Json::Object(present), Json::Object(payload)) => return merge_over(present, payload),
        (_, value) => value,
    };
    let is_same_type = std::mem::discriminant(present) == std::mem::discriminant(&value);
    let fits = is_same_type || *present == Json::Null || value == Json::Null;
    if fits {
        *present = value;
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_inferred_as_seen() {
        let numbers =
            ["-1", "0", "1.5", "0.1", "123456789012345", "0.0000001", "-0", "1000000000000000000000"];
        for raw in numbers {
            assert!(matches!(infer(raw.to_owned()), Json::Number(_)), "{raw}");
        }
        let texts = [
            "",
            "007",
            "1.50",
            "1e3",
            "-",
            "--1",
            "-0.0",
            ".5",
            "5.",
            "1.2.3",
            "1-2",
            "9007199254740993",
            "TRUE",
            " 1",
        ];
        for raw in texts {
            assert_eq!(infer(raw.to_owned()), Json::from(raw), "{raw}");
        }
        assert_eq!(infer("9".repeat(400)), Json::from("9".repeat(400)));
        assert_eq!(infer("true".to_owned()), Json::Bool(true));
    }

    #[test]
    fn payloads_merge_as_seen() {
        let check = |first: &str, second: &str, expected: Option<&str>| {
            let object = |text: &str| match Json::parse_whole(text).unwrap() {
                Json::Object(object) => object,
                _ => panic!("an object"),
            };
            let mut target = object(first);
            let merged = merge_over(&mut target, object(second));
            assert_eq!(
                merged.then(|| Json::Object(target).to_string()).as_deref(),
                expected,
                "{first} {second}"
            );
        };
        check(r#"{"j":5}"#, r#"{"j":7,"t":"q"}"#, Some(r#"{"j":7,"t":"q"}"#));
        check(r#"{"j":{"a":{"x":1}}}"#, r#"{"j":{"a":{"y":1}}}"#, Some(r#"{"j":{"a":{"x":1,"y":1}}}"#));
        check(r#"{"j":[1,2,3]}"#, r#"{"j":[9]}"#, Some(r#"{"j":[9]}"#));
        check(r#"{"j":{"a":1}}"#, r#"{"j":null}"#, Some(r#"{"j":null}"#));
        check(r#"{"j":6}"#, r#"{"j":"s"}"#, None);
        check(r#"{"j":6}"#, r#"{"j":{"a":1}}"#, None);
        check(r#"{"j":[1]}"#, r#"{"j":{"a":1}}"#, None);
        check(r#"{"j":[1,2]}"#, r#"{"j":1}"#, None);
    }
}
