//! Running scenarios: two fresh servers for each file, its setup on both, then pair by pair.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::{Client, Groundswell, PocketBase, Response, Server};

use crate::compare::{self, Answer};
use crate::differences::{Kind, KnownDifferences};
use crate::normalise::Matches;
use crate::scenario::{self, Pair, Scenario};
use crate::setup::Side;
use crate::streams::settle;

/// Which server is compared with the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Subject {
    /// Our own.
    #[default]
    Groundswell,
    /// The reference itself.
    PocketBase,
}

/// Which pairs to run; empty selects all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// A group's name.
    pub group: Option<String>,
    /// A part of a scenario's name. A selected file runs as a whole.
    pub file: Option<String>,
    /// A part of a pair's name. All pairs of the file are sent, the selected are reported.
    pub pair: Option<String>,
    /// Of these, only each so many of a group.
    pub every: Option<usize>,
}

/// A pair that was run.
#[derive(Debug)]
pub struct Outcome {
    /// `group/file/name`.
    pub name: String,
    /// Method and target as written.
    pub request: String,
    /// Who asked, and what went along, a line each.
    pub details: Vec<String>,
    /// What came of it.
    pub verdict: Verdict,
    /// Status and body of the reference; empty when it was not asked.
    pub reference: String,
    /// Status and body of the subject; empty when there is none.
    pub subject: String,
}

/// What came of a pair.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No difference.
    Same,
    /// Differences that nobody has accounted for, a line each.
    Different(Vec<String>),
    /// A difference that is listed.
    Known(Kind),
    /// A listed difference that is not there any more.
    Stale,
    /// A pair of a file for later, whose setup is accepted by now.
    StaleLater,
}

/// Somebody who may spoil what the subject says, to see that it is noticed.
pub trait Meddler {
    /// Right before the subject is asked.
    fn before_subject(&mut self, _pair: &Pair) {}

    /// Once the subject's messages are there, of a pair that looks at them.
    fn heard(&mut self, _pair: &Pair, _events: &mut Vec<String>) {}
}

/// Nobody meddles.
impl Meddler for () {}

impl Subject {
    /// Starts one.
    pub fn start(self) -> Result<Server> {
        match self {
            Self::Groundswell => Groundswell::start(),
            Self::PocketBase => PocketBase::start(),
        }
    }

    /// Starts one as the scenario wants it.
    pub fn start_for(self, scenario: &Scenario) -> Result<Server> {
        let mut server = self.start()?;
        if scenario.public.is_empty() {
            return Ok(server);
        }
        for (path, text) in &scenario.public {
            let file = server.public_dir().join(path);
            std::fs::create_dir_all(file.parent().context("a file of the public folder without a name")?)?;
            std::fs::write(&file, text).with_context(|| format!("write {path:?} of the public folder"))?;
        }
        // A server may look at the folder only when it starts.
        server.restart()?;
        Ok(server)
    }
}

impl Selection {
    /// The selected scenarios, in order.
    pub fn scenarios(&self) -> Result<Vec<Scenario>> {
        if let Some(group) = self.group.as_deref().filter(|group| !scenario::GROUPS.contains(group)) {
            bail!("no group {group:?}: there are {}", scenario::GROUPS.join(", "));
        }
        let mut scenarios = Vec::new();
        for group in
            scenario::GROUPS.iter().filter(|group| self.group.as_deref().is_none_or(|name| name == **group))
        {
            let of_group = scenario::load_group(group)?.into_iter();
            let selected = of_group.filter(|scenario| selects(self.file.as_deref(), &scenario.name));
            scenarios.extend(selected.step_by(self.every.unwrap_or(1)));
        }
        Ok(scenarios)
    }

    /// Whether a pair of this name is to be reported.
    pub fn selects_pair(&self, name: &str) -> bool {
        selects(self.pair.as_deref(), name)
    }
}

fn selects(part: Option<&str>, name: &str) -> bool {
    part.is_none_or(|part| name.contains(part))
}

/// Runs what is selected against fresh servers. Listed differences count for Groundswell only.
pub fn run(selection: &Selection, subject: Subject) -> Result<Vec<Outcome>> {
    let known = match subject {
        Subject::Groundswell => KnownDifferences::load()?,
        Subject::PocketBase => KnownDifferences::default(),
    };
    let mut outcomes = Vec::new();
    for scenario in selection.scenarios()? {
        if subject == Subject::Groundswell && scenario.later.is_some() {
            let server = subject.start_for(&scenario)?;
            outcomes.extend(try_later(&scenario, &server.client()));
            continue;
        }
        let servers = (Subject::PocketBase.start_for(&scenario)?, subject.start_for(&scenario)?);
        outcomes.extend(run_scenario(&scenario, &servers.0.client(), &servers.1.client(), subject, &mut ())?);
    }
    outcomes.retain(|outcome| selection.selects_pair(&outcome.name));
    known.apply(&mut outcomes);
    Ok(outcomes)
}

/// Sets up a scenario for later: its pairs wait as long as that fails.
fn try_later(scenario: &Scenario, subject: &Client) -> Vec<Outcome> {
    let set_up = Side::set_up(subject.clone(), scenario);
    let waiting = |pair| match &set_up {
        Ok(_) => Outcome { verdict: Verdict::StaleLater, ..Outcome::new(scenario, pair) },
        Err(error) => Outcome {
            verdict: Verdict::Known(Kind::Later),
            subject: format!("setup: {error:#}"),
            ..Outcome::new(scenario, pair)
        },
    };
    scenario.pairs.iter().map(waiting).collect()
}

/// Runs one scenario against two servers.
/// An error means that the reference could not follow; the subject's troubles are outcomes.
pub fn run_scenario(
    scenario: &Scenario,
    reference: &Client,
    subject: &Client,
    kind: Subject,
    meddler: &mut dyn Meddler,
) -> Result<Vec<Outcome>> {
    let mut reference = Side::set_up(reference.clone(), scenario)
        .with_context(|| format!("set up the reference for {}", scenario.name))?;
    let mut subject = match Side::set_up(subject.clone(), scenario) {
        Ok(subject) => subject,
        Err(error) => return Ok(all_failed(scenario, &format!("setup: {error:#}"))),
    };
    subject.reads_clock_twice = kind == Subject::PocketBase;
    let mut matches = Matches::default();
    let mut outcomes = Vec::new();
    for pair in &scenario.pairs {
        let mut outcome = Outcome::new(scenario, pair);
        run_pair(pair, &mut outcome, &mut reference, &mut subject, &mut matches, meddler)
            .with_context(|| outcome.name.clone())?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn run_pair(
    pair: &Pair,
    outcome: &mut Outcome,
    reference: &mut Side,
    subject: &mut Side,
    matches: &mut Matches,
    meddler: &mut dyn Meddler,
) -> Result<()> {
    if !pair.relate.is_empty() {
        // Time stamps count milliseconds: one has to pass for "later" to show.
        std::thread::sleep(Duration::from_millis(3));
    }
    reference.repeat(pair).context("ask the reference")?;
    let expected = reference.send(pair).context("ask the reference")?;
    outcome.reference = describe(&expected);
    let repeated = subject.repeat(pair);
    meddler.before_subject(pair);
    let answer = match repeated.and_then(|()| subject.send(pair)) {
        Ok(answer) => answer,
        Err(error) => {
            outcome.verdict = Verdict::Different(vec![format!("no answer: {error:#}")]);
            return Ok(());
        }
    };
    outcome.subject = describe(&answer);
    let mut events = (Vec::new(), Vec::new());
    if pair.events {
        settle(&mut reference.streams, &mut subject.streams).context("listen")?;
        events.0 = reference.streams.take_messages(&mut reference.seen);
        events.1 = subject.streams.take_messages(&mut subject.seen);
        meddler.heard(pair, &mut events.1);
        outcome.reference.push_str(&told(&events.0));
        outcome.subject.push_str(&told(&events.1));
    }

    let relations = (reference.relations(pair, &expected)?, subject.relations(pair, &answer)?);
    let differences = compare::differences(
        pair,
        Answer { response: &expected, events: &events.0, relations: relations.0, seen: &mut reference.seen },
        Answer { response: &answer, events: &events.1, relations: relations.1, seen: &mut subject.seen },
        matches,
    );
    if !differences.is_empty() {
        outcome.verdict = Verdict::Different(differences);
    }
    reference.save(pair, &expected).context("save from the reference")?;
    // What the subject lacks shows as a difference already.
    let _ = subject.save(pair, &answer);
    Ok(())
}

impl Outcome {
    fn new(scenario: &Scenario, pair: &Pair) -> Self {
        Self {
            name: format!("{}/{}", scenario.name, pair.name),
            request: pair.request.clone(),
            details: pair.details(),
            verdict: Verdict::Same,
            reference: String::new(),
            subject: String::new(),
        }
    }
}

fn all_failed(scenario: &Scenario, reason: &str) -> Vec<Outcome> {
    let failed = |pair| {
        let verdict = Verdict::Different(vec![reason.to_owned()]);
        Outcome { verdict, ..Outcome::new(scenario, pair) }
    };
    scenario.pairs.iter().map(failed).collect()
}

fn describe(response: &Response) -> String {
    match str::from_utf8(&response.body) {
        Ok(text) => format!("{} {text}", response.status),
        Err(_) => format!("{} ({} bytes)", response.status, response.body.len()),
    }
}

fn told(events: &[String]) -> String {
    let lines = events.iter().map(|event| format!("\n    told {event:?}"));
    if events.is_empty() { "\n    told nothing".to_owned() } else { lines.collect() }
}
