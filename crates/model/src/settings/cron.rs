//! What is wrong with a cron expression, in the contract's words.

const MACROS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// The message of `validation_invalid_cron`, or nothing when the expression is fine.
pub(super) fn cron_error(expression: &str) -> Option<&'static str> {
    if MACROS.contains(&expression) {
        return None;
    }
    let segments: Vec<&str> = expression.split(' ').collect();
    let [minute, hour, day, month, weekday] = segments.as_slice() else {
        return Some(
            "invalid cron expression - must be a valid macro or to have exactly 5 space separated segments",
        );
    };
    let bounds = [(minute, 0, 59), (hour, 0, 23), (day, 1, 31), (month, 1, 12), (weekday, 0, 6)];
    bounds.into_iter().find_map(|(segment, min, max)| segment_error(segment, min, max))
}

fn segment_error(segment: &str, min: u32, max: u32) -> Option<&'static str> {
    segment.split(',').find_map(|part| part_error(part, min, max))
}

fn part_error(part: &str, min: u32, max: u32) -> Option<&'static str> {
    let mut halves = part.split('/');
    let (range, step) = (halves.next().unwrap_or_default(), halves.next());
    if halves.next().is_some() {
        return Some("invalid segment step format - must be in the format */n or 1-30/n");
    }
    if let Some(step) = step
        && !step.parse::<u32>().is_ok_and(|step| (1..=max).contains(&step))
    {
        return Some("invalid segment step boundary - the step must be between 1 and the max segment value");
    }
    if range == "*" {
        return None;
    }
    let is_within = |text: &str| text.parse::<u32>().ok().filter(|number| (min..=max).contains(number));
    match range.split_once('-') {
        None if step.is_some() => {
            Some("invalid segment step - step could be used only with the wildcard or range format")
        }
        None => match is_within(range) {
            Some(_) => None,
            None => Some("invalid segment value - must be between the min and max of the segment"),
        },
        Some((first, last)) => match (is_within(first), is_within(last)) {
            (Some(first), Some(last)) if first <= last => None,
            (None, _) => {
                Some("invalid segment range minimum - must be between the min and max of the segment")
            }
            _ => Some(
                "invalid segment range maximum - must be between the range min and the max of the segment",
            ),
        },
    }
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
