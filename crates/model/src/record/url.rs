//! Which texts are URLs (CONTRACT §12.5).

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use regex::Regex;

/// Whether a text is a URL. A scheme is not needed, and user information makes many a text one.
pub fn is_url(text: &str) -> bool {
    let length = text.chars().count();
    if text.len() <= 3 || length >= 2083 || text.starts_with('.') {
        return false;
    }
    can_be_parsed(text) && matches_form(text)
}

/// The host of a URL with a scheme, with its port; nothing for one without.
pub(crate) fn host(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else { return "" };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// What a URL parser refuses, of what the form below would let pass.
fn can_be_parsed(text: &str) -> bool {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return false;
    }
    let has_scheme = text.contains("://");
    if !has_scheme && !text.contains(':') {
        // Without scheme and port the whole is a path; that of a host has a dot.
        let path = text.split(['?', '#']).next().unwrap_or_default();
        return (path.is_empty() || path.contains('.')) && escapes_are_whole(path);
    }
    let rest = if has_scheme { text.split_once("://").map_or("", |(_, rest)| rest) } else { text };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let fragment = path.split_once('#').map_or("", |(_, fragment)| fragment);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    user.chars().all(is_allowed_in_user)
        && [user, host, path, fragment].into_iter().all(escapes_are_whole)
        && !host.starts_with('.')
        && !(host.is_empty() && !path.is_empty() && !path.contains('.'))
}

fn is_allowed_in_user(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(char)
}

/// Whether two hexadecimal digits follow every percent sign.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

/// Matches the text but for addresses in brackets, which are matched as `[::]`.
static FORM: LazyLock<Regex> = LazyLock::new(|| {
    let scheme = r"(?:(?:ftp|tcp|udp|wss?|https?)://)?";
    // Neither part is more than "no space": the last @ ends it.
    let user = r"(?:[^\t\n\x0c\r ]+@)?";
    let address = concat!(
        r"(?:[1-9][0-9]?|1[0-9]{2}|2[01][0-9]|22[0-3]|24[0-9]|25[0-5])",
        r"(?:\.(?:[0-9]{1,2}|1[0-9]{2}|2[0-4][0-9]|25[0-5])){2}",
        r"\.(?:[0-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])"
    );
    let letters_and_digits = r"a-zA-Z0-9\x{a1}-\x{ffff}";
    let before_name = concat!(
        r"(?:[a-zA-Z0-9][a-zA-Z0-9_-]*[a-zA-Z0-9](?:[-.][a-zA-Z0-9]+)*|www\.",
        r"|[a-zA-Z0-9]+(?:[-_.]?[a-zA-Z0-9])*[a-zA-Z0-9]\.[a-zA-Z0-9]+)?"
    );
    let name = format!(r"[{letters_and_digits}]+(?:--?[{letters_and_digits}]+)*");
    let domain = r"(?:\.[a-zA-Z\x{a1}-\x{ffff}]+)?";
    let port = r"(?::[0-9]{1,5})?";
    let path = r"(?:[/?#][^\t\n\x0c\r ]*)?";
    let form = format!(r"^{scheme}{user}(?:{address}|\[::\]|{before_name}{name}{domain})\.?{port}{path}$");
    Regex::new(&form).expect("the form is a constant that the tests compile")
});

fn matches_form(text: &str) -> bool {
    match bracketed_address(text) {
        None => FORM.is_match(text),
        Some((start, end)) => {
            text[start + 1..end - 1].parse::<Ipv6Addr>().is_ok()
                && FORM.is_match(&format!("{}[::]{}", &text[..start], &text[end..]))
        }
    }
}

/// Where the first pair of brackets starts and ends, if it stands in the host's place.
fn bracketed_address(text: &str) -> Option<(usize, usize)> {
    let authority_start = text.find("://").map_or(0, |position| position + 3);
    let authority_end =
        text[authority_start..].find(['/', '?', '#']).map_or(text.len(), |length| authority_start + length);
    let start = authority_start + text[authority_start..authority_end].find('[')?;
    let end = start + text[start..authority_end].find(']')? + 1;
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_other_texts() {
        let good = [
            "http://a.com",
            "https://a.com/b?c=d#e",
            "ftp://a.com",
            "tcp://a.com:80",
            "ws://a",
            "mailto:a@b.co",
            "a.com",
            "www.a.com",
            "http://localhost",
            "http://localhost:8090/x",
            "localhost:8090",
            "http://1.2.3.4",
            "http://[::1]:80/",
            "http://u:p@a.com",
            "http://müller.de",
            "http://a-b.com",
            "http://a--b.com",
            "http://a.com.",
            "http://a_b.com",
            "irc://a@b.com",
        ];
        let bad = [
            "",
            "a",
            "a.b",
            "//a.com",
            "javascript:alert(1)",
            "file:///a.b",
            "irc://a.com",
            "/path",
            "localhost",
            "http://",
            "http://a b.com",
            " http://a.com",
            "http://a.com/ b",
            ".a.com",
            "http://.a.com",
            "http://-a.com",
            "http://a.com/%zz",
            "http://a.com\n",
            "http://a.com:123456",
            "http://[::1",
            "http://[zz]",
        ];
        for text in good {
            assert!(is_url(text), "{text:?}");
        }
        for text in bad {
            assert!(!is_url(text), "{text:?}");
        }
    }

    #[test]
    fn the_host_has_its_port_and_not_its_user() {
        assert_eq!(host("http://u:p@a.com:80/b"), "a.com:80");
        assert_eq!(host("a.com/b"), "");
    }
}
