//! What must hold before anything is timed: the same bytes through every proxy, over connections that are kept.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use crate::http1::{self, Answer, Connection};

use super::config;
use super::running::{self, Running};

/// Asked over one connection of a caller.
const QUESTIONS: usize = 40;

/// Counts the connections that the upstream has had.
pub(super) struct Witness {
    address: String,
}

/// What the upstream saw of one request.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Its number of the connection, counted over both servers.
    connection: u64,
    /// The how manieth request on it.
    request: u64,
    port: u16,
    forwarded_for: String,
}

/// The bytes through the proxy are those that the upstream gives.
pub(super) fn compare_answers(upstream: &Running, proxy: &Running) -> Result<()> {
    for path in [config::SMALL, config::LARGE] {
        let (expected, given) = (get(&upstream.address(), path)?, get(&proxy.address(), path)?);
        if expected.status != 200 {
            bail!("{path} of the upstream: {}", expected.status);
        }
        if (given.status, &given.content_type, &given.body)
            != (expected.status, &expected.content_type, &expected.body)
        {
            bail!(
                "{path} through {} differs: {} {} and {} bytes instead of {} {} and {}",
                proxy.name,
                given.status,
                given.content_type,
                given.body.len(),
                expected.status,
                expected.content_type,
                expected.body.len()
            );
        }
    }
    Ok(())
}

/// A caller's connection leads to one connection to each server at most, and the upstream learns who calls.
pub(super) fn compare_connections(proxy: &Running) -> Result<String> {
    let address = proxy.address();
    let mut connection = Connection::open(&address)?;
    let mut seen = Vec::new();
    for _ in 0..QUESTIONS {
        let answer = connection.send(&http1::request(&address, "GET", config::SEEN, None))?;
        seen.push(Seen::read(&String::from_utf8_lossy(&answer.body))?);
    }
    judge(&seen).with_context(|| proxy.name.clone())
}

/// Routes that are not for it change nothing in an answer.
pub(super) fn compare_in_process(servers: &[Running]) -> Result<()> {
    let mut first: Option<(&str, Vec<u8>)> = None;
    for server in servers {
        let answer = get(&server.address(), super::IN_PROCESS.path)?;
        match &first {
            Some((of, expected)) if *expected != answer.body => {
                bail!("{} differs between {of} and {}", super::IN_PROCESS.path, server.name)
            }
            Some(_) => {}
            None => first = Some((&server.name, answer.body)),
        }
    }
    Ok(())
}

fn judge(seen: &[Seen]) -> Result<String> {
    // Any address: Envoy names the machine's own for a caller on loopback.
    if let Some(other) = seen.iter().find(|seen| seen.forwarded_for.parse::<IpAddr>().is_err()) {
        bail!("X-Forwarded-For is {:?}", other.forwarded_for);
    }
    let mut by_port: BTreeMap<u16, (u64, usize)> = BTreeMap::new();
    for Seen { connection, port, .. } in seen {
        let (known, count) = by_port.entry(*port).or_insert((*connection, 0));
        if known != connection {
            bail!("a second connection to one server, for requests one after the other");
        }
        *count += 1;
    }
    let counts: Vec<_> =
        by_port.values().map(|(_, count)| format!("{count} requests on one connection")).collect();
    Ok(counts.join(" and "))
}

fn get(address: &str, path: &str) -> Result<Answer> {
    Connection::open(address)?.send(&http1::request(address, "GET", path, None))
}

// === impl Witness ===

impl Witness {
    pub(super) fn of(upstream: &Running) -> Self {
        Self { address: running::address(upstream.ports[1]) }
    }

    /// How many there were, with that of the question.
    pub(super) fn connections(&self) -> Result<u64> {
        let answer = get(&self.address, config::SEEN)?;
        Ok(Seen::read(&String::from_utf8_lossy(&answer.body))?.connection)
    }
}

// === impl Seen ===

impl Seen {
    fn read(text: &str) -> Result<Self> {
        let words: Vec<_> = text.trim_end_matches('\n').splitn(4, ' ').collect();
        let [connection, request, port, forwarded_for] = words[..] else {
            bail!("the upstream said {text:?}");
        };
        Ok(Self {
            connection: connection.parse()?,
            request: request.parse()?,
            port: port.parse()?,
            forwarded_for: forwarded_for.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(connection: u64, port: u16, forwarded_for: &str) -> Seen {
        Seen { connection, request: 1, port, forwarded_for: forwarded_for.to_owned() }
    }

    #[test]
    fn what_the_upstream_saw_is_read() {
        let read = Seen::read("12 3 7001 127.0.0.1\n").unwrap();
        assert_eq!(read, Seen { request: 3, ..seen(12, 7001, "127.0.0.1") });
        assert_eq!(Seen::read("12 1 7001 \n").unwrap(), seen(12, 7001, ""));
        assert!(Seen::read("a small answer\n").is_err());
    }

    #[test]
    fn one_connection_to_each_server_is_right_and_two_are_not() {
        let me = "127.0.0.1";
        let told = judge(&[seen(5, 1, me), seen(6, 2, me), seen(5, 1, me)]).unwrap();
        assert_eq!(told, "2 requests on one connection and 1 requests on one connection");
        assert!(judge(&[seen(5, 1, me), seen(6, 1, me)]).is_err());
        assert!(judge(&[seen(5, 1, "")]).is_err());
    }
}
