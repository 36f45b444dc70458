//! `bench --proxy`: the gateway as a plain reverse proxy to two servers, beside others that do the same, and what routes
//! cost those requests that no route is for. Needs no PocketBase and no rows. `bench/README.md` says what it is and what not.

mod checks;
mod config;
mod edge;
mod peers;
mod report;
mod running;
mod tls;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::args::Args;
use crate::data::Tokens;
use crate::rounds::{Sample, median};
use crate::{machine, stop, wrk};

use checks::Witness;
use report::{Report, Title};
use running::{Running, UPSTREAM};

pub(crate) use edge::compare as compare_edges;

const CONNECTIONS: usize = 64;

/// What goes through the proxies.
const SHAPES: [Shape; 2] = [
    Shape { name: "small", path: config::SMALL, title: "an answer of 50 bytes" },
    Shape { name: "64 KiB", path: config::LARGE, title: "a file of 64 KiB, from the page cache" },
];

/// What the services of this process answer. The cheapest request there is, on which routes weigh the most.
const IN_PROCESS: Shape =
    Shape { name: "in process", path: "/api/health", title: "GET /api/health, which no route is for" };

const PLAIN_PROXY: Title = Title { text: "Plain proxy", file: "proxy", transport: "no TLS" };

struct Shape {
    name: &'static str,
    path: &'static str,
    title: &'static str,
}

/// One round of one load on one server.
#[derive(Clone, Serialize)]
struct Round {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Time on a core that the server's processes took for each request.
    core_us: f64,
    /// Connections that the upstream got meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<u64>,
}

/// All rounds of one load on one server.
struct Line {
    shape: &'static Shape,
    server: String,
    rounds: Vec<Round>,
}

/// What goes with every round.
struct Around<'a> {
    args: &'a Args,
    /// Counts what the upstream is connected to, where there is one.
    witness: Option<&'a Witness>,
    /// What every request says who asks.
    token: Option<&'a str>,
}

/// Runs all loads on all proxies in turns, prints a table and writes it to `bench/results`.
pub(crate) fn compare(args: &Args) -> Result<()> {
    machine::raise_open_files()?;
    let load_before = machine::load_average();
    let field = peers::find()?;
    for absent in &field.absent {
        println!("{absent}");
    }
    let (behind, nginx) =
        field.upstream().context("no NGINX for the upstream: scripts/install-bench-tools")?;
    let upstream = Running::upstream(nginx)?;
    let mut servers = Vec::new();
    for (proxy, binary) in &field.present {
        servers.push(Running::proxy(*proxy, binary, upstream.ports, None)?);
    }
    for server in &servers {
        checks::compare_answers(&upstream, server)?;
        println!("same: {}, {}", server.name, checks::compare_connections(server)?);
    }

    let mut report = Report::new(&PLAIN_PROXY, args, load_before, &field, behind);
    let witness = Witness::of(&upstream);
    let around = Around { args, witness: Some(&witness), token: None };
    servers.insert(0, upstream);
    for shape in &SHAPES {
        report.add(run(shape, &servers, &around)?);
    }
    drop(servers);

    let (_, groundswell) = &field.present[0];
    let in_process = [Running::without_routes(groundswell)?, Running::with_routes(groundswell)?];
    checks::compare_in_process(&in_process, IN_PROCESS.path)?;
    report.add(run(&IN_PROCESS, &in_process, &Around { witness: None, ..around })?);

    println!("\n{}", report.markdown());
    for path in report.save()? {
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// All rounds of a load, the servers in turns, so that a slow minute of the machine falls on all; every other round the
/// other way round, so that nobody always follows the same one.
fn run(shape: &'static Shape, servers: &[Running], around: &Around<'_>) -> Result<Vec<Line>> {
    println!("{}: {}", shape.name, shape.title);
    let new_line = |server: &Running| Line { shape, server: server.name.clone(), rounds: Vec::new() };
    let mut lines: Vec<_> = servers.iter().map(new_line).collect();
    for number in 0..around.args.rounds() {
        let mut turns: Vec<_> = servers.iter().zip(&mut lines).collect();
        if number % 2 == 1 {
            turns.reverse();
        }
        for (server, line) in turns {
            stop::check()?;
            // Who is asked directly gets its connections from wrk.
            let witness = around.witness.filter(|_| server.name != UPSTREAM);
            let doing = || format!("{} on {}, round {}", shape.name, server.name, number + 1);
            let round = measure(shape, server, &Around { witness, ..*around }).with_context(doing)?;
            println!(
                "  {:18} {:10.1}/s  p50 {:6.2} ms  p99 {:6.2} ms  {:5.1} µs of a core each",
                server.name, round.per_second, round.p50_ms, round.p99_ms, round.core_us
            );
            line.rounds.push(round);
        }
    }
    Ok(lines)
}

fn measure(shape: &Shape, server: &Running, around: &Around<'_>) -> Result<Round> {
    let Around { args, witness, token } = *around;
    let nobody = Tokens { superuser: String::new(), accounts: Vec::new() };
    // No `request` in it: so wrk makes the request once, and spends nothing on Lua.
    let mut script = format!("wrk.path = '{}'", shape.path);
    if let Some(token) = token {
        script += &format!(" wrk.headers.Authorization = '{token}'");
    }
    let run = |duration| {
        let load = wrk::Load { script: &script, connections: CONNECTIONS, items: 0, duration, seed: 0 };
        wrk::run_at(&load, &server.base_url(), server.pid(), &nobody)
    };
    run(args.warm_up())?;
    let connections = || witness.map(Witness::connections).transpose();
    let (connections_before, time_before) = (connections()?, machine::core_time(server.pid())?);
    let sample = run(args.round_duration())?;
    let time = machine::core_time(server.pid())?.saturating_sub(time_before);
    // The question is a connection of its own.
    let connected = connections()?.zip(connections_before).map(|(after, before)| after - before - 1);
    server.empty_log()?;
    round(&sample, args.round_duration(), time, connected)
}

/// Fails where the connections to the upstream were not kept, since this would measure something else.
fn round(sample: &Sample, duration: Duration, time: Duration, connected: Option<u64>) -> Result<Round> {
    /// Some may open, and close as a surplus, when all callers want one at once.
    const REQUESTS_A_CONNECTION: f64 = 100.0;
    let requests = sample.per_second * duration.as_secs_f64();
    if let Some(connected) =
        connected.filter(|connected| *connected as f64 * REQUESTS_A_CONNECTION > requests)
    {
        bail!("{connected} connections to the upstream for {requests:.0} requests: it does not keep them");
    }
    Ok(Round {
        per_second: sample.per_second,
        p50_ms: sample.p50_ms,
        p99_ms: sample.p99_ms,
        core_us: time.as_secs_f64() * 1e6 / requests,
        connected,
    })
}

// === impl Line ===

impl Line {
    /// Each figure is the median of that figure over the rounds; of the connections it is the most.
    fn median(&self) -> Round {
        let median_of = |figure: fn(&Round) -> f64| median(self.rounds.iter().map(figure).collect());
        Round {
            per_second: median_of(|round| round.per_second),
            p50_ms: median_of(|round| round.p50_ms),
            p99_ms: median_of(|round| round.p99_ms),
            core_us: median_of(|round| round.core_us),
            connected: self.rounds.iter().filter_map(|round| round.connected).max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sample(per_second: f64) -> Sample {
        Sample { per_second, p50_ms: 1.0, p99_ms: 2.0, rss_kb: 0, delivery: None }
    }

    #[test]
    fn core_time_is_told_for_each_request() {
        let round = round(&sample(20_000.0), SECOND * 2, SECOND, Some(3)).unwrap();
        assert_eq!((round.core_us, round.connected), (25.0, Some(3)));
    }

    #[test]
    fn a_proxy_that_connects_again_and_again_fails_the_run() {
        assert!(round(&sample(1_000.0), SECOND, SECOND, Some(10)).is_ok());
        assert!(round(&sample(1_000.0), SECOND, SECOND, Some(11)).is_err());
        assert!(round(&sample(1_000.0), SECOND, SECOND, None).is_ok());
    }
}
