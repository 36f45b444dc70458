//! What a topic means under one schema: its rule and filter, checked, and what they look at.

use std::collections::HashMap;
use std::sync::Arc;

use kit::fields::Fields;
use model::collection::Collection;
use model::filter::{self, Filter, Scope};
use model::plan::is_secret;
use model::schema::{Rule, RuleKind, Schema};

use crate::topic::{Options, Topic};

/// A topic, ready to be held against events.
#[derive(Debug)]
pub(crate) struct Plan {
    made_for: MadeFor,
    pub(crate) rule: Access,
    pub(crate) filter: Access,
    pub(crate) superuser_filter: Access,
    /// Whether two callers, neither a superuser, may be told different things.
    pub(crate) caller_matters: bool,
    /// The same of two superusers.
    pub(crate) superuser_matters: bool,
    /// Topics of one class are judged alike.
    pub(crate) verdict_class: Class,
    /// Topics of one class show the same of a record.
    pub(crate) shape_class: Class,
    pub(crate) fields: Option<Fields>,
    pub(crate) expands: bool,
}

/// What a rule or a filter asks.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    Nobody,
    All,
    When(Arc<Filter>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct MadeFor {
    schema_version: u64,
    collection: String,
    is_record: bool,
    epoch: u64,
}

/// Numbers for texts that are compared often.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    known: HashMap<ClassOf, u32>,
    /// Rises when all are forgotten, and with them every plan.
    epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Class(u32);

/// What topics have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
enum ClassOf {
    Verdict { is_record: bool, filter: String, sort: String, request: Option<Options> },
    Shape { fields: String, expand: String, request: Option<Options> },
}

/// Classes remembered; past them all are forgotten, and every topic is looked at anew.
const MOST_CLASSES: usize = 200_000;

// === impl Plan ===

impl Plan {
    /// What the topic means now; what it meant for the event before is remembered with it.
    pub(crate) fn of(
        topic: &Topic,
        is_record: bool,
        schema: &Schema,
        collection: &Arc<Collection>,
        classes: &mut Classes,
    ) -> Arc<Plan> {
        let made_for = MadeFor {
            schema_version: schema.version(),
            collection: collection.id.clone(),
            is_record,
            epoch: classes.epoch,
        };
        if let Some(plan) = topic.plan()
            && plan.made_for == made_for
        {
            return plan;
        }
        let plan = Arc::new(Plan::make(made_for, &topic.options, schema, collection, classes));
        topic.set_plan(plan.clone());
        plan
    }

    fn make(
        made_for: MadeFor,
        options: &Options,
        schema: &Schema,
        collection: &Arc<Collection>,
        classes: &mut Classes,
    ) -> Plan {
        let is_record = made_for.is_record;
        let kind = if is_record { RuleKind::View } else { RuleKind::List };
        let rule = Access::of_rule(schema.rule(collection, kind), collection);
        let filter = Access::of_client(schema, collection, options);
        let superuser_filter = Access::of_superuser(schema, collection, options);
        let sees_request = [&rule, &filter, &superuser_filter].into_iter().any(Access::sees_request);
        let expand = options.parameter("expand");
        let request = |is_seen: bool| is_seen.then(|| options.clone());
        let verdict_class = classes.of(ClassOf::Verdict {
            is_record,
            filter: options.parameter("filter").to_owned(),
            sort: options.parameter("sort").to_owned(),
            request: request(sees_request),
        });
        let shape_class = classes.of(ClassOf::Shape {
            fields: options.parameter("fields").to_owned(),
            expand: expand.to_owned(),
            request: request(!expand.is_empty()),
        });
        let expands = !expand.is_empty();
        Plan {
            caller_matters: rule.sees_caller() || filter.sees_caller() || collection.is_auth() || expands,
            superuser_matters: superuser_filter.sees_caller(),
            verdict_class,
            shape_class,
            // What is no list of fields picks none, and all are shown.
            fields: Some(options.parameter("fields"))
                .filter(|fields| !fields.is_empty())
                .and_then(|fields| Fields::parse(fields).ok()),
            expands,
            made_for,
            rule,
            filter,
            superuser_filter,
        }
    }
}

// === impl Access ===

impl Access {
    fn of_rule(rule: &Rule, collection: &Collection) -> Access {
        match rule {
            Rule::Locked | Rule::Invalid => Access::Nobody,
            Rule::Open => Access::All,
            Rule::When(filter) => Access::when(filter.clone(), collection),
        }
    }

    /// The filter of anybody but a superuser. One that is wrong, or names what it may not, lets nothing through.
    fn of_client(schema: &Schema, collection: &Arc<Collection>, options: &Options) -> Access {
        let text = options.parameter("filter");
        if text.is_empty() {
            return Access::All;
        }
        let names_others = filter::forbidden_for_clients(text).is_some()
            || filter::forbidden_for_clients(options.parameter("sort")).is_some();
        if names_others {
            return Access::Nobody;
        }
        Access::of_text(schema, collection, text, Scope::Client)
    }

    /// A superuser's filter may speak of everything but, as others', of hidden fields.
    fn of_superuser(schema: &Schema, collection: &Arc<Collection>, options: &Options) -> Access {
        let text = options.parameter("filter");
        if text.is_empty() {
            return Access::All;
        }
        match Access::of_text(schema, collection, text, Scope::Client) {
            Access::Nobody => Access::Nobody,
            _ => Access::of_text(schema, collection, text, Scope::Rule),
        }
    }

    fn of_text(schema: &Schema, collection: &Arc<Collection>, text: &str, scope: Scope) -> Access {
        match filter::check(schema, collection, text, scope) {
            Ok(filter) => Access::when(Arc::new(filter), collection),
            Err(_) => Access::Nobody,
        }
    }

    /// Events are without secret fields, so what asks for one cannot be judged.
    fn when(filter: Arc<Filter>, collection: &Collection) -> Access {
        let asks_secrets = filter
            .depends()
            .fields
            .iter()
            .any(|name| collection.field(name).is_some_and(|field| is_secret(collection, field)));
        if asks_secrets { Access::Nobody } else { Access::When(filter) }
    }

    fn sees_caller(&self) -> bool {
        matches!(self, Access::When(filter) if !filter.depends().caller.is_empty())
    }

    fn sees_request(&self) -> bool {
        let Access::When(filter) = self else { return false };
        let depends = filter.depends();
        !depends.query.is_empty() || !depends.headers.is_empty()
    }
}

// === impl Classes ===

impl Classes {
    fn of(&mut self, class: ClassOf) -> Class {
        let next = u32::try_from(self.known.len()).expect("classes are fewer than their bound");
        Class(*self.known.entry(class).or_insert(next))
    }

    /// Forgets all when they are too many. Called between events: numbers of before mean nothing after.
    pub(crate) fn make_room(&mut self) {
        if self.known.len() > MOST_CLASSES {
            self.known.clear();
            self.epoch += 1;
        }
    }
}
