//! `differences.json`: what is known to be answered differently, and why.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::run::{Outcome, Verdict};
use crate::scenario::{GROUPS, folder, load_group};

/// More intended differences than this would make "compatible" a lie.
const MAX_LASTING: usize = 10;

/// How long a difference is meant to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Intended: we answer better, and say so in the documentation.
    Lasting,
    /// Not built yet.
    Later,
}

/// The list.
#[derive(Debug, Default)]
pub struct KnownDifferences {
    entries: Vec<Entry>,
}

/// One difference: what is answered otherwise for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// `group/file/name`, or several.
    pair: Option<Pairs>,
    /// What no pair can show.
    #[serde(default)]
    beside: Vec<Beside>,
    kind: Kind,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Pairs {
    One(String),
    Several(Vec<String>),
}

/// A request, or many, and how both were seen to answer: for readers of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "written for readers of the file")]
struct Beside {
    request: String,
    pocketbase: String,
    groundswell: String,
}

impl KnownDifferences {
    /// Reads the list and checks it against the scenarios.
    pub fn load() -> Result<Self> {
        let file = folder().with_file_name("differences.json");
        let text = std::fs::read_to_string(file).context("read differences.json beside the scenarios")?;
        let mut names = HashSet::new();
        for group in GROUPS {
            for scenario in load_group(group)? {
                names.extend(scenario.pairs.iter().map(|pair| format!("{}/{}", scenario.name, pair.name)));
            }
        }
        Self::parse(&text, &names).context("differences.json")
    }

    fn parse(text: &str, names: &HashSet<String>) -> Result<Self> {
        let entries: Vec<Entry> = serde_json::from_str(text)?;
        let mut listed = HashSet::new();
        for entry in &entries {
            ensure!(!entry.reason.is_empty(), "an entry has no reason: {entry:?}");
            ensure!(
                !entry.pairs().is_empty() || !entry.beside.is_empty(),
                "{:?} is of nothing",
                entry.reason
            );
            for pair in entry.pairs() {
                ensure!(names.contains(pair), "no pair is named {pair:?}");
                ensure!(listed.insert(pair), "{pair:?} is listed twice");
            }
        }
        let lasting = entries.iter().filter(|entry| entry.kind == Kind::Lasting).count();
        ensure!(lasting <= MAX_LASTING, "{lasting} lasting differences, at most {MAX_LASTING} are allowed");
        Ok(Self { entries })
    }

    /// Marks listed pairs: a failed one as known, one that agrees as stale.
    pub(crate) fn apply(&self, outcomes: &mut [Outcome]) {
        for outcome in outcomes {
            if let Some(entry) = self.entries.iter().find(|entry| entry.pairs().contains(&outcome.name)) {
                outcome.verdict = match outcome.verdict {
                    Verdict::Same => Verdict::Stale,
                    _ => Verdict::Known(entry.kind),
                };
            }
        }
    }
}

impl Entry {
    fn pairs(&self) -> &[String] {
        match &self.pair {
            None => &[],
            Some(Pairs::One(pair)) => std::slice::from_ref(pair),
            Some(Pairs::Several(pairs)) => pairs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<KnownDifferences> {
        KnownDifferences::parse(text, &["g/f/a", "g/f/b"].map(str::to_owned).into())
    }

    #[test]
    fn an_entry_is_of_something_and_no_pair_has_two() {
        assert!(parse(r#"[{"kind": "lasting", "reason": "x"}]"#).is_err());
        assert!(parse(r#"[{"pair": ["g/f/a", "g/f/a"], "kind": "lasting", "reason": "x"}]"#).is_err());
        let beside = r#"{"request": "x", "pocketbase": "200", "groundswell": "400"}"#;
        assert!(parse(&format!(r#"[{{"beside": [{beside}], "kind": "lasting", "reason": "x"}}]"#)).is_ok());
    }

    #[test]
    fn a_listed_pair_must_exist_and_must_differ() {
        assert!(parse(r#"[{"pair": "g/f/c", "kind": "later", "reason": "x"}]"#).is_err());
        let known = parse(
            r#"[{"pair": "g/f/a", "kind": "later", "reason": "x"}, {"pair": ["g/f/b"], "kind": "lasting", "reason": "x"}]"#,
        );
        let outcome = |name: &str, verdict| Outcome {
            name: name.to_owned(),
            request: String::new(),
            details: Vec::new(),
            verdict,
            reference: String::new(),
            subject: String::new(),
        };
        let mut outcomes =
            [outcome("g/f/a", Verdict::Same), outcome("g/f/b", Verdict::Different(Vec::new()))];
        known.unwrap().apply(&mut outcomes);
        assert!(matches!(outcomes[0].verdict, Verdict::Stale));
        assert!(matches!(outcomes[1].verdict, Verdict::Known(Kind::Lasting)));
    }
}
