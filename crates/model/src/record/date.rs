//! Reading dates in the many forms that the contract accepts (CONTRACT §12.5), into its one form.
//!
//! Forms and rules are those of PocketBase's language and libraries, oddities included: a time of day
//! alone is a date, a weekday is not compared, a zone's name is not looked up, and a fraction may follow
//! the seconds of any form.

use std::fmt::Write as _;

/// The contract's text of a date given in any accepted form; empty for anything else.
pub(crate) fn normalize(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    FORMS.iter().find_map(|form| read(form, text)).map(Moment::into_text).unwrap_or_default()
}

/// The accepted forms in the order in which they are tried; the letters are explained at [`Reader::part`].
const FORMS: &[&str] = &[
    "%Y-%m-%d %H:%M:%S%z",
    "%Y-%m-%dT%H:%M:%S%Z",
    "%Y-%m-%dT%H:%M:%S",
    "%a, %d %b %Y %H:%M:%S %o",
    "%a, %d %b %Y %H:%M:%S %N",
    "%d %b %y %H:%M %o",
    "%d %b %y %H:%M %N",
    "%A, %d-%b-%y %H:%M:%S %N",
    "%Y-%m-%d %H:%M:%S %o %N",
    "%Y-%m-%dT%H:%M:%S%o",
    "%Y-%m-%d %H:%M:%S",
    "%a %b %e %H:%M:%S %Y",
    "%a %b %e %H:%M:%S %N %Y",
    "%a %b %d %H:%M:%S %o %Y",
    "%Y-%m-%d %H:%M:%S%Z",
    "%Y-%m-%d",
    "%d %b %Y",
    "%Y-%m-%d %H:%M:%S %O",
    "%Y-%m-%d %H:%M:%S %o",
    "%I:%M%p",
    "%b %e %H:%M:%S",
];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const SECONDS_A_DAY: i64 = 86_400;

/// Seconds since 1970 with a fraction; with its zone, a year may be one beyond what four digits can say.
#[derive(Debug, Clone, Copy)]
struct Moment {
    seconds: i64,
    nanoseconds: i64,
}

/// What has been read of a text.
struct Reader<'a> {
    rest: &'a str,
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanoseconds: i64,
    is_afternoon: Option<bool>,
    /// Seconds east of UTC that the text states as a number.
    offset: Option<i64>,
    is_utc: bool,
    /// Seconds that a named zone such as `GMT+3` adds.
    zone_shift: i64,
}

fn read(form: &str, text: &str) -> Option<Moment> {
    let mut reader = Reader {
        rest: text,
        year: 0,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
        nanoseconds: 0,
        is_afternoon: None,
        offset: None,
        is_utc: false,
        zone_shift: 0,
    };
    let mut form = form.chars();
    while let Some(next) = form.next() {
        match next {
            '%' => reader.part(form.next()?)?,
            ' ' => reader.spaces()?,
            literal => reader.rest = reader.rest.strip_prefix(literal)?,
        }
    }
    if reader.rest.is_empty() { reader.finish() } else { None }
}

// === impl Reader ===

impl Reader<'_> {
    /// Reads one part of a form.
    fn part(&mut self, letter: char) -> Option<()> {
        match letter {
            // Years of four digits, or of two with 69 as the first of the last century.
            'Y' => self.year = self.digits(4)?,
            'y' => self.year = self.digits(2).map(|year| year + if year >= 69 { 1900 } else { 2000 })?,
            'm' => self.month = self.digits(2).filter(|month| (1..=12).contains(month))?,
            'b' => self.month = self.name(MONTHS.iter().copied())? + 1,
            'd' => self.day = self.digits(2)?,
            'e' => {
                self.rest = self.rest.strip_prefix(' ').unwrap_or(self.rest);
                self.day = self.one_or_two_digits()?;
            }
            // Weekdays, short and whole.
            'a' => drop(self.name(WEEKDAYS.iter().map(|name| &name[..3]))?),
            'A' => drop(self.name(WEEKDAYS.iter().copied())?),
            'H' => self.hour = self.one_or_two_digits().filter(|hour| *hour < 24)?,
            'I' => self.hour = self.one_or_two_digits().filter(|hour| *hour <= 12)?,
            'p' => {
                self.is_afternoon = Some(self.rest.starts_with("PM"));
                self.rest = self.rest.strip_prefix("PM").or_else(|| self.rest.strip_prefix("AM"))?;
            }
            'M' => self.minute = self.digits(2).filter(|minute| *minute < 60)?,
            'S' => {
                self.second = self.digits(2).filter(|second| *second < 60)?;
                self.fraction();
            }
            // Zones as numbers: with `Z` allowed or not, with a colon or not.
            'Z' | 'z' if self.rest.starts_with('Z') => {
                self.rest = &self.rest[1..];
                self.is_utc = true;
            }
            'Z' | 'O' => self.offset = Some(self.numeric_offset(true)?),
            'z' | 'o' => self.offset = Some(self.numeric_offset(false)?),
            'N' => self.zone_name()?,
            _ => return None,
        }
        Some(())
    }

    /// A space in a form stands for any number of them, or for the text's end.
    fn spaces(&mut self) -> Option<()> {
        if !self.rest.is_empty() && !self.rest.starts_with(' ') {
            return None;
        }
        self.rest = self.rest.trim_start_matches(' ');
        Some(())
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let digits = self.rest.get(..count).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        self.rest = &self.rest[count..];
        digits.parse().ok()
    }

    fn one_or_two_digits(&mut self) -> Option<i64> {
        self.digits(2).or_else(|| self.digits(1))
    }

    /// The position of the first name that the text starts with, whatever the case.
    fn name<'n>(&mut self, mut names: impl Iterator<Item = &'n str>) -> Option<i64> {
        let position = names.position(|name| {
            let found = self.rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
            if found {
                self.rest = &self.rest[name.len()..];
            }
            found
        })?;
        i64::try_from(position).ok()
    }

    fn fraction(&mut self) {
        let Some(digits) = self.rest.strip_prefix(['.', ',']) else { return };
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return;
        }
        let nanoseconds = digits.bytes().take(length).chain(std::iter::repeat(b'0')).take(9);
        self.nanoseconds = nanoseconds.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        self.rest = &digits[length..];
    }

    fn numeric_offset(&mut self, has_colon: bool) -> Option<i64> {
        let sign = match self.rest.bytes().next()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.rest = &self.rest[1..];
        let hours = self.digits(2).filter(|hours| *hours <= 24)?;
        if has_colon {
            self.rest = self.rest.strip_prefix(':')?;
        }
        let minutes = self.digits(2).filter(|minutes| *minutes <= 60)?;
        Some(sign * (hours * 3600 + minutes * 60))
    }

    /// An abbreviation such as `CEST`. Only `UTC` and `GMT+3` have a meaning.
    fn zone_name(&mut self) -> Option<()> {
        if let Some(rest) = self.rest.strip_prefix("UTC") {
            self.rest = rest;
            self.is_utc = true;
            return Some(());
        }
        if let Some(rest) = self.rest.strip_prefix("GMT") {
            self.rest = rest;
            self.zone_shift = self.signed_hours().unwrap_or(0) * 3600;
            return Some(());
        }
        if self.rest.starts_with(['+', '-']) {
            return self.signed_hours().map(drop);
        }
        let length = zone_name_length(self.rest)?;
        self.rest = &self.rest[length..];
        Some(())
    }

    /// A sign and a number of hours below 24, or nothing at all.
    fn signed_hours(&mut self) -> Option<i64> {
        let digits = self.rest.strip_prefix(['+', '-'])?;
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        let hours = digits[..length].parse::<i64>().ok().filter(|hours| *hours < 24)?;
        let sign = if self.rest.starts_with('-') { -1 } else { 1 };
        self.rest = &digits[length..];
        Some(sign * hours)
    }

    fn finish(self) -> Option<Moment> {
        if self.day < 1 || self.day > days_in_month(self.year, self.month) {
            return None;
        }
        let hour = match self.is_afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let offset = if self.is_utc { 0 } else { self.offset.unwrap_or(-self.zone_shift) };
        let days = days_from_civil(self.year, self.month, self.day);
        let seconds = days * SECONDS_A_DAY + hour * 3600 + self.minute * 60 + self.second - offset;
        Some(Moment { seconds, nanoseconds: self.nanoseconds })
    }
}

/// The length of the abbreviation at the start of a text: three capitals, or four or five that end in
/// `T`, or one of three exceptions.
fn zone_name_length(text: &str) -> Option<usize> {
    if text.starts_with("ChST") || text.starts_with("MeST") {
        return Some(4);
    }
    let capitals = text.bytes().take(6).take_while(u8::is_ascii_uppercase).count();
    let ends_in_t = |length: usize| text.as_bytes()[length - 1] == b'T';
    match capitals {
        3 => Some(3),
        4 if ends_in_t(4) || text.starts_with("WITA") => Some(4),
        5 if ends_in_t(5) => Some(5),
        _ => None,
    }
}

// === impl Moment ===

impl Moment {
    fn into_text(self) -> String {
        let Moment { seconds, nanoseconds } = self;
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_A_DAY));
        let second_of_day = seconds.rem_euclid(SECONDS_A_DAY);
        let milliseconds = nanoseconds / 1_000_000;
        let is_unset = (year, month, day, second_of_day, milliseconds) == (1, 1, 1, 0, 0);
        if is_unset || !(0..=9999).contains(&year) {
            // What PocketBase stores for these it reads as no date.
            return String::new();
        }
        let mut text = String::with_capacity(24);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        let _ = write!(
            text,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z"
        );
        text
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years are counted from March, so that a leap day ends its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The opposite of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_form_is_read() {
        let cases: &[(&str, &str)] = &[
            ("2022-01-02", "2022-01-02 00:00:00.000Z"),
            ("2022-01-02 03:04:05", "2022-01-02 03:04:05.000Z"),
            ("2022-01-02T03:04:05", "2022-01-02 03:04:05.000Z"),
            ("2022-01-02 03:04:05Z", "2022-01-02 03:04:05.000Z"),
            ("2022-01-02 03:04:05.1239Z", "2022-01-02 03:04:05.123Z"),
            ("2022-01-02T03:04:05,5", "2022-01-02 03:04:05.500Z"),
            ("2022-01-02 03:04:05+02:00", "2022-01-02 01:04:05.000Z"),
            ("2022-01-02 03:04:05 +0200", "2022-01-02 01:04:05.000Z"),
            ("2022-01-02T03:04:05+0200", "2022-01-02 01:04:05.000Z"),
            ("2022-01-02 03:04:05.000 +0200 CEST", "2022-01-02 01:04:05.000Z"),
            ("02 Jan 2022", "2022-01-02 00:00:00.000Z"),
            ("Sun, 02 Jan 2022 03:04:05 GMT", "2022-01-02 03:04:05.000Z"),
            ("Sun, 02 Jan 2022 03:04:05 GMT+3", "2022-01-02 06:04:05.000Z"),
            ("Sunday, 02-Jan-22 03:04:05 UTC", "2022-01-02 03:04:05.000Z"),
            ("Sun Jan  2 03:04:05 2022", "2022-01-02 03:04:05.000Z"),
            ("3:04PM", "0000-01-01 15:04:00.000Z"),
            ("2022-01-02  3:04:05", "2022-01-02 03:04:05.000Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(normalize(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_no_date() {
        let cases = [
            "",
            "2022-01-02 03:04",
            "2022-01-02T03:04Z",
            "01/02/2022",
            "2 Jan 2022",
            "2022",
            "20220102",
            "03:04:05",
            "2022-02-30",
            "2022-13-01",
            " 2022-01-02",
            "2022-01-02 24:00:00",
            "1641092645",
            "0001-01-01 00:00:00Z",
            "0001-01-01 00:00:00.0001Z",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+01:00",
            "é022-01-02",
        ];
        for text in cases {
            assert_eq!(normalize(text), "", "{text:?}");
        }
    }

    #[test]
    fn days_and_dates_are_opposites() {
        for days in (-800_000..3_000_000).step_by(37) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!(day >= 1 && day <= days_in_month(year, month));
        }
    }
}
