//! Proof that the runner works: the reference agrees with itself, and no broken answer passes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use crate::mutation::Mutation;
use crate::proxy::Proxy;
use crate::run::{Meddler, Outcome, Selection, Subject, Verdict, run, run_scenario};
use crate::scenario::{Pair, Scenario};

/// What a self-check has seen.
#[derive(Debug, Default)]
pub struct SelfCheck {
    /// The reference against itself.
    pub clean: Vec<Outcome>,
    /// How many answers were broken in which way, and found.
    pub found: BTreeMap<Mutation, usize>,
    /// Broken answers that passed, and whole answers that failed in that run.
    pub wrong: Vec<String>,
}

impl SelfCheck {
    /// Whether all is as it should be.
    pub fn passed(&self) -> bool {
        crate::report::passed(&self.clean) && self.wrong.is_empty()
    }
}

/// Runs the selected scenarios twice: untouched, and with each pair's answer broken in one way.
pub fn self_check(selection: &Selection) -> Result<SelfCheck> {
    let mut check = SelfCheck { clean: run(selection, Subject::PocketBase)?, ..SelfCheck::default() };
    let mut turns = Turns::default();
    for scenario in selection.scenarios()? {
        check_scenario(&scenario, &mut turns, &mut check)?;
    }
    let all = Mutation::ANSWERS.iter().chain(&Mutation::IMAGES).chain(&Mutation::EVENTS);
    for mutation in all.filter(|mutation| !check.found.contains_key(mutation)) {
        check.wrong.push(format!("no answer was broken by {mutation:?}"));
    }
    Ok(check)
}

fn check_scenario(scenario: &Scenario, turns: &mut Turns, check: &mut SelfCheck) -> Result<()> {
    let start = || Subject::PocketBase.start_for(scenario);
    let (reference, behind) = (start()?, start()?);
    let proxy = Proxy::start(behind.client())?;
    let mut breaker = Breaker {
        scenario,
        proxy: &proxy,
        turns,
        armed: Vec::new(),
        events: BTreeMap::new(),
        breaks_events: false,
    };
    let outcomes =
        run_scenario(scenario, &reference.client(), &proxy.client(), Subject::PocketBase, &mut breaker)?;
    let Breaker { armed, events, .. } = breaker;
    let applied = proxy.applied();
    ensure!(applied.len() == armed.len(), "every armed answer is broken once");
    let broken = armed.into_iter().zip(applied).chain(events).collect::<BTreeMap<_, _>>();
    judge(&outcomes, &broken, check);
    Ok(())
}

/// How many have been broken; the rare kinds have their own turns, so that each way comes up soon.
#[derive(Debug, Default)]
struct Turns {
    all: usize,
    images: usize,
    events: usize,
}

/// Breaks each pair in one way: its answer on the way, or every other time what streams told.
struct Breaker<'a> {
    scenario: &'a Scenario,
    proxy: &'a Proxy,
    turns: &'a mut Turns,
    /// Pairs whose answers the proxy was told to break.
    armed: Vec<String>,
    /// Pairs whose messages were broken.
    events: BTreeMap<String, Mutation>,
    breaks_events: bool,
}

impl Meddler for Breaker<'_> {
    fn before_subject(&mut self, pair: &Pair) {
        self.breaks_events = false;
        if !may_be_broken(pair) {
            return;
        }
        self.turns.all += 1;
        if pair.events && self.turns.all.is_multiple_of(2) {
            self.breaks_events = true;
            return;
        }
        self.proxy.arm(self.turns.mutations_for(pair));
        self.armed.push(format!("{}/{}", self.scenario.name, pair.name));
    }

    fn heard(&mut self, pair: &Pair, events: &mut Vec<String>) {
        if self.breaks_events {
            self.turns.events += 1;
            let mut fitting = in_turn(&Mutation::EVENTS, self.turns.events);
            let applied = fitting.find(|mutation| mutation.apply_to_events(events));
            let name = format!("{}/{}", self.scenario.name, pair.name);
            self.events.extend(applied.map(|mutation| (name, mutation)));
        }
    }
}

fn judge(outcomes: &[Outcome], broken: &BTreeMap<String, Mutation>, check: &mut SelfCheck) {
    let failed: BTreeSet<&str> = outcomes
        .iter()
        .filter(|outcome| !matches!(outcome.verdict, Verdict::Same))
        .map(|outcome| outcome.name.as_str())
        .collect();
    for outcome in outcomes {
        match (broken.get(&outcome.name), failed.contains(outcome.name.as_str())) {
            (Some(mutation), true) => *check.found.entry(*mutation).or_default() += 1,
            (Some(mutation), false) => check.wrong.push(format!("{} passed with {mutation:?}", outcome.name)),
            (None, true) => check.wrong.push(format!("{} failed untouched", outcome.name)),
            (None, false) => {}
        }
    }
}

/// A broken answer must not spoil later requests, nor be broken where a hint says not to look.
fn may_be_broken(pair: &Pair) -> bool {
    pair.save.is_empty()
        && pair.stream.is_none()
        && pair.message_prefix.is_empty()
        && pair.any.is_empty()
        && pair.ignore_headers.is_empty()
}

impl Turns {
    /// All mutations that the pair can show, starting with another one each turn.
    fn mutations_for(&mut self, pair: &Pair) -> Vec<Mutation> {
        let mut mutations = Vec::new();
        if pair.image {
            self.images += 1;
            mutations.extend(in_turn(&Mutation::IMAGES, self.images));
        }
        let hidden = |mutation: &Mutation| {
            (pair.ignores_key_order() && mutation.is_of_layout()) || (pair.image && mutation.is_of_bytes())
        };
        mutations.extend(in_turn(&Mutation::ANSWERS, self.all).filter(|mutation| !hidden(mutation)));
        mutations
    }
}

fn in_turn(all: &[Mutation], turn: usize) -> impl Iterator<Item = Mutation> {
    (0..all.len()).map(move |step| all[(turn + step) % all.len()])
}
