//! The text that Prometheus reads (its exposition format, version 0.0.4).

use std::fmt::Write as _;
use std::time::Duration;

use super::histogram::{BOUNDS, Histogram};

/// Such a text, being written.
#[derive(Debug, Default)]
pub(crate) struct Text {
    text: String,
    name: &'static str,
}

/// What a family of samples is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

// === impl Text ===

impl Text {
    /// Begins a family. Its samples follow.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line("", labels, None, format_args!("{value}"));
    }

    /// Several histograms as one.
    pub(crate) fn histogram<'h>(
        &mut self,
        labels: &[(&str, &str)],
        parts: impl Iterator<Item = &'h Histogram>,
    ) {
        let (mut counts, mut sum) = ([0; BOUNDS.len() + 1], Duration::ZERO);
        for part in parts {
            for (count, more) in counts.iter_mut().zip(part.counts()) {
                *count += more;
            }
            sum = sum.saturating_add(part.sum());
        }
        let mut total = 0;
        for (position, count) in counts.iter().enumerate() {
            total += count;
            let bound = match BOUNDS.get(position) {
                Some(micros) => format!("{}", *micros as f64 / 1e6),
                None => "+Inf".to_owned(),
            };
            self.line("_bucket", labels, Some(&bound), format_args!("{total}"));
        }
        self.line("_sum", labels, None, format_args!("{}", sum.as_secs_f64()));
        self.line("_count", labels, None, format_args!("{total}"));
    }

    pub(crate) fn into_string(self) -> String {
        self.text
    }

    /// A label without a value is left out: it means the same.
    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: std::fmt::Arguments<'_>,
    ) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut separator = '{';
        for (name, value) in all.filter(|(_, value)| !value.is_empty()) {
            self.text.push(separator);
            _ = write!(self.text, "{name}=\"");
            self.escaped(value);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        _ = writeln!(self.text, " {value}");
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                character => self.text.push(character),
            }
        }
    }
}
