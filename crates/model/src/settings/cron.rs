//! What is wrong with a cron expression, in the contract's words.

const MACROS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// The message of `validation_invalid_cron`, or nothing when the expression is fine.
pub(super) fn cron_error(expression: &str) -> Option<String> {
    if MACROS.contains(&expression) {
        return None;
    }
    check(expression).err()
}

fn check(expression: &str) -> Result<(), String> {
    let segments: Vec<&str> = expression.split(' ').collect();
    let [minute, hour, day, month, weekday] = segments.as_slice() else {
        return Err(
            "invalid cron expression - must be a valid macro or to have exactly 5 space separated segments"
                .to_owned(),
        );
    };
    let bounds = [(minute, 0, 59), (hour, 0, 23), (day, 1, 31), (month, 1, 12), (weekday, 0, 6)];
    bounds.into_iter().try_for_each(|(segment, min, max)| {
        segment.split(',').try_for_each(|part| check_part(part, min, max))
    })
}

fn check_part(part: &str, min: i64, max: i64) -> Result<(), String> {
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
        return Ok(());
    }
    match range.split('-').collect::<Vec<_>>().as_slice() {
        [_] if step > 1 => {
            Err("invalid segment step - step > 1 could be used only with the wildcard or range format"
                .to_owned())
        }
        [value] if (min..=max).contains(&number(value)?) => Ok(()),
        [_] => Err("invalid segment value - must be between the min and max of the segment".to_owned()),
        [first, last] => check_range(number(first)?, last, min, max),
        _ => Err("invalid segment range format - the range must have 1 or 2 parts".to_owned()),
    }
}

fn check_range(first: i64, last: &str, min: i64, max: i64) -> Result<(), String> {
    if !(min..=max).contains(&first) {
        return Err(format!("invalid segment range minimum - must be between {min} and {max}"));
    }
    if !(first..=max).contains(&number(last)?) {
        return Err(format!("invalid segment range maximum - must be between {first} and {max}"));
    }
    Ok(())
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
            assert_eq!(cron_error(good), None, "{good}");
        }
        for bad in
            ["x", "* * * *", "@foo", "61 * * * *", "* * 0 * *", "5/2 * * * *", "5-1 * * * *", "a * * * *"]
        {
            assert!(cron_error(bad).is_some(), "{bad}");
        }
    }
}
