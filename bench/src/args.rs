use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cases::Case;
use crate::servers::Kind;

const USAGE: &str =
    "bench [--case NAME]... [--quick] [--subject-only | --peer-only] [--full-sync] [--peer-logs-off] [--seed-http]

  --case NAME      only this case (may be given several times)
  --quick          10,000 rows, 1 s warm-up, 2 rounds of 3 s
  --subject-only   Groundswell alone       --peer-only   PocketBase alone
  --full-sync      Groundswell with synchronous=FULL, its default, instead of the peer's NORMAL
  --peer-logs-off  PocketBase without the log of requests that it writes by default
  --seed-http      rows through the API instead of straight into data.db
  --accept         instead of all this: one acceptor beside a listening socket for each loop (3 minutes, no PocketBase)
  --proxy          instead of all this: the gateway beside NGINX, HAProxy, Envoy and Traefik (16 minutes; --quick: 3)
  --edge           instead of all this: the same with TLS, what each layer of the edge costs, and what the edge costs the
                   services of this process (30 minutes; --quick: 4); --case tls, layers or in-process for one of them

  --postgres       instead of all this: the store on PostgreSQL beside pgbench with the same statements (4 minutes; --quick: 1)

cases:";

/// What one run does: the command line, resolved.
pub(crate) struct Args {
    pub(crate) cases: Vec<String>,
    pub(crate) is_quick: bool,
    pub(crate) seeds_by_http: bool,
    pub(crate) compares_accepting: bool,
    pub(crate) compares_proxies: bool,
    pub(crate) compares_edges: bool,
    pub(crate) compares_postgres: bool,
    /// Whether PocketBase writes its log of requests, as it does by default.
    pub(crate) peer_logs: bool,
    /// The value of GROUNDSWELL__STORE__SYNCHRONOUS.
    pub(crate) synchronous: &'static str,
    with_subject: bool,
    with_peer: bool,
}

impl Args {
    /// `None` when help was asked for and printed.
    pub(crate) fn from_env() -> Result<Option<Self>> {
        let mut args = Self {
            cases: Vec::new(),
            is_quick: false,
            seeds_by_http: false,
            compares_accepting: false,
            compares_proxies: false,
            compares_edges: false,
            compares_postgres: false,
            peer_logs: true,
            synchronous: "NORMAL",
            with_subject: true,
            with_peer: true,
        };
        let mut given = std::env::args().skip(1);
        while let Some(arg) = given.next() {
            match arg.as_str() {
                "--case" => args.cases.push(given.next().context("--case needs a name")?),
                "--quick" => args.is_quick = true,
                "--seed-http" => args.seeds_by_http = true,
                "--accept" => args.compares_accepting = true,
                "--proxy" => args.compares_proxies = true,
                "--edge" => args.compares_edges = true,
                "--postgres" => args.compares_postgres = true,
                "--peer-logs-off" => args.peer_logs = false,
                "--full-sync" => args.synchronous = "FULL",
                "--subject-only" => args.with_peer = false,
                "--peer-only" => args.with_subject = false,
                "--help" | "-h" => {
                    println!("{USAGE}");
                    for case in Case::all() {
                        println!("  {:24} {}", case.name, case.title);
                    }
                    return Ok(None);
                }
                other => bail!("unknown argument {other}; see --help"),
            }
        }
        if args.kinds().is_empty() {
            bail!("--subject-only and --peer-only leave nobody to run");
        }
        Ok(Some(args))
    }

    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        if self.with_subject {
            kinds.push(Kind::Groundswell);
        }
        if self.with_peer {
            kinds.push(Kind::PocketBase);
        }
        kinds
    }

    pub(crate) fn item_count(&self) -> usize {
        if self.is_quick { 10_000 } else { 100_000 }
    }

    pub(crate) fn rounds(&self) -> usize {
        if self.is_quick { 2 } else { 5 }
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs(if self.is_quick { 1 } else { 3 })
    }

    pub(crate) fn round_duration(&self) -> Duration {
        Duration::from_secs(if self.is_quick { 3 } else { 10 })
    }
}
