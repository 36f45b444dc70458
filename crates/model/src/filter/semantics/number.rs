//! Numbers as SQLite reads and writes them.

use std::cmp::Ordering;

use super::Cell;

/// The number that a text is, blanks around it aside: what numeric affinity makes of it. Text that is
/// not wholly a number is none.
pub fn number_in_text(text: &str) -> Option<Cell<'static>> {
    let blank = |byte: char| matches!(byte, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r');
    let text = text.trim_matches(blank);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if !is_number {
        return None;
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Cell::Integer(whole));
    }
    let number: f64 = text.parse().ok()?;
    // A float that is a whole number is stored as one, as long as it is exact.
    let exact = number.abs() < 2_251_799_813_685_248.0 && number.fract() == 0.0;
    Some(if exact { Cell::Integer(number as i64) } else { Cell::Real(number) })
}

/// An i64 against a float, without loss.
pub(super) fn integer_to_real(integer: i64, real: f64) -> Ordering {
    if real.is_nan() || real < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    if real >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    let whole = real as i64;
    integer.cmp(&whole).then_with(|| {
        let fraction = real - whole as f64;
        0.0_f64.partial_cmp(&fraction).unwrap_or(Ordering::Equal)
    })
}

/// SQLite's text of a float: 17 digits, fewer when they end in a run of nines or zeros and the
/// shorter text is the same number; always with a fraction; `e+17` and beyond, `e-05` and below with
/// an exponent. (SQLite's own arithmetic is approximate: far from 1 its last digit is
/// another now and then.)
pub fn text_of_real(number: f64) -> String {
    if number == 0.0 {
        return "0.0".to_owned();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-Inf" } else { "Inf" }.to_owned();
    }
    let (digits, exponent) = significant_digits(number.abs());
    let sign = if number < 0.0 { "-" } else { "" };
    if !(-4..=16).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let rest = if rest.is_empty() { "0" } else { rest };
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}.{rest}e{mark}{:02}", exponent.abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        let zeros = "0".repeat(whole - digits.len());
        return format!("{sign}{digits}{zeros}.0");
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

/// The digits without zeros at the end, and the power of ten of the first one.
fn significant_digits(number: f64) -> (String, i32) {
    let (long, exponent) = scientific(number, 17);
    if let Some(short) = shorter(number, &long, exponent) {
        return short;
    }
    // Rounded twice, as SQLite does: to 18 digits, then to 17.
    let up = u64::from(long.as_bytes()[17] >= b'5');
    let digits = (long[..17].parse::<u64>().unwrap_or(0) + up).to_string();
    let carried = digits.len() as i32 - 17;
    (digits.trim_end_matches('0').to_owned(), exponent + carried)
}

fn shorter(number: f64, long: &str, exponent: i32) -> Option<(String, i32)> {
    let digits = long.as_bytes();
    let (kept, up) = if digits[14..16] == *b"99" {
        (digits[..14].iter().rposition(|digit| *digit != b'9').map_or(0, |last| last + 1), 1)
    } else if exponent >= 17 || digits[13..16] == *b"000" {
        (digits[..13].iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1), 0)
    } else {
        return None;
    };
    let head: u64 = if kept == 0 { 0 } else { long[..kept].parse().ok()? };
    let scale = exponent + 1 - kept as i32;
    let candidate: f64 = format!("{}e{scale}", head + up).parse().ok()?;
    if candidate != number {
        return None;
    }
    let short = (head + up).to_string();
    let exponent = scale + short.len() as i32 - 1;
    Some((short.trim_end_matches('0').to_owned(), exponent))
}

/// `1 + after` correctly rounded digits and the exponent.
fn scientific(number: f64, after: usize) -> (String, i32) {
    let text = format!("{number:.after$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_print_as_sqlite_prints_them() {
        let cases = [
            (1e15, "1000000000000000.0"),
            (1e17, "1.0e+17"),
            (123_456_789_012_345.6, "123456789012345.59"),
            (1e-4, "0.0001"),
            (1e-5, "1.0e-05"),
            (0.00012345, "0.00012345"),
            (123_456_789_012_345_678.0, "1.2345678901234568e+17"),
            (5e-324, "4.9406564584124654e-324"),
            (0.1 + 0.2, "0.30000000000000004"),
            (-2.5, "-2.5"),
            (49.47, "49.47"),
            (2022.0, "2022.0"),
            (1e100, "1.0e+100"),
        ];
        for (number, text) in cases {
            assert_eq!(text_of_real(number), text);
        }
    }

    #[test]
    fn numeric_affinity_takes_whole_numbers_only_as_text() {
        assert_eq!(number_in_text(" 5 "), Some(Cell::Integer(5)));
        assert_eq!(number_in_text("5."), Some(Cell::Integer(5)));
        assert_eq!(number_in_text(".5"), Some(Cell::Real(0.5)));
        assert_eq!(number_in_text("1e3"), Some(Cell::Integer(1000)));
        for not in ["", "x", "1x", "0x10", "1e", "inf", "."] {
            assert_eq!(number_in_text(not), None, "{not}");
        }
    }

    #[test]
    fn integers_and_reals_compare_without_loss() {
        assert_eq!(integer_to_real(1, 1.5), Ordering::Less);
        assert_eq!(integer_to_real(-1, -1.5), Ordering::Greater);
        assert_eq!(integer_to_real(i64::MAX, 9.3e18), Ordering::Less);
        assert_eq!(integer_to_real(2, 2.0), Ordering::Equal);
    }
}
