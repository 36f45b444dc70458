//! Checks of an auth collection's options (CONTRACT §3.4). Those that look at several options together
//! come only when each is fine.

use super::{Validation, check};
use crate::checks::{self, Check, named};
use crate::collection::index::has_unique;
use crate::collection::{
    AuthOptions, EmailTemplate, OAuth2Options, OAuth2Provider, OtpOptions, TokenOptions, providers,
};
use crate::errors::{FieldError, FieldErrors};

/// Adds what is wrong with the options.
pub(super) fn check_auth(validation: &Validation<'_>, errors: &mut FieldErrors) {
    let mut found = each_option(validation);
    if found.is_empty() {
        found = together(validation);
    }
    errors.merge(found);
}

fn each_option(validation: &Validation<'_>) -> FieldErrors {
    let auth = &validation.draft.auth;
    let old_rule =
        |rule: fn(&AuthOptions) -> &Option<String>| validation.old.map(|old| old.auth().map_or(&None, rule));
    let mut errors = FieldErrors::new();
    check("authRule", validation.rule(&auth.auth_rule, old_rule(|old| &old.auth_rule)), &mut errors);
    check("manageRule", manage_rule(validation, auth, old_rule(|old| &old.manage_rule)), &mut errors);
    let alert_template = template(&auth.auth_alert.email_template);
    errors.nest("authAlert", nested("emailTemplate", alert_template));
    // Empty names do not count.
    let identity_fields = &auth.password_auth.identity_fields;
    if auth.password_auth.enabled && identity_fields.iter().all(String::is_empty) {
        errors.add_at(&["passwordAuth", "identityFields"], FieldError::required());
    }
    errors.nest("oauth2", oauth2(&auth.oauth2));
    errors.nest("otp", otp(&auth.otp));
    if auth.mfa.enabled {
        errors.nest("mfa", duration(auth.mfa.duration, 86_400));
    }
    tokens(auth, &mut errors);
    errors.nest("verificationTemplate", template(&auth.verification_template));
    errors.nest("resetPasswordTemplate", template(&auth.reset_password_template));
    errors.nest("confirmEmailChangeTemplate", template(&auth.confirm_email_change_template));
    errors
}

fn manage_rule(validation: &Validation<'_>, auth: &AuthOptions, old_rule: Option<&Option<String>>) -> Check {
    if auth.manage_rule.as_deref() == Some("") {
        return Err(FieldError::new("validation_nil_or_not_empty_required", "Cannot be blank."));
    }
    validation.rule(&auth.manage_rule, old_rule)
}

fn nested(name: &str, errors: FieldErrors) -> FieldErrors {
    let mut outer = FieldErrors::new();
    outer.nest(name, errors);
    outer
}

fn template(template: &EmailTemplate) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check("subject", checks::required(&template.subject), &mut errors);
    check("body", checks::required(&template.body), &mut errors);
    errors
}

fn oauth2(options: &OAuth2Options) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if !options.enabled {
        return errors;
    }
    for (position, provider) in options.providers.iter().enumerate() {
        let is_earlier = options.providers[..position].iter().any(|other| other.name == provider.name);
        if is_earlier && !provider.name.is_empty() {
            let message = format!("The provider {} is already registered.", provider.name);
            let error = named("validation_duplicated_provider", message, "name", provider.name.as_str());
            errors.add_at(&["providers", &position.to_string(), "name"], error);
            return errors;
        }
    }
    let mut each = FieldErrors::new();
    for (position, provider) in options.providers.iter().enumerate() {
        each.nest(&position.to_string(), check_provider(provider));
    }
    errors.nest("providers", each);
    errors
}

fn check_provider(provider: &OAuth2Provider) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check(
        "name",
        checks::required(&provider.name).and_then(|()| known_provider(&provider.name)),
        &mut errors,
    );
    check("clientId", checks::required(&provider.client_id), &mut errors);
    check("clientSecret", checks::required(&provider.client_secret), &mut errors);
    check("authURL", checks::url(&provider.auth_url), &mut errors);
    check("tokenURL", checks::url(&provider.token_url), &mut errors);
    check("userInfoURL", checks::url(&provider.user_info_url), &mut errors);
    errors
}

fn known_provider(name: &str) -> Check {
    if providers::is_known(name) {
        return Ok(());
    }
    let message = format!("Invalid or missing provider with name {name}.");
    Err(named("validation_missing_provider", message, "name", name))
}

fn otp(options: &OtpOptions) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if options.enabled {
        errors.merge(duration(options.duration, 86_400));
        let length =
            checks::required_number(options.length).and_then(|()| checks::at_least(options.length, 4));
        check("length", length, &mut errors);
    }
    errors.nest("emailTemplate", template(&options.email_template));
    errors
}

fn duration(seconds: i64, most: i64) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let result = checks::required_number(seconds)
        .and_then(|()| checks::at_least(seconds, 10))
        .and_then(|()| checks::at_most(seconds, most));
    check("duration", result, &mut errors);
    errors
}

fn tokens(auth: &AuthOptions, errors: &mut FieldErrors) {
    let all = [
        ("authToken", &auth.auth_token),
        ("passwordResetToken", &auth.password_reset_token),
        ("emailChangeToken", &auth.email_change_token),
        ("verificationToken", &auth.verification_token),
        ("fileToken", &auth.file_token),
    ];
    for (name, options) in all {
        errors.nest(name, token(options));
    }
}

fn token(options: &TokenOptions) -> FieldErrors {
    // About three years.
    const LONGEST_SECONDS: i64 = 94_670_856;
    let mut errors = duration(options.duration, LONGEST_SECONDS);
    let secret = checks::required(&options.secret).and_then(|()| checks::length(&options.secret, 30, 255));
    check("secret", secret, &mut errors);
    errors
}

fn together(validation: &Validation<'_>) -> FieldErrors {
    let auth = &validation.draft.auth;
    if auth.mfa.enabled {
        let methods = [auth.password_auth.enabled, auth.oauth2.enabled, auth.otp.enabled];
        if methods.iter().filter(|is_on| **is_on).count() < 2 {
            let message = "MFA requires at least 2 auth methods to be enabled.";
            let error = FieldError::new("validation_mfa_not_enough_auths", message);
            return nested("mfa", FieldErrors::one("enabled", error));
        }
        if let Err(error) = mfa_rule(validation, &auth.mfa.rule) {
            return nested("mfa", FieldErrors::one("rule", error));
        }
    }
    if auth.password_auth.enabled
        && let Err(error) = identity_fields(validation, &auth.password_auth.identity_fields)
    {
        return nested("passwordAuth", FieldErrors::one("identityFields", error));
    }
    FieldErrors::new()
}

fn mfa_rule(validation: &Validation<'_>, rule: &str) -> Check {
    if rule.is_empty() {
        return Ok(());
    }
    let old =
        validation.old.map(|old| Some(old.auth().map_or_else(String::new, |auth| auth.mfa.rule.clone())));
    validation.rule(&Some(rule.to_owned()), old.as_ref())
}

fn identity_fields(validation: &Validation<'_>, names: &[String]) -> Check {
    for name in names {
        if !validation.draft.fields.iter().any(|draft| draft.field.name == *name) {
            let message = format!("Invalid or missing field {name}");
            return Err(named("validation_missing_field", message, "fieldName", name.as_str()));
        }
        if !has_unique(&validation.draft.indexes, name) {
            let message = format!("The field {name} doesn't have a UNIQUE constraint.");
            return Err(named("validation_missing_unique_constraint", message, "fieldName", name.as_str()));
        }
    }
    Ok(())
}
