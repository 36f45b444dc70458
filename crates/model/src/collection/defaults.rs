//! What every collection of a type has: system fields, the indexes of auth collections, and the auth
//! options of a new one (CONTRACT §3.1).

use rand::{Rng, RngExt};

use super::index::has_unique;
use super::{AuthAlert, AuthOptions, MfaOptions, OtpOptions, PasswordAuth, TokenOptions, templates};
use crate::field::draft::FieldDraft;
use crate::field::{DomainOptions, Field, FieldKind, PasswordOptions, Pattern, TextOptions, list};

/// The pattern of a record id unless the client gives another.
pub(crate) const ID_PATTERN: &str = "^[a-z0-9]+$";

/// Adds the system fields that a base or auth collection lacks, and forces the flags of those it has.
pub(super) fn complete_fields(fields: &mut Vec<FieldDraft>, is_auth: bool) {
    complete_id(fields);
    if is_auth {
        complete_password(fields);
        complete_token_key(fields);
        complete_email(fields);
        for name in ["emailVisibility", "verified"] {
            complete(fields, name, |kind| matches!(kind, FieldKind::Bool), || FieldKind::Bool, |_| {});
        }
    }
}

fn complete_id(fields: &mut Vec<FieldDraft>) {
    let existing = fields.iter_mut().map(|draft| &mut draft.field).find(|field| field.name == "id");
    match existing {
        Some(Field { system, required, hidden, kind: FieldKind::Text(options), .. }) => {
            *system = true;
            *required = true;
            *hidden = false;
            options.primary_key = true;
            if options.pattern.is_empty() {
                options.pattern = Pattern::new(ID_PATTERN);
            }
        }
        _ => {
            let id = FieldDraft::new(new_field("id", true, id_kind()));
            *fields = list::collect(std::iter::once(id).chain(fields.drain(..)));
        }
    }
}

fn id_kind() -> FieldKind {
    FieldKind::Text(TextOptions {
        min: 15,
        max: 15,
        pattern: Pattern::new(ID_PATTERN),
        autogenerate_pattern: "[a-z0-9]{15}".to_owned(),
        primary_key: true,
    })
}

fn complete_password(fields: &mut Vec<FieldDraft>) {
    let kind = || FieldKind::Password(PasswordOptions { min: 8, ..PasswordOptions::default() });
    complete(
        fields,
        "password",
        |kind| matches!(kind, FieldKind::Password(_)),
        kind,
        |field| {
            field.hidden = true;
            field.required = true;
        },
    );
}

fn complete_token_key(fields: &mut Vec<FieldDraft>) {
    let kind = || {
        FieldKind::Text(TextOptions {
            min: 30,
            max: 60,
            autogenerate_pattern: "[a-zA-Z0-9]{50}".to_owned(),
            ..TextOptions::default()
        })
    };
    complete(
        fields,
        "tokenKey",
        |kind| matches!(kind, FieldKind::Text(_)),
        kind,
        |field| {
            field.hidden = true;
            field.required = true;
        },
    );
}

fn complete_email(fields: &mut Vec<FieldDraft>) {
    let has_email = |field: &Field| field.name == "email" && matches!(field.kind, FieldKind::Email(_));
    let was_missing = !fields.iter().any(|draft| has_email(&draft.field));
    let kind = || FieldKind::Email(DomainOptions::default());
    complete(
        fields,
        "email",
        |kind| matches!(kind, FieldKind::Email(_)),
        kind,
        |field| {
            // Who sees it is up to `emailVisibility`.
            field.hidden = false;
            field.required |= was_missing;
        },
    );
}

fn complete(
    fields: &mut Vec<FieldDraft>,
    name: &str,
    is_right: impl Fn(&FieldKind) -> bool,
    kind: impl FnOnce() -> FieldKind,
    force: impl FnOnce(&mut Field),
) {
    let has_it = |draft: &FieldDraft| draft.field.name == name && is_right(&draft.field.kind);
    if !fields.iter().any(has_it) {
        list::add(fields, FieldDraft::new(new_field(name, false, kind())));
    }
    if let Some(draft) = fields.iter_mut().find(|draft| draft.field.name == name) {
        draft.field.system = true;
        force(&mut draft.field);
    }
}

/// A system field without an id.
pub(super) fn new_field(name: &str, required: bool, kind: FieldKind) -> Field {
    Field {
        id: String::new(),
        name: name.to_owned(),
        system: true,
        hidden: false,
        presentable: false,
        required,
        help: String::new(),
        kind,
    }
}

/// Adds the unique indexes that an auth collection lacks. `key` is usually the collection's id.
pub(super) fn complete_auth_indexes(indexes: &mut Vec<String>, table: &str, key: &str) {
    if !has_unique(indexes, "tokenKey") {
        let name = index_name("tokenKey", key);
        indexes.push(format!("CREATE UNIQUE INDEX `{name}` ON `{table}` (`tokenKey`)"));
    }
    if !has_unique(indexes, "email") {
        let name = index_name("email", key);
        indexes.push(format!("CREATE UNIQUE INDEX `{name}` ON `{table}` (`email`) WHERE `email` != ''"));
    }
}

fn index_name(field: &str, key: &str) -> String {
    format!("idx_{field}_{key}").chars().take(64).collect()
}

/// The options of a new auth collection, with new secrets.
pub(super) fn auth_options(rng: &mut impl Rng) -> AuthOptions {
    let mut token = |duration| TokenOptions { secret: random_secret(rng), duration };
    AuthOptions {
        auth_rule: Some(String::new()),
        manage_rule: None,
        auth_alert: AuthAlert { enabled: true, email_template: templates::auth_alert() },
        oauth2: super::OAuth2Options::default(),
        password_auth: PasswordAuth { enabled: true, identity_fields: vec!["email".to_owned()] },
        mfa: MfaOptions { enabled: false, duration: 600, rule: String::new() },
        otp: OtpOptions { enabled: false, duration: 180, length: 8, email_template: templates::otp() },
        auth_token: token(432_000),
        password_reset_token: token(1_800),
        email_change_token: token(1_800),
        verification_token: token(86_400),
        file_token: token(180),
        verification_template: templates::verification(),
        reset_password_template: templates::reset_password(),
        confirm_email_change_template: templates::confirm_email_change(),
    }
}

/// A token secret: 50 letters and digits.
pub(super) fn random_secret(rng: &mut impl Rng) -> String {
    random_text(50, b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", rng)
}

/// A random text over an alphabet.
pub(super) fn random_text(length: usize, alphabet: &[u8], rng: &mut impl Rng) -> String {
    (0..length).map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())])).collect()
}
