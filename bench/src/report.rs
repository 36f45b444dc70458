//! The table, on the screen and in `bench/results/`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Args;
use crate::durability::Durability;
use crate::fan_out::{Ceiling, Delivery};
use crate::idle::Idle;
use crate::rounds::{Contestant, Line, Sample};
use crate::servers::{self, Kind};
use crate::{machine, wrk};

pub(crate) struct Report {
    run: Run,
    durability: Vec<Durability>,
    lines: Vec<Line>,
    ceilings: Vec<Ceiling>,
    idle: Vec<Idle>,
    peak_memory: Vec<PeakMemory>,
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
    rounds: usize,
    seconds_per_round: u64,
    items: usize,
    is_quick: bool,
    peer_logs: bool,
    load_before: f64,
}

#[derive(Serialize)]
struct PeakMemory {
    server: String,
    high_water_kb: u64,
}

impl Report {
    pub(crate) fn new(
        args: &Args,
        load_before: f64,
        contestants: &[Contestant],
        durability: Vec<Durability>,
    ) -> Self {
        let version =
            |contestant: &Contestant| format!("{}: {}", contestant.server.kind, contestant.server.version());
        let run = Run {
            date: today(),
            commit: machine::commit(),
            cpu: machine::cpu_model(),
            cores: machine::cores(),
            wrk: wrk::version().unwrap_or_default(),
            versions: contestants.iter().map(version).collect(),
            rounds: args.rounds(),
            seconds_per_round: args.round_duration().as_secs(),
            items: args.item_count(),
            is_quick: args.is_quick,
            peer_logs: args.peer_logs,
            load_before,
        };
        Self {
            run,
            durability,
            lines: Vec::new(),
            ceilings: Vec::new(),
            idle: Vec::new(),
            peak_memory: Vec::new(),
        }
    }

    pub(crate) fn add_ceiling(&mut self, ceiling: Ceiling) {
        println!("{ceiling}");
        self.ceilings.push(ceiling);
    }

    pub(crate) fn add_idle(&mut self, idle: Idle) {
        println!("  {idle}");
        self.idle.push(idle);
    }

    pub(crate) fn add(&mut self, lines: Vec<Line>) {
        self.lines.extend(lines);
    }

    /// Reads the high-water marks; to be called while the servers still run.
    pub(crate) fn memory(&mut self, contestants: &[Contestant]) -> Result<()> {
        for contestant in contestants {
            let (server, high_water_kb) = (contestant.server.kind.to_string(), contestant.high_water_kb()?);
            self.peak_memory.push(PeakMemory { server, high_water_kb });
        }
        Ok(())
    }

    pub(crate) fn markdown(&self) -> String {
        let Run {
            date,
            commit,
            cpu,
            cores,
            wrk,
            versions,
            rounds,
            seconds_per_round,
            items,
            is_quick,
            peer_logs,
            load_before,
        } = &self.run;
        let mut text = format!(
            "# {date}, commit {commit}{}\n\n",
            if *is_quick { " (quick: for trying out only)" } else { "" }
        );
        let _ = writeln!(
            text,
            "{cpu}, {cores} cores shared by server and load; wrk {wrk}; {}.",
            versions.join("; ")
        );
        let _ = writeln!(
            text,
            "{items} items, medians of {rounds} rounds of {seconds_per_round} s. Load average before the run: {load_before}.\n"
        );
        for durability in &self.durability {
            let _ = writeln!(text, "- {durability}");
        }
        let logs = if *peer_logs {
            "writes its log of requests, as it comes"
        } else {
            "without its log of requests"
        };
        let _ = writeln!(text, "- {}: {logs}", Kind::PocketBase);
        for PeakMemory { server, high_water_kb } in &self.peak_memory {
            let _ = writeln!(text, "- {server}: peak memory {} MiB", high_water_kb / 1024);
        }
        for ceiling in &self.ceilings {
            let _ = writeln!(text, "- {ceiling}");
        }
        for idle in &self.idle {
            let _ = writeln!(text, "- {idle}");
        }
        text.push('\n');
        text.push_str(&table(&self.lines));
        text.push_str(&deliveries(&self.lines));
        text.push('\n');
        let mut last = "";
        for line in &self.lines {
            let name = line.name.split(':').next().unwrap_or_default();
            if name != last {
                let _ = writeln!(text, "- {name}: {}", line.title);
            }
            last = name;
        }
        text
    }

    /// Writes both forms; the paths.
    pub(crate) fn save(&self) -> Result<[PathBuf; 2]> {
        let quick = if self.run.is_quick { "-quick" } else { "" };
        let logs = if self.run.peer_logs { "" } else { "-peer-logs-off" };
        let name = format!("{}-{}{logs}{quick}", self.run.date, self.run.commit);
        save(&name, &self.json(), &self.markdown())
    }

    fn json(&self) -> Value {
        let line = |line: &Line| {
            let servers: Value = line
                .samples
                .iter()
                .map(|(kind, rounds)| {
                    (kind.to_string(), json!({ "median": line.median(*kind), "rounds": rounds }))
                })
                .collect::<serde_json::Map<_, _>>()
                .into();
            json!({ "name": line.name, "title": line.title, "asked": line.asked, "servers": servers })
        };
        json!({
            "run": self.run,
            "durability": self.durability,
            "peak_memory": self.peak_memory,
            "ceilings": self.ceilings,
            "idle": self.idle,
            "cases": self.lines.iter().map(line).collect::<Vec<_>>(),
        })
    }
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| case | groundswell /s | p50 ms | p99 ms | MiB | pocketbase /s | p50 ms | p99 ms | MiB | throughput ratio | asked | p99 ratio |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for line in lines {
        let (subject, peer) = (line.median(Kind::Groundswell), line.median(Kind::PocketBase));
        let _ = write!(text, "| {} |", line.name);
        for sample in [&subject, &peer] {
            let _ = match sample {
                Some(s) => write!(
                    text,
                    " {:.1} | {:.2} | {:.2} | {} |",
                    s.per_second,
                    s.p50_ms,
                    s.p99_ms,
                    s.rss_kb / 1024
                ),
                None => write!(text, " – | – | – | – |"),
            };
        }
        let ratio = |of: fn(&Sample) -> f64| match (&subject, &peer) {
            (Some(subject), Some(peer)) => format!("{:.2}", of(subject) / of(peer)),
            _ => "–".to_owned(),
        };
        let asked = line.asked.map_or_else(String::new, |asked| format!("≥ {asked}"));
        let (throughput, p99) = (ratio(|sample| sample.per_second), ratio(|sample| sample.p99_ms));
        let _ = writeln!(text, " {throughput} | {asked} | {p99} |");
    }
    text
}

/// What belongs to the figures of fan-out; nothing where none was measured.
fn deliveries(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        for (kind, _) in &line.samples {
            let Some(delivery) = line.median(*kind).and_then(|sample| sample.delivery) else { continue };
            let Delivery { window, writes_per_second, disconnected } = delivery;
            let _ = writeln!(
                text,
                "| {} | {kind} | {writes_per_second:.1} | {window} | 0 | {disconnected} |",
                line.name
            );
        }
    }
    if text.is_empty() {
        return text;
    }
    let head =
        "\n| fan-out | server | writes /s | window | lost | disconnected |\n|---|---|---:|---:|---:|---:|\n";
    format!("{head}{text}")
}

/// Writes both forms of a report under this name; the paths.
pub(crate) fn save(name: &str, data: &Value, page: &str) -> Result<[PathBuf; 2]> {
    let folder = servers::root().join("bench/results");
    fs::create_dir_all(&folder)?;
    let [data_path, page_path] = ["json", "md"].map(|extension| folder.join(format!("{name}.{extension}")));
    fs::write(&data_path, serde_json::to_string_pretty(data)? + "\n")?;
    fs::write(&page_path, page)?;
    Ok([data_path, page_path])
}

pub(crate) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Year, month and day of a day since 1970, counting from a March so that the leap day comes last.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(asked: Option<f64>, rates: &[(Kind, f64)]) -> Line {
        let sample =
            |per_second| Sample { per_second, p50_ms: 1.0, p99_ms: 2.0, rss_kb: 2048, delivery: None };
        let samples = rates.iter().map(|(kind, rate)| (*kind, vec![sample(*rate)])).collect();
        Line { name: "it".to_owned(), title: String::new(), asked, samples }
    }

    #[test]
    fn the_ratio_stands_beside_what_is_asked() {
        let both = [(Kind::Groundswell, 60.0), (Kind::PocketBase, 20.0)];
        let text = table(&[line(Some(4.0), &both), line(None, &both[1..])]);
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(rows[0], "| it | 60.0 | 1.00 | 2.00 | 2 | 20.0 | 1.00 | 2.00 | 2 | 3.00 | ≥ 4 | 1.00 |");
        assert_eq!(rows[1], "| it | – | – | – | – | 20.0 | 1.00 | 2.00 | 2 | – |  | – |");
    }

    #[test]
    fn dates_around_leap_days_are_right() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_000), (2024, 10, 4));
    }
}
