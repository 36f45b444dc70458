//! `bench --accept`: which is the better way for connections to reach the request loops. Needs no PocketBase and no
//! data: both servers run in this process, on tiny handlers. `bench/README.md` says what came of it.

mod server;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::data::Tokens;
use crate::rounds::{Sample, median};
use crate::{machine, stop, wrk};

use server::{Server, Way};

/// Many and short, since the kernel deals the connections anew in each.
const ROUNDS: usize = 7;
const WARM_UP: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_secs(2);

const SHAPES: [Shape; 4] = [
    Shape { name: "32 kept", connections: 32, script: "" },
    Shape { name: "4 kept, with work", connections: 4, script: "wrk.path = '/work'" },
    Shape { name: "one a request", connections: 32, script: "wrk.headers.Connection = 'close'" },
    Shape {
        name: "one a request, with work",
        connections: 32,
        script: "wrk.headers.Connection = 'close' wrk.path = '/work'",
    },
];

struct Shape {
    name: &'static str,
    connections: usize,
    /// Defines no `request`: so wrk makes the request once, and spends nothing on Lua.
    script: &'static str,
}

struct Round {
    sample: Sample,
    /// Percent of the connections that came to the loop with the most.
    busiest: f64,
}

/// All rounds of one shape on one server.
struct Line {
    shape: &'static str,
    way: Way,
    rounds: Vec<Round>,
}

/// Runs all shapes on both servers in turns and prints a table.
pub(crate) fn compare() -> Result<()> {
    let cores = machine::cores();
    let load_before = machine::load_average();
    let [acceptor, sockets] = Way::ALL.map(|way| Server::start(way, cores));
    let servers = [acceptor?, sockets?];
    let mut lines = Vec::new();
    for shape in &SHAPES {
        println!("{}", shape.name);
        lines.extend(run(shape, &servers)?);
    }
    println!("\n{}, {cores} cores and as many loops; the load shares them.", machine::cpu_model());
    println!("Commit {}; load average before the run: {load_before}.", machine::commit());
    println!("Medians of {ROUNDS} rounds of {} s, in brackets the worst round.\n", ROUND.as_secs());
    println!("{}", table(&lines));
    Ok(())
}

fn run(shape: &Shape, servers: &[Server]) -> Result<Vec<Line>> {
    let new_line = |server: &Server| Line { shape: shape.name, way: server.way, rounds: Vec::new() };
    let mut lines: Vec<_> = servers.iter().map(new_line).collect();
    for number in 0..ROUNDS {
        for (server, line) in servers.iter().zip(&mut lines) {
            stop::check()?;
            let doing = || format!("{} on {}, round {}", shape.name, server.way, number + 1);
            let round = measure(shape, server).with_context(doing)?;
            let Round { sample: Sample { per_second, p50_ms, p99_ms, .. }, busiest } = round;
            println!(
                "  {:12} {per_second:10.1}/s  p50 {p50_ms:6.2} ms  p99 {p99_ms:6.2} ms  busiest loop {busiest:3.0} %",
                server.way
            );
            line.rounds.push(round);
        }
    }
    Ok(lines)
}

fn measure(shape: &Shape, server: &Server) -> Result<Round> {
    let url = format!("http://{}", server.address);
    let nobody = Tokens { superuser: String::new(), accounts: Vec::new() };
    let run = |duration| {
        let load =
            wrk::Load { script: shape.script, connections: shape.connections, items: 0, duration, seed: 0 };
        wrk::run_at(&load, &url, std::process::id(), &nobody)
    };
    run(WARM_UP)?;
    server.take_served();
    let sample = run(ROUND)?;
    Ok(Round { sample, busiest: busiest_percent(&server.take_served()) })
}

/// What the loop with the most connections had of all, in percent.
fn busiest_percent(served: &[usize]) -> f64 {
    let all: usize = served.iter().sum();
    let most = served.iter().max().copied().unwrap_or_default();
    most as f64 * 100.0 / all.max(1) as f64
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| connections | by | /s | p50 ms | p99 ms | busiest loop |\n|---|---|---:|---:|---:|---:|\n",
    );
    for Line { shape, way, rounds } in lines {
        let figures = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
        let median_of = |of| median(figures(of));
        let most_of = |of| figures(of).into_iter().fold(0.0, f64::max);
        let per_second = figures(|round| round.sample.per_second);
        let least_per_second = per_second.iter().copied().fold(f64::INFINITY, f64::min);
        let p99_ms = |round: &Round| round.sample.p99_ms;
        let busiest = |round: &Round| round.busiest;
        let _ = writeln!(
            text,
            "| {shape} | {way} | {:.0} ({least_per_second:.0}) | {:.2} | {:.2} ({:.2}) | {:.0} % ({:.0} %) |",
            median(per_second),
            median_of(|round| round.sample.p50_ms),
            median_of(p99_ms),
            most_of(p99_ms),
            median_of(busiest),
            most_of(busiest),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_loop_is_the_one_with_the_most_connections() {
        assert_eq!(busiest_percent(&[8, 24]), 75.0);
        assert_eq!(busiest_percent(&[16, 16]), 50.0);
        assert_eq!(busiest_percent(&[0, 0]), 0.0);
    }
}
