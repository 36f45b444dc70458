//! How long things take, by fixed bounds: unlike quantiles these can be summed up over loops, processes and time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds, in microseconds: from a read in this process to a server that is given up.
pub(crate) const BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// Counts by [`BOUNDS`], and their sum.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The last is for what is above all bounds.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_nanos: AtomicU64,
}

// === impl Histogram ===

impl Histogram {
    pub(crate) fn note(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let position = BOUNDS.partition_point(|bound| bound * 1_000 < nanos);
        self.counts[position].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many fell between each bound and the one before.
    pub(super) fn counts(&self) -> [u64; BOUNDS.len() + 1] {
        std::array::from_fn(|position| self.counts[position].load(Ordering::Relaxed))
    }

    pub(super) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_what_is_equal_to_it() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.note(Duration::from_micros(micros));
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
        assert_eq!(histogram.sum(), Duration::from_micros(20_000_202));
    }
}
