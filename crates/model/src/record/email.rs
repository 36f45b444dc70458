//! Which texts are email addresses (CONTRACT §12.5).

/// Whether a text is an address: a local part, plain or quoted, and a domain with a dot.
pub fn is_email(text: &str) -> bool {
    match text.rsplit_once('@') {
        Some((local, domain)) => (is_plain_local(local) || is_quoted_local(local)) && is_domain(domain),
        None => false,
    }
}

/// The part after the last `@`.
pub(crate) fn domain(email: &str) -> &str {
    email.rsplit_once('@').map_or(email, |(_, domain)| domain)
}

/// Letters beyond ASCII: of the basic plane only, without private ones and some others.
fn is_beyond_ascii(char: char) -> bool {
    matches!(char, '\u{a0}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{ffef}')
}

fn is_plain_local(local: &str) -> bool {
    let is_allowed = |char: char| {
        char.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(char) || is_beyond_ascii(char)
    };
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_allowed))
}

/// Anything printable in quotes. A quote within is allowed after an opening parenthesis (it should have
/// been a backslash: an old slip of the contract's validator).
fn is_quoted_local(local: &str) -> bool {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut after_parenthesis = false;
    inner.replace("\r\n ", " ").replace("\r\n\t", "\t").chars().all(|char| {
        let is_plain = !matches!(char, '\0' | '\n' | '\r' | '"' | '\\') && char.is_ascii();
        let is_allowed =
            is_plain || is_beyond_ascii(char) || after_parenthesis && matches!(char, '"' | '\\' | '\r');
        after_parenthesis = char == '(';
        is_allowed
    })
}

/// A domain has a dot between a letter or digit and a letter, starts with a letter or digit and ends
/// with a letter, perhaps with one more dot. It is not looked at label by label.
fn is_domain(domain: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let is_letter = |char: char| char.is_ascii_alphabetic() || is_beyond_ascii(char);
    let is_alphanumeric = |char: char| is_letter(char) || char.is_ascii_digit();
    let dots_are_placed_well = || {
        domain.match_indices('.').any(|(dot, _)| {
            domain[..dot].chars().next_back().is_some_and(is_alphanumeric)
                && domain[dot + 1..].chars().next().is_some_and(is_letter)
        })
    };
    domain.chars().all(|char| is_alphanumeric(char) || matches!(char, '-' | '.' | '_' | '~'))
        && domain.starts_with(is_alphanumeric)
        && domain.ends_with(is_letter)
        && dots_are_placed_well()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_texts() {
        let good = [
            "a@b.c",
            "A.b+c@X.co",
            "a@b-c.de.",
            "\"a b\"@c.de",
            "\"(\"\"@c.de",
            "é@ü.de",
            "a@1.de",
            "a@b.c..d",
            "a@b_c.d~e",
            "!#$%&'*+-/=?^_`{|}~@b.co",
            "\"\"@b.co",
        ];
        let bad = [
            "",
            "a",
            "@b.c",
            "a@",
            "a@b",
            "a@localhost",
            "a@[1.2.3.4]",
            "a b@c.de",
            "a@b c.de",
            "a..b@c.de",
            ".a@c.de",
            "a.@c.de",
            "a@-c.com",
            "a@c-.com",
            "a@.c.de",
            "a@b..c",
            "a@b.c1",
            "a@b.1",
            "a@b.c-",
            "😀@b.co",
            "a@😀.co",
            "\"a\"b\"@c.de",
            "a@b@c.de",
            "a@b.co..",
            " a@b.co",
            "a@b.co\n",
        ];
        for text in good {
            assert!(is_email(text), "{text:?}");
        }
        for text in bad {
            assert!(!is_email(text), "{text:?}");
        }
    }
}
