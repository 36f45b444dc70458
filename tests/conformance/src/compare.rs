//! What differs between two answers to one request.

use std::cmp::Ordering;

use testkit::Response;

use crate::image;
use crate::json::Json;
use crate::normalise::{Matches, Seen, Token};
use crate::scenario::Pair;

/// Headers that say nothing about the contract, and those that Groundswell may add to it.
/// `Content-Length` is compared on HEAD, but of images; elsewhere it follows from the body.
const FREE_HEADERS: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "date",
    "etag",
    "keep-alive",
    "retry-after",
    "server-timing",
    "transfer-encoding",
    "x-request-id",
];
const FREE_HEADER_PREFIX: &str = "ratelimit";

/// A server's answer with what is known of its values.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The answer.
    pub response: &'a Response,
    /// What came on the streams meanwhile, where it counts.
    pub events: &'a [String],
    /// How the terms of the pair's `relate` stand to each other.
    pub relations: Vec<Relation>,
    /// What the server's values are known by.
    pub seen: &'a mut Seen,
}

/// The order of two values; `None` where one is missing.
pub type Relation = Option<Ordering>;

/// Everything in which the subject's answer differs from the reference's; empty when they agree.
pub fn differences(
    pair: &Pair,
    mut reference: Answer<'_>,
    mut subject: Answer<'_>,
    matches: &mut Matches,
) -> Vec<String> {
    let mut found = Vec::new();
    if reference.response.status != subject.response.status {
        found.push(format!("status: {} → {}", reference.response.status, subject.response.status));
    }
    found.extend(header_differences(pair, &mut reference, &mut subject, matches));
    found.extend(relation_differences(pair, &reference, &subject));
    found.extend(body_differences(pair, &mut reference, &mut subject, matches));
    found.extend(event_differences(&mut reference, &mut subject, matches));
    found
}

fn body_differences(
    pair: &Pair,
    reference: &mut Answer<'_>,
    subject: &mut Answer<'_>,
    matches: &mut Matches,
) -> Vec<String> {
    let raw = [&reference.response.body, &subject.response.body];
    let is_empty = raw.iter().all(|body| body.is_empty());
    if pair.image && !is_empty && (200..300).contains(&reference.response.status) {
        return image::differences(raw[0], raw[1]).unwrap_or_else(|error| vec![format!("{error:#}")]);
    }
    if raw.iter().any(|body| str::from_utf8(body).is_err()) {
        return binary_difference(raw[0], raw[1]).into_iter().collect();
    }
    let mut found = Vec::new();
    let bodies = [reference.response, subject.response].map(|response| comparable_body(pair, response));
    match bodies {
        [Err(problem), _] => found.push(format!("reference body: {problem}")),
        [_, Err(problem)] => found.push(format!("subject body: {problem}")),
        [Ok(left), Ok(right)] => {
            let (left_tokens, right_tokens) = (reference.seen.tokens(&left), subject.seen.tokens(&right));
            if !matches.agree(&left_tokens, &right_tokens) {
                found.extend(differing_places(&left, &right, reference.seen, subject.seen));
            }
        }
    }
    found
}

fn header_differences(
    pair: &Pair,
    reference: &mut Answer<'_>,
    subject: &mut Answer<'_>,
    matches: &mut Matches,
) -> Vec<String> {
    let mut found: Vec<String> =
        head_length_difference(pair, reference.response, subject.response).into_iter().collect();
    let [left, right] =
        [reference.response, subject.response].map(|response| comparable_headers(pair, response));
    // Names of files have generated parts here too.
    let tokens = (reference.seen.tokens(&left.join("\n")), subject.seen.tokens(&right.join("\n")));
    if matches.agree(&tokens.0, &tokens.1) {
        return found;
    }
    found.extend(only_in_one(&left, &right, reference.seen, subject.seen, "header"));
    if found.is_empty() {
        found.push(format!("headers: {left:?} → {right:?}"));
    }
    found
}

/// `name: value` lines sorted by name; several of one name keep their order.
fn comparable_headers(pair: &Pair, response: &Response) -> Vec<String> {
    let ignored = |name: &str| {
        FREE_HEADERS.contains(&name)
            || name.starts_with(FREE_HEADER_PREFIX)
            || pair.ignore_headers.iter().any(|ignored| ignored.eq_ignore_ascii_case(name))
    };
    let named = response.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let mut headers: Vec<_> = named.filter(|(name, _)| !ignored(name)).collect();
    headers.sort_by(|(left, _), (right, _)| left.cmp(right));
    let line = |(name, value): (String, &String)| match name.as_str() {
        "last-modified" => format!("{name}: <present>"),
        _ => format!("{name}: {value}"),
    };
    headers.into_iter().map(line).collect()
}

fn head_length_difference(pair: &Pair, reference: &Response, subject: &Response) -> Option<String> {
    if !pair.request.starts_with("HEAD ") || pair.image {
        return None;
    }
    let (left, right) = (reference.header("Content-Length")?, subject.header("Content-Length")?);
    (left != right).then(|| format!("content-length: {left} → {right}"))
}

/// The body's text after the hints of the pair.
fn comparable_body(pair: &Pair, response: &Response) -> Result<String, String> {
    let text = response.text();
    let hinted = !pair.any.is_empty() || !pair.message_prefix.is_empty();
    // Only picked fields are shuffled: an error answer has its order in any case.
    let unordered = pair.ignores_key_order() && (200..300).contains(&response.status);
    if !hinted && !unordered {
        return Ok(text);
    }
    let Some(mut body) = Json::parse(&text) else {
        return if hinted { Err("hints on what is not JSON".to_owned()) } else { Ok(text) };
    };
    let is_compact = body.to_string() == text;
    if !is_compact && !hinted {
        // Not written by the API: a file that holds JSON, say.
        return Ok(text);
    }
    apply_hints(pair, &mut body)?;
    if unordered {
        body.sort_keys();
    }
    Ok(if is_compact { body.to_string() } else { format!("{body} (not compact)") })
}

fn apply_hints(pair: &Pair, body: &mut Json) -> Result<(), String> {
    for pointer in &pair.any {
        let value = body.at_mut(pointer).ok_or_else(|| format!("nothing at {pointer}"))?;
        *value = Json::Scalar(format!("\"<any {}>\"", value.shape()));
    }
    for (pointer, prefix) in &pair.message_prefix {
        let value = body.at_mut(pointer).ok_or_else(|| format!("nothing at {pointer}"))?;
        if !value.plain_text().starts_with(prefix) {
            return Err(format!("{pointer} does not start with {prefix:?}: {value}"));
        }
        *value = Json::Scalar("\"<prefix>\"".to_owned());
    }
    Ok(())
}

fn relation_differences(pair: &Pair, reference: &Answer<'_>, subject: &Answer<'_>) -> Vec<String> {
    let difference = |((terms, left), right): ((&(String, String), &Relation), &Relation)| {
        let said = || format!("{} to {}: {left:?} → {right:?}", terms.0, terms.1);
        (left.is_none() || left != right).then(said)
    };
    pair.relate.iter().zip(&reference.relations).zip(&subject.relations).filter_map(difference).collect()
}

fn binary_difference(left: &[u8], right: &[u8]) -> Option<String> {
    let at = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let said = || format!("body: {} bytes → {} bytes, different from byte {at} on", left.len(), right.len());
    (left != right).then(said)
}

/// The messages that only one of them told, and whether the rest hangs together.
fn event_differences(
    reference: &mut Answer<'_>,
    subject: &mut Answer<'_>,
    matches: &mut Matches,
) -> Vec<String> {
    let tokens =
        [reference.seen.tokens(&reference.events.concat()), subject.seen.tokens(&subject.events.concat())];
    if matches.agree(&tokens[0], &tokens[1]) {
        return Vec::new();
    }
    let mut found = only_in_one(reference.events, subject.events, reference.seen, subject.seen, "event");
    if found.is_empty() {
        found.push(format!("events: {:?} → {:?}", reference.events, subject.events));
    }
    found
}

/// The lines that have no like on the other side.
fn only_in_one(
    left: &[String],
    right: &[String],
    left_seen: &mut Seen,
    right_seen: &mut Seen,
    what: &str,
) -> Vec<String> {
    let left_tokens: Vec<_> = left.iter().map(|line| left_seen.tokens(line)).collect();
    let right_tokens: Vec<_> = right.iter().map(|line| right_seen.tokens(line)).collect();
    let alike = |left: &[Token], right: &[Token]| Matches::default().agree(left, right);
    let missing = left
        .iter()
        .zip(&left_tokens)
        .filter(|(_, line)| !right_tokens.iter().any(|other| alike(line, other)));
    let added = right
        .iter()
        .zip(&right_tokens)
        .filter(|(_, line)| !left_tokens.iter().any(|other| alike(other, line)));
    let missing = missing.map(|(line, _)| format!("{what} missing: {line}"));
    missing.chain(added.map(|(line, _)| format!("{what} added: {line}"))).collect()
}

/// The places that differ, where both bodies are JSON, else both in one line.
fn differing_places(left: &str, right: &str, left_seen: &mut Seen, right_seen: &mut Seen) -> Vec<String> {
    let mut found = Vec::new();
    if let (Some(left), Some(right)) = (Json::parse(left), Json::parse(right)) {
        // Ties made earlier are not at hand here, so ids that only broke a tie are not pointed at.
        let mut agree = |left: &Json, right: &Json| {
            Matches::default()
                .agree(&left_seen.tokens(&left.to_string()), &right_seen.tokens(&right.to_string()))
        };
        walk("", &left, &right, &mut agree, &mut found);
    }
    if found.is_empty() {
        found.push("body: different bytes, or a generated value where another one stood before".to_owned());
    }
    found
}

fn walk(
    at: &str,
    left: &Json,
    right: &Json,
    agree: &mut impl FnMut(&Json, &Json) -> bool,
    found: &mut Vec<String>,
) {
    match (left, right) {
        (Json::Object(left), Json::Object(right)) => {
            let (left_keys, right_keys) = (keys(left), keys(right));
            if left_keys != right_keys {
                found.push(format!("{at} keys: {} → {}", left_keys.join(" "), right_keys.join(" ")));
            }
            for (key, value) in left {
                if let Some((_, other)) = right.iter().find(|(other, _)| other == key) {
                    walk(&format!("{at}/{key}"), value, other, agree, found);
                }
            }
        }
        (Json::Array(left), Json::Array(right)) if left.len() == right.len() => {
            for (index, (value, other)) in left.iter().zip(right).enumerate() {
                walk(&format!("{at}/{index}"), value, other, agree, found);
            }
        }
        _ if agree(left, right) => {}
        _ => found.push(format!("{at}: {left} → {right}")),
    }
}

fn keys(members: &[(String, Json)]) -> Vec<&str> {
    members.iter().map(|(key, _)| key.as_str()).collect()
}
