//! A budget for retries: a fifth of the requests, and a few a second besides, so that retries help while little fails
//! and do not add to an overload (Finagle's `RetryBudget`).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// What a retry costs.
const RETRY: i64 = 1_000;
/// What a request brings.
const REQUEST: i64 = RETRY / 5;
/// What a second brings.
const SECOND: i64 = 10 * RETRY;
/// Most that is saved up.
const MOST: i64 = 100 * RETRY;

/// Shared by all request loops.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    saved: AtomicI64,
    /// The second for which something was added last.
    second: AtomicU64,
}

// === impl RetryBudget ===

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self { saved: AtomicI64::new(SECOND), second: AtomicU64::new(0) }
    }

    /// A request has come.
    pub(crate) fn note_request(&self, now: Duration) {
        if self.saved.load(Ordering::Relaxed) < MOST {
            self.saved.fetch_add(REQUEST, Ordering::Relaxed);
        }
        let second = now.as_secs();
        if self.second.load(Ordering::Relaxed) < second
            && self.second.swap(second, Ordering::Relaxed) < second
        {
            self.saved.fetch_add(SECOND, Ordering::Relaxed);
        }
    }

    /// Whether there is enough for a retry, which is taken then.
    pub(crate) fn take(&self) -> bool {
        let take = |saved: i64| (saved >= RETRY).then(|| saved.min(MOST) - RETRY);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &RetryBudget) -> usize {
        std::iter::from_fn(|| budget.take().then_some(())).count()
    }

    #[test]
    fn a_fifth_of_the_requests_may_be_tried_again() {
        let budget = RetryBudget::new();
        taken(&budget);
        for _ in 0..100 {
            budget.note_request(Duration::ZERO);
        }
        assert_eq!(taken(&budget), 20);
    }

    #[test]
    fn a_few_a_second_may_be_tried_again_and_not_too_many_at_once() {
        let budget = RetryBudget::new();
        taken(&budget);
        budget.note_request(Duration::from_secs(1));
        budget.note_request(Duration::from_secs(1));
        assert_eq!(taken(&budget), 10);
        for second in 0..1_000 {
            budget.note_request(Duration::from_secs(2 + second));
        }
        assert_eq!(taken(&budget), 100);
    }
}
