//! What a run prints.

use std::io::{self, Write};

use crate::differences::Kind;
use crate::run::{Outcome, Verdict};
use crate::scenario::GROUPS;

/// How much of an answer is shown unless asked for more.
const SHOWN_CHARACTERS: usize = 400;

/// Whether every pair agrees or is known to differ.
pub fn passed(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome.verdict, Verdict::Same | Verdict::Known(_)))
}

/// Prints each failure, or with `verbose` each pair, then a line for each group and one for all.
pub fn print(outcomes: &[Outcome], verbose: bool, to: &mut dyn Write) -> io::Result<()> {
    for outcome in outcomes {
        print_outcome(outcome, verbose, to)?;
    }
    for group in GROUPS {
        let of_group: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.name.split('/').next() == Some(group)).collect();
        if !of_group.is_empty() {
            writeln!(to, "{}", summary(group, &of_group))?;
        }
    }
    writeln!(to, "{}", summary("all", &outcomes.iter().collect::<Vec<_>>()))
}

fn print_outcome(outcome: &Outcome, verbose: bool, to: &mut dyn Write) -> io::Result<()> {
    let title = match &outcome.verdict {
        Verdict::Same | Verdict::Known(_) if !verbose => return Ok(()),
        Verdict::Same => "ok",
        Verdict::Known(_) => "known",
        Verdict::Stale => "STALE, take it out of differences.json:",
        Verdict::Different(_) => "FAILED",
    };
    writeln!(to, "{title} {}\n  {}", outcome.name, outcome.request)?;
    if let Verdict::Different(differences) = &outcome.verdict {
        for difference in differences {
            writeln!(to, "  - {}", shortened(difference, verbose))?;
        }
    }
    writeln!(to, "  reference: {}", shortened(&outcome.reference, verbose))?;
    if outcome.verdict != Verdict::Same {
        writeln!(to, "  subject:   {}", shortened(&outcome.subject, verbose))?;
    }
    writeln!(to)
}

fn summary(name: &str, outcomes: &[&Outcome]) -> String {
    let count =
        |wanted: fn(&Verdict) -> bool| outcomes.iter().filter(|outcome| wanted(&outcome.verdict)).count();
    let mut line =
        format!("{name}: {}/{}", count(|verdict| matches!(verdict, Verdict::Same)), outcomes.len());
    let apart = [
        (count(|verdict| matches!(verdict, Verdict::Known(Kind::Lasting))), "lasting difference"),
        (count(|verdict| matches!(verdict, Verdict::Known(Kind::Later))), "later"),
        (count(|verdict| matches!(verdict, Verdict::Stale)), "stale"),
    ];
    for (count, what) in apart.iter().filter(|(count, _)| *count > 0) {
        line.push_str(&format!(", {count} {what}"));
    }
    line
}

fn shortened(text: &str, verbose: bool) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) if !verbose => format!("{}… ({} bytes)", &text[..end], text.len()),
        _ => text.to_owned(),
    }
}
