//! Collections and fields for the tests of this folder.

use std::sync::Arc;

use crate::collection::{Collection, CollectionKind, Rules};
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
    collection.kind = CollectionKind::Auth(Box::default());
    Arc::new(collection)
}
