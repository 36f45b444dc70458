//! What must hold before anything is timed: the same bytes through every proxy, over connections that are kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::http1::{self, Answer, Connection};
use crate::servers;

use super::config::{self, Layer};
use super::running::{self, Running};

/// Asked over one connection of a caller.
const QUESTIONS: usize = 40;

/// How long a line may take to the access log.
const LOG_LIMIT: Duration = Duration::from_secs(5);

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
        let (expected, given) = (get(upstream, path)?, get(proxy, path)?);
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
    let mut connection = proxy.connect()?;
    let mut seen = Vec::new();
    for _ in 0..QUESTIONS {
        let answer = connection.send(&http1::request(&address, "GET", config::SEEN, None))?;
        seen.push(Seen::read(&String::from_utf8_lossy(&answer.body))?);
    }
    judge(&seen).with_context(|| proxy.name.clone())
}

/// Each layer does what it is for, and none does that is not there.
pub(super) fn compare_layers(server: &Running, layers: &[Layer], token: &str) -> Result<()> {
    let has = |layer| layers.contains(&layer);
    let told = ask(server, config::TOLD, token)?;
    let text = String::from_utf8_lossy(&told.body).into_owned();
    let (authorization, trace) = text.trim_end().split_once('|').context("the upstream was told nothing")?;
    let is_probe_refused = ask(server, "/.env", token)?.status == 403;
    let is_logged = || Ok((server.log_size() > 0).then_some(()));
    let is_logged = !has(Layer::AccessLog) || servers::until(Instant::now() + LOG_LIMIT, is_logged).is_ok();
    let is_right = (authorization != token) == has(Layer::Callers)
        && authorization.starts_with("Bearer ") == has(Layer::Callers)
        && trace.is_empty() != has(Layer::Traces)
        && is_probe_refused == has(Layer::Scanners)
        && is_logged;
    if !is_right {
        bail!(
            "{}: trace {trace:?}, a probe is refused: {is_probe_refused}, logged: {is_logged}, and the token is {}",
            server.name,
            if authorization == token { "the client's" } else { "not the client's" }
        );
    }
    Ok(())
}

/// Lines that were lost to the access log so far.
pub(super) fn lines_lost(server: &Running) -> Result<u64> {
    let address = running::address(server.ports[1]);
    let answer = Connection::open(&address)?.send(&http1::request(&address, "GET", "/metrics", None))?;
    let text = String::from_utf8_lossy(&answer.body);
    let lost = text.lines().find_map(|line| line.strip_prefix("groundswell_access_log_lost_total "));
    Ok(lost.map_or(Ok(0), str::parse)?)
}

/// What stands before the services changes nothing in an answer.
pub(super) fn compare_in_process(servers: &[Running], path: &str) -> Result<()> {
    let mut first: Option<(&str, Vec<u8>)> = None;
    for server in servers {
        let answer = get(server, path)?;
        if answer.status != 200 {
            bail!("{path} of {}: {}", server.name, answer.status);
        }
        match &first {
            Some((of, expected)) if *expected != answer.body => {
                bail!("{path} differs between {of} and {}", server.name)
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

fn get(server: &Running, path: &str) -> Result<Answer> {
    server.connect()?.send(&http1::request(&server.address(), "GET", path, None))
}

fn ask(server: &Running, path: &str, token: &str) -> Result<Answer> {
    let address = server.address();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\n\r\n");
    server.connect()?.send(request.as_bytes())
}

// === impl Witness ===

impl Witness {
    pub(super) fn of(upstream: &Running) -> Self {
        Self { address: running::address(upstream.ports[1]) }
    }

    /// How many there were, with that of the question.
    pub(super) fn connections(&self) -> Result<u64> {
        let request = http1::request(&self.address, "GET", config::SEEN, None);
        let answer = Connection::open(&self.address)?.send(&request)?;
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
