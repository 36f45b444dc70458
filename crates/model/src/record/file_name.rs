//! The name that a file is stored under, made of the one that the client gave (CONTRACT §4.5).

use rand::{Rng, RngExt};

/// Longer names are cut to their last bytes.
const MAX_ORIGINAL_BYTES: usize = 300;
/// Longer extensions are cut to their last bytes.
const MAX_EXTENSION_BYTES: usize = 20;
/// Longer names, without extension, are cut to their first bytes.
const MAX_STEM_BYTES: usize = 100;
/// Shorter ones get random letters of their own.
const MIN_STEM_BYTES: usize = 3;
/// Random letters in every name, so that it is never used twice.
const RANDOM_LETTERS: usize = 10;

/// The last element of the path that a client gave as a file's name, not too long.
pub fn original(given: &str) -> &str {
    let name = given.rsplit('/').next().unwrap_or_default();
    &name[name.ceil_char_boundary(name.len().saturating_sub(MAX_ORIGINAL_BYTES))..]
}

/// A new name for a file. `sniffed` is the extension that the content suggests, with its dot, for a name
/// that has none.
pub fn stored(original: &str, sniffed: &str, random: &mut impl Rng) -> String {
    let (stem, extension) = split(original);
    let mut extension = clean_extension(extension);
    if extension.is_empty() {
        sniffed.clone_into(&mut extension);
    }
    let mut name = snake_case(stem);
    if name.len() < MIN_STEM_BYTES {
        push_letters(&mut name, random);
    }
    name.truncate(MAX_STEM_BYTES);
    name.push('_');
    push_letters(&mut name, random);
    name + &extension
}

/// A name and its extension: from its last dot, or from the one before where something stands between.
fn split(name: &str) -> (&str, &str) {
    let Some(last) = name.rfind('.') else { return (name, "") };
    let start = name[..last].rfind('.').filter(|before| last - before > 1).unwrap_or(last);
    (&name[..start], &name[start..])
}

fn clean_extension(extension: &str) -> String {
    let is_kept = |letter: char| letter.is_ascii_alphanumeric() || "_.*-+=#".contains(letter);
    let kept: String = extension.chars().filter(|letter| is_kept(*letter)).collect();
    // A dot alone is no extension.
    match kept.len() {
        0 | 1 => String::new(),
        length if length > MAX_EXTENSION_BYTES => format!(".{}", &kept[length - MAX_EXTENSION_BYTES..]),
        _ => kept,
    }
}

/// Words in lower case with underscores between them: `myFile (2)` is `my_file_2`.
fn snake_case(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let mut may_split = false;
    for letter in name.chars() {
        let is_word = letter.is_ascii_alphanumeric();
        let begins_word = !is_word || letter.is_ascii_uppercase() && may_split;
        if begins_word && !words.is_empty() && !words.ends_with('_') {
            words.push('_');
        }
        if is_word {
            words.push(letter.to_ascii_lowercase());
        }
        may_split = letter.is_ascii_lowercase() || letter.is_ascii_digit();
    }
    words.truncate(words.trim_end_matches('_').len());
    words
}

fn push_letters(name: &mut String, random: &mut impl Rng) {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    for _ in 0..RANDOM_LETTERS {
        name.push(char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// The name with its random parts replaced by `*`.
    fn check(given: &str, expected: &str) {
        let name = stored(original(given), ".txt", &mut StdRng::seed_from_u64(1));
        let (before, after) = expected.split_once("_*").unwrap();
        let (stem, is_padded) = match before.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (before, false),
        };
        let padding = if is_padded { RANDOM_LETTERS } else { 0 };
        assert!(name.starts_with(stem) && name.ends_with(after), "{given}: {name}");
        assert_eq!(name.len(), stem.len() + padding + 1 + RANDOM_LETTERS + after.len(), "{given}: {name}");
    }

    #[test]
    fn names_are_made_as_seen() {
        check("a.txt", "a*_*.txt");
        check("a.b.c.d.txt", "a_b_c_*.d.txt");
        check("b.tar.gz", "b*_*.tar.gz");
        check("myFileName.txt", "my_file_name_*.txt");
        check("my file (2).txt", "my_file_2_*.txt");
        check("ÄÖü.txt", "*_*.txt");
        check("HTTPServer.txt", "httpserver_*.txt");
        check("ab c1D.txt", "ab_c1_d_*.txt");
        check("éa éb.txt", "a_b_*.txt");
        check("aÄB.txt", "a_b_*.txt");
        check("_ab_.txt", "ab*_*.txt");
        check(".hidden", "*_*.hidden");
        check("..", "*_*.txt");
        check("a.", "a*_*.txt");
        check("a..b", "a*_*.b");
        check("foo-bar_baz.jp*g", "foo_bar_baz_*.jp*g");
        check("../../etc/passwd", "passwd_*.txt");
        check("C:\\x\\y.txt", "c_x_y_*.txt");
        check(&format!("{}.txt", "A".repeat(150)), &format!("{}_*.txt", "a".repeat(100)));
        check(&format!("x.{}", "e".repeat(40)), &format!("x*_*.{}", "e".repeat(20)));
    }
}
