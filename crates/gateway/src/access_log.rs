//! The access log: a line of JSON for every answer, in a file. No query is in it, and no header but those that name the
//! host and the program that asks: others may carry a token.
//!
//! A request loop hands its line over and goes on; a thread of its own takes all that wait a hundred times a second and
//! writes them. Lines that find no room are counted and lost, never waited for.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use kit::app::now;
use kit::request::RequestId;
use metrics::{Counter, counter};
use model::json::write_string;
use tracing::warn;

use crate::checks::rules::Noted;
use crate::net::Peer;
use crate::refusal::Refusal;
use crate::trace::TraceId;
use crate::upstreams::Served;

/// Lines that wait for the thread.
const MAX_WAITING: usize = 32_768;
/// How often the thread looks. Nobody wakes it: that would cost a request more than its line.
const EVERY: Duration = Duration::from_millis(10);
/// How often it looks whether the file was moved away, as log rotation does.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
const BUFFER_BYTES: usize = 256 << 10;

/// Takes the lines of all request loops. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    lines: SyncSender<String>,
    lost: Counter,
    is_to_reopen: Arc<AtomicBool>,
}

/// The thread that writes. It ends when every [`AccessLog`] is gone.
pub struct AccessLogWriter(JoinHandle<()>);

/// What a line tells.
pub(crate) struct Line {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) host: Option<String>,
    /// The program that asks, as it calls itself.
    pub(crate) agent: Option<String>,
    pub(crate) peer: Option<Peer>,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) trace: Option<TraceId>,
    pub(crate) route: Arc<str>,
    /// None where the client left before there was one.
    pub(crate) status: Option<StatusCode>,
    /// Which other server answered, or had it last.
    pub(crate) served: Option<Served>,
    /// Why it was refused at the edge.
    pub(crate) refusal: Option<Refusal>,
    /// By which rule it was noted, and let go on.
    pub(crate) noted: Option<Noted>,
    /// Of the answer's body, as far as it went out.
    pub(crate) bytes: u64,
    pub(crate) until_head: Option<Duration>,
    pub(crate) took: Option<Duration>,
    /// Whether the answer did not come to its end.
    pub(crate) is_cut: bool,
}

/// The status that is told where there was none: nginx's, which programs that read logs know.
const CLIENT_LEFT: u16 = 499;

// === impl AccessLog ===

impl AccessLog {
    /// Writes to the end of a file, which is made with mode 0600 if it is missing.
    pub fn open(path: PathBuf) -> io::Result<(Self, AccessLogWriter)> {
        let file = open(&path)?;
        let (lines, waiting) = sync_channel(MAX_WAITING);
        let thread = thread::Builder::new().name("access-log".to_owned());
        let is_to_reopen = Arc::<AtomicBool>::default();
        let is_asked = is_to_reopen.clone();
        let writer = thread.spawn(move || write_all(&path, file, &waiting, &is_asked))?;
        let lost = counter!("groundswell_access_log_lost_total");
        Ok((Self { lines, lost, is_to_reopen }, AccessLogWriter(writer)))
    }

    /// Has the file opened anew now, as whoever moved it away asks for.
    pub fn reopen(&self) {
        self.is_to_reopen.store(true, Ordering::Relaxed);
    }

    pub(crate) fn write(&self, line: &Line) {
        if self.lines.try_send(line.to_json()).is_err() {
            self.lost.increment(1);
        }
    }
}

// === impl AccessLogWriter ===

impl AccessLogWriter {
    /// Waits until what was handed over is written.
    pub fn join(self) {
        if self.0.join().is_err() {
            warn!("the access log ended in a panic");
        }
    }
}

// === impl Line ===

impl Line {
    fn to_json(&self) -> String {
        let mut json = String::with_capacity(512);
        json.push_str("{\"time\":\"");
        now().write(&mut json);
        json.push('"');
        let text = |json: &mut String, name: &str, value: &str| {
            _ = write!(json, ",\"{name}\":");
            write_string(value, json);
        };
        text(&mut json, "id", self.request_id.as_ref().map(RequestId::as_str).unwrap_or_default());
        if let Some(trace) = self.trace {
            _ = write!(json, ",\"trace\":\"{trace}\"");
        }
        if let Some(peer) = &self.peer {
            _ = write!(json, ",\"client\":\"{}\"", peer.client);
            if peer.client != peer.address.ip() {
                _ = write!(json, ",\"peer\":\"{}\"", peer.address.ip());
            }
        }
        text(&mut json, "method", self.method.as_str());
        if let Some(host) = &self.host {
            text(&mut json, "host", host);
        }
        text(&mut json, "path", &self.path);
        _ = write!(json, ",\"status\":{}", self.status.map_or(CLIENT_LEFT, |status| status.as_u16()));
        text(&mut json, "route", &self.route);
        if let Some(served) = &self.served {
            text(&mut json, "upstream", &served.upstream);
            text(&mut json, "server", &served.server.to_string());
            _ = write!(json, ",\"tries\":{}", served.tries);
        }
        if let Some(Noted(rule)) = &self.noted {
            text(&mut json, "noted", rule);
        }
        if let Some(refusal) = &self.refusal {
            text(&mut json, "refused", refusal.cause.as_str());
            if let Some(rule) = &refusal.rule {
                text(&mut json, "rule", rule);
            }
        }
        _ = write!(json, ",\"bytes\":{}", self.bytes);
        if let Some(until_head) = self.until_head {
            _ = write!(json, ",\"head_us\":{}", until_head.as_micros());
        }
        _ = write!(json, ",\"took_us\":{}", self.took.unwrap_or_default().as_micros());
        if self.is_cut {
            json.push_str(",\"cut\":true");
        }
        if let Some(agent) = &self.agent {
            text(&mut json, "agent", agent);
        }
        json.push_str("}\n");
        json
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn write_all(path: &Path, file: File, waiting: &Receiver<String>, is_to_reopen: &AtomicBool) {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let (mut looked, mut is_failing) = (Instant::now(), false);
    loop {
        let is_over = loop {
            match waiting.try_recv() {
                Ok(line) => note(&mut is_failing, out.write_all(line.as_bytes())),
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        note(&mut is_failing, out.flush());
        if is_over {
            return;
        }
        let is_asked = is_to_reopen.swap(false, Ordering::Relaxed);
        if is_asked || looked.elapsed() >= LOOKS_EVERY {
            looked = Instant::now();
            if is_moved(path, out.get_ref()) {
                match open(path) {
                    Ok(file) => out = BufWriter::with_capacity(BUFFER_BYTES, file),
                    Err(error) => note(&mut is_failing, Err(error)),
                }
            }
        }
        thread::sleep(EVERY);
    }
}

/// Says once that lines cannot be written, and goes on.
fn note(is_failing: &mut bool, written: io::Result<()>) {
    match written {
        Ok(()) => *is_failing = false,
        Err(error) if !*is_failing => {
            *is_failing = true;
            warn!(%error, "the access log cannot be written");
        }
        Err(_) => {}
    }
}

fn is_moved(path: &Path, file: &File) -> bool {
    let Ok(open) = file.metadata() else { return true };
    path.metadata().map_or(true, |there| (there.dev(), there.ino()) != (open.dev(), open.ino()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::Transport;

    fn line(path: &str) -> Line {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        Line {
            method: Method::GET,
            path: path.to_owned(),
            host: None,
            agent: None,
            peer: Some(Peer::new(peer, Transport::Plain)),
            request_id: None,
            trace: None,
            route: "services".into(),
            status: Some(StatusCode::OK),
            served: None,
            refusal: None,
            noted: None,
            bytes: 2,
            until_head: Some(Duration::from_micros(5)),
            took: Some(Duration::from_micros(7)),
            is_cut: false,
        }
    }

    #[test]
    fn a_line_is_json_whatever_stands_in_it() {
        let mut line = line("/a\"\u{1}b");
        line.agent = Some("\u{2028}\\\u{7f}\u{fffd}\n".to_owned());
        line.host = Some("a\t.example".to_owned());
        let json = line.to_json();
        let (time, rest) = json.split_once(",\"id\"").unwrap();
        assert!(time.starts_with("{\"time\":\"20") && time.ends_with("Z\""), "{time}");
        let expected = ":\"\",\"client\":\"127.0.0.1\",\"method\":\"GET\",\"host\":\"a\\t.example\",\
                        \"path\":\"/a\\\"\\u0001b\",\"status\":200,\"route\":\"services\",\"bytes\":2,\
                        \"head_us\":5,\"took_us\":7,\"agent\":\"";
        assert!(rest.starts_with(expected) && rest.ends_with("\"}\n"), "{rest}");
        let agent = model::json::Json::parse_whole(&json).unwrap();
        let model::json::Json::Object(fields) = agent else { panic!("no object: {json}") };
        let read = fields.get("agent").and_then(model::json::Json::as_str);
        assert_eq!(read, line.agent.as_deref(), "{json}");
        assert_eq!(json.lines().count(), 1);
    }

    #[test]
    fn every_line_is_in_the_file_at_the_end_also_when_it_was_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (log, writer) = AccessLog::open(path.clone()).unwrap();
        log.write(&line("/first"));
        let until = Instant::now() + Duration::from_secs(30);
        while std::fs::read_to_string(&path).unwrap().is_empty() {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
        std::fs::rename(&path, folder.path().join("access.log.1")).unwrap();
        while !path.exists() {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
        for number in 0..1_000 {
            log.write(&line(&format!("/{number}")));
        }
        std::fs::rename(&path, folder.path().join("access.log.2")).unwrap();
        log.reopen();
        while !path.exists() {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
        log.write(&line("/last"));
        drop(log);
        writer.join();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let all = read(&path) + &read(&folder.path().join("access.log.2"));
        assert_eq!(all.lines().count(), 1_001);
        assert!(read(&path).contains("/last"));
        assert!(read(&folder.path().join("access.log.1")).contains("/first"));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_line_without_room_is_lost_and_nobody_waits() {
        let (lines, waiting) = sync_channel(1);
        let log = AccessLog { lines, lost: Counter::noop(), is_to_reopen: Arc::default() };
        for _ in 0..10 {
            log.write(&line("/"));
        }
        assert_eq!(waiting.try_iter().count(), 1);
    }
}
