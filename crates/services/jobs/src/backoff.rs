//! How long to wait before another attempt.

use std::time::Duration;

use rand::RngExt as _;

/// Waits that grow with every attempt, drawn at random from nothing up to the whole ("full jitter"), so that
/// jobs that failed together do not come back together.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The longest wait after the first attempt; it doubles with each.
    pub first: Duration,
    /// No wait is longer.
    pub most: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// The wait after so many attempts.
    pub fn wait(&self, attempts: u32, rng: &mut impl rand::Rng) -> Duration {
        self.longest(attempts).mul_f64(rng.random_range(0.0..=1.0))
    }

    fn longest(&self, attempts: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

    #[test]
    fn waits_double_up_to_the_longest() {
        let longest = [1, 2, 3, 6, 7, 8, 40, u32::MAX].map(|attempts| BACKOFF.longest(attempts).as_secs());
        assert_eq!(longest, [1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut rng = rand::rng();
        let waits: Vec<_> = (0..1_000).map(|_| BACKOFF.wait(7, &mut rng).as_secs()).collect();
        assert!(waits.iter().any(|wait| *wait < 15) && waits.iter().any(|wait| *wait >= 45));
        assert!(waits.iter().all(|wait| *wait <= 60));
    }
}
