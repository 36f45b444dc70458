//! What a stream costs while nothing happens.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::client::{Caller, Client};
use crate::fan_out;
use crate::http1;
use crate::rounds::Contestant;
use crate::sse::Subscribers;
use crate::{machine, stop};

/// What the issue asks for 10,000 streams.
const ASKED_MIB: u64 = 300;

/// The memory of one server without and with its streams.
#[derive(Serialize)]
pub(crate) struct Idle {
    server: String,
    streams: usize,
    before_kb: u64,
    after_kb: u64,
}

/// On a process of its own, so that neither what other cases left counts here nor what the streams leave counts there.
pub(crate) fn measure(contestant: &mut Contestant, streams: usize) -> Result<Idle> {
    contestant.note_high_water()?;
    contestant.restart()?;
    let idle = connect(contestant, streams);
    contestant.restart()?;
    idle
}

/// Connects the streams; each subscribes.
fn connect(contestant: &Contestant, streams: usize) -> Result<Idle> {
    let server = &contestant.server;
    let guest = contestant.client(Caller::Guest);
    let address = http1::address_of(server.base_url());
    warm_up(address, &guest)?;
    let before_kb = settled_rss_kb(server.pid())?;
    let topic = format!("{}/*", fan_out::PUBLIC);
    let subscribers = Subscribers::connect(address, streams, Some((&guest, &topic)))?;
    let after_kb = settled_rss_kb(server.pid())?;
    let disconnected = subscribers.progress().counts().disconnected;
    if disconnected > 0 {
        bail!("{disconnected} of {streams} idle streams were disconnected");
    }
    Ok(Idle { server: server.kind.to_string(), streams, before_kb, after_kb })
}

/// What the first few streams set up is not the price of a stream.
fn warm_up(address: &str, guest: &Client) -> Result<()> {
    Subscribers::connect(address, 10, Some((guest, "things/*"))).context("warm up")?.close()?;
    Ok(())
}

/// The memory in use once two readings a second apart are within a hundredth of each other.
fn settled_rss_kb(pid: u32) -> Result<u64> {
    const READINGS: usize = 15;
    let mut last = machine::memory_kb(pid, "VmRSS")?;
    for _ in 0..READINGS {
        stop::check()?;
        thread::sleep(Duration::from_secs(1));
        let now = machine::memory_kb(pid, "VmRSS")?;
        if now.abs_diff(last) * 100 <= last {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, streams, before_kb, after_kb } = self;
        let bytes = after_kb.saturating_sub(*before_kb) * 1024 / (*streams as u64).max(1);
        write!(
            f,
            "{server}: {streams} idle streams take it from {} to {} MiB, {bytes} bytes a stream (asked: below {ASKED_MIB} MiB)",
            before_kb / 1024,
            after_kb / 1024
        )
    }
}
