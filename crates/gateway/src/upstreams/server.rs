//! One server of a pool, as all request loops see it: how it is, what it has to do, and what an answer takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::ServerName;
use tracing::{debug, info, warn};

use super::latency::Latency;
use super::server_tls::ServerTls;
use super::settings::{Discovery, ServerUrl, UpstreamSettings};
use crate::meters::{PoolMeter, Sick};

/// A server is left alone after so many tries without an answer in a row...
const MAX_FAILURES: u32 = 3;
/// ...or so many answers of 500 and above. One that comes back and fails again is left alone at once.
const MAX_ERRORS: u32 = 5;
/// What an answer takes of a server that is not well, where none is.
const UNWELL_COSTS: f64 = 1e9;
/// For how long, the first time; each time that it fails again it is as much longer.
const EJECTED_FOR: Duration = Duration::from_secs(2);
const MOST_EJECTED_FOR: Duration = Duration::from_secs(30);

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: ServerUrl,
    /// Which no other server of this process has or had: its connections are kept by it.
    pub(crate) id: u64,
    pub(crate) has_http2: bool,
    /// Whom to trust that it is, and by which name; none without TLS.
    pub(super) tls: Option<(ServerTls, ServerName<'static>)>,
    /// Its priority, and below it its weight: they may change while it stays.
    place: AtomicU32,
    /// How often it is to be chosen beside the one of its priority with the greatest weight, as the bits of a number up to 1.
    portion: AtomicU32,
    latency: Latency,
    /// When a problem with its TLS was told of, in seconds of the system's clock.
    told_of_tls: AtomicU64,
    /// Requests that it has from this process.
    in_flight: AtomicU32,
    /// Those of them that wait for the head of an answer.
    unanswered: AtomicU32,
    /// When it last answered, or nothing waited before. Instants are nanoseconds of the clock of the pool.
    progressed: AtomicU64,
    /// A health check says so.
    is_down: AtomicBool,
    /// Checks that it failed, and passed, in a row. Kept here, where they outlive a change of the pool's other servers.
    checks_failed: AtomicU32,
    checks_passed: AtomicU32,
    failures: AtomicU32,
    errors: AtomicU32,
    /// How often it was ejected without a good answer since.
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    /// Since when it gets requests again; 0 for a server that was never away.
    back_since: AtomicU64,
    pub(crate) meter: Arc<PoolMeter>,
}

/// Where a server stands among the others, as with SRV records (RFC 2782).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Those of a higher number get requests where nobody of a lower one is well.
    pub(crate) priority: u16,
    /// How often it is chosen beside others of its priority.
    pub(crate) weight: u16,
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer below 500.
    Answered,
    /// An answer of 500 and above.
    Erred,
    /// No answer, or none in time.
    Failed,
}

// === impl Server ===

impl Server {
    /// One of a pool with these settings.
    pub(super) fn new(url: ServerUrl, settings: &UpstreamSettings, meter: Arc<PoolMeter>) -> Self {
        static SERVERS: AtomicU64 = AtomicU64::new(0);
        let name = settings.discovery.as_ref().map_or(url.target().0, Discovery::host);
        let tls = settings.tls.clone().filter(|_| url.has_tls());
        let tls = tls.and_then(|tls| {
            let name = tls.name().cloned().or_else(|| ServerName::try_from(name.to_owned()).ok())?;
            Some((tls, name))
        });
        Self {
            url,
            id: SERVERS.fetch_add(1, Ordering::Relaxed),
            has_http2: settings.http2,
            tls,
            place: AtomicU32::new(Place::default().bits()),
            portion: AtomicU32::new(1_f32.to_bits()),
            latency: Latency::new(),
            told_of_tls: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
            progressed: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            checks_failed: AtomicU32::new(0),
            checks_passed: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            errors: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            back_since: AtomicU64::new(0),
            meter,
        }
    }

    pub(super) fn place(&self) -> Place {
        Place::of_bits(self.place.load(Ordering::Relaxed))
    }

    /// See the fields.
    pub(super) fn set_place(&self, place: Place, portion: f32) {
        self.place.store(place.bits(), Ordering::Relaxed);
        self.portion.store(portion.to_bits(), Ordering::Relaxed);
    }

    /// The part of the requests that it gets which one of the greatest weight gets.
    pub(super) fn portion(&self) -> f64 {
        f32::from_bits(self.portion.load(Ordering::Relaxed)).into()
    }

    /// Whether it may be sent requests.
    pub(crate) fn is_well(&self, now: Duration) -> bool {
        !self.is_down.load(Ordering::Relaxed) && !self.is_ejected(now)
    }

    fn is_ejected(&self, now: Duration) -> bool {
        nanos(now) < self.ejected_until.load(Ordering::Relaxed)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What one more request would cost here: what an answer takes, times those that wait. One that has not answered
    /// for longer than usual is as slow as that.
    pub(super) fn cost(&self, now: Duration, slow_start: Duration) -> f64 {
        let mut latency = self.latency.nanos();
        if self.unanswered.load(Ordering::Relaxed) > 0 {
            let silent = nanos(now).saturating_sub(self.progressed.load(Ordering::Relaxed));
            latency = latency.max(silent as f64);
        }
        if !self.is_well(now) {
            latency += UNWELL_COSTS;
        }
        latency * f64::from(self.in_flight() + 1) / self.share(now, slow_start)
    }

    /// The share of its requests that a server gets which came back: from a tenth to all.
    pub(super) fn share(&self, now: Duration, slow_start: Duration) -> f64 {
        let back_since = self.back_since.load(Ordering::Relaxed);
        if back_since == 0 || slow_start.is_zero() {
            return 1.0;
        }
        let back_for = nanos(now).saturating_sub(back_since) as f64;
        (back_for / slow_start.as_nanos() as f64).clamp(0.1, 1.0)
    }

    /// It was not reached. With TLS somebody may have to set something right, so it is told now and then.
    pub(crate) fn note_unreachable(&self, error: &std::io::Error) {
        const TOLD_EVERY: u64 = 60;
        debug!(server = %self.url, %error, "a server cannot be reached");
        let is_of_tls = error.get_ref().is_some_and(|error| error.is::<rustls::Error>());
        let now = UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
        if is_of_tls && now.saturating_sub(self.told_of_tls.swap(now, Ordering::Relaxed)) > TOLD_EVERY {
            warn!(server = %self.url, %error, "a server and this one do not agree on TLS");
        }
    }

    /// A request goes to it.
    pub(super) fn begin(&self, now: Duration) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        if self.unanswered.fetch_add(1, Ordering::Relaxed) == 0 {
            self.progressed.store(nanos(now), Ordering::Relaxed);
        }
    }

    /// What came of a request.
    pub(super) fn note(&self, outcome: Outcome, took: Duration, now: Duration) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        if outcome == Outcome::Failed {
            self.count(&self.failures, MAX_FAILURES, now, Sick::Silent);
            return;
        }
        self.latency.note(took, now);
        self.progressed.store(nanos(now), Ordering::Relaxed);
        reset(&self.failures);
        if outcome == Outcome::Erred {
            self.count(&self.errors, MAX_ERRORS, now, Sick::Erring);
        } else {
            reset(&self.errors);
            self.recover(now);
        }
    }

    fn count(&self, failures: &AtomicU32, most: u32, now: Duration, why: Sick) {
        let most = if self.ejections.load(Ordering::Relaxed) == 0 { most } else { 1 };
        if 1 + failures.fetch_add(1, Ordering::Relaxed) >= most {
            self.eject(now, why);
        }
    }

    /// It is done with a request, of which something was noted or not.
    pub(super) fn end(&self, is_noted: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !is_noted {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What a health check found: how many it has failed or passed in a row now. Only the watch of its pool calls this.
    pub(super) fn note_check(&self, has_passed: bool) -> u32 {
        let (more, other) = match has_passed {
            true => (&self.checks_passed, &self.checks_failed),
            false => (&self.checks_failed, &self.checks_passed),
        };
        other.store(0, Ordering::Relaxed);
        more.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// What health checks found.
    pub(super) fn note_health(&self, is_well: bool, now: Duration) {
        if self.is_down.swap(!is_well, Ordering::Relaxed) == is_well {
            if is_well {
                self.meter.readmitted.add();
                info!(server = %self.url, "a server passes its health check again");
                self.ejected_until.store(0, Ordering::Relaxed);
                self.back_since.store(nanos(now).max(1), Ordering::Relaxed);
            } else {
                self.meter.ejected(Sick::Down).add();
                warn!(server = %self.url, "a server fails its health check, and gets no requests");
            }
        }
    }

    fn recover(&self, now: Duration) {
        if self.ejections.load(Ordering::Relaxed) != 0 && !self.is_ejected(now) {
            self.ejections.store(0, Ordering::Relaxed);
            self.meter.readmitted.add();
        }
    }

    fn eject(&self, now: Duration, why: Sick) {
        if self.is_ejected(now) {
            return;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.errors.store(0, Ordering::Relaxed);
        let times = 1 + self.ejections.fetch_add(1, Ordering::Relaxed);
        let pause = EJECTED_FOR.saturating_mul(times).min(MOST_EJECTED_FOR);
        let until = nanos(now + pause);
        self.ejected_until.store(until, Ordering::Relaxed);
        self.back_since.store(until, Ordering::Relaxed);
        self.meter.ejected(why).add();
        warn!(server = %self.url, ?pause, why = why.as_str(), "a server is left alone for a while");
    }
}

// === impl Place ===

impl Place {
    fn bits(self) -> u32 {
        u32::from(self.priority) << 16 | u32::from(self.weight)
    }

    fn of_bits(bits: u32) -> Self {
        Self { priority: (bits >> 16) as u16, weight: bits as u16 }
    }
}

/// All are alike.
impl Default for Place {
    fn default() -> Self {
        Self { priority: 0, weight: 1 }
    }
}

/// Without a write where there is nothing to change: loops share the line.
fn reset(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn server() -> Server {
        let url = ServerUrl::parse("http://a:1").unwrap();
        Server::new(url, &UpstreamSettings::new(Vec::new()), Arc::default())
    }

    fn tried(server: &Server, outcome: Outcome, now: Duration) {
        server.begin(now);
        server.note(outcome, Duration::from_millis(1), now);
        server.end(true);
    }

    #[test]
    fn a_server_that_does_not_answer_is_left_alone_and_ever_longer() {
        let server = server();
        for _ in 0..MAX_FAILURES {
            assert!(server.is_well(SECOND));
            tried(&server, Outcome::Failed, SECOND);
        }
        assert!(!server.is_well(SECOND));
        let back = SECOND + EJECTED_FOR;
        assert!(server.is_well(back));
        tried(&server, Outcome::Failed, back);
        assert!(!server.is_well(back + EJECTED_FOR) && server.is_well(back + EJECTED_FOR * 2));
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let server = server();
        for _ in 0..MAX_FAILURES * 3 {
            tried(&server, Outcome::Failed, SECOND);
            tried(&server, Outcome::Answered, SECOND);
            tried(&server, Outcome::Erred, SECOND);
        }
        assert!(server.is_well(SECOND));
        for _ in 0..MAX_ERRORS {
            tried(&server, Outcome::Erred, SECOND);
        }
        assert!(!server.is_well(SECOND));
    }

    #[test]
    fn a_server_that_came_back_gets_less_for_a_while() {
        let server = server();
        server.note_health(false, SECOND);
        assert!(!server.is_well(SECOND));
        server.note_health(true, SECOND);
        let share = |after: u64| server.share(SECOND + Duration::from_secs(after), SECOND * 10);
        assert_eq!([share(0), share(5), share(10), share(99)], [0.1, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn checks_are_counted_in_a_row() {
        let server = server();
        let counts = [false, false, true, true, true, false].map(|has_passed| server.note_check(has_passed));
        assert_eq!(counts, [1, 2, 1, 2, 3, 1]);
    }

    #[test]
    fn a_server_that_is_silent_costs_as_long_as_it_is() {
        let server = server();
        tried(&server, Outcome::Answered, SECOND);
        let idle = server.cost(SECOND * 9, SECOND);
        server.begin(SECOND * 10);
        let at_work = server.cost(SECOND * 10, SECOND);
        let silent = server.cost(SECOND * 11, SECOND);
        assert!(idle < at_work && at_work * 100.0 < silent, "{idle} {at_work} {silent}");
    }
}
