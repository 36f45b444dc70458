//! Checks that several options share, with the contract's codes (CONTRACT §1.6). Like the contract's,
//! each check but [`required`] lets the empty value pass.

use std::net::IpAddr;
use std::sync::LazyLock;

use regex::Regex;

use crate::errors::FieldError;
use crate::json::Json;

/// The result of one check.
pub type Check = Result<(), FieldError>;

/// Greatest whole number that JSON clients keep exactly.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Refuses the empty text.
pub fn required(text: &str) -> Check {
    if text.is_empty() { Err(FieldError::required()) } else { Ok(()) }
}

/// Refuses zero.
pub fn required_number(number: i64) -> Check {
    if number == 0 { Err(FieldError::required()) } else { Ok(()) }
}

/// Refuses a text shorter or longer than this, in bytes.
pub fn length(text: &str, min: usize, max: usize) -> Check {
    if text.is_empty() || (min..=max).contains(&text.len()) {
        return Ok(());
    }
    let error = if min == max {
        FieldError::new("validation_length_invalid", format!("The length must be exactly {min}."))
    } else {
        let message = format!("The length must be between {min} and {max}.");
        FieldError::new("validation_length_out_of_range", message)
    };
    Err(error.with("min", min as f64).with("max", max as f64))
}

/// Refuses a number below this.
pub fn at_least(number: i64, threshold: i64) -> Check {
    if number == 0 || number >= threshold {
        return Ok(());
    }
    let message = format!("Must be no less than {threshold}.");
    Err(FieldError::new("validation_min_greater_equal_than_required", message)
        .with("threshold", threshold as f64))
}

/// Refuses a number above this.
pub fn at_most(number: i64, threshold: i64) -> Check {
    if number <= threshold {
        return Ok(());
    }
    let message = format!("Must be no greater than {threshold}.");
    Err(FieldError::new("validation_max_less_equal_than_required", message)
        .with("threshold", threshold as f64))
}

/// Refuses what is not made of ASCII letters, digits and `_`.
pub fn word(text: &str) -> Check {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_word { Ok(()) } else { Err(match_invalid()) }
}

/// Refuses `_via_` in any case, which would read as a back-relation.
pub fn without_via(text: &str) -> Check {
    if text.to_ascii_lowercase().contains("_via_") {
        return Err(FieldError::new("validation_found_via", "The value cannot contain \"_via_\"."));
    }
    Ok(())
}

/// `validation_match_invalid`.
pub fn match_invalid() -> FieldError {
    FieldError::new("validation_match_invalid", "Must be in a valid format.")
}

/// `validation_in_invalid`.
pub fn in_invalid() -> FieldError {
    FieldError::new("validation_in_invalid", "Must be a valid value.")
}

/// `validation_not_in_invalid`.
pub fn not_in_invalid() -> FieldError {
    FieldError::new("validation_not_in_invalid", "Must not be in list.")
}

/// An error about something that is named.
pub(crate) fn named(code: &'static str, message: String, param: &str, value: impl Into<Json>) -> FieldError {
    FieldError::new(code, message).with(param, value)
}

/// Refuses what is no URL (CONTRACT §12.5).
pub fn url(text: &str) -> Check {
    if text.is_empty() || is_url(text) {
        return Ok(());
    }
    Err(FieldError::new("validation_is_url", "Must be a valid URL."))
}

/// Refuses what is no dotted domain name.
pub fn domain(text: &str) -> Check {
    static DOMAIN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{1,63}$")
            .expect("the pattern is a constant")
    });
    if text.is_empty() || (text.len() <= 253 && DOMAIN.is_match(text)) {
        return Ok(());
    }
    Err(FieldError::new("validation_is_domain", "Must be a valid domain."))
}

/// Refuses what is neither an IP address nor a DNS name.
pub fn host(text: &str) -> Check {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() || is_dns_name(text) {
        return Ok(());
    }
    Err(FieldError::new("validation_is_host", "Must be a valid IP address or DNS name."))
}

/// Refuses what is neither an IP address nor a CIDR range.
pub fn ip_or_subnet(text: &str) -> Check {
    required(text)?;
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let fits = address.parse::<IpAddr>().is_ok_and(|address| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
    });
    if fits {
        return Ok(());
    }
    // The code is misspelt on the wire.
    Err(FieldError::new("validation_invlaid_ip_or_subnet", "Invalid IP or CIDR subnet."))
}

/// Refuses what is no email address (CONTRACT §12.5).
pub fn email(text: &str) -> Check {
    if text.is_empty() || is_email(text) {
        return Ok(());
    }
    Err(FieldError::new("validation_is_email", "Must be a valid email address."))
}

/// Refuses what is no `#rrggbb` colour.
pub fn hex_color(text: &str) -> Check {
    let digits = text.strip_prefix('#').unwrap_or(text);
    if text.is_empty()
        || (matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Ok(());
    }
    Err(FieldError::new("validation_is_hex_color", "Must be a valid hexadecimal color code."))
}

fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix(['.', '_']).unwrap_or(text);
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        starts_well
            && label.len() <= 63
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    text.len() <= 255 && name.split('.').all(is_label)
}

fn is_email(text: &str) -> bool {
    static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
        const ATOM: &str = r"[\p{L}\p{N}!#$%&'*+/=?^_`{|}~-]+";
        const LABEL: &str = r"[\p{L}\p{N}](?:[\p{L}\p{N}_~-]*[\p{L}\p{N}])?";
        let pattern = format!(
            r#"^(?:{ATOM}(?:\.{ATOM})*|"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*")@(?:{LABEL}\.)+\p{{L}}(?:[\p{{L}}\p{{N}}_~-]*\p{{L}})?$"#
        );
        Regex::new(&pattern).expect("the pattern is a constant")
    });
    EMAIL.is_match(text)
}

fn is_url(text: &str) -> bool {
    let count = text.chars().count();
    if count <= 3 || count >= 2083 || text.starts_with('.') || text.contains(char::is_whitespace) {
        return false;
    }
    const SCHEMES: [&str; 7] = ["http", "https", "ftp", "tcp", "udp", "ws", "wss"];
    let (rest, has_scheme) = match text.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) => (rest, true),
        Some((scheme, _)) if !scheme.contains(['/', '?', '#', '@', '.']) => return false,
        _ => (text, false),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    if !has_scheme && !authority.contains(['.', ':']) {
        return false;
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    is_url_host(host)
}

fn is_url_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port))
        });
    }
    let (name, has_good_port) = match host.find(':') {
        Some(colon) => (&host[..colon], is_port(&host[colon..])),
        None => (host, true),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_letter =
        |character: char| character.is_ascii_alphanumeric() || ('\u{a1}'..='\u{ffff}').contains(&character);
    let is_label = |label: &str| {
        label.starts_with(is_letter)
            && label.ends_with(is_letter)
            && label.chars().all(|character| is_letter(character) || matches!(character, '-' | '_'))
    };
    has_good_port && name.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    let digits = text.trim_start_matches(':');
    text.len() == digits.len() + 1
        && (1..=5).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_the_contract() {
        for good in [
            "http://a.com",
            "a.com",
            "mailto:a@b.com",
            "http://localhost:80/x",
            "ws://[::1]:8/",
            "ftp://u:p@h/x",
        ] {
            assert!(is_url(good), "{good}");
        }
        for bad in [
            "nope",
            "//a.com",
            "javascript:x",
            "file:///a",
            "irc://a.com",
            "/path.x",
            "localhost",
            "http://",
            "http://a b",
        ] {
            assert!(!is_url(bad), "{bad}");
        }
    }

    #[test]
    fn domains_end_in_letters() {
        for good in ["a.b", "1.ab", "a.b-c.co.uk", "A.COM", ""] {
            assert!(domain(good).is_ok(), "{good}");
        }
        for bad in ["a", "a.b2", "a..bc", "-a.bc", "a_b.com", "1.2.3.4", "ünï.com", "a.com.", "a.com:80"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn subnets_have_bits_that_fit() {
        assert!(ip_or_subnet("10.0.0.1/8").is_ok() && ip_or_subnet("::1/128").is_ok());
        assert!(ip_or_subnet("1.2.3.4/33").is_err() && ip_or_subnet("").is_err());
    }
}
