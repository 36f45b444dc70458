//! Values of the request: `@request.*` and the macros.

use std::borrow::Cow;

use super::semantics::Cell;
use crate::context::{Caller, RequestContext, RuleBody};
use crate::json::{Json, write_number, write_string};
use crate::time::Timestamp;

/// A value of the request.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestValue {
    /// `@request.<part>.<path>`.
    Field {
        /// Which part of the request.
        part: RequestPart,
        /// What follows it; empty for `context` and `method`.
        path: Vec<String>,
        /// What is asked of it.
        aspect: Aspect,
        /// Whether the collection has a number field of that name, so that text that is a number
        /// becomes one.
        numeric: bool,
    },
    /// `@request.auth.<key>` for what every auth record has.
    Caller(CallerKey),
    /// `@now` and its like.
    Macro(Macro),
}

/// The parts of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's words; nothing to add")]
pub enum RequestPart {
    Context,
    Method,
    Query,
    Headers,
    Body(BodyField),
}

/// What the body's first key is in the collection, which decides the text of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyField {
    /// A `json` field: its value is always JSON text.
    Json,
    /// A `geoPoint` field: JSON text, longitude first.
    GeoPoint,
    /// Anything else.
    Other,
}

/// What is asked of a value of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// The value.
    Value,
    /// The value in lower case.
    Lower,
    /// Whether there is one.
    IsSet,
    /// How many items it is.
    Length,
}

/// What every auth record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's words; nothing to add")]
pub enum CallerKey {
    Id,
    CollectionId,
    CollectionName,
    Email,
    EmailVisibility,
    Verified,
}

/// `@now` and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's words; nothing to add")]
pub enum Macro {
    Now,
    Yesterday,
    Tomorrow,
    TodayStart,
    TodayEnd,
    MonthStart,
    MonthEnd,
    YearStart,
    YearEnd,
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Weekday,
    Year,
}

// === impl RequestValue ===

impl RequestValue {
    /// The value now.
    pub fn cell<'a>(&self, context: &'a RequestContext, body: &'a RuleBody) -> Cell<'a> {
        match self {
            RequestValue::Field { part, path, aspect, numeric } => {
                let found = Found::of(*part, path, context, body);
                match aspect {
                    Aspect::IsSet => Cell::Integer(i64::from(found.is_some())),
                    Aspect::Length => Cell::Integer(found.map_or(0, |found| found.length())),
                    Aspect::Value => found.map_or(Cell::Null, |found| found.cell(*part, path, *numeric)),
                    Aspect::Lower => {
                        let cell = found.map_or(Cell::Null, |found| found.cell(*part, path, *numeric));
                        super::semantics::lower(&cell)
                    }
                }
            }
            RequestValue::Caller(key) => key.cell(&context.caller),
            RequestValue::Macro(word) => word.cell(context.now),
        }
    }

    /// The text that `~` makes its pattern of, when this is on its right: numbers without exponent,
    /// booleans as words.
    pub fn pattern_text<'a>(&self, context: &'a RequestContext, body: &'a RuleBody) -> Option<Cow<'a, str>> {
        let boolean = match self {
            RequestValue::Field { part, path, aspect: Aspect::Value | Aspect::Lower, .. } => {
                match Found::of(*part, path, context, body) {
                    Some(Found::Json(Json::Bool(value))) => Some(*value),
                    _ => None,
                }
            }
            RequestValue::Caller(CallerKey::Verified | CallerKey::EmailVisibility) => {
                match self.cell(context, body) {
                    Cell::Integer(value) => Some(value != 0),
                    _ => None,
                }
            }
            _ => None,
        };
        match boolean {
            Some(true) => Some(Cow::Borrowed("true")),
            Some(false) => Some(Cow::Borrowed("false")),
            None => pattern_text(self.cell(context, body)),
        }
    }
}

/// A constant as `~` reads it on its right.
pub(super) fn pattern_text(cell: Cell<'_>) -> Option<Cow<'_, str>> {
    match cell {
        Cell::Null => None,
        Cell::Integer(number) => Some(Cow::Owned(number.to_string())),
        Cell::Real(number) => Some(Cow::Owned(number.to_string())),
        Cell::Text(text) => Some(text),
    }
}

/// What stands at a path of the request.
enum Found<'a> {
    Word(&'static str),
    Text(&'a str),
    Json(&'a Json),
}

impl<'a> Found<'a> {
    fn of(
        part: RequestPart,
        path: &[String],
        context: &'a RequestContext,
        body: &'a RuleBody,
    ) -> Option<Found<'a>> {
        match (part, path) {
            (RequestPart::Context, _) => Some(Found::Word(context.origin.as_str())),
            (RequestPart::Method, _) => Some(Found::Word(context.method)),
            (RequestPart::Query, [key]) => context.query.get(key).map(|text| Found::Text(text)),
            (RequestPart::Headers, [key]) => context.headers.get(key).map(|text| Found::Text(text)),
            (RequestPart::Query | RequestPart::Headers, _) => None,
            (RequestPart::Body(_), [key, rest @ ..]) => {
                let mut value = body.values.get(key)?;
                for step in rest {
                    value = match value {
                        Json::Object(members) => members.get(step)?,
                        Json::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                        _ => return None,
                    };
                }
                Some(Found::Json(value))
            }
            (RequestPart::Body(_), []) => None,
        }
    }

    fn cell(self, part: RequestPart, path: &[String], numeric: bool) -> Cell<'a> {
        let cell = match self {
            Found::Word(word) => Cell::Text(Cow::Borrowed(word)),
            Found::Text(text) => Cell::Text(Cow::Borrowed(text)),
            Found::Json(value) => match part {
                RequestPart::Body(BodyField::Json) if path.len() == 1 => {
                    return Cell::Text(Cow::Owned(value.to_string()));
                }
                RequestPart::Body(BodyField::GeoPoint) if path.len() == 1 => {
                    return Cell::Text(Cow::Owned(geo_point_text(value)));
                }
                _ => json_value(value),
            },
        };
        match &cell {
            Cell::Text(text) if numeric => text.parse().map_or(cell, Cell::Real),
            _ => cell,
        }
    }

    fn length(&self) -> i64 {
        match self {
            Found::Json(Json::Null) => 0,
            Found::Json(Json::Array(items)) => items.len() as i64,
            _ => 1,
        }
    }
}

fn json_value(value: &Json) -> Cell<'_> {
    match value {
        Json::Null => Cell::Null,
        Json::Bool(value) => Cell::Integer(i64::from(*value)),
        Json::Number(number) => Cell::Real(*number),
        Json::Text(text) => Cell::Text(Cow::Borrowed(text)),
        other => Cell::Text(Cow::Owned(other.to_string())),
    }
}

fn geo_point_text(value: &Json) -> String {
    let mut text = String::new();
    for (start, key) in [("{\"lon\":", "lon"), (",\"lat\":", "lat")] {
        text.push_str(start);
        write_number(value.get(key).and_then(Json::as_number).unwrap_or(0.0), &mut text);
    }
    text.push('}');
    text
}

/// The list that a body submits under a key, as JSON text: what it is not given is no item, what is
/// no list is one.
pub(super) fn body_list(key: &str, body: &RuleBody) -> String {
    match body.values.get(key) {
        None | Some(Json::Null) => "[]".to_owned(),
        Some(Json::Array(items)) => Json::Array(items.clone()).to_string(),
        Some(one) => format!("[{one}]"),
    }
}

/// The ids that a body submits for a relation: text, without the empty ones.
pub(super) fn body_ids(key: &str, body: &RuleBody) -> String {
    let mut list = String::from("[");
    let mut push = |value: &Json| {
        let text = match json_value(value) {
            Cell::Text(text) if !text.is_empty() => text,
            _ => return,
        };
        if list.len() > 1 {
            list.push(',');
        }
        write_string(&text, &mut list);
    };
    match body.values.get(key) {
        Some(Json::Array(items)) => items.iter().for_each(&mut push),
        Some(one) => push(one),
        None => {}
    }
    list.push(']');
    list
}

// === impl CallerKey ===

impl CallerKey {
    /// The key with this name.
    pub(super) fn named(name: &str) -> Option<CallerKey> {
        Some(match name {
            "id" => CallerKey::Id,
            "collectionId" => CallerKey::CollectionId,
            "collectionName" => CallerKey::CollectionName,
            "email" => CallerKey::Email,
            "emailVisibility" => CallerKey::EmailVisibility,
            "verified" => CallerKey::Verified,
            _ => return None,
        })
    }

    fn cell(self, caller: &Caller) -> Cell<'_> {
        let Some(record) = caller.record() else { return Cell::Null };
        match self {
            CallerKey::Id => Cell::Text(Cow::Borrowed(record.id())),
            CallerKey::CollectionId => Cell::Text(Cow::Borrowed(&record.collection.id)),
            CallerKey::CollectionName => Cell::Text(Cow::Borrowed(&record.collection.name)),
            CallerKey::Email => Cell::Text(Cow::Borrowed(record.get("email").as_str())),
            CallerKey::EmailVisibility => boolean(record.get("emailVisibility").as_bool()),
            CallerKey::Verified => boolean(record.get("verified").as_bool()),
        }
    }
}

fn boolean(value: bool) -> Cell<'static> {
    Cell::Integer(i64::from(value))
}

// === impl Macro ===

impl Macro {
    /// The macro with this name, `@` and all.
    pub(super) fn named(name: &str) -> Option<Macro> {
        Some(match name {
            "@now" => Macro::Now,
            "@yesterday" => Macro::Yesterday,
            "@tomorrow" => Macro::Tomorrow,
            "@todayStart" => Macro::TodayStart,
            "@todayEnd" => Macro::TodayEnd,
            "@monthStart" => Macro::MonthStart,
            "@monthEnd" => Macro::MonthEnd,
            "@yearStart" => Macro::YearStart,
            "@yearEnd" => Macro::YearEnd,
            "@second" => Macro::Second,
            "@minute" => Macro::Minute,
            "@hour" => Macro::Hour,
            "@day" => Macro::Day,
            "@month" => Macro::Month,
            "@weekday" => Macro::Weekday,
            "@year" => Macro::Year,
            _ => return None,
        })
    }

    /// The value at a time.
    pub fn cell(self, now: Timestamp) -> Cell<'static> {
        const DAY: i64 = 86_400_000;
        let at = now.datetime();
        let date = |month: i8, day: i8, end: bool| {
            let clock = if end { "23:59:59.999" } else { "00:00:00.000" };
            Cell::Text(Cow::Owned(format!("{:04}-{month:02}-{day:02} {clock}Z", at.year())))
        };
        match self {
            Macro::Now => Cell::Text(Cow::Owned(now.to_text())),
            Macro::Yesterday => Cell::Text(Cow::Owned(Timestamp(now.0.saturating_sub(DAY)).to_text())),
            Macro::Tomorrow => Cell::Text(Cow::Owned(Timestamp(now.0.saturating_add(DAY)).to_text())),
            Macro::TodayStart => date(at.month(), at.day(), false),
            Macro::TodayEnd => date(at.month(), at.day(), true),
            Macro::MonthStart => date(at.month(), 1, false),
            Macro::MonthEnd => date(at.month(), at.date().days_in_month(), true),
            Macro::YearStart => date(1, 1, false),
            Macro::YearEnd => date(12, 31, true),
            Macro::Second => Cell::Integer(i64::from(at.second())),
            Macro::Minute => Cell::Integer(i64::from(at.minute())),
            Macro::Hour => Cell::Integer(i64::from(at.hour())),
            Macro::Day => Cell::Integer(i64::from(at.day())),
            Macro::Month => Cell::Integer(i64::from(at.month())),
            Macro::Weekday => Cell::Integer(i64::from(at.weekday().to_sunday_zero_offset())),
            Macro::Year => Cell::Integer(i64::from(at.year())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_are_utc_text_and_whole_numbers() {
        // 2024-02-29 12:34:56.789, a Thursday.
        let now = Timestamp(1_709_210_096_789);
        let text = |word: Macro| word.cell(now).to_text().unwrap().into_owned();
        assert_eq!(text(Macro::Now), "2024-02-29 12:34:56.789Z");
        assert_eq!(text(Macro::Yesterday), "2024-02-28 12:34:56.789Z");
        assert_eq!(text(Macro::Tomorrow), "2024-03-01 12:34:56.789Z");
        assert_eq!(text(Macro::TodayEnd), "2024-02-29 23:59:59.999Z");
        assert_eq!(text(Macro::MonthStart), "2024-02-01 00:00:00.000Z");
        assert_eq!(text(Macro::MonthEnd), "2024-02-29 23:59:59.999Z");
        assert_eq!(text(Macro::YearEnd), "2024-12-31 23:59:59.999Z");
        assert_eq!(Macro::Weekday.cell(now), Cell::Integer(4));
        assert_eq!(Macro::Year.cell(now), Cell::Integer(2024));
    }
}
