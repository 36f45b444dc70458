//! `[tls.acme]`: an authority that certificates are obtained from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kit::outbound::OutboundUrl;

use super::reader::{Section, Text};
use super::settings::{boolean, duration};

/// `[tls.acme]`
#[derive(Debug, Clone)]
pub(crate) struct AcmeSettings {
    /// In lower case; at least one.
    pub(crate) hosts: Vec<String>,
    pub(crate) email: Option<String>,
    pub(crate) directory: OutboundUrl,
    pub(crate) directory_ca: Option<Roots>,
    pub(crate) binding: Option<Binding>,
    /// How long before its end a certificate is renewed, if not at two thirds of its life.
    pub(crate) renew_before: Option<Duration>,
}

/// Roots of a private authority.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    pub(crate) path: PathBuf,
    pub(crate) pem: String,
}

/// What binds the account to one that the authority has already.
#[derive(Clone)]
pub(crate) struct Binding {
    pub(crate) id: String,
    pub(crate) key: Vec<u8>,
}

const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Each has an order of its own, one after the other.
const MAX_HOSTS: usize = 100;

impl AcmeSettings {
    /// Without the section there is none. Where something is wrong it is noted.
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let keys = [
            "hosts",
            "email",
            "directory",
            "directory_ca",
            "eab_kid",
            "eab_key",
            "terms_agreed",
            "renew_before",
        ];
        let origin = keys.iter().find_map(|&key| section.origin_of(key))?;
        let hosts = hosts(&mut section);
        if section.origin_of("hosts").is_none() {
            section.refuse(origin, "hosts", "is missing; write the names that certificates are wanted for");
        }
        let terms = section.parsed("terms_agreed", "true", boolean);
        if !matches!(terms, Some((true, _))) {
            let message = "must be true: the authority asks whether you agree to its terms of service";
            section.refuse(terms.as_ref().map_or(origin, |(_, origin)| origin), "terms_agreed", message);
        }
        let directory = section.parsed("directory", "the https:// URL of an ACME directory", https_url);
        let directory = directory.map_or_else(
            || OutboundUrl::parse(DIRECTORY).expect("a URL that is written here"),
            |(url, _)| url,
        );
        let settings = Self {
            hosts,
            email: section
                .parsed("email", "an address such as admin@app.example", email)
                .map(|(email, _)| email),
            directory,
            directory_ca: roots(&mut section),
            binding: binding(&mut section),
            renew_before: section
                .parsed("renew_before", "a time such as 30d", duration)
                .map(|(time, _)| time),
        };
        section.finish();
        Some(settings)
    }
}

fn hosts(section: &mut Section<'_>) -> Vec<String> {
    let Some((hosts, origin)) = section.list("hosts") else { return Vec::new() };
    let hosts: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    if hosts.is_empty() || hosts.len() > MAX_HOSTS {
        section.refuse(&origin, "hosts", format!("must have from 1 to {MAX_HOSTS} names"));
    }
    if let Some(wrong) = hosts.iter().find(|host| !is_name(host)) {
        let message =
            format!("{wrong:?} is not right; write a whole name such as \"app.example\", without wildcards");
        section.refuse(&origin, "hosts", message);
    }
    if let Some(twice) = (1..hosts.len()).find(|&at| hosts[..at].contains(&hosts[at])) {
        section.refuse(&origin, "hosts", format!("{:?} stands there twice", hosts[twice]));
    }
    hosts
}

/// A name that can be proved by HTTP: not an address, whose last label would be a number.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(is_label) && last.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn email(text: &str) -> Option<String> {
    let (user, host) = text.split_once('@')?;
    let is_right = !user.is_empty()
        && !host.is_empty()
        && text.len() <= 254
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?,<>\"&".contains(&byte));
    is_right.then(|| text.to_owned())
}

fn https_url(text: &str) -> Option<OutboundUrl> {
    OutboundUrl::parse(text).ok().filter(|url| url.scheme() == "https")
}

fn roots(section: &mut Section<'_>) -> Option<Roots> {
    let Text { value, origin } = section.text("directory_ca")?;
    match std::fs::read_to_string(&value) {
        Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Some(Roots { path: value.into(), pem }),
        Ok(_) => {
            section.refuse(&origin, "directory_ca", format!("{value} has no certificate in it, as PEM"));
            None
        }
        Err(error) => {
            section.refuse(&origin, "directory_ca", format!("{value} cannot be read: {error}"));
            None
        }
    }
}

fn binding(section: &mut Section<'_>) -> Option<Binding> {
    match (section.text("eab_kid"), section.text("eab_key")) {
        (Some(id), Some(key)) => match URL_SAFE_NO_PAD.decode(key.value.trim_end_matches('=')) {
            Ok(key) if !key.is_empty() => Some(Binding { id: id.value, key }),
            // It is not shown.
            _ => {
                section.refuse(
                    &key.origin,
                    "eab_key",
                    "is not right; write the key as the authority gave it, in base64url",
                );
                None
            }
        },
        (Some(alone), None) | (None, Some(alone)) => {
            section.refuse(&alone.origin, "eab_kid", "stands alone; write eab_kid and eab_key");
            None
        }
        (None, None) => None,
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("id", &self.id).finish_non_exhaustive()
    }
}
