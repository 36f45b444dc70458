//! What is counted of a pool of servers.

use std::sync::Arc;

use super::{Histogram, Kind, Tally, Text};
use crate::upstreams::{Outcome, Pool};

/// The tries at the servers of one pool, and what was decided about them. It outlives changes of the pool's
/// settings.
#[derive(Debug, Default)]
pub(crate) struct PoolMeter {
    answered: Tally,
    erred: Tally,
    failed: Tally,
    /// From a request's sending to the head of its answer.
    pub(crate) tries: Histogram,
    pub(crate) retried: Tally,
    /// What would have been tried again if there were budget.
    pub(crate) retries_refused: Tally,
    silent: Tally,
    erring: Tally,
    down: Tally,
    pub(crate) readmitted: Tally,
    pub(crate) checks_passed: Tally,
    pub(crate) checks_failed: Tally,
    pub(crate) connected: Tally,
    pub(crate) not_connected: Tally,
    /// Connections that are there now.
    pub(crate) open: Tally,
}

/// Why a server gets no requests for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sick {
    /// It does not answer.
    Silent,
    /// It answers 500 and above.
    Erring,
    /// It fails its checks.
    Down,
}

/// A label, its value, and how often.
type Counted = (&'static str, &'static str, u64);

/// A pool as it stands: what is counted, and how many connections wait for their next use.
pub(crate) struct Standing<'p> {
    pub(crate) name: &'p str,
    pub(crate) pool: &'p Arc<Pool>,
    pub(crate) idle: u64,
}

// === impl Sick ===

impl Sick {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Sick::Silent => "it does not answer",
            Sick::Erring => "it answers 500 and above",
            Sick::Down => "it fails its health check",
        }
    }
}

// === impl PoolMeter ===

impl PoolMeter {
    pub(crate) fn tried(&self, outcome: Outcome) -> &Tally {
        match outcome {
            Outcome::Answered => &self.answered,
            Outcome::Erred => &self.erred,
            Outcome::Failed => &self.failed,
        }
    }

    pub(crate) fn ejected(&self, why: Sick) -> &Tally {
        match why {
            Sick::Silent => &self.silent,
            Sick::Erring => &self.erring,
            Sick::Down => &self.down,
        }
    }
}

/// Tells of these pools.
pub(crate) fn tell(text: &mut Text, pools: &[Standing<'_>]) {
    let mut counters = |name, help, of: &dyn Fn(&PoolMeter) -> Vec<Counted>| {
        text.family(name, Kind::Counter, help);
        for Standing { name, pool, .. } in pools {
            for (label, word, count) in of(&pool.meter) {
                text.sample(&[("upstream", name), (label, word)], count);
            }
        }
    };
    counters(
        "groundswell_upstream_tries_total",
        "Requests sent to servers, by what came of them.",
        &|meter| {
            vec![
                ("outcome", "answered", meter.answered.get()),
                ("outcome", "erred", meter.erred.get()),
                ("outcome", "failed", meter.failed.get()),
            ]
        },
    );
    counters("groundswell_upstream_retries_total", "Requests that were tried again.", &|meter| {
        vec![("", "", meter.retried.get())]
    });
    counters(
        "groundswell_upstream_retries_refused_total",
        "Requests that were not tried again because the budget for it was spent.",
        &|meter| vec![("", "", meter.retries_refused.get())],
    );
    counters(
        "groundswell_upstream_ejections_total",
        "How often a server was left alone for a while, by why.",
        &|meter| {
            vec![
                ("why", "silent", meter.silent.get()),
                ("why", "errors", meter.erring.get()),
                ("why", "check", meter.down.get()),
            ]
        },
    );
    counters(
        "groundswell_upstream_readmissions_total",
        "How often such a server answered well again, or passed its check.",
        &|meter| vec![("", "", meter.readmitted.get())],
    );
    counters("groundswell_upstream_health_checks_total", "Health checks, by what they found.", &|meter| {
        vec![("result", "passed", meter.checks_passed.get()), ("result", "failed", meter.checks_failed.get())]
    });
    counters("groundswell_upstream_connects_total", "Connections made to servers, or not.", &|meter| {
        vec![("result", "made", meter.connected.get()), ("result", "failed", meter.not_connected.get())]
    });
    tell_gauges(text, pools);
    text.family(
        "groundswell_upstream_try_duration_seconds",
        Kind::Histogram,
        "From a request's sending to the head of the server's answer.",
    );
    for Standing { name, pool, .. } in pools {
        text.histogram(&[("upstream", name)], std::iter::once(&pool.meter.tries));
    }
}

fn tell_gauges(text: &mut Text, pools: &[Standing<'_>]) {
    let mut gauge = |name, help, of: &dyn Fn(&Standing<'_>) -> u64| {
        text.family(name, Kind::Gauge, help);
        for standing in pools {
            text.sample(&[("upstream", standing.name)], of(standing));
        }
    };
    gauge("groundswell_upstream_servers", "Servers of a pool.", &|standing| {
        standing.pool.servers().len() as u64
    });
    gauge("groundswell_upstream_servers_healthy", "Servers that are sent requests.", &|standing| {
        let now = standing.pool.now();
        standing.pool.servers().iter().filter(|server| server.is_well(now)).count() as u64
    });
    gauge("groundswell_upstream_in_flight", "Requests that servers have now.", &|standing| {
        standing.pool.servers().iter().map(|server| u64::from(server.in_flight())).sum()
    });
    gauge("groundswell_upstream_connections", "Connections to servers that are open.", &|standing| {
        standing.pool.meter.open.get()
    });
    gauge("groundswell_upstream_connections_idle", "Those of them that wait for a request.", &|standing| {
        standing.idle
    });
}
