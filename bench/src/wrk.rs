//! One run of `wrk`, and what it reports.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::data::{SIGNED_IN, Tokens};
use crate::rounds::Sample;
use crate::servers::Server;
use crate::{machine, stop};

/// What every script begins with: the random sequence, ids as [`crate::data::id`] makes them, callers.
///
/// `ask` puts a request together by itself: `wrk.format` takes twice the time, and all of it is time that the
/// servers do not have.
const PRELUDE: &str = r#"
math.randomseed(seed)
local host = " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\n"
local function ask(method, path, account, body)
  local text = method .. " " .. path .. host
  if account then text = text .. "Authorization: " .. tokens[account + 1] .. "\r\n" end
  if not body then return text .. "\r\n" end
  return text .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end
local function id(prefix, n) return string.format("%s%012d", prefix, (n * 742938285) % 2147483647) end
local function any(n) return math.random(0, n - 1) end
local bodies = {
  "river stone cloud garden lantern meadow harbor copper willow signal rx",
  "thread winter orchard pebble canyon amber river stone cloud garden rxy",
  "lantern meadow harbor copper willow signal thread winter orchard canyo",
}
local function item(extra)
  return '{"title":"amber river ' .. any(1000000) .. '","body":"' .. bodies[any(3) + 1]
    .. '","score":' .. any(1000000) .. (extra or "") .. "}"
end
"#;

/// The outcome as one line of JSON, with the errors apart.
const EPILOGUE: &str = r#"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"#;

/// One load.
pub(crate) struct Load<'a> {
    /// Defines `request`, and perhaps `delay`; see [`PRELUDE`] for what it can use.
    pub(crate) script: &'a str,
    pub(crate) connections: usize,
    pub(crate) items: usize,
    pub(crate) duration: Duration,
    pub(crate) seed: usize,
}

#[derive(Deserialize)]
struct Outcome {
    requests: u64,
    duration_us: u64,
    p50_us: u64,
    p99_us: u64,
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

/// Runs it; any answer of 400 or above, any socket error and any timeout fails the run.
pub(crate) fn run(load: &Load<'_>, server: &Server, tokens: &Tokens) -> Result<Sample> {
    run_at(load, server.base_url(), server.pid(), tokens)
}

/// The same on any server, whose process is `pid`.
pub(crate) fn run_at(load: &Load<'_>, base_url: &str, pid: u32, tokens: &Tokens) -> Result<Sample> {
    let folder = tempfile::Builder::new().prefix("groundswell-wrk.").tempdir()?;
    let script = folder.path().join("load.lua");
    fs::write(&script, full_script(load, tokens))?;
    let mut child = Command::new("wrk")
        // One thread: it makes several times the requests that either server answers, and a second one would only
        // take the cores that are the servers'.
        .args(["--threads", "1", "--latency", "--timeout", "30s"])
        .args(["--connections", &load.connections.to_string()])
        .args(["--duration", &format!("{}s", load.duration.as_secs())])
        .arg("--script")
        .arg(&script)
        .arg(base_url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start wrk (Debian package wrk)")?;

    // Its output is far below what a pipe holds, so it can be read when it has ended.
    let mut rss_kb = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Err(stopped) = stop::check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(stopped);
        }
        rss_kb = rss_kb.max(machine::memory_kb(pid, "VmRSS").unwrap_or(0));
        thread::sleep(Duration::from_millis(50));
    };
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut output)?;
    }
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut output)?;
    }
    if !status.success() {
        bail!("wrk: {status}: {output}");
    }
    let line = output.lines().find_map(|line| line.strip_prefix("RESULT "));
    let outcome: Outcome = serde_json::from_str(line.with_context(|| format!("wrk said {output}"))?)?;
    outcome.into_sample(rss_kb)
}

/// Says whether wrk is there.
pub(crate) fn version() -> Result<String> {
    let output = Command::new("wrk").arg("-v").output().context("no wrk: install the Debian package wrk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
}

fn full_script(load: &Load<'_>, tokens: &Tokens) -> String {
    let tokens: Vec<_> = tokens.accounts.iter().map(|token| format!("{token:?}")).collect();
    format!(
        "local seed, items, accounts = {}, {}, {SIGNED_IN}\nlocal tokens = {{ {} }}\n{PRELUDE}\n{}\n{EPILOGUE}",
        load.seed,
        load.items,
        tokens.join(", "),
        load.script,
    )
}

impl Outcome {
    fn into_sample(self, rss_kb: u64) -> Result<Sample> {
        let Self { connect, read, write, status, timeout, .. } = self;
        if connect + read + write + status + timeout > 0 {
            bail!(
                "errors: {status} answers of 400 or above, {connect} connects, {read} reads, {write} writes, {timeout} timeouts"
            );
        }
        if self.requests == 0 {
            bail!("no request was answered within the round");
        }
        Ok(Sample {
            per_second: self.requests as f64 * 1e6 / self.duration_us.max(1) as f64,
            p50_ms: self.p50_us as f64 / 1e3,
            p99_ms: self.p99_us as f64 / 1e3,
            rss_kb,
            delivery: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Outcome = Outcome {
        requests: 300,
        duration_us: 2_000_000,
        p50_us: 1_500,
        p99_us: 9_000,
        connect: 0,
        read: 0,
        write: 0,
        status: 0,
        timeout: 0,
    };

    #[test]
    fn a_clean_run_is_a_sample() {
        let sample = GOOD.into_sample(1).expect("no errors");
        assert_eq!((sample.per_second, sample.p50_ms, sample.p99_ms), (150.0, 1.5, 9.0));
    }

    #[test]
    fn one_error_of_any_kind_fails_the_run() {
        assert!(Outcome { status: 1, ..GOOD }.into_sample(1).is_err());
        assert!(Outcome { connect: 1, ..GOOD }.into_sample(1).is_err());
        assert!(Outcome { read: 1, ..GOOD }.into_sample(1).is_err());
        assert!(Outcome { write: 1, ..GOOD }.into_sample(1).is_err());
        assert!(Outcome { timeout: 1, ..GOOD }.into_sample(1).is_err());
        assert!(Outcome { requests: 0, ..GOOD }.into_sample(1).is_err());
    }
}
