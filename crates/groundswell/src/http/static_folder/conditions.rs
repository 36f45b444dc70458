//! Which part of a file a request asks for, if any.

use std::time::{Duration, SystemTime};

use axum::http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderName};

/// What to send of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    All,
    /// These bytes; never none.
    Range {
        /// The first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Nothing: the client has it.
    NotModified,
    /// Nothing: it is shorter than what was asked for.
    Unsatisfiable,
}

/// Reads the conditions and the range of a request. A list of several ranges is answered with all of the file,
/// which a server may do.
pub(super) fn part_asked_for(headers: &HeaderMap, length: u64, modified: Option<SystemTime>) -> Part {
    let modified = modified.map(whole_seconds);
    let is_unchanged = !headers.contains_key(IF_NONE_MATCH)
        && matches!((date(headers, &IF_MODIFIED_SINCE), modified), (Some(since), Some(modified)) if modified <= since);
    if is_unchanged {
        return Part::NotModified;
    }
    let is_range_valid = !headers.contains_key(IF_RANGE)
        || matches!((date(headers, &IF_RANGE), modified), (Some(seen), Some(modified)) if seen == modified);
    match headers.get(RANGE).and_then(|range| range.to_str().ok()) {
        Some(range) if is_range_valid => range_of(range, length),
        _ => Part::All,
    }
}

fn range_of(text: &str, length: u64) -> Part {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => (first, length),
        (Err(_), Ok(count)) if first.is_empty() => (length.saturating_sub(count), length),
        _ => return Part::All,
    };
    match range {
        (start, end) if start < end => Part::Range { start, length: end - start },
        _ => Part::Unsatisfiable,
    }
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// HTTP dates have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_served_and_anything_else_gets_all() {
        assert_eq!(range_of("bytes=1-2", 6), Part::Range { start: 1, length: 2 });
        assert_eq!(range_of("bytes=4-", 6), Part::Range { start: 4, length: 2 });
        assert_eq!(range_of("bytes=-2", 6), Part::Range { start: 4, length: 2 });
        assert_eq!(range_of("bytes=-9", 6), Part::Range { start: 0, length: 6 });
        assert_eq!(range_of("bytes=0-99", 6), Part::Range { start: 0, length: 6 });
        assert_eq!(range_of("bytes=10-", 6), Part::Unsatisfiable);
        assert_eq!(range_of("bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(range_of("bytes=0-1,3-4", 6), Part::All);
        assert_eq!(range_of("bytes=3-1", 6), Part::All);
        assert_eq!(range_of("lines=0-1", 6), Part::All);
    }
}
