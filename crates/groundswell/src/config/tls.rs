//! `[tls]`: the certificates of the public listener, and what clients are told about HTTPS.

use axum::http::HeaderValue;
use gateway::CertificateFiles;

use super::acme::AcmeSettings;
use super::reader::{Named, Section};
use super::settings::boolean;
use super::tree::Origin;

/// `[tls]`
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsSettings {
    /// The first is for clients that ask for no other.
    pub(crate) certificates: Vec<CertificateFiles>,
    /// Where certificates are obtained from, if from anywhere.
    pub(crate) acme: Option<AcmeSettings>,
    pub(crate) redirect_http: bool,
    /// Where clients find the listener, if not at its own port.
    pub(crate) redirect_port: Option<u16>,
    pub(crate) hsts: Option<HeaderValue>,
}

const HSTS: &str = "a value for Strict-Transport-Security, such as \"max-age=31536000\"";

impl TlsSettings {
    /// `https` is the place of the address to listen on; without one nothing here would have an effect.
    pub(super) fn read(mut section: Section<'_>, https: Option<&Origin>) -> Self {
        let keys = ["certificates", "acme", "redirect_http", "redirect_port", "hsts"];
        let given = keys.iter().find_map(|&key| Some((key, section.origin_of(key)?)));
        let is_given = ["certificates", "acme"].iter().any(|key| section.origin_of(key).is_some());
        let settings = Self {
            certificates: section.items("certificates").into_iter().filter_map(certificate).collect(),
            acme: AcmeSettings::read(section.section("acme")),
            redirect_http: section
                .parsed("redirect_http", "true or false", boolean)
                .is_some_and(|(value, _)| value),
            redirect_port: section
                .parsed("redirect_port", "a port, such as 443", port)
                .map(|(value, _)| value),
            hsts: section.parsed("hsts", HSTS, hsts).map(|(value, _)| value),
        };
        match (https, given) {
            (None, Some((key, origin))) => {
                section.refuse(origin, key, "nothing listens for HTTPS; write server.https = \"HOST:PORT\"");
            }
            (Some(https), _) if !is_given => {
                let message = "is missing, and server.https needs one; write [[tls.certificates]] with certificate \
                               and key, or [tls.acme]";
                section.refuse(https, "certificates", message);
            }
            _ => (),
        }
        section.finish();
        settings
    }
}

fn certificate(Named { origin, mut section, .. }: Named<'_>) -> Option<CertificateFiles> {
    let mut path = |key| {
        let text = section.text(key);
        if text.is_none() {
            section.refuse(origin, key, "is missing; write the path of a PEM file");
        }
        text.map(|text| text.value.into())
    };
    let (certificate, key) = (path("certificate"), path("key"));
    section.finish();
    Some(CertificateFiles { certificate: certificate?, key: key? })
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|&port| port != 0)
}

fn hsts(text: &str) -> Option<HeaderValue> {
    let names = text.split(';').filter_map(|directive| directive.split('=').next());
    let has_age = names.into_iter().any(|name| name.trim().eq_ignore_ascii_case("max-age"));
    text.parse().ok().filter(|_| has_age)
}
