//! What of routes and of `[gateway]` says which requests are refused.

use std::fmt;
use std::time::Duration;

use axum::http::Method;
use gateway::{Accepts, Condition, ContentType, MAX_RULES, Rule, RuleAction, Scanners, scanner_names};

use super::print::{list, quoted, seconds};
use super::reader::{Named, Section};
use super::settings::duration;

/// `[gateway.checks]` and `[[gateway.rules]]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckSettings {
    pub(crate) scanners: Scanners,
    /// Names of built-in rules that are left out.
    pub(crate) except: Vec<String>,
    pub(crate) rules: Vec<Rule>,
}

const SCANNERS: &str = "off, log or block";
const ACTION: &str = "block, log or challenge";
const RULE_NAME: &str = "a name of letters, digits, dots, - and _";

/// When a client is told to come again that was challenged.
const CHALLENGED_FOR: Duration = Duration::from_secs(30);

const TYPE: &str = "types such as application/json, or image/*";
const SIZE: &str = "a number of bytes such as 64KiB, 10MiB or 1000";

impl CheckSettings {
    pub(super) fn read(mut section: Section<'_>, rules: Vec<Named<'_>>) -> Self {
        let scanners = section.parsed("scanners", SCANNERS, Scanners::parse);
        let except = each(&mut section, "except", "names such as probe.wordpress", |text| {
            scanner_names().any(|name| name == text).then(|| text.to_owned())
        });
        let mut read: Vec<Rule> = Vec::new();
        let room = MAX_RULES - scanner_names().count();
        for (position, mut item) in rules.into_iter().enumerate() {
            if position == room {
                item.section.refuse(
                    item.origin,
                    "name",
                    format!("is one too many: there may be {room} rules"),
                );
                break;
            }
            if let Some(rule) = rule(&mut item, &read) {
                read.push(rule);
            }
            item.section.finish();
        }
        section.finish();
        let scanners = scanners.map_or_else(Scanners::default, |(scanners, _)| scanners);
        Self { scanners, except, rules: read }
    }

    /// All rules in their order: those of the configuration, then what is built in.
    pub(crate) fn in_order(&self) -> Vec<Rule> {
        self.rules.iter().cloned().chain(self.scanners.rules(&self.except)).collect()
    }

    pub(super) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scanners != Scanners::default() || !self.except.is_empty() {
            writeln!(f, "\n[gateway.checks]")?;
            writeln!(f, "scanners = {}", quoted(self.scanners.as_str()))?;
            print_list("except", &self.except, f)?;
        }
        self.rules.iter().try_for_each(|rule| print_rule(rule, f))
    }
}

fn rule(item: &mut Named<'_>, before: &[Rule]) -> Option<Rule> {
    let Named { origin, section, .. } = item;
    let name = section.parsed("name", RULE_NAME, |text| {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        (matches!(text.len(), 1..=64) && text.bytes().all(is_name)).then(|| text.to_owned())
    });
    let action = section.parsed("action", ACTION, |text| match text {
        "block" => Some(RuleAction::Block),
        "log" => Some(RuleAction::Log),
        "challenge" => Some(RuleAction::Challenge(CHALLENGED_FOR)),
        _ => None,
    });
    let retry_after = section.parsed("retry_after", "a time such as 30s", duration);
    let when = section.text("when").map(|text| (text.value.parse::<Condition>(), text.origin));
    for (key, is_there, expected) in [
        ("name", section.origin_of("name").is_some(), RULE_NAME),
        ("action", section.origin_of("action").is_some(), ACTION),
        ("when", section.origin_of("when").is_some(), "a condition such as path starts_with \"/admin/\""),
    ] {
        if !is_there {
            section.refuse(origin, key, format!("is missing; write {expected}"));
        }
    }
    if let Some((name, origin)) = &name
        && (before.iter().any(|rule| rule.name == *name) || scanner_names().any(|built_in| built_in == name))
    {
        section.refuse(origin, "name", format!("another rule is called {name:?}; write another name"));
    }
    let when = match when? {
        (Ok(when), _) => when,
        (Err(bad), origin) => {
            section.refuse(&origin, "when", bad.to_string());
            return None;
        }
    };
    let (name, mut action) = (name?.0, action?.0);
    match (&mut action, retry_after) {
        (RuleAction::Challenge(wait), Some((given, _))) => *wait = given,
        (_, Some((_, origin))) => {
            section.refuse(&origin, "retry_after", "is for action = \"challenge\" alone");
        }
        (_, None) => {}
    }
    Some(Rule { name, when, action })
}

/// Behind `#` where it looks at headers: they are compared with secrets.
fn print_rule(rule: &Rule, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let when = rule.when.to_string();
    let is_shown = !when.contains("header");
    let mark = if is_shown { "" } else { "# " };
    writeln!(f, "\n{mark}[[gateway.rules]]")?;
    writeln!(f, "{mark}name = {}", quoted(&rule.name))?;
    writeln!(f, "{mark}when = {}", quoted(if is_shown { &when } else { "***" }))?;
    writeln!(f, "{mark}action = {}", quoted(rule.action.as_str()))?;
    match rule.action {
        RuleAction::Challenge(wait) => writeln!(f, "{mark}retry_after = {}", quoted(seconds(wait))),
        _ => Ok(()),
    }
}

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
    writeln!(f, "{key} = {}", list(items))
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
