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
        Verdict::StaleLater => "STALE LATER, its setup succeeds, take `later` out of the file:",
        Verdict::Different(_) => "FAILED",
    };
    writeln!(to, "{title} {}\n  {}", outcome.name, outcome.request)?;
    for detail in outcome.details.iter().filter(|_| verbose) {
        writeln!(to, "  {detail}")?;
    }
    if let Verdict::Different(differences) = &outcome.verdict {
        for difference in differences {
            writeln!(to, "  - {}", shortened(difference, verbose))?;
        }
    }
    let answers = [("reference: ", &outcome.reference), ("subject:   ", &outcome.subject)];
    let shown = if outcome.verdict == Verdict::Same { 1 } else { 2 };
    // A pair that was not sent has no answers.
    for (who, answer) in answers.iter().take(shown).filter(|(_, answer)| !answer.is_empty()) {
        writeln!(to, "  {who}{}", shortened(answer, verbose))?;
    }
    writeln!(to)
}

fn summary(name: &str, outcomes: &[&Outcome]) -> String {
    let count =
        |wanted: fn(&Verdict) -> bool| outcomes.iter().filter(|outcome| wanted(&outcome.verdict)).count();
    let same = count(|verdict| matches!(verdict, Verdict::Same));
    let later = count(|verdict| matches!(verdict, Verdict::Known(Kind::Later)));
    let mut line = format!("{name}: {same}/{}", outcomes.len() - later);
    let apart = [
        (count(|verdict| matches!(verdict, Verdict::Known(Kind::Lasting))), "lasting difference"),
        (later, "later"),
        (count(|verdict| matches!(verdict, Verdict::Stale)), "stale"),
        (count(|verdict| matches!(verdict, Verdict::StaleLater)), "stale later"),
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
