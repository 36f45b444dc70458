//! Cron expressions: at which minutes something is due, and what is wrong with an expression in the
//! contract's words. All times are UTC.

use crate::time::Timestamp;

/// The minutes at which something is due. All five parts must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: Numbers,
    hours: Numbers,
    days: Numbers,
    months: Numbers,
    weekdays: Numbers,
}

/// Numbers below 64, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Numbers(u64);

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

// === impl Schedule ===

impl Schedule {
    /// Reads an expression of five parts or one of the macros; the error is the message of
    /// `validation_invalid_cron`.
    pub fn parse(expression: &str) -> Result<Schedule, String> {
        let known = MACROS.iter().find(|(name, _)| *name == expression);
        let segments: Vec<&str> = known.map_or(expression, |(_, meaning)| meaning).split(' ').collect();
        let [minute, hour, day, month, weekday] = segments.as_slice() else {
            return Err(
                "invalid cron expression - must be a valid macro or to have exactly 5 space separated segments"
                    .to_owned(),
            );
        };
        Ok(Schedule {
            minutes: Numbers::parse(minute, 0, 59)?,
            hours: Numbers::parse(hour, 0, 23)?,
            days: Numbers::parse(day, 1, 31)?,
            months: Numbers::parse(month, 1, 12)?,
            weekdays: Numbers::parse(weekday, 0, 6)?,
        })
    }

    /// Whether the minute of this instant is one of them.
    pub fn is_due(&self, instant: Timestamp) -> bool {
        let at = instant.datetime();
        let parts = [
            (self.minutes, at.minute()),
            (self.hours, at.hour()),
            (self.days, at.day()),
            (self.months, at.month()),
            (self.weekdays, at.weekday().to_sunday_zero_offset()),
        ];
        parts.into_iter().all(|(numbers, number)| numbers.contains(number))
    }
}

// === impl Numbers ===

impl Numbers {
    fn parse(segment: &str, min: u8, max: u8) -> Result<Numbers, String> {
        segment.split(',').try_fold(Numbers::default(), |numbers, part| {
            let part = Numbers::of_part(part, i64::from(min), i64::from(max))?;
            Ok(Numbers(numbers.0 | part.0))
        })
    }

    fn of_part(part: &str, min: i64, max: i64) -> Result<Numbers, String> {
        let halves: Vec<&str> = part.split('/').collect();
        let (range, step) = match halves.as_slice() {
            [range] => (*range, 1),
            [range, step] => (*range, number(step)?),
            _ => return Err("invalid segment step format - must be in the format */n or 1-30/n".to_owned()),
        };
        if !(1..=max).contains(&step) {
            return Err(format!("invalid segment step boundary - the step must be between 1 and the {max}"));
        }
        if range == "*" {
            return Ok(Numbers::every(min, max, step));
        }
        match range.split('-').collect::<Vec<_>>().as_slice() {
            [_] if step > 1 => {
                Err("invalid segment step - step > 1 could be used only with the wildcard or range format"
                    .to_owned())
            }
            [value] => match number(value)? {
                value if (min..=max).contains(&value) => Ok(Numbers::every(value, value, 1)),
                _ => Err("invalid segment value - must be between the min and max of the segment".to_owned()),
            },
            [first, last] => {
                let (first, last) = range_of(number(first)?, last, min, max)?;
                Ok(Numbers::every(first, last, step))
            }
            _ => Err("invalid segment range format - the range must have 1 or 2 parts".to_owned()),
        }
    }

    /// From `first` to `last`, both within 0 to 63.
    fn every(first: i64, last: i64, step: i64) -> Numbers {
        let numbers = (first..=last).step_by(usize::try_from(step).unwrap_or(1));
        Numbers(numbers.fold(0, |bits, number| bits | 1 << number))
    }

    fn contains(self, number: i8) -> bool {
        self.0 >> number & 1 == 1
    }
}

fn range_of(first: i64, last: &str, min: i64, max: i64) -> Result<(i64, i64), String> {
    if !(min..=max).contains(&first) {
        return Err(format!("invalid segment range minimum - must be between {min} and {max}"));
    }
    let last = number(last)?;
    if !(first..=max).contains(&last) {
        return Err(format!("invalid segment range maximum - must be between {first} and {max}"));
    }
    Ok((first, last))
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_five_segments_within_bounds() {
        for good in ["* * * * *", "@daily", "*/5 0-3,7 1 12 6", "1-30/2 * * * *"] {
            assert!(Schedule::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["x", "* * * *", "@foo", "61 * * * *", "* * 0 * *", "5/2 * * * *", "5-1 * * * *", "a * * * *"]
        {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn something_is_due_when_all_parts_fit() {
        // A Sunday, in its third minute.
        let instant = Timestamp(1_641_092_645_078);
        assert_eq!(instant.to_text(), "2022-01-02 03:04:05.078Z");
        for due in ["* * * * *", "4 3 2 1 0", "*/2 1-5/2 2,9 * *", "4 3 * * 0"] {
            assert!(Schedule::parse(due).unwrap().is_due(instant), "{due}");
        }
        for not_due in ["5 * * * *", "4 3 2 1 1", "*/3 * * * *", "4 0-2 * * *", "4 3 1 * 0", "@daily"] {
            assert!(!Schedule::parse(not_due).unwrap().is_due(instant), "{not_due}");
        }
        let midnight = Timestamp(1_641_081_600_000);
        assert!(Schedule::parse("@weekly").unwrap().is_due(midnight));
        assert!(!Schedule::parse("@monthly").unwrap().is_due(midnight));
    }
}
