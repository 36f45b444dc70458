//! Rules about requests, looked at before there is a route: each has a condition on the head, and says what becomes of a
//! request that it fits. The first that blocks or challenges decides; one that logs is noted, and the next is looked at.
//!
//! A condition is parsed when the configuration is read (`tokens.rs`, `parser.rs`), and then asked for each request
//! (`condition.rs`). That takes no memory but for a path with escapes, which is decoded once, and time that grows with the head and
//! no faster. Bodies are not looked at.

mod condition;
mod head;
mod parser;
mod scanners;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use kit::error::ApiError;
use metrics::{Counter, counter};
use tracing::info;

pub use self::condition::Condition;
use self::head::Head;
pub use self::scanners::{Scanners, names as scanner_names};
pub use self::tokens::BadCondition;
use crate::net::Peer;
use crate::refusal::{Cause, Refusal};

/// How many rules there may be, with those that are built in.
pub const MAX_RULES: usize = 200;

/// Under the program's name, which users give for a level of its own.
const TARGET: &str = "groundswell::checks";

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// By which logs and counters name it.
    pub name: String,
    /// Which requests it fits.
    pub when: Condition,
    /// What becomes of them.
    pub action: RuleAction,
}

/// What becomes of a request that a rule fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// It is answered 403.
    Block,
    /// It goes on.
    Log,
    /// It is answered 429, with the word to come again after this time: programs that only probe do not.
    Challenge(Duration),
}

/// Rules in their order, and what they are counted with.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Counted>);

#[derive(Debug)]
struct Counted {
    name: Arc<str>,
    when: Condition,
    action: RuleAction,
    matches: Counter,
}

/// A request's extension: the first rule that fits it and only logs.
#[derive(Debug, Clone)]
pub(crate) struct Noted(pub(crate) Arc<str>);

/// What a rule answers.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    rule: Arc<str>,
    action: RuleAction,
}

/// Whether a request fits a condition.
#[cfg(any(test, fuzzing))]
pub(crate) fn holds(condition: &Condition, request: &Request<Body>) -> bool {
    condition.holds(&Head::of(request))
}

// === impl RuleAction ===

impl RuleAction {
    /// As the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Log => "log",
            Self::Challenge(_) => "challenge",
        }
    }
}

// === impl Rules ===

impl Rules {
    /// None where there are no rules.
    pub(crate) fn new(rules: Vec<Rule>) -> Option<Self> {
        let counted = |Rule { name, when, action }: Rule| Counted {
            matches: counter!(
                "groundswell_gateway_rule_matches_total",
                "rule" => name.clone(), "action" => action.as_str()
            ),
            name: name.into(),
            when,
            action,
        };
        (!rules.is_empty()).then(|| Self(rules.into_iter().map(counted).collect()))
    }

    /// What is answered to a request by the first rule that does not let it go on.
    pub(crate) fn judge(&self, request: &mut Request<Body>) -> Option<Stop> {
        let (mut stop, mut noted) = (None, None);
        let head = Head::of(request);
        for rule in &self.0 {
            if !rule.when.holds(&head) {
                continue;
            }
            rule.tell(request);
            if rule.action != RuleAction::Log {
                stop = Some(Stop { rule: rule.name.clone(), action: rule.action });
                break;
            }
            noted = noted.or_else(|| Some(Noted(rule.name.clone())));
        }
        drop(head);
        if let Some(noted) = noted {
            request.extensions_mut().insert(noted);
        }
        stop
    }
}

// === impl Counted ===

impl Counted {
    fn tell(&self, request: &Request<Body>) {
        self.matches.increment(1);
        let client = request.extensions().get().map(|peer: &Peer| peer.client);
        info!(
            target: TARGET,
            rule = &*self.name,
            action = self.action.as_str(),
            client = client.map(tracing::field::display),
            method = %request.method(),
            path = request.uri().path(),
            "a request fits a rule"
        );
    }
}

// === impl Stop ===

impl Stop {
    pub(crate) fn into_response(self) -> Response<Body> {
        let answer = match self.action {
            RuleAction::Challenge(wait) => ApiError::too_many_requests().with_retry_after(wait),
            RuleAction::Block | RuleAction::Log => ApiError::forbidden(),
        };
        let mut response = answer.into_response();
        response.extensions_mut().insert(Refusal { cause: Cause::Rule, rule: Some(self.rule) });
        response
    }
}

#[cfg(test)]
mod tests;
