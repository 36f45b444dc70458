//! URLs that requests go to.

use std::fmt;

use http::Uri;

use super::host::{Host, HostProblem, Target};

/// An absolute `http` or `https` URL with one reading only: what the guard looks at, what is connected to and
/// what is sent as `Host` come from the same value. `Display` shows all of it; `Debug`, errors and logs show
/// only scheme, host and port, because paths and queries of webhooks are often secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct OutboundUrl {
    /// Scheme and authority in lower case.
    uri: Uri,
    target: Target,
}

/// Why a text is no such URL, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// More than 2,000 bytes.
    #[error("the URL is longer than 2,000 bytes; use a shorter one")]
    TooLong,
    /// No scheme, or another one.
    #[error("the URL must be absolute; begin it with `https://` or `http://`")]
    Scheme,
    /// Spaces, controls, backslashes, and all that is not ASCII.
    #[error(
        "the URL has a character that URLs do not have; write it percent-encoded, or a name in its `xn--` form"
    )]
    Character,
    /// What follows `#` is never sent.
    #[error("the URL has a fragment; leave out everything from `#` on")]
    Fragment,
    /// `user:password@`.
    #[error("the URL has a user or a password in it; leave them out and send a header instead")]
    UserInfo,
    /// Nothing where the host should be.
    #[error("the URL has no host; write one after the `//`")]
    NoHost,
    /// A port that is none.
    #[error(
        "the URL has a port that is none; write a number from 1 to 65535 after the `:`, or leave both out"
    )]
    Port,
    /// An address in an unusual spelling, such as `0x7f.1`.
    #[error("the URL has a number for a host; write an address as four decimal numbers, as in `192.0.2.1`")]
    Number,
    /// `example.com.`
    #[error("the URL has a host that ends in a dot; leave out the dot")]
    TrailingDot,
    /// Neither an address nor a name.
    #[error(
        "the URL has a host that is neither a name nor an address; write it as in `https://example.com/`"
    )]
    Host,
}

const MAX_BYTES: usize = 2_000;

// === impl OutboundUrl ===

impl OutboundUrl {
    /// Reads a URL, strictly: what readers of URLs disagree about is refused.
    pub fn parse(text: &str) -> Result<OutboundUrl, UrlProblem> {
        if text.len() > MAX_BYTES {
            return Err(UrlProblem::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(UrlProblem::Character);
        }
        if text.contains('#') {
            return Err(UrlProblem::Fragment);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlProblem::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(UrlProblem::Scheme);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        check_authority(authority)?;
        let text = format!("{scheme}://{}{path}", authority.to_ascii_lowercase());
        let uri = text.parse::<Uri>().map_err(|_| UrlProblem::Character)?;
        let target = Target::of(&uri)?;
        Ok(OutboundUrl { uri, target })
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.uri.scheme_str().unwrap_or_default()
    }

    /// The host as the URL has it, in lower case, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// The port, which is the scheme's if the URL has none.
    pub fn port(&self) -> u16 {
        self.target.port
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

fn check_authority(authority: &str) -> Result<(), UrlProblem> {
    if authority.contains('@') {
        return Err(UrlProblem::UserInfo);
    }
    // The colons of an IPv6 address stand in brackets.
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[after_brackets..].find(':') {
        Some(at) => {
            let (host, port) = authority.split_at(after_brackets + at);
            (host, Some(&port[1..]))
        }
        None => (authority, None),
    };
    if host.is_empty() {
        return Err(UrlProblem::NoHost);
    }
    Host::parse(host)?;
    match port {
        Some(digits) if !is_port(digits) => Err(UrlProblem::Port),
        _ => Ok(()),
    }
}

fn is_port(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port != 0)
}

impl fmt::Display for OutboundUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.uri, f)
    }
}

impl fmt::Debug for OutboundUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.target)
    }
}

// === impl UrlProblem ===

impl From<HostProblem> for UrlProblem {
    fn from(problem: HostProblem) -> UrlProblem {
        match problem {
            HostProblem::Number => UrlProblem::Number,
            HostProblem::TrailingDot => UrlProblem::TrailingDot,
            HostProblem::Other => UrlProblem::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, String, u16) {
        let url = OutboundUrl::parse(text).unwrap();
        (url.scheme().to_owned(), url.host().to_owned(), url.port())
    }

    fn problem(text: &str) -> UrlProblem {
        OutboundUrl::parse(text).unwrap_err()
    }

    #[test]
    fn a_url_has_scheme_host_and_port() {
        let of = |scheme: &str, host: &str, port| (scheme.to_owned(), host.to_owned(), port);
        assert_eq!(parsed("http://example.com"), of("http", "example.com", 80));
        assert_eq!(parsed("HTTPS://Example.COM/Path?q=1"), of("https", "example.com", 443));
        assert_eq!(parsed("http://example.com:8080?q"), of("http", "example.com", 8080));
        assert_eq!(parsed("http://127.0.0.1:1/"), of("http", "127.0.0.1", 1));
        assert_eq!(parsed("http://[::1]/"), of("http", "[::1]", 80));
        assert_eq!(parsed("https://[2001:DB8::1]:8443/x"), of("https", "[2001:db8::1]", 8443));
        assert_eq!(parsed("http://my_host-1/"), of("http", "my_host-1", 80));
        assert_eq!(parsed("http://xn--mnchen-3ya.example/"), of("http", "xn--mnchen-3ya.example", 80));
        assert_eq!(parsed("http://1password.example/"), of("http", "1password.example", 80));
    }

    #[test]
    fn display_shows_all_of_a_url_and_debug_neither_path_nor_query() {
        let url = OutboundUrl::parse("https://Hooks.example.com/services/SECRET?token=SECRET").unwrap();
        assert_eq!(url.to_string(), "https://hooks.example.com/services/SECRET?token=SECRET");
        assert_eq!(format!("{url:?}"), "https://hooks.example.com:443");
        let address = OutboundUrl::parse("http://[::1]:80/SECRET").unwrap();
        assert_eq!(format!("{address:?}"), "http://[::1]:80");
    }

    #[test]
    fn what_is_no_url_is_refused_with_its_problem() {
        for (text, expected) in [
            ("", UrlProblem::Scheme),
            ("example.com/path", UrlProblem::Scheme),
            ("//example.com/path", UrlProblem::Scheme),
            ("/path", UrlProblem::Scheme),
            ("http:example.com", UrlProblem::Scheme),
            ("http:/example.com", UrlProblem::Scheme),
            ("ftp://example.com/", UrlProblem::Scheme),
            ("file:///etc/passwd", UrlProblem::Scheme),
            ("http://", UrlProblem::NoHost),
            ("http:///path", UrlProblem::NoHost),
            ("http://?q", UrlProblem::NoHost),
            ("http://:80/", UrlProblem::NoHost),
            ("http://user@example.com/", UrlProblem::UserInfo),
            ("http://example.com:80@127.0.0.1/", UrlProblem::UserInfo),
            ("http://user:pass@[::1]/", UrlProblem::UserInfo),
            ("http://example.com/#part", UrlProblem::Fragment),
            ("http://example.com#@127.0.0.1/", UrlProblem::Fragment),
            ("http://example.com:/", UrlProblem::Port),
            ("http://example.com:0/", UrlProblem::Port),
            ("http://example.com:65536/", UrlProblem::Port),
            ("http://example.com:+80/", UrlProblem::Port),
            ("http://example.com:80:80/", UrlProblem::Port),
            ("http://[::1]:x/", UrlProblem::Port),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
    }

    #[test]
    fn what_readers_of_urls_disagree_about_is_refused() {
        for (text, expected) in [
            ("http://0x7f.1/", UrlProblem::Number),
            ("http://0x7f000001/", UrlProblem::Number),
            ("http://2130706433/", UrlProblem::Number),
            ("http://127.1/", UrlProblem::Number),
            ("http://0177.0.0.1/", UrlProblem::Number),
            ("http://127.0.0.01/", UrlProblem::Number),
            ("http://127.0.0.0x1/", UrlProblem::Number),
            ("http://127.0.0.256/", UrlProblem::Number),
            ("http://1.127.0.0.1/", UrlProblem::Number),
            ("http://0/", UrlProblem::Number),
            ("http://0x/", UrlProblem::Number),
            ("http://example.0X7F/", UrlProblem::Number),
            ("http://127.0.0.1./", UrlProblem::TrailingDot),
            ("http://localhost./", UrlProblem::TrailingDot),
            ("http://example.com../", UrlProblem::TrailingDot),
            ("http://.example.com/", UrlProblem::Host),
            ("http://a..b/", UrlProblem::Host),
            ("http://./", UrlProblem::Host),
            ("http://%6c%6fcalhost/", UrlProblem::Host),
            ("http://exam$ple.com/", UrlProblem::Host),
            ("http://[::1/", UrlProblem::Host),
            ("http://::1/", UrlProblem::NoHost),
            ("http://[fe80::1%25eth0]/", UrlProblem::Host),
            ("http://[::1]x/", UrlProblem::Host),
            ("http://[127.0.0.1]/", UrlProblem::Host),
            ("http://example.com\\@127.0.0.1/", UrlProblem::Character),
            ("http:\\\\127.0.0.1\\", UrlProblem::Character),
            ("http://127.0.0.1\t/", UrlProblem::Character),
            ("\nhttp://127.0.0.1/", UrlProblem::Character),
            (" http://127.0.0.1/", UrlProblem::Character),
            ("http://127.0.0.1/\r\nHost: x", UrlProblem::Character),
            ("http://127.0.0.1/\0", UrlProblem::Character),
            ("http://m\u{fc}nchen.example/", UrlProblem::Character),
            ("http://\u{2469}.0.0.1/", UrlProblem::Character),
            ("http://127\u{3002}0\u{3002}0\u{3002}1/", UrlProblem::Character),
            ("http://example.com/\u{fc}", UrlProblem::Character),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
    }

    #[test]
    fn a_url_is_at_most_2_000_bytes() {
        let longest = format!("http://example.com/{}", "x".repeat(2_000 - "http://example.com/".len()));
        assert!(OutboundUrl::parse(&longest).is_ok());
        assert_eq!(problem(&format!("{longest}x")), UrlProblem::TooLong);
        assert_eq!(problem(&format!("http://{}/", "x".repeat(64))), UrlProblem::Host);
        let name = format!("{}.", "x".repeat(50)).repeat(6);
        assert_eq!(problem(&format!("http://{name}com/")), UrlProblem::Host);
    }
}
