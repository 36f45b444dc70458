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

/// A slip in the contract's validator, which apps have come to know: a quote and one character, repeated,
/// and a last quote. The character may be `(` and any other one, and may have white space before it.
fn is_quoted_local(local: &str) -> bool {
    let rest = without_folding_space(local);
    if rest == "\"" {
        return true;
    }
    let Some(rest) = local.strip_prefix('"') else { return false };
    let mut chars = without_folding_space(rest).chars();
    let Some(first) = chars.next().filter(|char| is_allowed_in_quotes(*char)) else { return false };
    if is_quoted_local(chars.as_str()) {
        return true;
    }
    first == '('
        && chars.next().is_some_and(|second| second.is_ascii() && !matches!(second, '\0' | '\n'))
        && is_quoted_local(chars.as_str())
}

fn is_allowed_in_quotes(char: char) -> bool {
    let is_refused = matches!(char, '\0' | '\t' | '\n' | '\r' | ' ' | '"' | '\\');
    char.is_ascii() && !is_refused || is_beyond_ascii(char)
}

/// Skips spaces and tabs, perhaps with one line break among them that more of them follow.
fn without_folding_space(text: &str) -> &str {
    let is_space = |char| matches!(char, ' ' | '\t');
    let rest = text.trim_start_matches(is_space);
    match rest.strip_prefix("\r\n") {
        Some(folded) if folded.starts_with(is_space) => folded.trim_start_matches(is_space),
        _ => rest,
    }
}

/// The part after the last dot starts and ends with a letter, the part before it with a letter or digit;
/// one more dot may end it all. It is not looked at label by label.
fn is_domain(domain: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let is_letter = |char: char| char.is_ascii_alphabetic() || is_beyond_ascii(char);
    let is_alphanumeric = |char: char| is_letter(char) || char.is_ascii_digit();
    let Some((name, top)) = domain.rsplit_once('.') else { return false };
    domain.chars().all(|char| is_alphanumeric(char) || matches!(char, '-' | '.' | '_' | '~'))
        && name.starts_with(is_alphanumeric)
        && name.ends_with(is_alphanumeric)
        && top.starts_with(is_letter)
        && top.ends_with(is_letter)
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
            "é@ü.de",
            "a@1.de",
            "a@b_c.d~e",
            "a@b.c.-d.e",
            "a@b.xn--p1ai",
            "!#$%&'*+-/=?^_`{|}~@b.co",
            "\"@c.de",
            "\"a\"@c.de",
            "\"a\"b\"@c.de",
            "\"(a\"@c.de",
            "\"(\"\"@c.de",
            "\" \r\n a \"@c.de",
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
            "a@b.c..d",
            "a@b.c1",
            "a@b.1c",
            "a@b.c-",
            "a@b._c",
            "😀@b.co",
            "a@😀.co",
            "\"ab\"@c.de",
            "\"\"@c.de",
            "\"a b\"@c.de",
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
