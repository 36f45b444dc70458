//! The host of a URL or of an exception: an address or a name, in one spelling only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Whom a connection is made to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    /// A literal.
    Address(IpAddr),
    /// A name, in lower case.
    Name(String),
}

/// What a request goes to, as far as anybody may be told: an error shows this and no more of the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) host: Host,
    /// The URL's, or its scheme's.
    pub(super) port: u16,
}

/// What is not a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostProblem {
    /// A number, or a name that ends in one: libraries read `0x7f.1` and `2130706433` as addresses.
    Number,
    TrailingDot,
    Other,
}

/// As DNS has them.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

// === impl Host ===

impl Host {
    /// The host as a URL has it, an IPv6 address in brackets.
    pub(super) fn parse(text: &str) -> Result<Host, HostProblem> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address = inner.parse::<Ipv6Addr>().map_err(|_| HostProblem::Other)?;
            return Ok(Host::Address(address.into()));
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(Host::Address(address.into())),
            Err(_) => Host::parse_name(text).map(Host::Name),
        }
    }

    /// A name, which nobody could take for an address.
    pub(super) fn parse_name(text: &str) -> Result<String, HostProblem> {
        if text.len() > 1 && text.ends_with('.') {
            return Err(HostProblem::TrailingDot);
        }
        if text.len() > MAX_NAME_BYTES || !text.split('.').all(is_label) {
            return Err(HostProblem::Other);
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        if is_number(last) { Err(HostProblem::Number) } else { Ok(text.to_ascii_lowercase()) }
    }
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Whether the last label of a host makes it an address to those who read addresses generously (the URL
/// standard calls it "ends in a number").
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

// === impl Target ===

impl Target {
    /// The target of an absolute URL; the error where there is no host that reads.
    pub(super) fn of(uri: &Uri) -> Result<Target, HostProblem> {
        let host = Host::parse(uri.host().unwrap_or_default())?;
        let is_https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Ok(Target { host, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
