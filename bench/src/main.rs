//! Compares Groundswell with PocketBase: the same rows, the same requests, in turns, on the same cores.
//!
//! [`servers`] starts and stops the two, [`data`] fills them, [`cases`] says what is asked, [`rounds`] asks it
//! and [`report`] tells the outcome. [`fan_out`], [`idle`] and [`files`] are loads of their own, on [`sse`] and [`http1`].
//! [`accept`], [`proxy`] and [`postgres`] stand apart: two ways to share connections between loops, the gateway beside other
//! reverse proxies, with what its parts cost, and what the API costs over PostgreSQL.
//! `bench/README.md` says what is measured and why so.
#![expect(clippy::print_stdout, reason = "a command-line tool")]

mod accept;
mod args;
mod cases;
mod client;
mod data;
mod durability;
mod fan_out;
mod files;
mod http1;
mod idle;
mod machine;
mod postgres;
mod proxy;
mod report;
mod rounds;
mod servers;
mod sse;
mod stop;
mod wrk;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::cases::{Case, Load};
use crate::report::Report;
use crate::rounds::Contestant;

fn main() -> Result<()> {
    let Some(args) = Args::from_env()? else { return Ok(()) };
    stop::on_signals()?;
    wrk::version()?;
    if args.compares_accepting {
        return accept::compare();
    }
    if args.compares_proxies {
        return proxy::compare(&args);
    }
    if args.compares_edges {
        return proxy::compare_edges(&args);
    }
    if args.compares_postgres {
        return postgres::compare(&args);
    }
    let cases = Case::named(&args.cases)?;
    check_open_files(&cases)?;

    let load_before = machine::load_average();
    let mut contestants = Vec::new();
    for kind in args.kinds() {
        println!("{kind}: seeding");
        contestants.push(Contestant::start(kind, &args)?);
    }
    let durability = contestants.iter().map(durability::read_back).collect::<Result<Vec<_>>>()?;
    for line in &durability {
        println!("{line}");
    }
    rounds::prepare(&contestants, &cases)?;
    rounds::compare_answers(&contestants, &cases)?;

    let mut report = Report::new(&args, load_before, &contestants, durability);
    let mut crowds: Vec<_> = cases.iter().filter_map(Case::subscribers).collect();
    crowds.sort_unstable();
    crowds.dedup();
    for subscribers in crowds {
        report.add_ceiling(fan_out::ceiling(subscribers)?);
    }
    for case in &cases {
        stop::check()?;
        println!("{}: {}", case.name, case.title);
        if let Load::IdleStreams(streams) = case.load {
            for contestant in &mut contestants {
                report.add_idle(idle::measure(contestant, streams)?);
            }
        }
        report.add(rounds::run(case, &mut contestants, &args)?);
    }
    report.memory(&contestants)?;
    println!("\n{}", report.markdown());
    for path in report.save()? {
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// Fails before the long seeding rather than after it.
fn check_open_files(cases: &[Case]) -> Result<()> {
    /// What else a server or the bench has open.
    const OTHERS: u64 = 500;
    let allowed = machine::raise_open_files()?;
    for case in cases {
        let streams = match case.load {
            Load::IdleStreams(streams) => streams,
            _ => case.subscribers().unwrap_or_default(),
        };
        if streams as u64 + OTHERS > allowed {
            bail!("{} needs {streams} open streams, and the limit of open files is {allowed}", case.name);
        }
    }
    Ok(())
}
