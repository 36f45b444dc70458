//! One write, many subscribers: how many events a second come out of each server, and how late.

mod pusher;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Args;
use crate::client::{Caller, Client};
use crate::data;
use crate::http1::{self, Body, Connection};
use crate::rounds::{Contestant, Sample, median, sample};
use crate::servers::{self, Server};
use crate::sse::{self, Progress, Stream, Subscribers};
use crate::{machine, stop};
use pusher::Pusher;

pub(crate) const PUBLIC: &str = "things";
pub(crate) const RULED: &str = "ruled_things";
const RULE: &str = r#"status = "open" && score > 3"#;

/// How far the average subscriber may be behind the writers. Each is tried.
const WINDOWS: [u64; 4] = [1, 4, 16, 64];
const TRIAL: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the last events may take once the writers have stopped.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// Ids of records, and so for both servers.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Who listens to what.
#[derive(Clone, Copy)]
pub(crate) struct FanOut {
    pub(crate) collection: &'static str,
    pub(crate) subscribers: usize,
}

/// The best window of each load, by collection, subscribers and writers; found in the first round.
pub(crate) type Windows = HashMap<(&'static str, usize, usize), u64>;

/// What belongs to a round beside its figures.
#[derive(Clone, Serialize)]
pub(crate) struct Delivery {
    pub(crate) window: u64,
    pub(crate) writes_per_second: f64,
    pub(crate) disconnected: u64,
}

/// What the load tool reaches when the server does nothing but push.
#[derive(Serialize)]
pub(crate) struct Ceiling {
    subscribers: usize,
    one_a_write: Reach,
    many_a_write: Reach,
}

#[derive(Serialize)]
struct Reach {
    events_per_second: f64,
    /// Of a core, in the thread that reads the streams.
    reader_micros_an_event: f64,
}

/// One run of writers against connected subscribers.
struct Phase {
    delivered: u64,
    written: u64,
    took: Duration,
    latencies: Vec<Duration>,
    rss_kb: u64,
}

/// Makes the collections, once.
pub(crate) fn prepare(client: &Client) -> Result<()> {
    let fields =
        [("title", "text"), ("status", "text"), ("score", "number"), ("n", "number"), ("sent", "number")];
    let mut fields: Vec<_> = fields.map(|(name, kind)| json!({ "name": name, "type": kind })).into();
    fields.push(json!({ "name": "created", "type": "autodate", "onCreate": true }));
    fields.push(json!({ "name": "updated", "type": "autodate", "onCreate": true, "onUpdate": true }));
    for (name, rule) in [(PUBLIC, ""), (RULED, RULE)] {
        data::create_once(
            client,
            &json!({ "name": name, "type": "base", "fields": fields, "listRule": rule, "viewRule": "",
                     "createRule": "", "updateRule": "", "deleteRule": "" }),
        )?;
    }
    Ok(())
}

/// The first event after a write that the rule hides and one that it shows. It leaves the rows as they were.
pub(crate) fn first_event(contestant: &Contestant, collection: &str) -> Result<Value> {
    let client = contestant.client(Caller::Guest);
    let (mut stream, id) = Stream::open(http1::address_of(contestant.server.base_url()))?;
    sse::subscribe(&client, &id, &format!("{collection}/*"))?;
    let path = format!("/api/collections/{collection}/records");
    let ids = [("hid000000000000", 1), ("shn000000000000", 7)];
    for (id, score) in ids {
        let body =
            json!({ "id": id, "title": "first", "status": "open", "score": score, "n": score, "sent": 0 });
        client.call("POST", &path, Some(&body))?;
    }
    let event = stream.next_data()?;
    drop(stream);
    for (id, _) in ids {
        client.call("DELETE", &format!("{path}/{id}"), None)?;
    }
    Ok(event)
}

/// One round: the same subscribers for one writer and for four.
pub(crate) fn measure(
    contestant: &mut Contestant,
    load: FanOut,
    args: &Args,
) -> Result<Vec<(&'static str, Sample)>> {
    let Contestant { server, windows, .. } = contestant;
    let sockets_before = machine::socket_inodes(server.pid())?.len();
    let guest = Client::new(server.base_url());
    let topic = format!("{}/*", load.collection);
    let address = http1::address_of(server.base_url());
    let subscribers = Subscribers::connect(address, load.subscribers, Some((&guest, &topic)))?;
    let mut samples = Vec::new();
    for (name, writers) in [("1 writer", 1), ("4 writers", 4)] {
        let crowd = Crowd { server, subscribers: &subscribers, load, writers };
        let window = match windows.entry((load.collection, load.subscribers, writers)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => *unknown.insert(crowd.best_window()?),
        };
        samples.push((name, crowd.sample(window, load.duration(args))?));
    }
    check_numbers(subscribers)?;
    wait_for_sockets(server, sockets_before)?;
    Ok(samples)
}

/// The load tool alone, over so many streams.
pub(crate) fn ceiling(subscribers: usize) -> Result<Ceiling> {
    const MANY: usize = 16;
    Ok(Ceiling { subscribers, one_a_write: reach(subscribers, 1)?, many_a_write: reach(subscribers, MANY)? })
}

fn reach(subscribers: usize, per_write: usize) -> Result<Reach> {
    let pusher = Pusher::start(subscribers, per_write)?;
    let connected = Subscribers::connect(&pusher.address, subscribers, None)?;
    let read = || -> Result<_> {
        Ok((connected.progress().counts().delivered, machine::thread_time(sse::THREAD)?, Instant::now()))
    };
    pause(WARM_UP, std::process::id())?;
    let (delivered_before, busy_before, start) = read()?;
    pause(TRIAL, std::process::id())?;
    let (delivered, busy, end) = read()?;
    // It ends first: its thread may be waiting for the reader.
    drop(pusher);
    let events = (delivered - delivered_before) as f64;
    Ok(Reach {
        events_per_second: events / (end - start).as_secs_f64(),
        reader_micros_an_event: (busy - busy_before).as_secs_f64() * 1e6 / events.max(1.0),
    })
}

/// Writers and their subscribers.
struct Crowd<'a> {
    server: &'a Server,
    subscribers: &'a Subscribers,
    load: FanOut,
    writers: usize,
}

impl Crowd<'_> {
    /// The smallest window that is within 5 % of the most events a second.
    fn best_window(&self) -> Result<u64> {
        let mut rates = Vec::new();
        for window in WINDOWS {
            let phase = self.write(window, WARM_UP / 2, TRIAL)?;
            rates.push((window, phase.events_per_second()));
        }
        let most = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let best =
            rates.iter().find(|(_, rate)| *rate >= most * 0.95).map_or(WINDOWS[0], |(window, _)| *window);
        let shown: Vec<_> = rates.iter().map(|(window, rate)| format!("{window}: {rate:.0}/s")).collect();
        println!("  {:12} windows {}; takes {best}", self.server.kind, shown.join(", "));
        Ok(best)
    }

    fn sample(&self, window: u64, duration: Duration) -> Result<Sample> {
        let mut phase = self.write(window, WARM_UP, duration)?;
        let delivery = Delivery {
            window,
            writes_per_second: phase.written as f64 / phase.took.as_secs_f64(),
            disconnected: self.subscribers.progress().counts().disconnected,
        };
        if phase.latencies.is_empty() {
            bail!("no event came within the round");
        }
        let per_second = phase.events_per_second();
        let of_latencies = sample(&mut phase.latencies, phase.took, phase.rss_kb);
        Ok(Sample { per_second, delivery: Some(delivery), ..of_latencies })
    }

    /// Writes for so long, then waits until everything has come to everybody.
    fn write(&self, window: u64, warm_up: Duration, duration: Duration) -> Result<Phase> {
        let progress = self.subscribers.progress();
        let is_over = AtomicBool::new(false);
        let phase = thread::scope(|scope| -> Result<Phase> {
            let write = || {
                let outcome = self.write_on(progress, window, &is_over);
                is_over.fetch_or(outcome.is_err(), Ordering::Relaxed);
                outcome
            };
            let threads: Vec<_> = (0..self.writers).map(|_| scope.spawn(write)).collect();
            let phase = watch(progress, self.server.pid(), warm_up, duration);
            is_over.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().expect("no panic in a writer")?;
            }
            phase
        })?;
        let lost = progress.drain(DRAIN_LIMIT)?;
        if lost > 0 {
            bail!("{lost} events are lost");
        }
        if progress.counts().live == 0 {
            bail!("every stream was disconnected");
        }
        Ok(phase)
    }

    /// Creates a record, changes it, and so on, one request after the other.
    fn write_on(&self, progress: &Progress, window: u64, is_over: &AtomicBool) -> Result<()> {
        let address = http1::address_of(self.server.base_url());
        let mut connection = Connection::open(address)?;
        let records = format!("/api/collections/{}/records", self.load.collection);
        let mut made: Option<String> = None;
        while let Some(number) = progress.begin(window, is_over) {
            let id = made.take();
            let (method, path, id) = match &id {
                Some(id) => ("PATCH", format!("{records}/{id}"), id.clone()),
                None => ("POST", records.clone(), format!("thg{:012}", NEXT.fetch_add(1, Ordering::Relaxed))),
            };
            let body = json!({ "id": id, "title": "amber river stone cloud garden lantern meadow",
                               "status": "open", "score": 7, "n": number, "sent": progress.micros() });
            let bytes = body.to_string().into_bytes();
            let body = Body { content_type: "application/json", bytes: &bytes };
            let answer = connection.send(&http1::request(address, method, &path, Some(&body)))?;
            if answer.status != 200 {
                bail!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
            }
            progress.counts().acknowledged += 1;
            if method == "POST" {
                made = Some(id);
            }
        }
        Ok(())
    }
}

impl FanOut {
    /// Half a round, since there are two numbers of writers; a whole one where a write takes a good part of a second.
    fn duration(self, args: &Args) -> Duration {
        const MANY_SUBSCRIBERS: usize = 5_000;
        if self.subscribers < MANY_SUBSCRIBERS { args.round_duration() / 2 } else { args.round_duration() }
    }
}

impl Delivery {
    /// Of all rounds: the median of the rate, all that were disconnected.
    pub(crate) fn over<'a>(rounds: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let rounds: Vec<_> = rounds.collect();
        let rates = rounds.iter().map(|round| round.writes_per_second).collect();
        Some(Self {
            window: rounds.first()?.window,
            writes_per_second: median(rates),
            disconnected: rounds.iter().map(|round| round.disconnected).sum(),
        })
    }
}

impl Phase {
    fn events_per_second(&self) -> f64 {
        self.delivered as f64 / self.took.as_secs_f64()
    }
}

fn watch(progress: &Progress, pid: u32, warm_up: Duration, duration: Duration) -> Result<Phase> {
    pause(warm_up, pid)?;
    let (start, delivered, acknowledged) = {
        let mut counts = progress.counts();
        counts.latencies.clear();
        counts.is_timed = true;
        (Instant::now(), counts.delivered, counts.acknowledged)
    };
    let rss_kb = pause(duration, pid)?;
    let mut counts = progress.counts();
    counts.is_timed = false;
    Ok(Phase {
        delivered: counts.delivered - delivered,
        written: counts.acknowledged - acknowledged,
        took: start.elapsed(),
        latencies: std::mem::take(&mut counts.latencies),
        rss_kb,
    })
}

/// Waits for so long; the most memory that the process had meanwhile.
fn pause(duration: Duration, pid: u32) -> Result<u64> {
    let deadline = Instant::now() + duration;
    let mut rss_kb = 0;
    loop {
        stop::check()?;
        rss_kb = rss_kb.max(machine::memory_kb(pid, "VmRSS").unwrap_or(0));
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(rss_kb);
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// The counts could hide one event lost and another twice; the sampled streams know the numbers.
fn check_numbers(subscribers: Subscribers) -> Result<()> {
    let acknowledged = subscribers.progress().counts().acknowledged;
    for mut numbers in subscribers.close()? {
        numbers.sort_unstable();
        if !numbers.iter().copied().eq(1..=acknowledged) {
            bail!("a stream had {} events that are not 1 to {acknowledged}", numbers.len());
        }
    }
    Ok(())
}

/// Until the server has seen that the streams are gone, it writes to them.
fn wait_for_sockets(server: &Server, count_before: usize) -> Result<()> {
    /// Connections that the load made beside its streams.
    const OTHERS: usize = 10;
    let deadline = Instant::now() + Duration::from_secs(20);
    let are_gone =
        || machine::socket_inodes(server.pid()).map(|sockets| sockets.len() <= count_before + OTHERS);
    servers::until(deadline, || Ok(are_gone()?.then_some(()))).context("the server keeps closed streams")
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscribers, one_a_write, many_a_write } = self;
        write!(
            f,
            "the load tool alone, {subscribers} subscribers: pushed one a write {one_a_write}, sixteen a write {many_a_write}"
        )
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events_per_second, reader_micros_an_event } = self;
        write!(f, "{events_per_second:.0} events/s ({reader_micros_an_event:.2} µs each to read)")
    }
}
