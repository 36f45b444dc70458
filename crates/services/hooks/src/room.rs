//! Which hooks have no more room in their queues: a target that is gone for good must not take that of the others,
//! nor that of other jobs.

use std::collections::{BTreeMap, BTreeSet};

/// Most jobs that wait for one hook.
pub(crate) const MAX_WAITING: u64 = 20_000;
/// Most for all hooks, a fifth of [`MAX_JOBS`](contract::jobs::MAX_JOBS). Past it each has an equal share, and a queue
/// that is longer counts as full.
pub(crate) const MAX_WAITING_OF_ALL: u64 = 200_000;

/// The queues that are full, of how much waits in each. One that was full has room again some way below the bound, so
/// that it does not come and go with every delivery.
pub(crate) fn full(waiting: &BTreeMap<String, u64>, was_full: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let is_too_much = waiting.values().sum::<u64>() >= MAX_WAITING_OF_ALL;
    let share = if is_too_much { MAX_WAITING_OF_ALL / waiting.len().max(1) as u64 } else { MAX_WAITING };
    let most = MAX_WAITING.min(share);
    let is_full = |name: &str, waiting: u64| waiting >= if was_full(name) { most / 10 * 9 } else { most };
    let full = waiting.iter().filter(|(name, waiting)| is_full(name, **waiting));
    full.map(|(name, _)| name.clone()).collect()
}

/// The longest of some queues: at least one, if there is any.
pub(crate) fn longest(among: &BTreeSet<&str>, waiting: &BTreeMap<String, u64>) -> BTreeSet<String> {
    let of = |name: &str| waiting.get(name).copied().unwrap_or_default();
    let average = among.iter().map(|name| of(name)).sum::<u64>() / among.len().max(1) as u64;
    among.iter().filter(|name| of(name) >= average).map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(queues: &[(&str, u64)]) -> BTreeMap<String, u64> {
        queues.iter().map(|(name, waiting)| ((*name).to_owned(), *waiting)).collect()
    }

    fn names(names: &BTreeSet<String>) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_long_queue_is_full_until_it_is_a_good_deal_shorter() {
        let queues = waiting(&[("a", 20_000), ("b", 19_999), ("c", 18_000), ("d", 17_999)]);
        assert_eq!(names(&full(&queues, |_| false)), ["a"]);
        assert_eq!(names(&full(&queues, |_| true)), ["a", "b", "c"]);
        assert!(full(&waiting(&[]), |_| true).is_empty());
    }

    #[test]
    fn all_hooks_together_have_a_bound_and_the_longest_queues_are_full_past_it() {
        let mut queues: BTreeMap<String, u64> = (0..99).map(|n| (format!("h{n}"), 2_010)).collect();
        queues.insert("short".to_owned(), 5);
        assert!(full(&queues, |_| false).is_empty());
        queues.insert("long".to_owned(), 15_000);
        let full = full(&queues, |_| false);
        assert!(full.contains("long") && full.contains("h7") && !full.contains("short"));
    }

    #[test]
    fn the_longest_of_some_queues_are_those_from_the_average_on() {
        let queues = waiting(&[("a", 10), ("b", 2), ("c", 500)]);
        assert_eq!(names(&longest(&BTreeSet::from(["a", "b"]), &queues)), ["a"]);
        assert_eq!(names(&longest(&BTreeSet::from(["b", "new"]), &queues)), ["b"]);
        assert_eq!(names(&longest(&BTreeSet::from(["new"]), &queues)), ["new"]);
    }
}
