//! A filter or rule together with what it sees of the request: what must hold for a record.

use std::sync::Arc;

use crate::collection::Collection;
use crate::context::{RequestContext, RuleBody};
use crate::filter::{Filter, Verdict};
use crate::record::Record;
use crate::schema::{Rule, RuleKind, Schema};

/// A checked expression with its request.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The checked expression.
    pub filter: Arc<Filter>,
    /// The request.
    pub context: Arc<RequestContext>,
    /// What `@request.body.*` sees.
    pub body: Arc<RuleBody>,
}

/// What a rule asks of a record.
#[derive(Debug, Clone)]
pub enum Demand {
    /// Nothing: everyone passes.
    Nothing,
    /// Nobody passes.
    Impossible,
    /// This must hold.
    That(Condition),
}

impl Condition {
    /// Judges a stored record in memory.
    pub fn judge(&self, record: &Record) -> Verdict {
        self.filter.judge(record, &self.context, &self.body)
    }

    /// Judges a record that is not stored yet.
    pub fn judge_new(&self, record: &Record) -> Verdict {
        self.filter.judge_new(record, &self.context, &self.body)
    }
}

impl Demand {
    /// What a collection's rule asks of a request. Superusers are the caller's business.
    pub fn of(
        schema: &Schema,
        collection: &Collection,
        kind: RuleKind,
        context: &Arc<RequestContext>,
        body: &Arc<RuleBody>,
    ) -> Demand {
        match schema.rule(collection, kind) {
            Rule::Locked | Rule::Invalid => Demand::Impossible,
            Rule::Open => Demand::Nothing,
            Rule::When(filter) => Demand::That(Condition {
                filter: filter.clone(),
                context: context.clone(),
                body: body.clone(),
            }),
        }
    }
}
