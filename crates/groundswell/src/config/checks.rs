//! What of routes and of `[gateway]` says which requests are refused.

use std::fmt;

use axum::http::Method;
use gateway::{Accepts, ContentType};

use super::reader::Section;

const TYPE: &str = "types such as application/json, or image/*";
const SIZE: &str = "a number of bytes such as 64KiB, 10MiB or 1000";

/// What a route accepts.
pub(super) fn of_route(section: &mut Section<'_>) -> Accepts {
    Accepts {
        methods: each(section, "allow_methods", "methods such as GET", |text| {
            (text == text.to_ascii_uppercase()).then(|| text.parse::<Method>().ok()).flatten()
        }),
        content_types: each(section, "content_types", TYPE, ContentType::parse),
        max_body: section.parsed("max_body", SIZE, size).map(|(bytes, _)| bytes),
        max_target: section.parsed("max_target", SIZE, size).map(|(bytes, _)| bytes),
    }
}

/// The same as it is read.
pub(super) fn print_accepts(accepts: &Accepts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Accepts { methods, content_types, max_body, max_target } = accepts;
    print_list("allow_methods", methods, f)?;
    print_list("content_types", content_types, f)?;
    max_body.iter().try_for_each(|bytes| writeln!(f, "max_body = {bytes}"))?;
    max_target.iter().try_for_each(|bytes| writeln!(f, "max_target = {bytes}"))
}

fn print_list(key: &str, items: &[impl fmt::Display], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "{key} = {}", super::print::list(items))
}

fn each<T>(
    section: &mut Section<'_>,
    key: &'static str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let Some((texts, origin)) = section.list(key) else { return Vec::new() };
    if texts.is_empty() {
        section.refuse(&origin, key, format!("must name one; write {expected}"));
    }
    let mut items = Vec::new();
    for text in texts {
        match parse(&text) {
            Some(item) => items.push(item),
            None => section.refuse(&origin, key, format!("{text:?} is not right; write {expected}")),
        }
    }
    items
}

/// A number of bytes, with a unit or without.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_or_none() {
        assert_eq!(size("10MiB"), Some(10 << 20));
        assert_eq!(size("64 KiB"), Some(64 << 10));
        assert_eq!(size("1000"), Some(1000));
        for text in ["", "MiB", "1MB", "-1", "1.5MiB", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
