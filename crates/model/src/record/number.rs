//! Numbers as the contract reads and prints them in texts. Its rules are those of the language that
//! PocketBase is written in: hexadecimal floats and digit separators are read, big numbers in
//! messages have an exponent.

/// The number that a text holds: 0 when it holds none or one beyond float64; infinite or not a
/// number when it says so, which a number field refuses.
pub(crate) fn parse(text: &str) -> f64 {
    if text.contains('_') {
        return if separators_are_placed_well(text) { parse_plain(&text.replace('_', "")) } else { 0.0 };
    }
    parse_plain(text)
}

fn parse_plain(text: &str) -> f64 {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if let Some(hexadecimal) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        return sign * parse_hexadecimal(hexadecimal).filter(|number| number.is_finite()).unwrap_or(0.0);
    }
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return sign * f64::INFINITY;
    }
    if text.eq_ignore_ascii_case("nan") {
        return f64::NAN;
    }
    match unsigned.as_bytes().first() {
        Some(b'0'..=b'9' | b'.') => {
            let number = unsigned.parse::<f64>().ok().filter(|number| number.is_finite());
            sign * number.unwrap_or(0.0)
        }
        _ => 0.0,
    }
}

/// What follows `0x`: digits with perhaps a point, then `p` and a decimal exponent of two.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    if !exponent
        .strip_prefix(['+', '-'])
        .unwrap_or(exponent)
        .starts_with(|first: char| first.is_ascii_digit())
    {
        return None;
    }
    let exponent = exponent.parse::<i32>().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut number = 0.0;
    for digit in whole.chars().chain(fraction.chars()) {
        number = number * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let shift = i32::try_from(fraction.len()).ok()?.checked_mul(4)?;
    Some(number * 2f64.powi(exponent.checked_sub(shift)?))
}

/// Whether every `_` stands between two digits; a base prefix counts as a digit.
fn separators_are_placed_well(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text).as_bytes();
    let has_prefix =
        unsigned.len() >= 2 && unsigned[0] == b'0' && matches!(unsigned[1] | 0x20, b'b' | b'o' | b'x');
    let is_hexadecimal = has_prefix && unsigned[1] | 0x20 == b'x';
    let is_digit = |byte: u8| byte.is_ascii_digit() || is_hexadecimal && byte.is_ascii_hexdigit();
    (0..unsigned.len()).filter(|position| unsigned[*position] == b'_').all(|position| {
        let follows_digit = position > 0 && is_digit(unsigned[position - 1]) || has_prefix && position == 2;
        follows_digit && unsigned.get(position + 1).copied().is_some_and(is_digit)
    })
}

/// A number as messages print it: shortest, with an exponent of at least two digits from 1e+06 up and
/// below 1e-04.
pub(crate) fn in_message(number: f64) -> String {
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_the_contract_does() {
        let cases: &[(&str, f64)] = &[
            ("5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1_000", 1000.0),
            ("1_0.5_0e1_0", 105_000_000_000.0),
            ("-3.20", -3.2),
            ("+5", 5.0),
            ("007", 7.0),
            ("0x1p4", 16.0),
            ("0x_1p4", 16.0),
            ("0X1P-2", 0.25),
            ("-0x1.8p1", -3.0),
            ("1e-400", 0.0),
            (" 5 ", 0.0),
            ("0x10", 0.0),
            ("0b11", 0.0),
            ("0o7", 0.0),
            ("1,5", 0.0),
            ("true", 0.0),
            ("", 0.0),
            (".", 0.0),
            ("-", 0.0),
            ("1e", 0.0),
            ("_1", 0.0),
            ("1_", 0.0),
            ("1__0", 0.0),
            ("1e400", 0.0),
            ("1.7976931348623159e308", 0.0),
            ("++5", 0.0),
            ("+-5", 0.0),
        ];
        for (text, number) in cases {
            assert_eq!(parse(text), *number, "{text:?}");
        }
        assert!(parse("NaN").is_nan() && parse("nan").is_nan());
        assert!(parse("Infinity").is_infinite() && parse("-inf") < 0.0);
    }

    #[test]
    fn messages_print_numbers_as_the_contract_does() {
        let cases: &[(f64, &str)] = &[
            (1.0, "1"),
            (-3.5, "-3.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (-1e21, "-1e+21"),
        ];
        for (number, text) in cases {
            assert_eq!(in_message(*number), *text);
        }
    }
}
