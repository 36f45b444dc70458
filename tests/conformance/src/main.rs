//! The command line of the conformance runner; `README.md` explains its use.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use conformance::report;
use conformance::run::{Selection, Subject, run};
use conformance::self_check::self_check;

const USAGE: &str = "conformance [--group G] [--file F] [--pair NAME] [--subject groundswell|pocketbase] \
                     [--verbose] | --self-check";

#[derive(Debug, Default)]
struct Options {
    selection: Selection,
    subject: Subject,
    verbose: bool,
    self_check: bool,
}

fn main() -> ExitCode {
    match run_command() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Without a place to print to, the exit code has to say it all.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything passed.
fn run_command() -> Result<bool> {
    let options = parse_options(std::env::args().skip(1))?;
    let mut out = io::stdout().lock();
    if options.self_check { check(&options, &mut out) } else { compare(&options, &mut out) }
}

fn compare(options: &Options, out: &mut dyn Write) -> Result<bool> {
    let outcomes = run(&options.selection, options.subject)?;
    ensure!(!outcomes.is_empty(), "no pair is selected");
    report::print(&outcomes, options.verbose, out)?;
    Ok(report::passed(&outcomes))
}

fn check(options: &Options, out: &mut dyn Write) -> Result<bool> {
    let check = self_check(&options.selection)?;
    report::print(&check.clean, options.verbose, out)?;
    for (mutation, count) in &check.found {
        writeln!(out, "found {count} broken by {mutation:?}")?;
    }
    for wrong in &check.wrong {
        writeln!(out, "WRONG {wrong}")?;
    }
    Ok(check.passed())
}

fn parse_options(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--group" => options.selection.group = Some(value()?),
            "--file" => options.selection.file = Some(value()?),
            "--pair" => options.selection.pair = Some(value()?),
            "--subject" => options.subject = parse_subject(&value()?)?,
            "--verbose" => options.verbose = true,
            "--self-check" => options.self_check = true,
            _ => bail!("unknown argument {arg:?}\n{USAGE}"),
        }
    }
    Ok(options)
}

fn parse_subject(name: &str) -> Result<Subject> {
    Ok(match name {
        "groundswell" => Subject::Groundswell,
        "pocketbase" => Subject::PocketBase,
        _ => bail!("unknown subject {name:?}\n{USAGE}"),
    })
}
