//! The `fields` parameter: which keys of an answer are kept, and excerpts of texts (CONTRACT §1.9).

use std::collections::BTreeMap;
use std::ops::Bound;

use model::json::{Json, JsonObject};

use crate::error::ApiError;
use crate::excerpt::Excerpt;

/// A parsed `fields` parameter.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// By path; of a path given twice the last counts.
    picks: BTreeMap<String, Option<Excerpt>>,
}

type Picks<'f> = BTreeMap<&'f str, Option<Excerpt>>;

/// More would only serve to tire the server: each key of an answer is held against each of them.
const MAX_PICKS: usize = 1000;

impl Fields {
    /// Parses the parameter; 400 when a modifier, a parenthesis or a quote is wrong.
    pub fn parse(text: &str) -> Result<Fields, ApiError> {
        let mut picks = BTreeMap::new();
        for token in tokens(text)? {
            let (path, modifier) = match token.split_once(':') {
                Some((path, modifier)) => (path, Some(parse_modifier(modifier)?)),
                None => (token, None),
            };
            picks.insert(path.to_owned(), modifier);
        }
        if picks.len() > MAX_PICKS { Err(ApiError::bad_request()) } else { Ok(Fields { picks }) }
    }

    /// Whether nothing is picked, and so everything is kept.
    pub fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    /// Applies the parameter to an answer: to the object, or to each object of an array.
    pub fn apply(&self, json: &mut Json) {
        pick(json, &self.root());
    }

    /// Applies the parameter to the items of a list's envelope.
    pub fn apply_to_list(&self, json: &mut Json) {
        if let Json::Object(envelope) = json
            && let Some(items) = envelope.get_mut("items")
        {
            pick(items, &self.root());
        }
    }

    /// [`Fields::apply`] on a text.
    pub fn apply_to_text(&self, text: String) -> Result<String, ApiError> {
        self.rewrite(text, Fields::apply)
    }

    /// [`Fields::apply_to_list`] on a text.
    pub fn apply_to_list_text(&self, text: String) -> Result<String, ApiError> {
        self.rewrite(text, Fields::apply_to_list)
    }

    fn rewrite(&self, text: String, apply: impl Fn(&Fields, &mut Json)) -> Result<String, ApiError> {
        if self.is_empty() {
            return Ok(text);
        }
        let mut json = Json::parse_whole(&text).map_err(|_| ApiError::internal())?;
        apply(self, &mut json);
        Ok(json.to_string())
    }

    fn root(&self) -> Picks<'_> {
        self.picks.iter().map(|(path, modifier)| (path.as_str(), *modifier)).collect()
    }
}

fn pick(json: &mut Json, picks: &Picks<'_>) {
    match json {
        Json::Object(object) => pick_object(object, picks),
        // An array of something else than objects is kept as it is.
        Json::Array(items) if matches!(items.first(), Some(Json::Object(_))) => {
            for item in items {
                pick(item, picks);
            }
        }
        _ => {}
    }
}

fn pick_object(object: &mut JsonObject, picks: &Picks<'_>) {
    if picks.is_empty() {
        return;
    }
    object.retain(|key, value| {
        let below: Picks<'_> = picks_of(picks, key)
            .filter_map(|(path, modifier)| Some((rest_of(path, key)?, *modifier)))
            .collect();
        match (below.is_empty(), below.get(""), picks.get("*")) {
            (false, Some(modifier), _) | (true, _, Some(modifier)) => shorten(value, *modifier),
            (false, None, _) => pick(value, &below),
            (true, _, None) => return false,
        }
        true
    });
}

/// The paths that begin with the text of a key.
fn picks_of<'p, 'f>(
    picks: &'p Picks<'f>,
    key: &'p str,
) -> impl Iterator<Item = (&'p &'f str, &'p Option<Excerpt>)> {
    let from_key = (Bound::Included(key), Bound::Unbounded);
    picks.range::<str, _>(from_key).take_while(move |(path, _)| path.starts_with(key))
}

/// What a path asks for below a key; `None` when it asks for another key.
fn rest_of<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(key)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }
}

fn shorten(value: &mut Json, modifier: Option<Excerpt>) {
    if let (Json::Text(text), Some(excerpt)) = (value, modifier) {
        *text = excerpt.of(text);
    }
}

/// The parts between commas, trimmed, without the empty ones. Parentheses and quotes hold commas.
fn tokens(text: &str) -> Result<Vec<&str>, ApiError> {
    let mut tokens = Vec::new();
    let (mut start, mut depth, mut quote, mut previous) = (0, 0_usize, None, '\0');
    for (index, letter) in text.char_indices() {
        if previous != '\\' {
            match (letter, quote) {
                ('(', None) => depth += 1,
                (')', None) => depth = depth.saturating_sub(1),
                ('\'' | '"' | '`', None) => quote = Some(letter),
                (_, Some(open)) if open == letter => quote = None,
                _ => {}
            }
        }
        if letter == ',' && depth == 0 && quote.is_none() {
            tokens.push(&text[start..index]);
            start = index + 1;
        }
        previous = letter;
    }
    if depth > 0 || quote.is_some() {
        return Err(ApiError::bad_request());
    }
    tokens.push(&text[start..]);
    Ok(tokens.into_iter().map(str::trim).filter(|token| !token.is_empty()).collect())
}

/// `excerpt(max[, withEllipsis])`; the parentheses may as well be spaces.
fn parse_modifier(text: &str) -> Result<Excerpt, ApiError> {
    let mut words = text.split(['(', ')', ',', ' ']).filter(|word| !word.is_empty());
    let (name, max, with_ellipsis) = (words.next(), words.next(), words.next());
    if name != Some("excerpt") || words.next().is_some() {
        return Err(ApiError::bad_request());
    }
    let max = max.and_then(parse_max).ok_or_else(ApiError::bad_request)?;
    let with_ellipsis = with_ellipsis.and_then(crate::query::parse_bool).unwrap_or(false);
    Ok(Excerpt { max, with_ellipsis })
}

/// A count over 0 as the contract's server reads it: `5`, `05`, `0x5`, and of `5.7` the 5.
fn parse_max(text: &str) -> Option<usize> {
    let max = match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).ok()?,
        None => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let is_fraction = fraction.bytes().all(|byte| byte.is_ascii_digit());
            is_fraction.then(|| whole.parse().ok()).flatten()?
        }
    };
    (max > 0 && i64::try_from(max).is_ok()).then_some(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"ed":"<p>Hello &amp; <b>wo</b>rld</p>","id":"nh2xtkpzv2kp70y","j":{"a":{"b":1,"c":2},"l":[{"x":1,"y":2},{"x":3}],"m":[1,{"x":1}]},"n":0,"t":"x"}"#;

    fn picked(fields: &str) -> Option<String> {
        Fields::parse(fields).ok()?.apply_to_text(RECORD.to_owned()).ok()
    }

    #[test]
    fn keys_are_picked_as_seen() {
        let id = r#"{"id":"nh2xtkpzv2kp70y"}"#;
        let cases = [
            ("id", id),
            (" id ", id),
            ("id.", id),
            ("id)", "{}"),
            ("\"id\"", "{}"),
            ("nope", "{}"),
            (".id", "{}"),
            ("*.a", "{}"),
            (",", RECORD),
            (" , ", RECORD),
            ("*", RECORD),
            ("id,,t", r#"{"id":"nh2xtkpzv2kp70y","t":"x"}"#),
            ("j.a.b", r#"{"j":{"a":{"b":1}}}"#),
            ("j.a.", r#"{"j":{"a":{"b":1,"c":2}}}"#),
            ("j..a", r#"{"j":{}}"#),
            ("j.a.*", r#"{"j":{"a":{"b":1,"c":2}}}"#),
            ("j.l.x", r#"{"j":{"l":[{"x":1},{"x":3}]}}"#),
            ("j.m.x", r#"{"j":{"m":[1,{"x":1}]}}"#),
            ("t.x", r#"{"t":"x"}"#),
            ("j.a,j.a.b", r#"{"j":{"a":{"b":1,"c":2}}}"#),
            ("id:excerpt(3)", r#"{"id":"nh2"}"#),
            ("n:excerpt(3)", r#"{"n":0}"#),
            ("t,t:excerpt(1)", r#"{"t":"x"}"#),
        ];
        for (fields, expected) in cases {
            assert_eq!(picked(fields).as_deref(), Some(expected), "{fields}");
        }
    }

    #[test]
    fn a_star_keeps_the_rest_and_deeper_paths_limit_their_branch() {
        let star = picked("*:excerpt(4,true),j.a.b,t").unwrap();
        assert_eq!(star, r#"{"ed":"Hell...","id":"nh2x...","j":{"a":{"b":1}},"n":0,"t":"x"}"#);
    }

    #[test]
    fn modifiers_are_read_as_seen() {
        let short = ["5", "5,yes", "5,\"true\"", "5.7", "05", "0x5", "5,", ",5"];
        for arguments in short {
            let fields = format!("ed:excerpt({arguments})");
            assert_eq!(picked(&fields).as_deref(), Some(r#"{"ed":"Hello"}"#), "{fields}");
        }
        for arguments in ["5,true", "5, true", "5,t", "5,T", "5,1", " 5 , true "] {
            let fields = format!("ed:excerpt({arguments})");
            assert_eq!(picked(&fields).as_deref(), Some(r#"{"ed":"Hello..."}"#), "{fields}");
        }
        for fields in ["ed:excerpt 5", "ed: excerpt(5)", "ed:excerpt(5)x"] {
            assert_eq!(picked(fields).as_deref(), Some(r#"{"ed":"Hello"}"#), "{fields}");
        }
        let bad = [
            "ed:excerpt(\"5\")",
            "ed:excerpt(-1)",
            "ed:excerpt(abc)",
            "ed:excerpt(0)",
            "ed:excerpt()",
            "ed:excerpt",
            "ed:excerpt(5,true,1)",
            "ed:excerpt(5",
            "ed:EXCERPT(5)",
            "ed:foo(1)",
            "(id",
            "id\"",
            "ed:excerpt(1e1)",
            "ed:",
            "ed:excerpt(99999999999999999999)",
        ];
        for fields in bad {
            assert!(Fields::parse(fields).is_err(), "{fields}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_without_harm(text in "[a-zé.*,:()'\\\\ 0-9]{0,40}") {
            let _ = picked(&text);
        }
    }

    #[test]
    fn a_list_keeps_its_envelope() {
        let list = r#"{"items":[{"a":1,"b":2},{"b":3}],"page":1}"#.to_owned();
        let fields = Fields::parse("a").unwrap();
        assert_eq!(fields.apply_to_list_text(list).unwrap(), r#"{"items":[{"a":1},{}],"page":1}"#);
    }
}
