//! The trace that a request belongs to (W3C Trace Context, levels 1 and 2): its id is known to the logs, and what goes on
//! to other servers names it.
//!
//! Nothing is exported yet. A span of ours has an id, which is what the next server is told as its parent.

use std::fmt;

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What is done about traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tracing {
    /// One that a client has begun goes on with a span of ours as the next server's parent; where there is none, or one
    /// that is not valid, a new one begins.
    Start,
    /// One that a client has begun goes on as it is, and none begins. The default: nobody would know the parent that a
    /// new one has.
    #[default]
    Pass,
    /// Nobody looks.
    Off,
}

/// A trace: sixteen bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(u128);

/// What a `traceparent` says that matters here. Its span is the client's, and ours takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: TraceId,
    flags: u8,
}

/// Level 1's flag for "recorded", and level 2's for "the id is random".
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

// === impl Tracing ===

impl Tracing {
    /// The configuration's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Start, Self::Pass, Self::Off].into_iter().find(|tracing| tracing.as_str() == text)
    }

    /// The same as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pass => "pass",
            Self::Off => "off",
        }
    }

    /// The trace of a request with this head, which says what the next server is to know if it `goes_on` to one.
    /// Without a next server nobody is told of a new trace, and none begins.
    pub(crate) fn of(self, headers: &mut HeaderMap, goes_on: bool) -> Option<TraceId> {
        if self == Self::Off {
            return None;
        }
        let parent = parent(headers);
        if self == Self::Pass || !goes_on {
            return parent.map(|parent| parent.trace);
        }
        let parent = parent.unwrap_or_else(|| {
            // It belongs to the trace that was not valid.
            headers.remove(TRACESTATE);
            Parent::random()
        });
        headers.insert(TRACEPARENT, parent.with_span(random_span()));
        Some(parent.trace)
    }
}

fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    Parent::parse(line.as_bytes())
}

fn random_span() -> u64 {
    rand::random::<u64>().max(1)
}

// === impl Parent ===

impl Parent {
    fn random() -> Self {
        Self { trace: TraceId(rand::random::<u128>().max(1)), flags: SAMPLED | RANDOM }
    }

    /// `00-TRACE-SPAN-FLAGS`. A later version may say more behind a dash.
    fn parse(text: &[u8]) -> Option<Self> {
        let (version, trace) = (hex(text.get(..2)?)?, hex(text.get(3..35)?)?);
        let (span, flags) = (hex(text.get(36..52)?)?, hex(text.get(53..55)?)?);
        let are_apart = [2, 35, 52].into_iter().all(|at| text[at] == b'-');
        let has_end = match version {
            0 => text.len() == 55,
            255 => false,
            _ => text.get(55).is_none_or(|byte| *byte == b'-'),
        };
        if !are_apart || !has_end || trace == 0 || span == 0 {
            return None;
        }
        // What later versions mean by other flags is not known here, and not passed on.
        let known = u8::try_from(flags).ok()? & (SAMPLED | RANDOM);
        Some(Self { trace: TraceId(trace), flags: known })
    }

    fn with_span(self, span: u64) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut text[3..35], self.trace.0);
        put_hex(&mut text[36..52], u128::from(span));
        put_hex(&mut text[53..55], u128::from(self.flags));
        HeaderValue::from_bytes(&text).expect("digits and dashes are a header value")
    }
}

/// Lower case alone, as the standard has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn put_hex(digits: &mut [u8], mut number: u128) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

// === impl TraceId ===

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn head(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_ours() {
        let mut headers = head(&[("traceparent", VALID), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        assert_eq!(Tracing::Start.of(&mut headers, true).unwrap().to_string(), ID);
        let sent = text(&headers, "traceparent");
        assert!(sent.starts_with(&format!("00-{ID}-")) && sent.ends_with("-01") && sent != VALID, "{sent}");
        assert!(Parent::parse(sent.as_bytes()).is_some());
        assert_eq!(headers.get_all("tracestate").iter().count(), 2);
    }

    #[test]
    fn without_a_valid_one_another_begins() {
        for line in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
        ] {
            let mut headers = head(&[("traceparent", line), ("tracestate", "a=1")]);
            let trace = Tracing::Start.of(&mut headers, true).unwrap();
            assert_ne!(trace.to_string(), ID, "{line}");
            let sent = text(&headers, "traceparent");
            assert!(sent.starts_with(&format!("00-{trace}-")) && sent.ends_with("-03"), "{sent}");
            assert_eq!(text(&headers, "tracestate"), "", "{line}");
        }
        let mut twice = head(&[("traceparent", VALID), ("traceparent", VALID)]);
        assert_ne!(Tracing::Start.of(&mut twice, true).unwrap().to_string(), ID);
        assert_eq!(twice.get_all("traceparent").iter().count(), 1);
    }

    #[test]
    fn a_later_version_is_understood_as_far_as_it_is_known() {
        let later = format!("cc-{}-what-comes", &VALID[3..]);
        let mut headers = head(&[("traceparent", &later)]);
        assert_eq!(Tracing::Start.of(&mut headers, true).unwrap().to_string(), ID);
        assert!(text(&headers, "traceparent").starts_with("00-"));
    }

    #[test]
    fn what_is_only_passed_on_or_not_looked_at_stays_as_it_is() {
        for (tracing, goes_on, line, expected) in [
            (Tracing::Pass, true, VALID, Some(ID)),
            (Tracing::Pass, true, "nothing", None),
            (Tracing::Start, false, VALID, Some(ID)),
            (Tracing::Start, false, "nothing", None),
            (Tracing::Off, true, VALID, None),
        ] {
            let mut headers = head(&[("traceparent", line)]);
            let trace = tracing.of(&mut headers, goes_on).map(|trace| trace.to_string());
            assert_eq!((trace.as_deref(), text(&headers, "traceparent")), (expected, line));
        }
    }
}
