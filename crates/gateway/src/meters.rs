//! What is counted of requests, by route, and of other servers, by pool, and how a scraper reads it.
//!
//! A request loop counts in a [`Cell`] of its own, which it holds already when it knows the route: no look-up, and no
//! core waits for another's cache line. Cells are summed up when somebody asks. They belong to the names of the
//! configuration: a route or a pool that is there no more is told of no more.

mod histogram;
mod pools;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

pub(crate) use histogram::Histogram;
pub(crate) use pools::{PoolMeter, Sick, Standing, tell as tell_pools};
pub(crate) use text::{Kind, Text};

/// Cells of one route. With more request loops than that some share theirs.
const CELLS: usize = 16;

/// What answers by their first digit are called.
const CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Something that is counted.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

/// A route as it is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteLabels {
    pub(crate) route: String,
    /// The pool that it leads to, if it does.
    pub(crate) upstream: Option<String>,
}

/// The requests of one route.
#[derive(Debug, Clone)]
pub(crate) struct RouteMeter(Arc<[Arc<Cell>]>);

/// The requests of one route on one loop.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Cell {
    pub(crate) route: Arc<str>,
    pub(crate) begun: Tally,
    /// Those whose client left before the answer.
    pub(crate) abandoned: Tally,
    by_class: [Tally; CLASSES.len()],
    durations: Histogram,
}

// === impl Tally ===

impl Tally {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl RouteLabels ===

impl RouteLabels {
    pub(crate) fn new(route: &str, upstream: Option<&str>) -> Self {
        Self { route: route.to_owned(), upstream: upstream.map(str::to_owned) }
    }

    fn pairs(&self) -> [(&'static str, &str); 2] {
        [("route", &self.route), ("upstream", self.upstream.as_deref().unwrap_or_default())]
    }
}

// === impl RouteMeter ===

impl RouteMeter {
    pub(crate) fn new(labels: &RouteLabels) -> Self {
        let route = Arc::from(labels.route.as_str());
        Self((0..CELLS).map(|_| Arc::new(Cell::new(&route))).collect())
    }

    /// The cell of a loop by its number.
    pub(crate) fn cell(&self, number: usize) -> &Arc<Cell> {
        &self.0[number % CELLS]
    }

    fn sum(&self, what: impl Fn(&Cell) -> u64) -> u64 {
        self.0.iter().map(|cell| what(cell)).fold(0, u64::wrapping_add)
    }
}

// === impl Cell ===

impl Cell {
    fn new(route: &Arc<str>) -> Self {
        Self {
            // A copy: each loop counts who holds its own.
            route: Arc::from(&**route),
            begun: Tally::default(),
            abandoned: Tally::default(),
            by_class: Default::default(),
            durations: Histogram::default(),
        }
    }

    /// A request was answered so, and that took so long.
    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        if let Some(class) = self.by_class.get(usize::from(status.as_u16() / 100)) {
            class.add();
        }
        self.durations.note(took);
    }

    fn total(&self) -> u64 {
        self.by_class.iter().map(Tally::get).sum()
    }
}

/// Tells of the requests of these routes.
pub(crate) fn tell_routes<'m>(
    text: &mut Text,
    routes: impl Iterator<Item = (&'m RouteLabels, &'m RouteMeter)> + Clone,
) {
    text.family(
        "groundswell_requests_total",
        Kind::Counter,
        "Requests answered, by route and class of status.",
    );
    for (labels, meter) in routes.clone() {
        for (class, name) in CLASSES.iter().enumerate().skip(1) {
            let [route, upstream] = labels.pairs();
            text.sample(&[route, upstream, ("status", name)], meter.sum(|cell| cell.by_class[class].get()));
        }
    }
    text.family(
        "groundswell_requests_abandoned_total",
        Kind::Counter,
        "Requests whose client left before the answer.",
    );
    for (labels, meter) in routes.clone() {
        text.sample(&labels.pairs(), meter.sum(|cell| cell.abandoned.get()));
    }
    text.family(
        "groundswell_requests_in_flight",
        Kind::Gauge,
        "Requests that wait for the head of their answer.",
    );
    for (labels, meter) in routes.clone() {
        // What ends while it is being summed up may be missing on one side.
        let ended = meter.sum(|cell| cell.abandoned.get() + cell.total());
        text.sample(&labels.pairs(), meter.sum(|cell| cell.begun.get()).saturating_sub(ended));
    }
    text.family(
        "groundswell_request_duration_seconds",
        Kind::Histogram,
        "From a request's head to that of its answer.",
    );
    for (labels, meter) in routes {
        text.histogram(&labels.pairs(), meter.0.iter().map(|cell| &cell.durations));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_all_loops_are_summed_up_by_route_and_class() {
        let labels = RouteLabels::new("shop \"a\"\\", Some("pool"));
        let meter = RouteMeter::new(&labels);
        for number in 0..CELLS + 1 {
            let cell = meter.cell(number);
            cell.begun.add();
            cell.answered(StatusCode::OK, Duration::from_micros(200));
        }
        meter.cell(0).begun.add();
        meter.cell(0).abandoned.add();
        meter.cell(1).begun.add();
        let mut text = Text::default();
        tell_routes(&mut text, [(&labels, &meter)].into_iter());
        let text = text.into_string();
        for line in [
            r#"groundswell_requests_total{route="shop \"a\"\\",upstream="pool",status="2xx"} 17"#,
            r#"groundswell_requests_total{route="shop \"a\"\\",upstream="pool",status="5xx"} 0"#,
            r#"groundswell_requests_abandoned_total{route="shop \"a\"\\",upstream="pool"} 1"#,
            r#"groundswell_requests_in_flight{route="shop \"a\"\\",upstream="pool"} 1"#,
            r#"groundswell_request_duration_seconds_bucket{route="shop \"a\"\\",upstream="pool",le="0.0001"} 0"#,
            r#"groundswell_request_duration_seconds_bucket{route="shop \"a\"\\",upstream="pool",le="0.00025"} 17"#,
            r#"groundswell_request_duration_seconds_bucket{route="shop \"a\"\\",upstream="pool",le="+Inf"} 17"#,
            r#"groundswell_request_duration_seconds_sum{route="shop \"a\"\\",upstream="pool"} 0.0034"#,
            r#"groundswell_request_duration_seconds_count{route="shop \"a\"\\",upstream="pool"} 17"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
