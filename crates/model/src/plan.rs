//! Planning of a step: what a write does to a row, decided on plain data, one code for every adapter.
//!
//! The adapter loads and locks the row, calls [`create`], [`patch`] or [`delete`], answers the
//! questions that the plan has for the store, and [`Pending::decide`] gives the row to write or why
//! not. The order is the contract's: rule, form checks, what hooks set, field checks, the row. What goes with a deleted
//! record is decided in [`release`].

pub mod release;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;

use crate::collection::Collection;
use crate::condition::{Condition, Demand};
use crate::context::RuleBody;
use crate::errors::FieldErrors;
use crate::field::Field;
use crate::filter::Verdict;
use crate::json::Json;
use crate::record::lookup::Lookup;
use crate::record::resolve::{PlainPassword, Resolved, WriteInput, resolve_body};
use crate::record::{Record, autogenerate, fill, forms, validate};
use crate::schema::{Rule, RuleKind, Schema};
use crate::step::{Access, CreateRecord, DeleteRecord, Guard, PatchRecord, Why};
use crate::time::Timestamp;
use crate::value::Value;

/// What planning needs from outside. Planning does not wait for anything: the adapter that does makes
/// one for each step.
pub struct Environment<'a, R: Rng> {
    /// As the steps before this one left it.
    pub schema: &'a Schema,
    /// The instant of the write.
    pub now: Timestamp,
    /// Makes ids and keys.
    pub rng: &'a mut R,
}

/// What only the store can tell. Every answer is yes or no.
#[derive(Debug, Clone)]
pub enum Question {
    /// Does the condition hold for this row? The row is judged as given; it need not be stored.
    Holds {
        /// The row with its collection.
        row: Box<Record>,
        /// Whether a stored row with this id is meant, which is equal to `row`.
        is_stored: bool,
        /// What must hold.
        condition: Condition,
    },
    /// Do all these records exist?
    AllExist {
        /// Where to look.
        collection_id: String,
        /// Without duplicates.
        ids: Vec<String>,
    },
    /// Does no record have this id?
    IdIsFree {
        /// Where to look.
        collection: Arc<Collection>,
        /// The id.
        id: String,
        /// Whether ids that differ only in case count.
        ignore_case: bool,
    },
    /// Has the collection a record with another id?
    HasOther {
        /// Where to look.
        collection: Arc<Collection>,
        /// The id that does not count.
        id: String,
    },
}

/// A planned step that waits for the answers to its questions.
pub struct Pending {
    questions: Vec<Question>,
    /// The collection's rule.
    rule: Decision,
    /// Whether the caller manages the record, where the form checks depend on it.
    manager: Decision,
    /// What the form checks say of a manager and of somebody else.
    forms: FormErrors,
    field_errors: FieldErrors,
    lookups: Vec<(Lookup, Decision)>,
    /// Whether every password that is to be stored has its hash.
    has_hashes: bool,
    /// That another superuser is left.
    other_superuser: Decision,
    row: Record,
}

#[derive(Default)]
struct FormErrors {
    of_manager: FieldErrors,
    of_others: FieldErrors,
    /// Whether somebody else must give the old password.
    needs_old_password: bool,
}

/// What the rules say of a write, as far as that is known.
struct Judged {
    questions: Vec<Question>,
    rule: Decision,
    manager: Decision,
}

/// Known already, or what the answers say: yes when all of these are.
#[derive(Debug, Clone)]
enum Decision {
    Known(bool),
    Asked(Vec<usize>),
}

/// Plans a create.
pub fn create<R: Rng>(
    environment: &mut Environment<'_, R>,
    collection: &Arc<Collection>,
    step: &CreateRecord,
) -> Result<Pending, Why> {
    let is_superuser = step.access.is_superuser();
    let input = WriteInput { body: &step.body, uploads: &step.uploads.files, is_superuser };
    let mut resolved = resolve_body(collection, None, input, environment.rng);
    let mut judged = Judged::of_superuser();
    if !is_superuser {
        refuse_long_password(environment.schema, &resolved)?;
        let mut temporary_id = String::new();
        autogenerate::generate("[a-z0-9]{15}", environment.rng, &mut temporary_id);
        let row = resolved.row_for_create_rule(&temporary_id);
        let judge = Judge { schema: environment.schema, access: &step.access, row: &row, is_stored: false };
        judged = judge.write(RuleKind::Create, &resolved, &step.body)?;
    }
    let forms = FormErrors::check(&resolved, None);
    resolved.set_over(&step.set_by_hooks, environment.rng);
    if resolved.record.id().is_empty() && !resolved.uploads.is_empty() {
        resolved.record.set("id", Value::Text(step.uploads.record_id.clone()));
    }
    Ok(Pending::new(environment, resolved, None, &step.password_hashes, judged, forms))
}

/// Plans a change of a stored record.
pub fn patch<R: Rng>(
    environment: &mut Environment<'_, R>,
    step: &PatchRecord,
    old: &Record,
) -> Result<Pending, Why> {
    let is_superuser = step.access.is_superuser();
    let input = WriteInput { body: &step.body, uploads: &step.uploads.files, is_superuser };
    let mut resolved = resolve_body(&old.collection, Some(old), input, environment.rng);
    let mut judged = Judged::of_superuser();
    if !is_superuser {
        let judge = Judge { schema: environment.schema, access: &step.access, row: old, is_stored: true };
        judged = judge.write(RuleKind::Update, &resolved, &step.body)?;
    }
    if step.old_password_for.as_deref().is_some_and(|hash| hash != old.get("password").as_str()) {
        return Err(Why::Guard(Guard::PasswordHash));
    }
    let mut forms = FormErrors::check(&resolved, Some(old));
    if forms.needs_old_password && step.old_password_for.is_none() {
        forms.of_others.merge(forms::invalid_old_password());
    }
    resolved.set_over(&step.set_by_hooks, environment.rng);
    Ok(Pending::new(environment, resolved, Some(old), &step.password_hashes, judged, forms))
}

/// The contract's create rules see a hash of the password: one that is too long has none, and that
/// denies a rule that is an expression.
fn refuse_long_password(schema: &Schema, resolved: &Resolved) -> Result<(), Why> {
    let is_too_long = |password: &PlainPassword| password.plain.len() > validate::MAX_PASSWORD_BYTES;
    let is_expression = |kind| matches!(schema.rule(&resolved.record.collection, kind), Rule::When(_));
    if resolved.passwords.iter().any(is_too_long)
        && [RuleKind::Create, RuleKind::Manage].into_iter().any(is_expression)
    {
        return Err(Why::RuleDenied);
    }
    Ok(())
}

/// Plans the removal of a stored record. What goes with it is the adapter's to find, and
/// [`release::release`] tells what becomes of it.
pub fn delete<R: Rng>(
    environment: &mut Environment<'_, R>,
    step: &DeleteRecord,
    old: &Record,
) -> Result<Pending, Why> {
    let mut questions = Vec::new();
    let mut rule = Decision::Known(true);
    if !step.access.is_superuser() {
        let judge = Judge { schema: environment.schema, access: &step.access, row: old, is_stored: true };
        let body = Arc::new(RuleBody { values: step.body.clone() });
        rule = judge.rule(RuleKind::Delete, &body, &mut questions);
        rule.refuse_known_no()?;
    }
    let other_superuser = if old.collection.is_superusers() {
        let question = Question::HasOther { collection: old.collection.clone(), id: old.id().to_owned() };
        Decision::ask(question, &mut questions)
    } else {
        Decision::Known(true)
    };
    Ok(Pending {
        questions,
        rule,
        manager: Decision::Known(false),
        forms: FormErrors::default(),
        field_errors: FieldErrors::new(),
        lookups: Vec::new(),
        has_hashes: true,
        other_superuser,
        row: old.clone(),
    })
}

/// A stored value as JSON, in the form in which clients see it.
pub fn value_json(field: &Field, value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Number(number) if matches!(field.kind, crate::field::FieldKind::Bool) => {
            Json::Bool(*number != 0.0)
        }
        Value::Number(number) => Json::Number(*number),
        Value::Text(text) => Json::Text(text.clone()),
        Value::Json(text) => Json::parse_whole(text).unwrap_or_default(),
    }
}

/// What never leaves the store: password hashes, and the token keys of records that can sign in.
pub fn is_secret(collection: &Collection, field: &Field) -> bool {
    matches!(field.kind, crate::field::FieldKind::Password(_))
        || collection.is_auth() && field.name == "tokenKey"
}

// === impl Pending ===

impl Pending {
    /// What remains once rule and forms are judged: field checks, look-ups, and what the server sets.
    fn new<R: Rng>(
        environment: &mut Environment<'_, R>,
        mut resolved: Resolved,
        old: Option<&Record>,
        hashes: &BTreeMap<String, String>,
        judged: Judged,
        forms: FormErrors,
    ) -> Pending {
        let Judged { mut questions, rule, manager } = judged;
        if old.is_none() {
            fill::fill_generated(&mut resolved.record, environment.rng);
        }
        let collection = resolved.record.collection.clone();
        let (field_errors, lookups) = validate::validate(&resolved, old);
        let lookups = ask_all(environment.schema, &collection, lookups, &mut questions);
        let has_hashes = set_passwords(&mut resolved, hashes);
        let mut row = resolved.record;
        if let Some(old) = old {
            let is_password_changed = collection.is_auth() && hashes.contains_key("password");
            fill::renew_token_key(&mut row, old, is_password_changed, environment.rng);
        }
        fill::fill_before_store(&mut row, old.is_none(), environment.now);
        Pending {
            questions,
            rule,
            manager,
            forms,
            field_errors,
            lookups,
            has_hashes,
            other_superuser: Decision::Known(true),
            row,
        }
    }

    /// What the store must answer, in this order. No question depends on the answer to another, so they may
    /// all be put at once.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// What must hold of the row for the collection's rule to allow the step, where that is not known without the
    /// store. Without any the rule allows it.
    pub fn rule_conditions(&self) -> Vec<Condition> {
        let Decision::Asked(asked) = &self.rule else { return Vec::new() };
        let questions = asked.iter().map(|position| &self.questions[*position]);
        let conditions = questions.filter_map(|question| match question {
            Question::Holds { condition, .. } => Some(condition.clone()),
            _ => None,
        });
        conditions.collect()
    }

    /// The row to write or to remove, or why not.
    pub fn decide(self, answers: &[bool]) -> Result<Record, Why> {
        if !self.rule.is_yes(answers) {
            return Err(Why::RuleDenied);
        }
        let forms = if self.manager.is_yes(answers) { self.forms.of_manager } else { self.forms.of_others };
        forms.into_result().map_err(Why::Fields)?;
        field_outcome(self.field_errors, &self.lookups, answers).map_err(Why::Fields)?;
        if !self.other_superuser.is_yes(answers) {
            return Err(Why::LastSuperuser);
        }
        if !self.has_hashes {
            return Err(Why::Guard(Guard::PasswordHash));
        }
        Ok(self.row)
    }
}

/// The errors of the fields with those of the look-ups that the store said no to, in the contract's
/// order of precedence.
fn field_outcome(
    local: FieldErrors,
    lookups: &[(Lookup, Decision)],
    answers: &[bool],
) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    let failed =
        || lookups.iter().filter(|(_, decision)| !decision.is_yes(answers)).map(|(lookup, _)| lookup);
    for lookup in failed().filter(|lookup| matches!(lookup, Lookup::NoIdTwin { .. })) {
        errors.add(lookup.field(), lookup.error());
    }
    errors.merge(local);
    for lookup in failed().filter(|lookup| matches!(lookup, Lookup::RecordsExist { .. })) {
        errors.add(lookup.field(), lookup.error());
    }
    if errors.is_empty() {
        for lookup in failed() {
            errors.add(lookup.field(), lookup.error());
        }
    }
    errors.into_result()
}

fn ask_all(
    schema: &Schema,
    collection: &Arc<Collection>,
    lookups: Vec<Lookup>,
    questions: &mut Vec<Question>,
) -> Vec<(Lookup, Decision)> {
    let ask = |lookup: Lookup| {
        let decision = ask_lookup(schema, collection, &lookup, questions);
        (lookup, decision)
    };
    lookups.into_iter().map(ask).collect()
}

fn ask_lookup(
    schema: &Schema,
    collection: &Arc<Collection>,
    lookup: &Lookup,
    questions: &mut Vec<Question>,
) -> Decision {
    match lookup {
        Lookup::RecordsExist { collection_id, ids, .. } => Decision::ask(
            Question::AllExist { collection_id: collection_id.clone(), ids: ids.clone() },
            questions,
        ),
        Lookup::NoIdTwin { id } => Decision::ask(
            Question::IdIsFree { collection: collection.clone(), id: id.clone(), ignore_case: true },
            questions,
        ),
        Lookup::NoAuthTwin { id } => {
            let others = schema.collections().filter(|other| other.is_auth() && other.id != collection.id);
            let asked = others.map(|other| {
                questions.push(Question::IdIsFree {
                    collection: other.clone(),
                    id: id.clone(),
                    ignore_case: false,
                });
                questions.len() - 1
            });
            Decision::Asked(asked.collect())
        }
    }
}

/// Puts hashes where plain passwords were sent. One that is missing was not made because the password
/// is refused; if it is not refused after all, the step must be built again.
fn set_passwords(resolved: &mut Resolved, hashes: &BTreeMap<String, String>) -> bool {
    let mut has_all = true;
    for password in &resolved.passwords {
        let record = &mut resolved.record;
        let name = &record.collection.fields[password.field].name;
        let value = match hashes.get(name) {
            _ if password.plain.is_empty() => String::new(),
            Some(hash) => hash.clone(),
            None => {
                has_all = false;
                continue;
            }
        };
        record.values[password.field] = Value::Text(value);
    }
    has_all
}

// === impl FormErrors ===

impl FormErrors {
    fn check(resolved: &Resolved, old: Option<&Record>) -> FormErrors {
        let of_others = forms::check(resolved, old, false);
        FormErrors {
            of_manager: forms::check(resolved, old, true).errors,
            needs_old_password: of_others.old_password.is_some(),
            of_others: of_others.errors,
        }
    }
}

// === impl Judged ===

impl Judged {
    /// No rule applies.
    fn of_superuser() -> Judged {
        Judged { questions: Vec::new(), rule: Decision::Known(true), manager: Decision::Known(true) }
    }
}

// === impl Decision ===

impl Decision {
    fn ask(question: Question, questions: &mut Vec<Question>) -> Decision {
        questions.push(question);
        Decision::Asked(vec![questions.len() - 1])
    }

    fn is_yes(&self, answers: &[bool]) -> bool {
        match self {
            Decision::Known(known) => *known,
            Decision::Asked(asked) => {
                asked.iter().all(|position| answers.get(*position).copied().unwrap_or(false))
            }
        }
    }

    /// Ends the planning of what a rule denies for certain.
    fn refuse_known_no(&self) -> Result<(), Why> {
        if matches!(self, Decision::Known(false)) { Err(Why::RuleDenied) } else { Ok(()) }
    }
}

/// Judges the rules of one row for one request: in memory where that is enough.
struct Judge<'a> {
    schema: &'a Schema,
    access: &'a Access,
    row: &'a Record,
    is_stored: bool,
}

impl Judge<'_> {
    /// What `@request.body.*` sees; made only when a rule may look at it.
    fn body(&self, resolved: &Resolved, body: &crate::json::JsonObject) -> Arc<RuleBody> {
        let collection = &self.row.collection;
        let has_expression = |kind: RuleKind| kind.text(collection).is_some_and(|text| !text.is_empty());
        let is_needed =
            [RuleKind::Create, RuleKind::Update, RuleKind::Manage].into_iter().any(has_expression);
        Arc::new(if is_needed { resolved.rule_body(body) } else { RuleBody::default() })
    }

    /// Judges a write: the rule, and whether the caller manages the record.
    fn write(
        &self,
        kind: RuleKind,
        resolved: &Resolved,
        body: &crate::json::JsonObject,
    ) -> Result<Judged, Why> {
        let mut questions = Vec::new();
        let body = self.body(resolved, body);
        let rule = self.rule(kind, &body, &mut questions);
        rule.refuse_known_no()?;
        let manager = self.manager(&body, &mut questions);
        Ok(Judged { questions, rule, manager })
    }

    fn rule(&self, kind: RuleKind, body: &Arc<RuleBody>, questions: &mut Vec<Question>) -> Decision {
        match Demand::of(self.schema, &self.row.collection, kind, &self.access.context, body) {
            Demand::Impossible => Decision::Known(false),
            Demand::Nothing => Decision::Known(true),
            Demand::That(condition) => match self.judge(&condition) {
                Verdict::Yes => Decision::Known(true),
                Verdict::No => Decision::Known(false),
                Verdict::NeedsStore => {
                    let row = Box::new(self.row.clone());
                    Decision::ask(Question::Holds { row, is_stored: self.is_stored, condition }, questions)
                }
            },
        }
    }

    fn judge(&self, condition: &Condition) -> Verdict {
        if self.is_stored { condition.judge(self.row) } else { condition.judge_new(self.row) }
    }

    /// The manage rule is for signed-in callers only.
    fn manager(&self, body: &Arc<RuleBody>, questions: &mut Vec<Question>) -> Decision {
        if !self.row.collection.is_auth() || self.access.context.caller.record().is_none() {
            return Decision::Known(false);
        }
        self.rule(RuleKind::Manage, body, questions)
    }
}
