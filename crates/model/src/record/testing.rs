//! Collections and fields for the tests of this folder.

use std::sync::Arc;

use crate::collection::{
    AuthAlert, AuthOptions, Collection, CollectionKind, EmailTemplate, OtpOptions, Rules, TokenOptions,
};
use crate::field::{DomainOptions, Field, FieldKind, PasswordOptions, Pattern, TextOptions};

pub(crate) fn field(name: &str, kind: FieldKind) -> Field {
    Field {
        id: String::new(),
        name: name.to_owned(),
        system: false,
        hidden: false,
        presentable: false,
        required: false,
        help: String::new(),
        kind,
    }
}

pub(crate) fn required(field: Field) -> Field {
    Field { required: true, ..field }
}

pub(crate) fn hidden(field: Field) -> Field {
    Field { hidden: true, ..field }
}

/// The id that collections have unless told otherwise.
pub(crate) fn id() -> Field {
    let options = TextOptions {
        min: 15,
        max: 15,
        pattern: Pattern::new("^[a-z0-9]+$"),
        autogenerate_pattern: "[a-z0-9]{15}".to_owned(),
        primary_key: true,
    };
    required(field("id", FieldKind::Text(options)))
}

pub(crate) fn base(fields: Vec<Field>) -> Arc<Collection> {
    Arc::new(Collection {
        id: "pbc_1".to_owned(),
        name: "things".to_owned(),
        system: false,
        rules: Rules::default(),
        fields: std::iter::once(id()).chain(fields).collect(),
        indexes: Vec::new(),
        created: String::new(),
        updated: String::new(),
        kind: CollectionKind::Base,
    })
}

pub(crate) fn auth(more: Vec<Field>) -> Arc<Collection> {
    let password = PasswordOptions { min: 8, ..PasswordOptions::default() };
    let token_key = TextOptions {
        min: 30,
        max: 60,
        autogenerate_pattern: "[a-zA-Z0-9]{50}".to_owned(),
        ..TextOptions::default()
    };
    let mut fields = vec![
        required(hidden(field("password", FieldKind::Password(password)))),
        required(hidden(field("tokenKey", FieldKind::Text(token_key)))),
        required(field("email", FieldKind::Email(DomainOptions::default()))),
        field("emailVisibility", FieldKind::Bool),
        field("verified", FieldKind::Bool),
    ];
    fields.extend(more);
    let mut collection = Arc::unwrap_or_clone(base(fields));
    collection.name = "users".to_owned();
    collection.kind = CollectionKind::Auth(Box::new(auth_options()));
    Arc::new(collection)
}

fn auth_options() -> AuthOptions {
    let token = TokenOptions::default;
    let mail = EmailTemplate::default;
    AuthOptions {
        auth_rule: None,
        manage_rule: None,
        auth_alert: AuthAlert { enabled: false, email_template: mail() },
        oauth2: Default::default(),
        password_auth: Default::default(),
        mfa: Default::default(),
        otp: OtpOptions { enabled: false, duration: 0, length: 0, email_template: mail() },
        auth_token: token(),
        password_reset_token: token(),
        email_change_token: token(),
        verification_token: token(),
        file_token: token(),
        verification_template: mail(),
        reset_password_template: mail(),
        confirm_email_change_template: mail(),
    }
}
