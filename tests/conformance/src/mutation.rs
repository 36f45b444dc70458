//! Ways to break an answer, each of which the comparison has to notice.

use testkit::Response;

use crate::json::Json;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// Another status of the same class.
    Status,
    /// The last key of the innermost last object is gone.
    DropKey,
    /// A number becomes a string, a boolean a number, null an empty string.
    ChangeType,
    /// A list is turned round.
    ReorderArray,
    /// The first two keys change places.
    ReorderKeys,
    /// A validation code is another one.
    ErrorCode,
    /// A message has another last letter.
    Text,
    /// A space after the first colon.
    Spacing,
    /// A header too many.
    AddHeader,
    /// A header too few.
    DropHeader,
    /// A header with another value.
    ChangeHeader,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Status,
        Self::DropKey,
        Self::ChangeType,
        Self::ReorderArray,
        Self::ReorderKeys,
        Self::ErrorCode,
        Self::Text,
        Self::Spacing,
        Self::AddHeader,
        Self::DropHeader,
        Self::ChangeHeader,
    ];

    /// Whether it only changes what a comparison without key order leaves out.
    pub(crate) fn is_of_layout(self) -> bool {
        matches!(self, Self::ReorderKeys)
    }

    /// Breaks the answer; false when it has nothing to break in this way.
    pub fn apply(self, response: &mut Response) -> bool {
        match self {
            Self::Status => {
                response.status = if response.status.is_multiple_of(100) {
                    response.status + 1
                } else {
                    response.status - 1
                };
                true
            }
            Self::AddHeader => {
                response.headers.push(("Server".to_owned(), "mutated".to_owned()));
                true
            }
            Self::DropHeader => {
                let count = response.headers.len();
                response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("X-Frame-Options"));
                response.headers.len() < count
            }
            Self::ChangeHeader => change_content_type(response),
            Self::Spacing => {
                edit_text(response, |text| text.contains("\":").then(|| text.replacen("\":", "\": ", 1)))
            }
            Self::DropKey => edit_json(response, drop_last_key),
            Self::ChangeType => edit_json(response, change_type),
            Self::ReorderArray => edit_json(response, turn_list_round),
            Self::ReorderKeys => edit_json(response, swap_first_keys),
            Self::ErrorCode => edit_json(response, |json| append_to(json, "code", "_x")),
            Self::Text => edit_json(response, |json| append_to(json, "message", "x")),
        }
    }
}

fn change_content_type(response: &mut Response) -> bool {
    let header = response.headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("Content-Type"));
    header.map(|(_, value)| value.push_str("; charset=utf-8")).is_some()
}

fn edit_text(response: &mut Response, edit: impl Fn(&str) -> Option<String>) -> bool {
    match edit(&response.text()) {
        Some(text) => {
            response.body = text.into_bytes();
            true
        }
        None => false,
    }
}

fn edit_json(response: &mut Response, edit: impl Fn(&mut Json) -> bool) -> bool {
    edit_text(response, |text| {
        let mut json = Json::parse(text)?;
        edit(&mut json).then(|| json.to_string())
    })
}

fn drop_last_key(json: &mut Json) -> bool {
    match json {
        Json::Object(members) => {
            let deeper = members.iter_mut().rev().any(|(_, value)| drop_last_key(value));
            deeper || members.pop().is_some()
        }
        Json::Array(items) => items.last_mut().is_some_and(drop_last_key),
        Json::Scalar(_) => false,
    }
}

fn change_type(json: &mut Json) -> bool {
    match json {
        Json::Object(members) => members.iter_mut().any(|(_, value)| change_type(value)),
        Json::Array(items) => items.iter_mut().any(change_type),
        Json::Scalar(text) if text.starts_with('"') => false,
        Json::Scalar(text) => {
            *text = match text.as_str() {
                "true" => "1".to_owned(),
                "false" => "0".to_owned(),
                "null" => "\"\"".to_owned(),
                number => format!("\"{number}\""),
            };
            true
        }
    }
}

fn turn_list_round(json: &mut Json) -> bool {
    match json {
        Json::Object(members) => members.iter_mut().any(|(_, value)| turn_list_round(value)),
        Json::Array(items) if items.first() != items.last() => {
            items.reverse();
            true
        }
        Json::Array(items) => items.iter_mut().any(turn_list_round),
        Json::Scalar(_) => false,
    }
}

fn swap_first_keys(json: &mut Json) -> bool {
    match json {
        Json::Object(members) if members.len() > 1 => {
            members.swap(0, 1);
            true
        }
        _ => false,
    }
}

fn append_to(json: &mut Json, wanted: &str, end: &str) -> bool {
    match json {
        Json::Object(members) => members.iter_mut().any(|(key, value)| match value {
            Json::Scalar(text) if key == wanted && text.starts_with('"') => {
                text.truncate(text.len() - 1);
                text.push_str(end);
                text.push('"');
                true
            }
            value => append_to(value, wanted, end),
        }),
        Json::Array(items) => items.iter_mut().any(|value| append_to(value, wanted, end)),
        Json::Scalar(_) => false,
    }
}
