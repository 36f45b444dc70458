//! Checks of the settings (CONTRACT §8.1).

use std::sync::LazyLock;

use regex::Regex;

use super::{Backups, Batch, Logs, Meta, RateLimitRule, RateLimits, S3, Settings, Smtp};
use crate::checks::{self, Check, named};
use crate::cron::Schedule;
use crate::errors::{FieldError, FieldErrors};
use crate::not_yet::Feature;

/// Everything that is wrong with new settings.
pub(super) fn validate(old: &Settings, new: &Settings) -> FieldErrors {
    let mut errors = FieldErrors::new();
    errors.nest("superuserIPs", each(&new.superuser_ips, checks::ip_or_subnet));
    errors.nest("meta", meta(&new.meta));
    errors.nest("logs", logs(&new.logs));
    errors.nest("smtp", smtp(&new.smtp));
    errors.nest("s3", s3(&new.s3));
    errors.nest("backups", backups(&new.backups));
    errors.nest("batch", batch(&new.batch));
    errors.nest("rateLimits", rate_limits(&new.rate_limits));
    refuse_what_is_not_built(old, new, &mut errors);
    errors
}

fn check(name: &str, result: Check, errors: &mut FieldErrors) {
    if let Err(error) = result {
        errors.add(name, error);
    }
}

fn each(items: &[String], check: impl Fn(&str) -> Check) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (position, item) in items.iter().enumerate() {
        if let Err(error) = check(item) {
            errors.add(&position.to_string(), error);
        }
    }
    errors
}

fn required_when(is_needed: bool, text: &str) -> Check {
    if is_needed { checks::required(text) } else { Ok(()) }
}

fn number(is_needed: bool, number: i64, least: i64) -> Check {
    if is_needed {
        checks::required_number(number)?;
    }
    checks::at_least(number, least)
}

fn meta(meta: &Meta) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let color = &meta.accent_color;
    check("accentColor", checks::length(color, 7, 7).and_then(|()| checks::hex_color(color)), &mut errors);
    check("appName", name(&meta.app_name), &mut errors);
    check("appURL", checks::required(&meta.app_url).and_then(|()| checks::url(&meta.app_url)), &mut errors);
    check("senderName", name(&meta.sender_name), &mut errors);
    let address = &meta.sender_address;
    check("senderAddress", checks::required(address).and_then(|()| checks::email(address)), &mut errors);
    errors
}

fn name(name: &str) -> Check {
    checks::required(name)?;
    checks::length(name, 1, 255)
}

fn logs(logs: &Logs) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check("maxDataSize", number(false, logs.max_data_size, 0), &mut errors);
    check("maxDays", number(false, logs.max_days, 0), &mut errors);
    errors
}

fn smtp(smtp: &Smtp) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let host = required_when(smtp.enabled, &smtp.host).and_then(|()| checks::host(&smtp.host));
    check("host", host, &mut errors);
    check("port", number(smtp.enabled, smtp.port, 0), &mut errors);
    if !matches!(smtp.auth_method.as_str(), "" | "PLAIN" | "LOGIN") {
        errors.add("authMethod", checks::in_invalid());
    }
    check("localName", checks::host(&smtp.local_name), &mut errors);
    errors
}

fn s3(s3: &S3) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let endpoint = checks::url(&s3.endpoint).and_then(|()| required_when(s3.enabled, &s3.endpoint));
    check("endpoint", endpoint, &mut errors);
    check("bucket", required_when(s3.enabled, &s3.bucket), &mut errors);
    check("region", required_when(s3.enabled, &s3.region), &mut errors);
    check("accessKey", required_when(s3.enabled, &s3.access_key), &mut errors);
    check("secret", required_when(s3.enabled, &s3.secret), &mut errors);
    errors
}

fn backups(backups: &Backups) -> FieldErrors {
    let mut errors = FieldErrors::new();
    errors.nest("s3", s3(&backups.s3));
    let has_cron = !backups.cron.is_empty();
    if has_cron && let Err(message) = Schedule::parse(&backups.cron) {
        errors.add("cron", FieldError::new("validation_invalid_cron", message));
    }
    check("cronMaxKeep", number(has_cron, backups.cron_max_keep, 1), &mut errors);
    errors
}

fn batch(batch: &Batch) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check("maxRequests", number(batch.enabled, batch.max_requests, 0), &mut errors);
    check("timeout", number(batch.enabled, batch.timeout, 0), &mut errors);
    check("maxBodySize", number(false, batch.max_body_size, 0), &mut errors);
    errors
}

fn rate_limits(limits: &RateLimits) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if limits.enabled && limits.rules.is_empty() {
        errors.add("rules", FieldError::required());
    }
    errors.nest("rules", rate_limit_rules(&limits.rules));
    errors.nest("excludedIPs", each(&limits.excluded_ips, checks::ip_or_subnet));
    errors
}

/// Rules clash when they have one label and some caller falls under both.
fn rate_limit_rules(rules: &[RateLimitRule]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (position, rule) in rules.iter().enumerate() {
        let clashes = |other: &RateLimitRule| {
            other.label == rule.label
                && (other.audience.starts_with(&rule.audience) || rule.audience.starts_with(&other.audience))
        };
        if rules[..position].iter().any(clashes) {
            let label = rule.label.as_str();
            let message = format!(
                "Rate limit rule configuration with label {label} already exists or conflicts with another rule."
            );
            let error = named("validation_conflicting_rate_limit_rule", message, "label", label);
            errors.add_at(&[&position.to_string(), "label"], error);
            return errors;
        }
    }
    for (position, rule) in rules.iter().enumerate() {
        errors.nest(&position.to_string(), rate_limit_rule(rule));
    }
    errors
}

fn rate_limit_rule(rule: &RateLimitRule) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check("label", checks::required(&rule.label).and_then(|()| label(&rule.label)), &mut errors);
    check("maxRequests", number(true, rule.max_requests, 1), &mut errors);
    check("duration", number(true, rule.duration, 1), &mut errors);
    if !matches!(rule.audience.as_str(), "" | "@guest" | "@auth") {
        errors.add("audience", checks::in_invalid());
    }
    errors
}

fn label(label: &str) -> Check {
    static LABEL: LazyLock<Regex> = LazyLock::new(|| {
        let pattern =
            r"^(?:(?:[0-9A-Za-z_]+ )?/[0-9A-Za-z_/-]*|(?:[0-9A-Za-z_]+|\*):[0-9A-Za-z_]+|[0-9A-Za-z_]+)$";
        Regex::new(pattern).expect("the pattern is a constant")
    });
    if LABEL.is_match(label) { Ok(()) } else { Err(checks::match_invalid()) }
}

fn refuse_what_is_not_built(old: &Settings, new: &Settings, errors: &mut FieldErrors) {
    type IsOn = fn(&Settings) -> bool;
    let switches: [(Feature, IsOn); 4] = [
        (Feature::Smtp, |settings| settings.smtp.enabled),
        (Feature::S3, |settings| settings.s3.enabled),
        (Feature::BackupsS3, |settings| settings.backups.s3.enabled),
        (Feature::BackupsCron, |settings| !settings.backups.cron.is_empty()),
    ];
    for (feature, is_on) in switches {
        if is_on(new) && !is_on(old) {
            feature.refuse(errors);
        }
    }
}
