//! Collections: named sets of records with fields, rules and indexes (CONTRACT §3.1).

use crate::field::{Field, FieldKind};

mod auth_json;
pub mod create;
mod defaults;
pub mod delete;
pub mod diff;
mod draft;
pub mod import;

pub mod index;
pub mod json;
pub mod providers;
mod rules;
pub mod save_error;
pub mod scaffolds;
pub mod store_errors;
pub mod system;
mod templates;
pub mod update;
mod validate;
pub mod view;

/// A collection as it is stored. What it means to a running server is in [`crate::schema::Schema`].
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// `pbc_<crc32>` unless the client gave one; kept on rename.
    pub id: String,
    /// The table's name and the one in URLs.
    pub name: String,
    /// Cannot be renamed, retyped or deleted.
    pub system: bool,
    /// Who may do what; `None` is superusers only, empty is everyone.
    pub rules: Rules,
    /// The fields in the order in which clients see them.
    pub fields: Vec<Field>,
    /// `CREATE INDEX` statements.
    pub indexes: Vec<String>,
    /// In the contract's date form.
    pub created: String,
    /// In the contract's date form.
    pub updated: String,
    /// The type, and what only this type has.
    pub kind: CollectionKind,
}

/// The type of a collection.
#[derive(Debug, Clone, PartialEq)]
pub enum CollectionKind {
    /// Plain records.
    Base,
    /// Records that can sign in.
    Auth(Box<AuthOptions>),
    /// A stored SELECT.
    View(ViewOptions),
}

/// The five rules every collection has, as text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// Which records a list shows.
    pub list: Option<String>,
    /// Which records can be viewed.
    pub view: Option<String>,
    /// What may be created.
    pub create: Option<String>,
    /// What may be updated.
    pub update: Option<String>,
    /// What may be deleted.
    pub delete: Option<String>,
}

/// What an auth collection has beyond a base collection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthOptions {
    /// Who may sign in.
    pub auth_rule: Option<String>,
    /// Who may manage the accounts of others.
    pub manage_rule: Option<String>,
    /// Mails about sign-ins from new places.
    pub auth_alert: AuthAlert,
    /// Sign-in by other services.
    pub oauth2: OAuth2Options,
    /// Sign-in by password.
    pub password_auth: PasswordAuth,
    /// Two methods to sign in.
    pub mfa: MfaOptions,
    /// Sign-in by a mailed code.
    pub otp: OtpOptions,
    /// The token of a signed-in caller.
    pub auth_token: TokenOptions,
    /// The token in a password reset mail.
    pub password_reset_token: TokenOptions,
    /// The token in an email change mail.
    pub email_change_token: TokenOptions,
    /// The token in a verification mail.
    pub verification_token: TokenOptions,
    /// The token in the URL of a protected file.
    pub file_token: TokenOptions,
    /// The verification mail.
    pub verification_template: EmailTemplate,
    /// The password reset mail.
    pub reset_password_template: EmailTemplate,
    /// The email change mail.
    pub confirm_email_change_template: EmailTemplate,
}

/// Mails about sign-ins from new places.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthAlert {
    /// Whether they are sent.
    pub enabled: bool,
    /// The mail.
    pub email_template: EmailTemplate,
}

/// Sign-in by other services.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OAuth2Options {
    /// The services, in the order shown.
    pub providers: Vec<OAuth2Provider>,
    /// Which fields take the service's data.
    pub mapped_fields: MappedFields,
    /// Whether it can be used.
    pub enabled: bool,
}

/// One service that signs users in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OAuth2Provider {
    /// Whether to use PKCE; `None` is the service's default.
    pub pkce: Option<bool>,
    /// The contract's name of the service.
    pub name: String,
    /// Our id at the service.
    pub client_id: String,
    /// Our secret at the service. Never returned.
    pub client_secret: String,
    /// Where users are sent.
    pub auth_url: String,
    /// Where codes become tokens.
    pub token_url: String,
    /// Where tokens become users.
    pub user_info_url: String,
    /// The name on the button.
    pub display_name: String,
    /// The service's own options.
    pub extra: crate::json::JsonObject,
}

/// Which fields take a service's data; empty means none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MappedFields {
    /// Takes the user's id.
    pub id: String,
    /// Takes the user's name.
    pub name: String,
    /// Takes the user's short name.
    pub username: String,
    /// Takes the user's picture.
    pub avatar_url: String,
}

/// Sign-in by password.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PasswordAuth {
    /// Whether it can be used.
    pub enabled: bool,
    /// The unique fields that name a user.
    pub identity_fields: Vec<String>,
}

/// Two methods to sign in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MfaOptions {
    /// Whether a second method is asked for.
    pub enabled: bool,
    /// Seconds between the two.
    pub duration: i64,
    /// Which records need it; empty means all.
    pub rule: String,
}

/// Sign-in by a mailed code.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OtpOptions {
    /// Whether it can be used.
    pub enabled: bool,
    /// Seconds that a code lives.
    pub duration: i64,
    /// Digits of a code.
    pub length: i64,
    /// The mail.
    pub email_template: EmailTemplate,
}

/// How a kind of token is made.
#[derive(Clone, PartialEq, Default)]
pub struct TokenOptions {
    /// The collection's part of the signing key. Never returned.
    pub secret: String,
    /// Seconds that a token lives.
    pub duration: i64,
}

/// A mail with placeholders.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EmailTemplate {
    /// The subject line.
    pub subject: String,
    /// The body, HTML.
    pub body: String,
}

/// What a view collection has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ViewOptions {
    /// The SELECT.
    pub query: String,
}

// === impl Collection ===

impl Collection {
    /// The name of the collection of superusers.
    pub const SUPERUSERS: &str = "_superusers";

    /// The field with this name (case matters).
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The position of the field with this name: also the position of its value in a [`crate::record::Record`].
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The options of an auth collection.
    pub fn auth(&self) -> Option<&AuthOptions> {
        match &self.kind {
            CollectionKind::Auth(options) => Some(options),
            _ => None,
        }
    }

    /// Whether records can sign in.
    pub fn is_auth(&self) -> bool {
        matches!(self.kind, CollectionKind::Auth(_))
    }

    /// Whether this is a stored SELECT.
    pub fn is_view(&self) -> bool {
        matches!(self.kind, CollectionKind::View(_))
    }

    /// Whether records hold files.
    pub fn has_files(&self) -> bool {
        self.fields.iter().any(|field| matches!(field.kind, FieldKind::File(_)))
    }

    /// Whether this holds the superusers.
    pub fn is_superusers(&self) -> bool {
        self.name == Collection::SUPERUSERS
    }

    /// The contract's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            CollectionKind::Base => "base",
            CollectionKind::Auth(_) => "auth",
            CollectionKind::View(_) => "view",
        }
    }
}

// === impl TokenOptions ===

impl std::fmt::Debug for TokenOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenOptions").field("duration", &self.duration).finish_non_exhaustive()
    }
}
