//! The tables of `bench --proxy` and `bench --edge`, on the screen and in `bench/results/`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Args;
use crate::report::{save, today};
use crate::{machine, wrk};

use super::edge::{ALL_DEFAULT, BARE, CONNECTIONS_ALONE, GATEWAY, NO_LAYERS};
use super::peers::{Field, Proxy};
use super::{CONNECTIONS, Line, Round, config};

pub(super) struct Report {
    title: &'static Title,
    run: Run,
    lines: Vec<Line>,
}

/// What a report is about.
pub(super) struct Title {
    pub(super) text: &'static str,
    /// The end of its files' names.
    pub(super) file: &'static str,
    pub(super) transport: &'static str,
}

/// What is asked of ours in proportion to theirs.
#[derive(Default, PartialEq, Debug)]
struct Asked {
    /// At least.
    throughput: Option<f64>,
    /// At most.
    p99: Option<f64>,
    /// At most.
    core_time: Option<f64>,
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
    /// Who is absent, and what else there is to know.
    notes: Vec<String>,
    connections: usize,
    workers: usize,
    rounds: usize,
    seconds_per_round: u64,
    is_quick: bool,
    load_before: f64,
}

impl Report {
    pub(super) fn new(
        title: &'static Title,
        args: &Args,
        load_before: f64,
        field: &Field,
        behind: Proxy,
    ) -> Self {
        let run = Run {
            date: today(),
            commit: machine::commit(),
            cpu: machine::cpu_model(),
            cores: machine::cores(),
            wrk: wrk::version().unwrap_or_default(),
            versions: field.versions(),
            upstream: behind.to_string(),
            notes: field.absent.clone(),
            connections: CONNECTIONS,
            workers: config::WORKERS,
            rounds: args.rounds(),
            seconds_per_round: args.round_duration().as_secs(),
            is_quick: args.is_quick,
            load_before,
        };
        Self { title, run, lines: Vec::new() }
    }

    pub(super) fn add(&mut self, lines: Vec<Line>) {
        self.lines.extend(lines);
    }

    pub(super) fn note(&mut self, note: String) {
        self.run.notes.push(note);
    }

    pub(super) fn markdown(&self) -> String {
        let Run { date, commit, cpu, cores, wrk, versions, upstream, notes, connections, workers, .. } =
            &self.run;
        let Run { rounds, seconds_per_round, is_quick, load_before, .. } = &self.run;
        let quick = if *is_quick { " (quick: for trying out only)" } else { "" };
        let mut text = format!("# {}, {date}, commit {commit}{quick}\n\n", self.title.text);
        let _ = writeln!(
            text,
            "{cpu}, {cores} cores shared by proxy, upstream and load; wrk {wrk}; {}.",
            versions.join("; ")
        );
        let _ = writeln!(
            text,
            "{connections} kept connections, {workers} workers each, {}; upstream {upstream} with one worker; medians of {rounds} rounds of {seconds_per_round} s. Load average before the run: {load_before}.\n",
            self.title.transport
        );
        for note in notes {
            let _ = writeln!(text, "- {note}");
        }
        // The lines of a load stand together.
        for line in
            self.lines.chunk_by(|one, next| one.shape.name == next.shape.name).filter_map(<[_]>::first)
        {
            let _ = writeln!(text, "- {}: {}", line.shape.name, line.shape.title);
        }
        let _ = write!(text, "\n{}\n{}", figures(&self.lines), ratios(&self.lines));
        text
    }

    /// Writes both forms; the paths.
    pub(super) fn save(&self) -> Result<[PathBuf; 2]> {
        let quick = if self.run.is_quick { "-quick" } else { "" };
        let name = format!("{}-{}-{}{quick}", self.run.date, self.run.commit, self.title.file);
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
        "| load | ratio | throughput | asked | p99 | asked | core time | asked |\n|---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for peer in lines {
        for subject in lines.iter().filter(|line| line.shape.name == peer.shape.name) {
            let Some(asked) = asked(&subject.server, &peer.server) else { continue };
            let (ours, theirs) = (subject.median(), peer.median());
            let bound = |sign: &str, bound: Option<f64>| {
                bound.map_or_else(String::new, |bound| format!("{sign} {bound}"))
            };
            let _ = writeln!(
                text,
                "| {} | {} / {} | {:.2} | {} | {:.2} | {} | {:.2} | {} |",
                peer.shape.name,
                subject.server,
                peer.server,
                ours.per_second / theirs.per_second,
                bound("≥", asked.throughput),
                ours.p99_ms / theirs.p99_ms,
                bound("≤", asked.p99),
                ours.core_us / theirs.core_us,
                bound("≤", asked.core_time),
            );
        }
    }
    text
}

/// Whether the figures of `ours` are divided by those of `theirs`, and what is asked of it then.
fn asked(ours: &str, theirs: &str) -> Option<Asked> {
    match (ours, theirs) {
        ("ten routes", "no routes") => Some(Asked { throughput: Some(0.9), ..Asked::default() }),
        (GATEWAY, BARE) => Some(Asked { throughput: Some(0.9), core_time: Some(1.1), ..Asked::default() }),
        (CONNECTIONS_ALONE, BARE) => Some(Asked::default()),
        (NO_LAYERS, NO_LAYERS) => None,
        (ALL_DEFAULT, NO_LAYERS) => Some(Asked { throughput: Some(0.8), ..Asked::default() }),
        (_, NO_LAYERS) => Some(Asked::default()),
        _ if ours == Proxy::Groundswell.to_string() => {
            let peer = Proxy::PEERS.into_iter().find(|peer| peer.to_string() == theirs)?;
            let asked = peer.asked();
            Some(Asked {
                throughput: asked.map(|asked| asked.throughput),
                p99: asked.and_then(|asked| asked.p99),
                core_time: None,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::edge::LAYERED;
    use super::super::{IN_PROCESS, SHAPES};
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
            line(&IN_PROCESS, BARE, 50_000.0, 2.0),
            line(&IN_PROCESS, GATEWAY, 47_000.0, 2.0),
            line(&LAYERED, NO_LAYERS, 50_000.0, 2.0),
            line(&LAYERED, ALL_DEFAULT, 45_000.0, 2.0),
            line(&LAYERED, "scanners", 48_000.0, 2.0),
        ];
        let text = ratios(&lines);
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| small | groundswell / nginx | 1.20 | ≥ 0.95 | 0.75 | ≤ 1.1 | 1.00 |  |",
                "| small | groundswell / traefik | 3.00 |  | 0.50 |  | 1.00 |  |",
                "| in process | ten routes / no routes | 0.98 | ≥ 0.9 | 1.00 |  | 1.00 |  |",
                "| in process | gateway / bare | 0.94 | ≥ 0.9 | 1.00 |  | 1.00 | ≤ 1.1 |",
                "| layers | all default, log / plain | 0.90 | ≥ 0.8 | 1.00 |  | 1.00 |  |",
                "| layers | scanners / plain | 0.96 |  | 1.00 |  | 1.00 |  |",
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
