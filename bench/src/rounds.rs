//! Comparing the answers, then asking in turns.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use crate::args::Args;
use crate::cases::{self, Case, Load};
use crate::client::{Caller, Client, Request};
use crate::data::{self, Sizes, Tokens};
use crate::fan_out::{self, Delivery, Windows};
use crate::servers::{Kind, Server};
use crate::{files, machine, stop, wrk};

/// A running, filled server.
pub(crate) struct Contestant {
    pub(crate) server: Server,
    pub(crate) tokens: Tokens,
    sizes: Sizes,
    pub(crate) windows: Windows,
    /// Of the processes before the one that runs, as far as it was noted.
    high_water_kb: u64,
}

/// One round of one load on one server.
#[derive(Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// The most memory seen in use while the load ran.
    pub(crate) rss_kb: u64,
    /// Of fan-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery: Option<Delivery>,
}

/// The rounds of one line of the table, by server.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) asked: Option<f64>,
    pub(crate) samples: Vec<(Kind, Vec<Sample>)>,
}

impl Contestant {
    pub(crate) fn start(kind: Kind, args: &Args) -> Result<Self> {
        let mut server = Server::start(kind, args.synchronous)?;
        let tokens = data::seed(&mut server, args).with_context(|| format!("seed {kind}"))?;
        Ok(Self { server, tokens, sizes: Sizes::of(args), windows: Windows::new(), high_water_kb: 0 })
    }

    /// Ends the process and starts it on the same folder.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.server.pause()?;
        self.server.resume()
    }

    /// Keeps the mark of the process that is about to end.
    pub(crate) fn note_high_water(&mut self) -> Result<()> {
        self.high_water_kb = self.high_water_kb()?;
        Ok(())
    }

    /// The most memory that the server had in the cases with rounds.
    pub(crate) fn high_water_kb(&self) -> Result<u64> {
        Ok(self.high_water_kb.max(machine::memory_kb(self.server.pid(), "VmHWM")?))
    }

    pub(crate) fn client(&self, caller: Caller) -> Client {
        let client = Client::new(self.server.base_url());
        match caller {
            Caller::Guest => client,
            Caller::Account(n) => client.with_token(&self.tokens.accounts[n]),
            Caller::Superuser => client.with_token(&self.tokens.superuser),
        }
    }

    fn send(&self, request: &Request) -> Result<(u16, Value)> {
        self.client(request.caller).send(request.method, &request.path, request.body.as_ref())
    }
}

/// Makes what the chosen cases need beside the common rows.
pub(crate) fn prepare(contestants: &[Contestant], cases: &[Case]) -> Result<()> {
    for contestant in contestants {
        for case in cases {
            let client = contestant.client(Caller::Superuser);
            let made = match case.load {
                Load::Batches { .. } => data::prepare_batches(&client),
                Load::Downloads { .. } | Load::Uploads { .. } => files::prepare(contestant),
                Load::FanOut(_) | Load::IdleStreams(_) => fan_out::prepare(&client),
                Load::Wrk { .. } | Load::OneByOne(_) | Load::SignIns { .. } => Ok(()),
            };
            made.with_context(|| format!("prepare {} on {}", case.name, contestant.server.kind))?;
        }
    }
    Ok(())
}

/// Sends the samples of every case to every server and fails where answers differ, apart from time stamps and tokens.
/// The server that answers quickly because it answers wrongly shall not win.
pub(crate) fn compare_answers(contestants: &[Contestant], cases: &[Case]) -> Result<()> {
    for case in cases {
        stop::check()?;
        let Some(first) = contestants.first() else { return Ok(()) };
        for request in (case.samples)(&first.sizes) {
            let answer_of = |contestant: &Contestant| -> Result<Value> {
                let (status, mut body) = contestant.send(&request)?;
                if status != request.expected {
                    let kind = contestant.server.kind;
                    bail!("{}: {} {} on {kind}: {status} {body}", case.name, request.method, request.path);
                }
                forget_volatile(&mut body);
                Ok(body)
            };
            let expected = answer_of(first)?;
            for other in &contestants[1..] {
                let answer = answer_of(other)?;
                if answer != expected {
                    bail!(
                        "{}: {} {} differs\n{}: {expected:?}\n{}: {answer:?}",
                        case.name,
                        request.method,
                        request.path,
                        first.server.kind,
                        other.server.kind
                    );
                }
            }
            println!("same: {} {}, {}", request.method, request.path, in_short(request.expected, &expected));
        }
        compare_proofs(contestants, case)?;
    }
    Ok(())
}

/// What a single request cannot show: the bytes of files, the first event of a stream.
fn compare_proofs(contestants: &[Contestant], case: &Case) -> Result<()> {
    let proof_of = |contestant: &Contestant| -> Result<Option<Value>> {
        let mut proof = match case.load {
            Load::Downloads { size, .. } => files::downloaded(contestant, size)?,
            Load::Uploads { size, .. } => files::uploaded(contestant, size)?,
            Load::FanOut(load) => fan_out::first_event(contestant, load.collection)?,
            _ => return Ok(None),
        };
        forget_volatile(&mut proof);
        Ok(Some(proof))
    };
    let mut first: Option<(Kind, Value)> = None;
    for contestant in contestants {
        let kind = contestant.server.kind;
        let Some(proof) = proof_of(contestant).with_context(|| format!("{} on {kind}", case.name))? else {
            return Ok(());
        };
        match &first {
            Some((of, expected)) if *expected != proof => {
                bail!("{} differs\n{of}: {expected}\n{kind}: {proof}", case.name)
            }
            Some(_) => {}
            None => first = Some((kind, proof)),
        }
    }
    println!("same: {}, {}", case.name, first.map_or(Value::Null, |(_, proof)| proof));
    Ok(())
}

fn in_short(status: u16, answer: &Value) -> String {
    match answer["items"].as_array() {
        Some(items) => format!("{status} with {} of {} records", items.len(), answer["totalItems"]),
        None => status.to_string(),
    }
}

fn forget_volatile(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !matches!(key.as_str(), "created" | "updated" | "token"));
            object.values_mut().for_each(forget_volatile);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_volatile),
        _ => {}
    }
}

/// All rounds of a case, the servers in turns, so that a slow minute of the machine falls on both.
pub(crate) fn run(case: &Case, contestants: &mut [Contestant], args: &Args) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for round in 0..args.rounds() {
        for contestant in &mut *contestants {
            let kind = contestant.server.kind;
            let doing = || format!("{} on {kind}, round {}", case.name, round + 1);
            let measured = measure(&case.load, contestant, args, round).with_context(doing)?;
            for (suffix, sample) in measured {
                println!(
                    "  {kind:12} {suffix:16} {:10.1}/s  p50 {:8.2} ms  p99 {:8.2} ms  {:4} MiB",
                    sample.per_second,
                    sample.p50_ms,
                    sample.p99_ms,
                    sample.rss_kb / 1024
                );
                add(&mut lines, case, suffix, kind, sample);
            }
        }
    }
    Ok(lines)
}

fn add(lines: &mut Vec<Line>, case: &Case, suffix: &str, kind: Kind, sample: Sample) {
    let name = if suffix.is_empty() { case.name.to_owned() } else { format!("{}: {suffix}", case.name) };
    let at = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
        let title = case.title.to_owned();
        lines.push(Line { name, title, asked: case.asked, samples: Vec::new() });
        lines.len() - 1
    });
    let samples = &mut lines[at].samples;
    match samples.iter_mut().find(|(of, _)| *of == kind) {
        Some((_, samples)) => samples.push(sample),
        None => samples.push((kind, vec![sample])),
    }
}

fn measure(
    load: &Load,
    contestant: &mut Contestant,
    args: &Args,
    round: usize,
) -> Result<Vec<(&'static str, Sample)>> {
    match load {
        Load::Wrk { connections, script } | Load::Batches { connections, script } => {
            let run = |duration, seed| run_wrk(contestant, script, *connections, duration, seed);
            run(args.warm_up(), 1_000 + round)?;
            Ok(vec![("", run(args.round_duration(), round)?)])
        }
        Load::OneByOne(requests) => Ok(vec![("", one_by_one(contestant, &requests(round))?)]),
        Load::SignIns { views } => sign_ins_beside_views(contestant, views, args, round),
        Load::Downloads { connections, size } => {
            let run = |duration| files::download(contestant, *size, *connections, duration);
            run(args.warm_up())?;
            Ok(vec![("", run(args.round_duration())?)])
        }
        Load::Uploads { connections, size } => {
            let script = files::upload_script(*size);
            // Short, since the disk must hold what comes.
            run_wrk(contestant, &script, *connections, Duration::from_secs(1), round)?;
            let uploads = run_wrk(contestant, &script, *connections, args.round_duration() / 3, round);
            files::remove_uploads(contestant)?;
            Ok(vec![("", uploads?)])
        }
        Load::FanOut(load) => fan_out::measure(contestant, *load, args),
        // It has no rounds; `main` measures it.
        Load::IdleStreams(_) => Ok(Vec::new()),
    }
}

fn run_wrk(
    contestant: &Contestant,
    script: &str,
    connections: usize,
    duration: Duration,
    seed: usize,
) -> Result<Sample> {
    let load = wrk::Load { script, connections, items: contestant.sizes.items, duration, seed };
    wrk::run(&load, &contestant.server, &contestant.tokens)
}

fn one_by_one(contestant: &Contestant, requests: &[Request]) -> Result<Sample> {
    let mut latencies = Vec::new();
    let mut rss_kb = 0;
    for request in requests {
        stop::check()?;
        // The connection is made before the clock starts.
        let client = contestant.client(request.caller);
        client.call("GET", "/api/health", None)?;
        let start = Instant::now();
        client.call(request.method, &request.path, request.body.as_ref())?;
        latencies.push(start.elapsed());
        rss_kb = rss_kb.max(machine::memory_kb(contestant.server.pid(), "VmRSS")?);
    }
    let total: Duration = latencies.iter().sum();
    Ok(sample(&mut latencies, total, rss_kb))
}

/// Views at a rate that either server bears easily, so that their p99 tells how much the sign-ins disturb them.
fn sign_ins_beside_views(
    contestant: &Contestant,
    views: &str,
    args: &Args,
    round: usize,
) -> Result<Vec<(&'static str, Sample)>> {
    const CONNECTIONS: usize = 32;
    // 32 connections that each wait 64 ms: 500 a second.
    let paced = format!("{views}\nfunction delay() return 64 end\n");
    let view = |duration, seed| run_wrk(contestant, &paced, CONNECTIONS, duration, seed);
    view(args.warm_up(), 1_000 + round)?;
    let alone = view(args.round_duration(), round)?;

    let sign_ins = SignIns::new();
    let (beside, start, end) = thread::scope(|scope| -> Result<_> {
        let threads: Vec<_> =
            (0..SignIns::THREADS).map(|_| scope.spawn(|| sign_ins.run(contestant))).collect();
        let measured = (|| {
            view(args.warm_up(), 2_000 + round)?;
            let start = Instant::now();
            Ok((view(args.round_duration(), round)?, start, Instant::now()))
        })();
        sign_ins.is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("no panic in a sign-in thread")?;
        }
        measured
    })?;
    let sign_in = sign_ins.within(start, end, beside.rss_kb);
    Ok(vec![("views alone", alone), ("views beside", beside), ("the sign-ins", sign_in)])
}

/// Sign-ins started every 5 ms, as far as free callers allow.
struct SignIns {
    start: Instant,
    next: AtomicU32,
    is_over: AtomicBool,
    refused: AtomicU32,
    done: Mutex<Vec<(Instant, Duration)>>,
}

impl SignIns {
    /// Enough for 200 a second as long as one takes up to 160 ms.
    const THREADS: usize = 32;
    const INTERVAL: Duration = Duration::from_millis(5);

    fn new() -> Self {
        Self {
            start: Instant::now(),
            next: AtomicU32::new(0),
            is_over: AtomicBool::new(false),
            refused: AtomicU32::new(0),
            done: Mutex::default(),
        }
    }

    fn run(&self, contestant: &Contestant) -> Result<()> {
        let client = contestant.client(Caller::Guest);
        while !self.is_over.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.start + Self::INTERVAL * n;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let start = Instant::now();
            let body = cases::sign_in(n as usize);
            match client.send("POST", cases::SIGN_IN, Some(&body))? {
                (200, _) => {
                    let mut done = self.done.lock().expect("no panic while holding it");
                    done.push((start, start.elapsed()));
                }
                // Turning the surplus away is a fair answer to too many of them.
                (429 | 503, _) => _ = self.refused.fetch_add(1, Ordering::Relaxed),
                (status, answer) => bail!("sign-in: {status} {answer}"),
            }
        }
        Ok(())
    }

    fn within(&self, start: Instant, end: Instant, rss_kb: u64) -> Sample {
        let refused = self.refused.load(Ordering::Relaxed);
        if refused > 0 {
            println!("  {refused} sign-ins were turned away with 429 or 503");
        }
        let done = self.done.lock().expect("no panic while holding it");
        let is_inside =
            |(began, took): &&(Instant, Duration)| *began + *took >= start && *began + *took <= end;
        let mut latencies: Vec<_> = done.iter().filter(is_inside).map(|(_, took)| *took).collect();
        sample(&mut latencies, end - start, rss_kb)
    }
}

pub(crate) fn sample(latencies: &mut [Duration], total: Duration, rss_kb: u64) -> Sample {
    latencies.sort_unstable();
    let at = |percent: usize| {
        let rank = (latencies.len() * percent).div_ceil(100).max(1) - 1;
        latencies.get(rank).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    Sample {
        per_second: latencies.len() as f64 / total.as_secs_f64().max(1e-9),
        p50_ms: at(50),
        p99_ms: at(99),
        rss_kb,
        delivery: None,
    }
}

impl Line {
    /// Each figure is the median of that figure over the rounds.
    pub(crate) fn median(&self, kind: Kind) -> Option<Sample> {
        let (_, samples) = self.samples.iter().find(|(of, _)| *of == kind)?;
        let median_of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Some(Sample {
            per_second: median_of(|sample| sample.per_second),
            p50_ms: median_of(|sample| sample.p50_ms),
            p99_ms: median_of(|sample| sample.p99_ms),
            rss_kb: samples.iter().map(|sample| sample.rss_kb).max()?,
            delivery: Delivery::over(samples.iter().filter_map(|sample| sample.delivery.as_ref())),
        })
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        n if n.is_multiple_of(2) => f64::midpoint(figures[n / 2 - 1], figures[n / 2]),
        n => figures[n / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![9.0, 1.0, 3.0]), 3.0);
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut latencies: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let sample = sample(&mut latencies, Duration::from_secs(10), 7);
        assert_eq!((sample.p50_ms, sample.p99_ms, sample.per_second), (50.0, 99.0, 10.0));
    }

    #[test]
    fn time_stamps_and_tokens_do_not_count_as_differences() {
        let mut answer = serde_json::json!({ "token": "x", "record": { "id": "1", "created": "y" } });
        forget_volatile(&mut answer);
        assert_eq!(answer, serde_json::json!({ "record": { "id": "1" } }));
    }
}
