//! What an acknowledged write is worth, read back from each server rather than assumed.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use crate::client::Client;
use crate::machine;
use crate::rounds::Contestant;
use crate::servers::{self, Kind};

const WRITES: u64 = 100;

/// How one server makes writes durable.
#[derive(Serialize)]
pub(crate) struct Durability {
    server: String,
    journal_mode: String,
    synchronous: String,
    /// Where `synchronous` was read.
    source: &'static str,
    /// Disk cache flushes, of the whole machine, per write made one after the other.
    flushes_per_write: f64,
}

pub(crate) fn read_back(contestant: &Contestant) -> Result<Durability> {
    let server = &contestant.server;
    let (synchronous, source) = match server.kind {
        Kind::PocketBase => (
            setting_in_binary(&fs::read(servers::binary(Kind::PocketBase)?)?, "synchronous"),
            "the connection string inside the binary",
        ),
        Kind::Groundswell => (status_of(contestant), "GET /api/gs/status"),
    };
    let header = fs::read(server.database())?;
    // Bytes 18 and 19 of an SQLite file: 2 means WAL.
    let journal_mode = if header.get(18..20) == Some(&[2, 2]) { "WAL" } else { "rollback journal" };
    Ok(Durability {
        server: server.kind.to_string(),
        journal_mode: journal_mode.to_owned(),
        synchronous: synchronous.unwrap_or_else(|| "not stated".to_owned()),
        source,
        flushes_per_write: flushes_per_write(&Client::new(server.base_url()))?,
    })
}

/// The pragma of this name in the data source name that the peer opens its database with.
fn setting_in_binary(binary: &[u8], pragma: &str) -> Option<String> {
    let start = format!("&_pragma={pragma}(").into_bytes();
    let at = binary.windows(start.len()).position(|window| window == start)? + start.len();
    let value = binary[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric());
    Some(String::from_utf8_lossy(&value.copied().collect::<Vec<_>>()).into_owned())
}

/// Our own server will tell; until it does, this is unknown.
fn status_of(contestant: &Contestant) -> Option<String> {
    let client = Client::new(contestant.server.base_url()).with_token(&contestant.tokens.superuser);
    let status = client.call("GET", "/api/gs/status", None).ok()?;
    Some(status["store"]["synchronous"].as_str()?.to_owned())
}

/// A server that flushes before it acknowledges shows about one or more; one that leaves it to the operating system
/// shows about none. Other programs' flushes count too, so this is meaningful on a quiet machine only.
fn flushes_per_write(client: &Client) -> Result<f64> {
    let before = machine::disk_flushes().context("read /proc/diskstats")?;
    for n in 0..WRITES {
        let body = json!({ "title": format!("flush {n}") });
        client.call("POST", "/api/collections/scratch/records", Some(&body))?;
    }
    Ok((machine::disk_flushes()? - before) as f64 / WRITES as f64)
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, journal_mode, synchronous, source, flushes_per_write } = self;
        write!(
            f,
            "{server}: {journal_mode}, synchronous {synchronous} ({source}); {flushes_per_write:.2} disk flushes a write"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pragma_is_found_between_other_bytes() {
        let binary =
            b"\0synchronous(OFF)\xff?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=x(1)\0";
        assert_eq!(setting_in_binary(binary, "synchronous").as_deref(), Some("NORMAL"));
        assert_eq!(setting_in_binary(binary, "missing"), None);
    }
}
