//! How long an answer of a server takes: a peak-sensitive moving average, as in Finagle's load balancer ("peak EWMA"): it
//! rises at once to a slow answer and falls slowly back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long it takes until an answer counts for little more than a third.
const DECAY: Duration = Duration::from_secs(5);
/// Before the first answer: as if it were quick, so that a new server is tried.
const INITIAL: f64 = 0.0;

/// Shared by all request loops. What two of them say at once may lose one of the two.
#[derive(Debug)]
pub(super) struct Latency {
    /// Nanoseconds, as the bits of an `f64`.
    average: AtomicU64,
    /// When it was computed, in nanoseconds of the clock of the pool.
    at: AtomicU64,
}

// === impl Latency ===

impl Latency {
    pub(super) fn new() -> Self {
        Self { average: AtomicU64::new(INITIAL.to_bits()), at: AtomicU64::new(0) }
    }

    /// Takes in an answer that took so long.
    pub(super) fn note(&self, took: Duration, now: Duration) {
        let (took, now) = (took.as_nanos() as f64, now.as_nanos() as u64);
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        let since = now.saturating_sub(self.at.swap(now, Ordering::Relaxed)) as f64;
        let next = if took >= average {
            took
        } else {
            let weight = (-since / DECAY.as_nanos() as f64).exp();
            average * weight + took * (1.0 - weight)
        };
        self.average.store(next.to_bits(), Ordering::Relaxed);
    }

    /// The average in nanoseconds, at least one.
    pub(super) fn nanos(&self) -> f64 {
        f64::from_bits(self.average.load(Ordering::Relaxed)).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let (latency, ms, second) = (Latency::new(), Duration::from_millis, Duration::from_secs);
        latency.note(ms(10), second(1));
        assert_eq!(latency.nanos(), 10e6);
        latency.note(ms(100), second(1));
        assert_eq!(latency.nanos(), 100e6);
        latency.note(ms(10), second(1) + DECAY);
        assert!((40e6..50e6).contains(&latency.nanos()), "{}", latency.nanos());
    }
}
