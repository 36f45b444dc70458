//! `~`: SQL LIKE with `\` as its escape, ASCII letters alike in either case.

use std::borrow::Cow;

/// Whether `text` matches `pattern`, in which `%` is any run, `_` any one character, and `\` makes
/// the next character plain.
pub fn like(text: &str, pattern: &str) -> bool {
    let mut text = text.chars();
    let mut pattern = pattern.chars();
    // Where to go on after a mismatch: behind the last `%`, one character further in the text.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let before = text.clone();
        let matched = match pattern.next() {
            None => text.next().is_none(),
            Some('%') => {
                retry = Some((text.clone(), pattern.clone()));
                continue;
            }
            Some('_') => text.next().is_some(),
            Some('\\') => matches!((text.next(), pattern.next()), (Some(a), Some(b)) if alike(a, b)),
            Some(wanted) => text.next().is_some_and(|next| alike(next, wanted)),
        };
        if matched {
            if before.as_str().is_empty() {
                return true;
            }
            continue;
        }
        let Some((mut rest, behind)) = retry.take() else { return false };
        if rest.next().is_none() {
            return false;
        }
        text = rest.clone();
        pattern = behind.clone();
        retry = Some((rest, behind));
    }
}

fn alike(left: char, right: char) -> bool {
    left == right || left.eq_ignore_ascii_case(&right)
}

/// The pattern for a constant on the right of `~`: as it is when it has a `%` that no `\` precedes;
/// otherwise "contains", with `\`, `%` and `_` made plain unless a `\` precedes them.
pub fn like_pattern(text: &str) -> Cow<'_, str> {
    if has_wildcard(text) {
        return Cow::Borrowed(text);
    }
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    escape_into(text, &mut pattern);
    pattern.push('%');
    Cow::Owned(pattern)
}

/// The pattern for a column on the right of `~`.
pub fn contains_pattern(text: &str) -> String {
    format!("%{text}%")
}

fn has_wildcard(text: &str) -> bool {
    let mut escaped = false;
    for next in text.chars() {
        if next == '%' && !escaped {
            return true;
        }
        escaped = next == '\\' && !escaped;
    }
    false
}

/// Escapes from the end to the start, as the contract does: of a run of backslashes before a special
/// character, the one next to it counts as its escape and is passed over.
fn escape_into(text: &str, out: &mut String) {
    let characters: Vec<char> = text.chars().collect();
    let mut reversed = Vec::with_capacity(characters.len() * 2);
    let mut special = false;
    for (index, next) in characters.iter().enumerate().rev() {
        if special {
            if *next != '\\' {
                reversed.push('\\');
            }
            special = false;
        } else {
            special = matches!(next, '\\' | '%' | '_');
        }
        reversed.push(*next);
        if index == 0 && special {
            reversed.push('\\');
        }
    }
    out.extend(reversed.into_iter().rev());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_underscore_and_backslash() {
        assert!(like("Hello", "h%O"));
        assert!(like("a_b", "a\\_b"));
        assert!(!like("axb", "a\\_b"));
        assert!(like("axb", "a_b"));
        assert!(like("", "%"));
        assert!(!like("", "_"));
        assert!(!like("abc", "ab"));
        assert!(like("abcabd", "%abd"));
        assert!(like("É", "É") && !like("É", "é"));
        assert!(!like("a", "a\\"));
    }

    #[test]
    fn a_constant_without_a_wildcard_means_contains() {
        assert_eq!(like_pattern("ab"), "%ab%");
        assert_eq!(like_pattern("h%"), "h%");
        assert_eq!(like_pattern("100\\%"), "%100\\%%");
        assert_eq!(like_pattern("_"), "%\\_%");
        assert_eq!(like_pattern("a_b"), "%a\\_b%");
        assert_eq!(like_pattern(""), "%%");
        assert_eq!(like_pattern("\\"), "%\\\\%");
    }
}
