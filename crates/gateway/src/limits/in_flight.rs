//! How many requests may be unanswered at once, and who is refused when there are more.
//!
//! A bound is a number, or follows the time of answers: it shrinks while they take much longer than those of a quiet
//! time, and grows otherwise, as the gradient controller of Envoy's adaptive concurrency filter does
//! (<https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter>):
//! `limit = gradient · limit + √limit`, where the gradient is the quiet time over that of now, between ½ and 1. Envoy asks for
//! the quiet time by letting almost nobody in for a while; here it is the least that was seen, which creeps up to what is
//! seen now: quickly while there is room, slowly while there is none.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::priority::{Priority, Suspects};

/// How much longer than in a quiet time an answer may take before the limit shrinks.
const TOLERANCE: f64 = 2.0;
/// Answers are looked at together for so long, and when there are so many.
const WINDOW: Duration = Duration::from_millis(100);
const ENOUGH_ANSWERS: u32 = 10;
/// With fewer at once most machines are idle.
const LEAST: f64 = 8.0;
const MOST: f64 = 8192.0;
/// Until something is known.
const FIRST: f64 = 128.0;
/// What of the difference the quiet time takes over in a window: half in seven seconds, or in twelve minutes.
const CREEP: f64 = 0.01;
const SLOW_CREEP: f64 = 0.0001;

/// The bound of unanswered requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxInFlight {
    /// How many.
    pub most: Most,
    /// How many more may wait for their turn; with none, the surplus is refused at once.
    pub queue: usize,
    /// For how long.
    pub queue_timeout: Duration,
}

/// A number, or what is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Most {
    /// So many.
    Fixed(NonZeroUsize),
    /// As many as are answered almost as soon as a few are.
    Adaptive,
}

/// The unanswered requests under one bound, of all request loops.
pub struct InFlight {
    rule: MaxInFlight,
    suspects: Suspects,
    count: AtomicUsize,
    /// Of each class.
    waiting: [AtomicUsize; Priority::COUNT],
    limit: AtomicUsize,
    left: Notify,
    /// Whoever finds it locked leaves his answer out: a sample is enough.
    times: Option<Mutex<Times>>,
}

/// One of them. Those who wait are woken when it is dropped.
pub(super) struct Permit {
    of: Arc<InFlight>,
    begun: Instant,
}

/// How long answers take.
#[derive(Debug)]
struct Times {
    limit: f64,
    /// In a quiet time; none while nothing is known.
    quiet: Option<f64>,
    began: Instant,
    sum: f64,
    count: u32,
    /// The most that were unanswered.
    peak: usize,
}

/// There are too many already.
pub(super) struct TooMany;

// === impl InFlight ===

impl InFlight {
    /// With nothing in flight.
    pub fn new(rule: MaxInFlight) -> Self {
        let (limit, times) = match rule.most {
            Most::Fixed(most) => (most.get(), None),
            Most::Adaptive => (FIRST as usize, Some(Mutex::new(Times::new(Instant::now())))),
        };
        Self {
            rule,
            suspects: Suspects::new(),
            count: AtomicUsize::new(0),
            waiting: Default::default(),
            limit: AtomicUsize::new(limit),
            left: Notify::new(),
            times,
        }
    }

    /// The bound.
    pub fn rule(&self) -> &MaxInFlight {
        &self.rule
    }

    /// Who came with tokens that did not count.
    pub(super) fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// Takes a request now, or not at all. Nobody overtakes those of his class and above who wait; those below wait for
    /// places that they have no right to yet, and keep nobody from his own.
    pub(super) fn enter(self: &Arc<Self>, priority: Priority) -> Result<Permit, TooMany> {
        let before = self.waiting[priority as usize..].iter().any(|class| class.load(Ordering::Relaxed) > 0);
        if before { Err(TooMany) } else { self.take(priority) }
    }

    fn take(self: &Arc<Self>, priority: Priority) -> Result<Permit, TooMany> {
        let share = priority.share_of(self.limit.load(Ordering::Relaxed));
        let entered = self
            .count
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < share).then_some(count + 1));
        entered.map(|_| Permit { of: self.clone(), begun: Instant::now() }).map_err(|_| TooMany)
    }

    /// Whether one more of a class may wait: of the queue it has its share, too.
    pub(super) fn may_wait(&self, priority: Priority) -> bool {
        self.waiting() < priority.share_of(self.rule.queue)
    }

    fn waiting(&self) -> usize {
        self.waiting.iter().map(|class| class.load(Ordering::SeqCst)).sum()
    }

    /// Takes a request as soon as there is room, for which it waits if it may.
    pub(super) async fn turn(self: Arc<Self>, priority: Priority) -> Result<Permit, TooMany> {
        match self.enter(priority) {
            Ok(permit) => Ok(permit),
            Err(TooMany) => self.wait(priority).await,
        }
    }

    /// Waits for a turn, for as long as the rule says.
    async fn wait(self: Arc<Self>, priority: Priority) -> Result<Permit, TooMany> {
        let _waiting = Waiting::begin(&self, priority).ok_or(TooMany)?;
        let until = tokio::time::Instant::now() + self.rule.queue_timeout;
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            // From here on nobody's leaving is missed.
            left.as_mut().enable();
            if let Ok(permit) = self.take(priority) {
                return Ok(permit);
            }
            timeout_at(until, left).await.map_err(|_| TooMany)?;
        }
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)
    }
}

/// By the bound: what is in flight is no part of the configuration.
impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        self.rule == other.rule
    }
}

impl Eq for InFlight {}

/// A place in the queue.
struct Waiting<'f> {
    class: &'f AtomicUsize,
}

impl<'f> Waiting<'f> {
    fn begin(of: &'f InFlight, priority: Priority) -> Option<Self> {
        let waiting = Self { class: &of.waiting[priority as usize] };
        waiting.class.fetch_add(1, Ordering::SeqCst);
        // Counted first: of two at once both may turn away, and never both stay past the bound.
        (of.waiting() <= priority.share_of(of.rule.queue)).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.class.fetch_sub(1, Ordering::SeqCst);
    }
}

// === impl Permit ===

impl Permit {
    /// The request was answered: this is how long it took.
    pub(super) fn answered(self) {
        if let Some(Ok(mut times)) = self.of.times.as_ref().map(Mutex::try_lock) {
            let now = Instant::now();
            let in_flight = self.of.count.load(Ordering::Relaxed);
            if let Some(limit) = times.note(now, now - self.begun, in_flight) {
                self.of.limit.store(limit, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.count.fetch_sub(1, Ordering::SeqCst);
        // All of them, a few: the place may be one that the first of them has no right to.
        if self.of.waiting() > 0 {
            self.of.left.notify_waiters();
        }
    }
}

// === impl Times ===

impl Times {
    fn new(now: Instant) -> Self {
        Self { limit: FIRST, quiet: None, began: now, sum: 0.0, count: 0, peak: 0 }
    }

    /// Notes an answer. At the end of a window there is a new limit.
    fn note(&mut self, now: Instant, took: Duration, in_flight: usize) -> Option<usize> {
        self.sum += took.as_secs_f64();
        self.count += 1;
        self.peak = self.peak.max(in_flight);
        if self.count < ENOUGH_ANSWERS || now - self.began < WINDOW {
            return None;
        }
        let (took, peak) = (self.sum / f64::from(self.count), self.peak as f64);
        *self = Self { began: now, sum: 0.0, count: 0, peak: 0, ..*self };
        let has_room = peak < self.limit / 2.0;
        let quiet = self.quiet.get_or_insert(took);
        let creep = if has_room { CREEP } else { SLOW_CREEP };
        *quiet = if took < *quiet { took } else { *quiet + (took - *quiet) * creep };
        let gradient = (TOLERANCE * *quiet / took.max(f64::EPSILON)).clamp(0.5, 1.0);
        // A limit that nobody comes near to says nothing by growing.
        if gradient < 1.0 || !has_room {
            self.limit = (gradient * self.limit + self.limit.sqrt()).clamp(LEAST, MOST);
        }
        Some(self.limit as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(most: usize, queue: usize) -> Arc<InFlight> {
        let most = Most::Fixed(NonZeroUsize::new(most).unwrap());
        Arc::new(InFlight::new(MaxInFlight { most, queue, queue_timeout: Duration::from_secs(1) }))
    }

    #[test]
    fn who_goes_first_has_places_that_others_have_not() {
        let in_flight = in_flight(10, 0);
        let enter = |priority, times: usize| {
            let entered: Vec<_> = (0..times).map_while(|_| in_flight.enter(priority).ok()).collect();
            entered
        };
        let mut all = enter(Priority::Background, 20);
        assert_eq!(all.len(), 5);
        for (priority, more) in [
            (Priority::GuestRead, 2),
            (Priority::GuestWrite, 1),
            (Priority::SignedInRead, 1),
            (Priority::SignedInWrite, 1),
        ] {
            let entered = enter(priority, 20);
            assert_eq!(entered.len(), more, "{priority:?}");
            all.extend(entered);
        }
        drop(all);
        assert_eq!(in_flight.count.load(Ordering::Relaxed), 0);
        assert!(in_flight.enter(Priority::Background).is_ok());
    }

    #[test]
    fn a_limit_of_one_is_one_for_every_class() {
        let in_flight = in_flight(1, 0);
        let only = in_flight.enter(Priority::Background);
        assert!(only.is_ok() && in_flight.enter(Priority::SignedInWrite).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_has_the_next_place_and_nobody_waits_for_ever() {
        let in_flight = in_flight(1, 2);
        let first = in_flight.enter(Priority::GuestRead).ok().unwrap();
        let wait = || tokio::spawn(in_flight.clone().wait(Priority::GuestRead));
        let (second, third) = (wait(), wait());
        while in_flight.may_wait(Priority::GuestRead) {
            tokio::task::yield_now().await;
        }
        assert!(in_flight.clone().wait(Priority::SignedInWrite).await.is_err(), "the queue is full");
        drop(first);
        assert!(in_flight.enter(Priority::GuestRead).is_err(), "others wait");
        let held = second.await.unwrap();
        assert!(held.is_ok());
        assert!(third.await.unwrap().is_err(), "the time is over");
        drop(held);
        assert!(in_flight.enter(Priority::GuestRead).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_without_a_right_to_a_place_keeps_nobody_above_from_his_own() {
        let in_flight = in_flight(10, 4);
        let begun: Vec<_> = (0..5).map_while(|_| in_flight.enter(Priority::Background).ok()).collect();
        let waiting: Vec<_> =
            (0..4).map(|_| tokio::spawn(in_flight.clone().wait(Priority::Background))).collect();
        while in_flight.may_wait(Priority::Background) {
            tokio::task::yield_now().await;
        }
        assert_eq!(begun.len(), 5);
        assert!(in_flight.enter(Priority::Background).is_err(), "the class has its share");
        let written: Vec<_> = (0..5).map_while(|_| in_flight.enter(Priority::SignedInWrite).ok()).collect();
        assert_eq!(written.len(), 5);
        assert!(in_flight.may_wait(Priority::SignedInWrite), "half of the queue is for those above");
        for waiting in waiting {
            assert!(waiting.await.unwrap().is_err());
        }
    }

    /// What the limit comes to where a server does so many at once, each in 10 ms, and clients always fill it.
    fn settle(capacity: f64, windows: usize) -> (f64, f64) {
        let mut now = Instant::now();
        let mut times = Times::new(now);
        let quiet = 0.010;
        let mut took = quiet;
        // It begins with a few.
        for in_flight in std::iter::repeat_n(4.0, 10).chain(std::iter::repeat_n(f64::MAX, windows)) {
            let in_flight: f64 = f64::min(in_flight, times.limit);
            took = quiet * f64::max(1.0, in_flight / capacity);
            now += WINDOW;
            for _ in 0..ENOUGH_ANSWERS {
                times.note(now, Duration::from_secs_f64(took), in_flight as usize);
            }
        }
        (times.limit, took / quiet)
    }

    #[test]
    fn the_limit_follows_the_capacity_and_answers_stay_quick() {
        for capacity in [16.0, 100.0, 1000.0] {
            let (limit, slower) = settle(capacity, 300);
            assert!(limit >= capacity && slower <= 3.5, "{capacity}: {limit}, {slower} times as slow");
        }
        // Half an hour of it does not wear the quiet time out.
        let (_, slower) = settle(100.0, 18_000);
        assert!(slower < 20.0, "{slower} times as slow");
    }

    #[test]
    fn answers_that_stay_the_same_never_shrink_the_limit() {
        let mut now = Instant::now();
        let mut times = Times::new(now);
        for round in 0..1_000 {
            now += Duration::from_millis(10);
            let took = Duration::from_micros(500 + 300 * (round % 3));
            times.note(now, took, 64);
        }
        assert!(times.limit >= FIRST, "{}", times.limit);
    }
}
