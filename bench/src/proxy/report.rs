//! The tables of `bench --proxy`, on the screen and in `bench/results/`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Args;
use crate::report::{save, today};
use crate::{machine, wrk};

use super::peers::{Field, Proxy};
use super::{CONNECTIONS, IN_PROCESS, Line, Round, SHAPES, config};

pub(super) struct Report {
    run: Run,
    lines: Vec<Line>,
}

/// What the figures depend on.
#[derive(Serialize)]
struct Run {
    date: String,
    commit: String,
    cpu: String,
    cores: usize,
    wrk: String,
    versions: Vec<String>,
    /// The server behind the proxies.
    upstream: String,
    absent: Vec<String>,
    connections: usize,
    workers: usize,
    rounds: usize,
    seconds_per_round: u64,
    is_quick: bool,
    load_before: f64,
}

impl Report {
    pub(super) fn new(args: &Args, load_before: f64, field: &Field, behind: Proxy) -> Self {
        let run = Run {
            date: today(),
            commit: machine::commit(),
            cpu: machine::cpu_model(),
            cores: machine::cores(),
            wrk: wrk::version().unwrap_or_default(),
            versions: field.versions(),
            upstream: behind.to_string(),
            absent: field.absent.clone(),
            connections: CONNECTIONS,
            workers: config::WORKERS,
            rounds: args.rounds(),
            seconds_per_round: args.round_duration().as_secs(),
            is_quick: args.is_quick,
            load_before,
        };
        Self { run, lines: Vec::new() }
    }

    pub(super) fn add(&mut self, lines: Vec<Line>) {
        self.lines.extend(lines);
    }

    pub(super) fn markdown(&self) -> String {
        let Run { date, commit, cpu, cores, wrk, versions, upstream, absent, connections, workers, .. } =
            &self.run;
        let Run { rounds, seconds_per_round, is_quick, load_before, .. } = &self.run;
        let quick = if *is_quick { " (quick: for trying out only)" } else { "" };
        let mut text = format!("# Plain proxy, {date}, commit {commit}{quick}\n\n");
        let _ = writeln!(
            text,
            "{cpu}, {cores} cores shared by proxy, upstream and load; wrk {wrk}; {}.",
            versions.join("; ")
        );
        let _ = writeln!(
            text,
            "{connections} kept connections, {workers} workers each, no TLS; upstream {upstream} with one worker; medians of {rounds} rounds of {seconds_per_round} s. Load average before the run: {load_before}.\n"
        );
        for absent in absent {
            let _ = writeln!(text, "- {absent}");
        }
        for shape in SHAPES.iter().chain([&IN_PROCESS]) {
            let _ = writeln!(text, "- {}: {}", shape.name, shape.title);
        }
        let _ = write!(text, "\n{}\n{}", figures(&self.lines), ratios(&self.lines));
        text
    }

    /// Writes both forms; the paths.
    pub(super) fn save(&self) -> Result<[PathBuf; 2]> {
        let quick = if self.run.is_quick { "-quick" } else { "" };
        let name = format!("{}-{}-proxy{quick}", self.run.date, self.run.commit);
        save(&name, &self.json(), &self.markdown())
    }

    fn json(&self) -> Value {
        let line = |line: &Line| {
            json!({
                "load": line.shape.name,
                "server": line.server,
                "median": line.median(),
                "rounds": line.rounds,
            })
        };
        json!({ "run": self.run, "lines": self.lines.iter().map(line).collect::<Vec<_>>() })
    }
}

fn figures(lines: &[Line]) -> String {
    let mut text = String::from(
        "| load | server | /s | p50 ms | p99 ms | core µs a request | connections made |\n|---|---|---:|---:|---:|---:|---:|\n",
    );
    for line in lines {
        let Round { per_second, p50_ms, p99_ms, core_us, connected } = line.median();
        let connected = connected.map_or_else(|| "–".to_owned(), |connected| connected.to_string());
        let _ = writeln!(
            text,
            "| {} | {} | {per_second:.0} | {p50_ms:.2} | {p99_ms:.2} | {core_us:.1} | {connected} |",
            line.shape.name, line.server
        );
    }
    text
}

/// Ours to theirs: what fits, and what is asked.
fn ratios(lines: &[Line]) -> String {
    let mut text = String::from(
        "| load | ratio | throughput | asked | p99 | asked | core time |\n|---|---|---:|---:|---:|---:|---:|\n",
    );
    for peer in lines {
        let Some((ours, least, most)) = opposite(peer) else { continue };
        let Some(subject) =
            lines.iter().find(|line| line.shape.name == peer.shape.name && line.server == ours)
        else {
            continue;
        };
        let (ours, theirs) = (subject.median(), peer.median());
        let bound = |sign: &str, bound: Option<f64>| {
            bound.map_or_else(String::new, |bound| format!("{sign} {bound}"))
        };
        let _ = writeln!(
            text,
            "| {} | {} / {} | {:.2} | {} | {:.2} | {} | {:.2} |",
            peer.shape.name,
            subject.server,
            peer.server,
            ours.per_second / theirs.per_second,
            bound("≥", least),
            ours.p99_ms / theirs.p99_ms,
            bound("≤", most),
            ours.core_us / theirs.core_us,
        );
    }
    text
}

/// Whose figures are divided by those of this line, and the least throughput and the most p99 that are asked.
fn opposite(line: &Line) -> Option<(String, Option<f64>, Option<f64>)> {
    if line.server == "no routes" {
        return Some(("ten routes".to_owned(), Some(0.9), None));
    }
    let peer = Proxy::PEERS.into_iter().find(|peer| peer.to_string() == line.server)?;
    let asked = peer.asked();
    Some((
        Proxy::Groundswell.to_string(),
        asked.map(|asked| asked.throughput),
        asked.and_then(|asked| asked.p99),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(shape: &'static super::super::Shape, server: &str, per_second: f64, p99_ms: f64) -> Line {
        let round = Round { per_second, p50_ms: 1.0, p99_ms, core_us: 20.0, connected: Some(64) };
        Line { shape, server: server.to_owned(), rounds: vec![round] }
    }

    #[test]
    fn ratios_are_ours_to_theirs_with_what_is_asked() {
        let lines = [
            line(&SHAPES[0], "upstream alone", 90_000.0, 1.0),
            line(&SHAPES[0], "groundswell", 30_000.0, 3.0),
            line(&SHAPES[0], "nginx", 25_000.0, 4.0),
            line(&SHAPES[0], "traefik", 10_000.0, 6.0),
            line(&SHAPES[1], "envoy", 10_000.0, 6.0),
            line(&IN_PROCESS, "no routes", 50_000.0, 2.0),
            line(&IN_PROCESS, "ten routes", 49_000.0, 2.0),
        ];
        let text = ratios(&lines);
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| small | groundswell / nginx | 1.20 | ≥ 0.95 | 0.75 | ≤ 1.1 | 1.00 |",
                "| small | groundswell / traefik | 3.00 |  | 0.50 |  | 1.00 |",
                "| in process | ten routes / no routes | 0.98 | ≥ 0.9 | 1.00 |  | 1.00 |",
            ]
        );
    }

    #[test]
    fn connections_that_nobody_counted_are_a_dash() {
        let mut uncounted = line(&SHAPES[0], "upstream alone", 90_000.0, 1.0);
        uncounted.rounds[0].connected = None;
        let text = figures(&[uncounted, line(&SHAPES[0], "nginx", 25_000.0, 4.0)]);
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(rows[0], "| small | upstream alone | 90000 | 1.00 | 1.00 | 20.0 | – |");
        assert_eq!(rows[1], "| small | nginx | 25000 | 1.00 | 4.00 | 20.0 | 64 |");
    }
}
