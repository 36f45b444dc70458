//! When a certificate is renewed, and how often an authority may be asked: plain arithmetic on seconds of Unix time.

use std::time::Duration;

use gateway::Validity;

/// Orders for one name within an hour; the usual authority refuses after five that failed.
pub(super) const ORDERS_AN_HOUR: usize = 4;
const HOUR: i64 = 3_600;

/// The first pause after a failure. Each further one is four times as long.
const FIRST_PAUSE: i64 = 60;
/// The longest: with all its jitter less than a day.
const LONGEST_PAUSE: i64 = 12 * HOUR;

/// At two thirds of its life or so long before its end, at the earliest after half of its life, and up to a hundredth of its life earlier, so that many servers
/// do not come at once. `jitter` is from 0 to 1.
pub(super) fn renewal(validity: Validity, renew_before: Option<Duration>, jitter: f64) -> i64 {
    let life = validity.until.saturating_sub(validity.from).max(0);
    let before = match renew_before {
        // With more than it lives it would be time again as soon as it is there.
        Some(before) => i64::try_from(before.as_secs()).unwrap_or(i64::MAX).min(life / 2),
        None => life / 3,
    };
    let earlier = (life as f64 / 100.0 * jitter) as i64;
    validity.until.saturating_sub(before).saturating_sub(earlier)
}

/// Whether less than a sixth of its life is left: half the time for renewing is over.
pub(super) fn is_pressing(validity: Validity, now: i64) -> bool {
    validity.until.saturating_sub(now) < validity.until.saturating_sub(validity.from) / 6
}

/// Seconds to wait after so many failures in a row, a quarter more or less.
pub(super) fn pause(failures: u32, jitter: f64) -> i64 {
    let pause =
        4_i64.checked_pow(failures.saturating_sub(1)).and_then(|factor| FIRST_PAUSE.checked_mul(factor));
    let pause = pause.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    (pause as f64 * (0.75 + jitter / 2.0)) as i64
}

/// How long until one more order may be made, if not now. Times that lie ahead, as after a clock was set back, count as
/// now.
pub(super) fn until_order(orders: &[i64], now: i64) -> Option<i64> {
    let mut recent: Vec<i64> = orders.iter().map(|&at| at.min(now)).filter(|at| now - at < HOUR).collect();
    recent.sort_unstable();
    let oldest = recent.len().checked_sub(ORDERS_AN_HOUR).map(|first| recent[first])?;
    Some(oldest + HOUR - now)
}

/// Adds an order, and forgets those that do not count any more.
pub(super) fn note_order(orders: &mut Vec<i64>, now: i64) {
    orders.retain(|&at| now - at < HOUR);
    orders.push(now);
    let too_many = orders.len().saturating_sub(ORDERS_AN_HOUR);
    orders.drain(..too_many);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * HOUR;
    const NINETY_DAYS: Validity = Validity { from: 0, until: 90 * DAY };

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_when_it_is_told_to() {
        assert_eq!(renewal(NINETY_DAYS, None, 0.0), 60 * DAY);
        assert_eq!(renewal(NINETY_DAYS, None, 1.0), 60 * DAY - 90 * DAY / 100);
        assert_eq!(renewal(NINETY_DAYS, Some(Duration::from_secs(DAY as u64)), 0.0), 89 * DAY);
        assert_eq!(renewal(NINETY_DAYS, Some(Duration::from_secs(100 * DAY as u64)), 0.0), 45 * DAY);
        assert!(renewal(Validity { from: 5, until: 5 }, Some(Duration::MAX), 1.0) <= 5, "nothing overflows");
        assert!(!is_pressing(NINETY_DAYS, 74 * DAY) && is_pressing(NINETY_DAYS, 76 * DAY));
    }

    #[test]
    fn pauses_grow_up_to_less_than_a_day() {
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 99].map(|failures| pause(failures, 0.5)),
            [60, 240, 960, 3840, 15360, 43200, 43200]
        );
        assert_eq!((pause(1, 0.0), pause(1, 1.0)), (45, 75));
        assert!(pause(u32::MAX, 1.0) < DAY);
    }

    #[test]
    fn no_more_orders_than_so_many_are_made_within_any_hour() {
        let (mut orders, mut made) = (Vec::new(), Vec::new());
        for now in (0..3 * HOUR).step_by(10) {
            if until_order(&orders, now).is_none() {
                note_order(&mut orders, now);
                made.push(now);
            }
        }
        assert_eq!(made.len(), 3 * ORDERS_AN_HOUR);
        assert!(made.windows(ORDERS_AN_HOUR + 1).all(|few| few[ORDERS_AN_HOUR] - few[0] >= HOUR), "{made:?}");
        assert_eq!(until_order(&[100, 100, 100, 100], 160), Some(HOUR - 60));
        assert_eq!(
            until_order(&[900; ORDERS_AN_HOUR], 100),
            Some(HOUR),
            "a clock that was set back does not stop it for long"
        );
    }
}
