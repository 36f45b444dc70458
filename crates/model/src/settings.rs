//! The settings of an application (CONTRACT §8.1).

mod json;
mod validate;

use crate::errors::FieldErrors;
use crate::json::shape::{Form, Load, Misshapen, Names, Write};
use crate::json::{Json, JsonError};

/// The settings, in the order in which they are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The only addresses and ranges from which superusers are let in; empty means any.
    pub superuser_ips: Vec<String>,
    /// How mail is sent.
    pub smtp: Smtp,
    /// Backups.
    pub backups: Backups,
    /// Where files are, unless they are local.
    pub s3: S3,
    /// The application's name and addresses.
    pub meta: Meta,
    /// Limits of requests.
    pub rate_limits: RateLimits,
    /// Which headers tell a client's address.
    pub trusted_proxy: TrustedProxy,
    /// Many changes in one request.
    pub batch: Batch,
    /// The log of requests.
    pub logs: Logs,
}

/// How mail is sent.
#[derive(Clone, PartialEq, Default)]
pub struct Smtp {
    /// Whether mail is sent by this server.
    pub enabled: bool,
    /// Its port.
    pub port: i64,
    /// Its host.
    pub host: String,
    /// Who we are to it.
    pub username: String,
    /// Our secret. Never returned.
    pub password: String,
    /// `PLAIN`, `LOGIN` or empty, which means the first.
    pub auth_method: String,
    /// Whether the connection starts with TLS.
    pub tls: bool,
    /// What we call ourselves.
    pub local_name: String,
}

/// Backups.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Backups {
    /// When they are made; empty means never.
    pub cron: String,
    /// How many of those are kept.
    pub cron_max_keep: i64,
    /// Where they are, unless they are local.
    pub s3: S3,
}

/// A bucket.
#[derive(Clone, PartialEq, Default)]
pub struct S3 {
    /// Whether it is used.
    pub enabled: bool,
    /// Its name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Its service.
    pub endpoint: String,
    /// Who we are to it.
    pub access_key: String,
    /// Our secret. Never returned.
    pub secret: String,
    /// Whether the bucket stands in the path.
    pub force_path_style: bool,
}

/// The application's name and addresses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meta {
    /// The console's colour.
    pub accent_color: String,
    /// The application's name.
    pub app_name: String,
    /// Where it is.
    pub app_url: String,
    /// Who sends its mails.
    pub sender_name: String,
    /// From where.
    pub sender_address: String,
    /// Whether the console hides what changes collections.
    pub hide_controls: bool,
}

/// Limits of requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RateLimits {
    /// The limits.
    pub rules: Vec<RateLimitRule>,
    /// Addresses and ranges without limits.
    pub excluded_ips: Vec<String>,
    /// Whether they hold.
    pub enabled: bool,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RateLimitRule {
    /// What it is about (CONTRACT §1.13).
    pub label: String,
    /// Whom it is about: empty is everyone.
    pub audience: String,
    /// The length of a window in seconds.
    pub duration: i64,
    /// How many requests a window lets through.
    pub max_requests: i64,
}

/// Which headers tell a client's address.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrustedProxy {
    /// Their names; the first that is present counts.
    pub headers: Vec<String>,
    /// Which of several addresses counts.
    pub use_leftmost_ip: bool,
}

/// Many changes in one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Whether it can be used.
    pub enabled: bool,
    /// How many changes a request may hold.
    pub max_requests: i64,
    /// Seconds until it is given up.
    pub timeout: i64,
    /// Most bytes of a request; 0 means 128 MiB.
    pub max_body_size: i64,
}

/// The log of requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logs {
    /// Most bytes of an entry's data; 0 means 16 KiB.
    pub max_data_size: i64,
    /// Days until entries go.
    pub max_days: i64,
    /// Least level that is kept.
    pub min_level: i64,
    /// Whether addresses are kept.
    pub log_ip: bool,
    /// Whether callers are kept.
    pub log_auth_id: bool,
}

/// Why submitted settings are refused. The texts are the answers' messages.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// The body cannot be read. Bytes that are no JSON count as this, too.
    #[error("An error occurred while loading the submitted data.")]
    Unreadable,
    /// What was read is refused.
    #[error("An error occurred while saving the new settings.")]
    Invalid(FieldErrors),
}

/// Why a stored text is no settings.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StoredSettingsError {
    /// It is no JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is of another shape.
    #[error(transparent)]
    Shape(#[from] Misshapen),
}

impl Settings {
    /// The settings with a submitted body merged onto them, checked. Secrets that are left out or empty
    /// stay as they are.
    pub fn merge(&self, body: &Json) -> Result<Settings, SettingsError> {
        let mut merged = self.clone();
        if !matches!(body, Json::Null) {
            merged.load(body, Names::AnyCase).map_err(|_| SettingsError::Unreadable)?;
        }
        merged.keep_secrets(self);
        let errors = validate::validate(self, &merged);
        errors.into_result().map_err(SettingsError::Invalid)?;
        Ok(merged)
    }

    /// Appends the JSON that clients see: in the contract's key order, without secrets.
    pub fn write_json(&self, out: &mut String) {
        self.write(Form::Api, out);
    }

    /// The JSON that the store keeps, with secrets: the value of PocketBase's `_params` row `settings`.
    pub fn to_stored(&self) -> String {
        let mut text = String::new();
        self.write(Form::Stored, &mut text);
        text
    }

    /// The settings of a stored text; what it lacks is as in a fresh install.
    pub fn from_stored(text: &str) -> Result<Settings, StoredSettingsError> {
        let mut settings = Settings::default();
        settings.load(&Json::parse_whole(text)?, Names::Exact)?;
        Ok(settings)
    }

    /// Renames a collection in the labels of rate limits; whether there were any.
    pub fn rename_collection(&mut self, from: &str, to: &str) -> bool {
        let mut has_changed = false;
        for rule in &mut self.rate_limits.rules {
            let action = rule.label.strip_prefix(from).filter(|action| action.starts_with(':'));
            if let Some(label) = action.map(|action| format!("{to}{action}")) {
                rule.label = label;
                has_changed = true;
            }
        }
        has_changed
    }

    fn keep_secrets(&mut self, old: &Settings) {
        let secrets = [
            (&mut self.smtp.password, &old.smtp.password),
            (&mut self.s3.secret, &old.s3.secret),
            (&mut self.backups.s3.secret, &old.backups.s3.secret),
        ];
        for (secret, old_secret) in secrets {
            if secret.is_empty() {
                secret.clone_from(old_secret);
            }
        }
    }
}

impl Default for Settings {
    /// The settings of a fresh install.
    fn default() -> Settings {
        let rule = |label: &str, max_requests, duration| RateLimitRule {
            label: label.to_owned(),
            audience: String::new(),
            duration,
            max_requests,
        };
        Settings {
            superuser_ips: Vec::new(),
            smtp: Smtp { port: 587, host: "smtp.example.com".to_owned(), ..Smtp::default() },
            backups: Backups { cron_max_keep: 3, ..Backups::default() },
            s3: S3::default(),
            meta: Meta {
                accent_color: "#1055c9".to_owned(),
                app_name: "Acme".to_owned(),
                app_url: "http://localhost:8090".to_owned(),
                sender_name: "Support".to_owned(),
                sender_address: "support@example.com".to_owned(),
                hide_controls: false,
            },
            rate_limits: RateLimits {
                rules: vec![
                    rule("*:auth", 2, 3),
                    rule("*:create", 20, 5),
                    rule("/api/batch", 3, 1),
                    rule("/api/", 300, 10),
                ],
                excluded_ips: Vec::new(),
                enabled: false,
            },
            trusted_proxy: TrustedProxy::default(),
            batch: Batch { enabled: false, max_requests: 50, timeout: 3, max_body_size: 0 },
            logs: Logs { max_data_size: 0, max_days: 5, min_level: 0, log_ip: true, log_auth_id: false },
        }
    }
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Smtp")
            .field("enabled", &self.enabled)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("S3")
            .field("enabled", &self.enabled)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}
