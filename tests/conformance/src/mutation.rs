//! Ways to break an answer, each of which the comparison has to notice.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbaImage, imageops};
use testkit::Response;

use crate::image::decode;
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
    /// A last byte of what is not JSON is another one.
    Byte,
    /// An image has a row less.
    ImageSize,
    /// An image has the opposite colours.
    ImageColours,
    /// A message was not told.
    DropEvent,
    /// A message was told twice.
    RepeatEvent,
    /// A message was told that nothing caused.
    InventEvent,
    /// A message has another last letter in its data.
    ChangeEvent,
    /// A message goes by another topic.
    EventTopic,
    /// A blank after a message's first colon.
    EventFraming,
}

impl Mutation {
    /// Those of answers.
    pub const ANSWERS: [Self; 12] = [
        Self::Status,
        Self::DropKey,
        Self::ChangeType,
        Self::ReorderArray,
        Self::ReorderKeys,
        Self::ErrorCode,
        Self::Text,
        Self::Spacing,
        Self::Byte,
        Self::AddHeader,
        Self::DropHeader,
        Self::ChangeHeader,
    ];

    /// Those of answers that are compared as images.
    pub const IMAGES: [Self; 2] = [Self::ImageSize, Self::ImageColours];

    /// Those of what streams tell.
    pub const EVENTS: [Self; 6] = [
        Self::DropEvent,
        Self::RepeatEvent,
        Self::InventEvent,
        Self::ChangeEvent,
        Self::EventTopic,
        Self::EventFraming,
    ];

    /// Whether it only changes what a comparison without key order leaves out.
    pub(crate) fn is_of_layout(self) -> bool {
        matches!(self, Self::ReorderKeys)
    }

    /// Whether it changes only what a comparison of images overlooks.
    pub(crate) fn is_of_bytes(self) -> bool {
        matches!(self, Self::Byte)
    }

    /// Breaks what was told; false when there is nothing to break in this way.
    pub fn apply_to_events(self, events: &mut Vec<String>) -> bool {
        let edit = |events: &mut Vec<String>, from: &str, to: &str| {
            let Some(event) = events.iter_mut().find(|event| event.contains(from)) else { return false };
            *event = event.replacen(from, to, 1);
            true
        };
        match self {
            Self::DropEvent => events.pop().is_some(),
            Self::RepeatEvent => {
                let last = events.last().cloned();
                events.extend(last.clone());
                last.is_some()
            }
            Self::InventEvent => {
                events.push("phone: id:x\nevent:y\ndata:{}\n\n".to_owned());
                true
            }
            Self::ChangeEvent => edit(events, "}\n\n", "x}\n\n"),
            Self::EventTopic => edit(events, "\nevent:", "\nevent:x"),
            Self::EventFraming => edit(events, "\ndata:", "\ndata: "),
            _ => false,
        }
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
                let dropped = ["x-frame-options", "content-security-policy"];
                response.headers.retain(|(name, _)| !dropped.contains(&name.to_ascii_lowercase().as_str()));
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
            Self::Byte => change_last_byte(response),
            Self::ImageSize => edit_image(response, |image| {
                let (width, height) = image.dimensions();
                imageops::crop_imm(image, 0, 0, width, height - 1).to_image()
            }),
            Self::ImageColours => edit_image(response, |image| {
                let mut opposite = image.clone();
                imageops::invert(&mut opposite);
                opposite
            }),
            _ => false,
        }
    }
}

fn change_content_type(response: &mut Response) -> bool {
    let header = response.headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("Content-Type"));
    header.map(|(_, value)| value.push_str("; charset=utf-8")).is_some()
}

fn change_last_byte(response: &mut Response) -> bool {
    let is_json = Json::parse(&response.text()).is_some();
    let last = response.body.last_mut().filter(|_| !is_json);
    last.map(|byte| *byte ^= 1).is_some()
}

/// The image in its own format.
fn edit_image(response: &mut Response, edit: impl Fn(&RgbaImage) -> RgbaImage) -> bool {
    let Ok((format, image)) = decode(&response.body) else { return false };
    let edited = DynamicImage::from(edit(&image));
    // JPEG has no transparency.
    let edited = if format == ImageFormat::Jpeg { edited.into_rgb8().into() } else { edited };
    let mut bytes = Cursor::new(Vec::new());
    let written = edited.write_to(&mut bytes, format).is_ok();
    if written {
        response.body = bytes.into_inner();
    }
    written
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
