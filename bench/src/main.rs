//! Compares Groundswell with PocketBase: the same rows, the same requests, in turns, on the same cores.
//!
//! [`servers`] starts and stops the two, [`data`] fills them, [`cases`] says what is asked, [`rounds`] asks it
//! and [`report`] tells the outcome. [`accept`] stands apart: two ways to share connections between loops.
//! `bench/README.md` says what is measured and why so.
#![expect(clippy::print_stdout, reason = "a command-line tool")]

mod accept;
mod args;
mod cases;
mod client;
mod data;
mod durability;
mod machine;
mod report;
mod rounds;
mod servers;
mod stop;
mod wrk;

use anyhow::Result;

use crate::args::Args;
use crate::cases::Case;
use crate::report::Report;
use crate::rounds::Contestant;

fn main() -> Result<()> {
    let Some(args) = Args::from_env()? else { return Ok(()) };
    stop::on_signals()?;
    wrk::version()?;
    if args.compares_accepting {
        return accept::compare();
    }
    let cases = Case::named(&args.cases)?;

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
    rounds::compare_answers(&contestants, &cases)?;

    let mut report = Report::new(&args, load_before, &contestants, durability);
    for case in &cases {
        stop::check()?;
        println!("{}: {}", case.name, case.title);
        report.add(rounds::run(case, &mut contestants, &args)?);
    }
    report.memory(&contestants)?;
    println!("\n{}", report.markdown());
    for path in report.save()? {
        println!("wrote {}", path.display());
    }
    Ok(())
}
