//! Which part of a file a request asks for, if any.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What to send of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    All,
    /// These bytes; never none.
    Range {
        /// The first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// These, each in a part of its own; two or more, none empty.
    Several(Vec<Range<u64>>),
    /// Nothing: it is no longer as the client knows it.
    PreconditionFailed,
    /// Nothing: the client has it.
    NotModified,
    /// Nothing: it is shorter than what was asked for.
    Unsatisfiable,
    /// Nothing: the range cannot be read.
    Malformed,
}

/// What a file is known by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Validators<'v> {
    /// When it was changed last.
    pub modified: Option<SystemTime>,
    /// A strong entity tag with its quotes, if it has one.
    pub etag: Option<&'v str>,
}

/// More ranges are answered with all of the file.
const MAX_RANGES: usize = 16;

/// Reads the conditions and the ranges of a request (RFC 9110 §13, §14).
pub fn part_asked_for(headers: &HeaderMap, length: u64, file: Validators<'_>) -> Part {
    let modified = file.modified.map(whole_seconds);
    let is_changed = match headers.get(IF_MATCH) {
        Some(tags) => !file.etag.is_some_and(|etag| lists(tags, etag)),
        None => {
            matches!((date(headers, &IF_UNMODIFIED_SINCE), modified), (Some(since), Some(modified)) if modified > since)
        }
    };
    if is_changed {
        return Part::PreconditionFailed;
    }
    let is_unchanged = match headers.get(IF_NONE_MATCH) {
        Some(tags) => file.etag.is_some_and(|etag| lists(tags, etag)),
        None => {
            matches!((date(headers, &IF_MODIFIED_SINCE), modified), (Some(since), Some(modified)) if modified <= since)
        }
    };
    if is_unchanged {
        return Part::NotModified;
    }
    let is_range_valid = match headers.get(IF_RANGE) {
        None => true,
        Some(tag) if file.etag.is_some_and(|etag| etag.as_bytes() == tag.as_bytes()) => true,
        Some(_) => {
            matches!((date(headers, &IF_RANGE), modified), (Some(seen), Some(modified)) if seen == modified)
        }
    };
    match headers.get(RANGE).and_then(|range| range.to_str().ok()) {
        Some(range) if is_range_valid && length > 0 => range_of(range, length),
        _ => Part::All,
    }
}

/// As the contract's server reads it: ranges that begin past the end are left out, and ranges that are
/// together longer than the file are answered with all of it.
fn range_of(text: &str, length: u64) -> Part {
    let Some(specs) = text.strip_prefix("bytes=") else { return Part::Malformed };
    let mut ranges = Vec::new();
    let mut is_past_end = false;
    for spec in specs.split(',').map(str::trim).filter(|spec| !spec.is_empty()).take(MAX_RANGES + 1) {
        match one_range(spec, length) {
            None => return Part::Malformed,
            Some(range) if range.is_empty() => is_past_end = true,
            Some(range) => ranges.push(range),
        }
    }
    let total: u64 = ranges.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add);
    match ranges.as_slice() {
        [] if is_past_end => Part::Unsatisfiable,
        [] => Part::All,
        _ if total > length || ranges.len() > MAX_RANGES => Part::All,
        [range] => Part::Range { start: range.start, length: range.end - range.start },
        _ => Part::Several(ranges),
    }
}

/// An empty range lies past the end.
fn one_range(spec: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(count)) if first.is_empty() => length.saturating_sub(count)..length,
        _ => return None,
    };
    Some(range)
}

/// Whether a list of entity tags holds one, weak or not, or all by `*`.
fn lists(tags: &HeaderValue, etag: &str) -> bool {
    let mut tags = tags.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
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
    fn a_tag_says_that_the_client_has_the_file() {
        let file = Validators { modified: None, etag: Some("\"a-1\"") };
        for (tags, expected) in [
            ("\"a-1\"", Part::NotModified),
            ("\"b\", W/\"a-1\"", Part::NotModified),
            ("*", Part::NotModified),
            ("\"a\"", Part::All),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(tags))]);
            assert_eq!(part_asked_for(&headers, 6, file), expected, "{tags}");
        }
    }

    #[test]
    fn ranges_are_read_as_seen() {
        assert_eq!(range_of("bytes=1-2", 6), Part::Range { start: 1, length: 2 });
        assert_eq!(range_of("bytes=4-", 6), Part::Range { start: 4, length: 2 });
        assert_eq!(range_of("bytes=-2", 6), Part::Range { start: 4, length: 2 });
        assert_eq!(range_of("bytes=-9", 6), Part::Range { start: 0, length: 6 });
        assert_eq!(range_of("bytes=0-99", 6), Part::Range { start: 0, length: 6 });
        assert_eq!(range_of("bytes=10-", 6), Part::Unsatisfiable);
        assert_eq!(range_of("bytes=0-1, 3-4", 6), Part::Several(vec![0..2, 3..5]));
        assert_eq!(range_of("bytes=0-1,9-", 6), Part::Range { start: 0, length: 2 });
        assert_eq!(range_of("bytes=0-4,1-5", 6), Part::All);
        assert_eq!(range_of("bytes=8-,9-", 6), Part::Unsatisfiable);
        assert_eq!(range_of(&format!("bytes={}", "0-0,".repeat(17)), 60), Part::All);
        assert_eq!(range_of("bytes=3-1", 6), Part::Malformed);
        assert_eq!(range_of("lines=0-1", 6), Part::Malformed);
    }
}
