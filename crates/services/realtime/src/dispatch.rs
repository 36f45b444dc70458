//! One event: who may know of it, what they see, and the messages that say so.
//!
//! First the topics of the event's record are found, each with its audience in groups that can be told apart: all
//! guests and records together where the caller does not matter, otherwise each caller. Every group is judged, by
//! the evaluator where it can, and what it cannot tell is asked of the store in few calls. Then the record is
//! written once for all who see the same of it, and each topic's message goes to the loops.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use contract::event::{self, Action, ChangeEvent};
use contract::store::{JudgeRow, StoreError};
use kit::app::now;
use kit::error::ApiError;
use kit::record_json::Visibility;
use kit::viewer::Viewer;
use model::collection::Collection;
use model::condition::Condition;
use model::context::{Caller, Origin, RequestContext, RuleBody};
use model::filter::Verdict;
use model::record::Record;
use model::schema::Schema;
use model::time::Timestamp;
use tokio::time::timeout;
use tracing::{error, warn};

use crate::bound;
use crate::hub::{Audience, AuthKey, ClientKey, Seats};
use crate::outlet::{MESSAGES_AT_ONCE, Message, tail};
use crate::plan::{Access, Class, Classes, Plan};
use crate::realtime::Shared;
use crate::resume::{Recent, Resume};
use crate::topic::Topic;

/// How often an event is looked at again because the schema is being changed.
const SCHEMA_ATTEMPTS: usize = 50;

/// Sends events, one after the other.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    classes: Classes,
    /// The schema version under which everybody was last known to be who they are.
    verified_version: Option<u64>,
    recent: Recent,
    /// Messages that are not handed over yet, by loop.
    outgoing: Vec<Vec<Message>>,
}

/// The schema was changed while an event was worked out: it is to be looked at again.
struct SchemaChanged;

/// What an event comes to.
struct Outcome {
    /// By loop.
    messages: Vec<(usize, Message)>,
    /// Who should perhaps have been told.
    lost: Seats,
    /// Whether everybody could be judged.
    is_judged: bool,
}

/// An event with its row.
struct Happened {
    action: Action,
    schema: Arc<Schema>,
    collection: Arc<Collection>,
    row: Arc<Record>,
    now: Timestamp,
    body: Arc<RuleBody>,
    /// Whether other records that a rule asks for may be gone since: those of a delete's own batch, or any
    /// where it was long ago.
    may_miss_others: bool,
}

/// Clients that are judged together.
struct Group<'a> {
    topic: usize,
    plan: Arc<Plan>,
    who: Who,
    caller: Caller,
    seats: &'a Seats,
    /// Which of the judgements is theirs.
    judgement: usize,
}

/// Whom a judgement is about. Of a record it is where it lies: what is in use stays there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Everyone,
    Superusers,
    Record(usize),
}

/// What decides a judgement.
type JudgementKey = (Class, Who);

/// What decides how a record is shown.
type ShapeKey = (Class, Visibility, Option<Who>);

struct Judgement {
    verdict: Verdict,
    is_superusers: bool,
    /// What the store is asked.
    open: Vec<Condition>,
}

/// Who is told the same under the same topic, in order.
#[derive(Default)]
struct Told<'a> {
    order: Vec<(usize, Arc<str>)>,
    seats: HashMap<(usize, usize), Vec<&'a Seats>>,
}

// === impl Dispatcher ===

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Dispatcher {
        Dispatcher {
            shared,
            classes: Classes::default(),
            verified_version: None,
            recent: Recent::new(),
            outgoing: Vec::new(),
        }
    }

    /// Events are followed from now on; what was before is not known.
    pub(crate) fn begin(&mut self) {
        self.verified_version = None;
        self.recent = Recent::new();
    }

    /// Works an event out. Its messages are handed over by [`Dispatcher::flush`], or before when they are many.
    /// `is_alone` says that it is the only one of its batch.
    pub(crate) async fn event(&mut self, event: &Arc<ChangeEvent>, is_alone: bool) {
        let is_kept = self.shared.hub.has_resuming();
        self.recent.note(event, is_kept);
        let mark = is_kept.then(|| self.recent.mark().into());
        self.send(event, None, mark, !is_alone).await;
    }

    /// Sets the topics of a client that connects again, and tells it what it missed.
    pub(crate) async fn resume(&mut self, resume: Resume) {
        let Resume { key, caller, topics, generation, since, reply } = resume;
        let set = self.shared.hub.set(key, caller, topics, generation);
        let is_set = set == Ok(true);
        let _ = reply.send(set);
        if !is_set {
            return;
        }
        let missed = since.map_or_else(|| Some(Vec::new()), |since| self.recent.since(&since));
        let mut is_known = missed.is_some();
        for event in missed.unwrap_or_default() {
            // The stream may end before the last of them: each says how far it is itself.
            let mark = self.recent.mark_of(event.sequence);
            is_known &= self.send(&event, Some(key), Some(mark.into()), true).await;
        }
        let answer = if is_known { "GS_RESUMED" } else { "GS_RESYNC" };
        let mark = self.recent.mark();
        let tail = tail(answer, &format!(r#"{{"seq":"{mark}"}}"#));
        let message = |(outlet, to)| (outlet, Message { tail: tail.clone(), to, mark: None });
        self.queue(self.shared.hub.seat_of(key).0.into_iter().map(message).collect()).await;
        self.flush().await;
    }

    /// Tells all of an event, or one. Whether everybody could be judged.
    async fn send(
        &mut self,
        event: &ChangeEvent,
        only: Option<ClientKey>,
        mark: Option<Arc<str>>,
        may_miss_others: bool,
    ) -> bool {
        let is_judged = self.tell(event, only, mark, may_miss_others).await;
        // Who is deleted hears of that himself: the rules were to judge it as it was before (CONTRACT §7.4).
        let schema = self.shared.app.store.schema();
        if event.action == Action::Delete && is_of_auth(&schema, &event.collection) {
            self.verify_record(event).await;
        }
        is_judged
    }

    async fn tell(
        &mut self,
        event: &ChangeEvent,
        only: Option<ClientKey>,
        mark: Option<Arc<str>>,
        may_miss_others: bool,
    ) -> bool {
        self.classes.make_room();
        for _ in 0..SCHEMA_ATTEMPTS {
            let schema = self.shared.app.store.schema();
            self.verify_callers(event, &schema).await;
            let Some(collection) = schema.by_id(&event.collection).cloned() else { return true };
            let Some(row) = event.after.as_ref().or(event.before.as_ref()) else { return true };
            let names = [collection.name.as_str(), collection.id.as_str()];
            let interested = self.shared.hub.interested(names, &event.record, only);
            if interested.is_empty() {
                return true;
            }
            let happened = Happened {
                action: event.action,
                row: Arc::new(event::record(&collection, row)),
                collection,
                schema,
                now: now(),
                body: Arc::default(),
                may_miss_others: may_miss_others && event.action == Action::Delete,
            };
            match self.work_out(&happened, &interested).await {
                Ok(mut outcome) => {
                    outcome.messages.iter_mut().for_each(|(_, message)| message.mark.clone_from(&mark));
                    self.lose(&outcome.lost);
                    self.queue(outcome.messages).await;
                    return outcome.is_judged;
                }
                Err(SchemaChanged) => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            }
        }
        error!("the schema changes faster than an event can be judged");
        self.lose(&self.shared.hub.seats_of_followers());
        false
    }

    /// Hands all messages over.
    pub(crate) async fn flush(&mut self) {
        for (outlet, messages) in self.outgoing.iter_mut().enumerate() {
            let mut messages = std::mem::take(messages);
            while messages.len() > MESSAGES_AT_ONCE {
                let rest = messages.split_off(MESSAGES_AT_ONCE);
                self.shared.send(outlet, std::mem::replace(&mut messages, rest)).await;
            }
            if !messages.is_empty() {
                self.shared.send(outlet, messages).await;
            }
        }
    }

    /// Events are gone that nobody was told of.
    pub(crate) fn lost_events(&mut self) {
        self.begin();
        self.shared.end(&self.shared.hub.seats_of_followers());
    }

    fn lose(&self, seats: &Seats) {
        if !seats.is_empty() {
            warn!("realtime clients connect again: they may have missed an event");
            self.shared.end(seats);
        }
    }

    async fn queue(&mut self, messages: Vec<(usize, Message)>) {
        for (outlet, message) in messages {
            if self.outgoing.len() <= outlet {
                self.outgoing.resize_with(outlet + 1, Vec::new);
            }
            self.outgoing[outlet].push(message);
        }
        if self.outgoing.iter().any(|messages| messages.len() >= MESSAGES_AT_ONCE) {
            self.flush().await;
        }
    }

    /// Looks again at whom streams speak for, where the event or the schema says that it may have changed.
    async fn verify_callers(&mut self, event: &ChangeEvent, schema: &Schema) {
        if self.verified_version != Some(schema.version()) {
            let keys = self.shared.hub.begin_verification(None);
            self.verify(&keys).await;
            self.verified_version = Some(schema.version());
        } else if event.action == Action::Update && is_of_auth(schema, &event.collection) {
            self.verify_record(event).await;
        }
    }

    async fn verify_record(&self, event: &ChangeEvent) {
        let key = (event.collection.clone(), event.record.clone());
        let keys = self.shared.hub.begin_verification(Some(&key));
        self.verify(&keys).await;
    }

    async fn verify(&self, keys: &[AuthKey]) {
        if keys.is_empty() {
            return;
        }
        let deadline = self.shared.options.times.judge;
        let loaded = timeout(deadline, bound::load(&*self.shared.app.store, keys)).await;
        let loaded = loaded.unwrap_or(Err(StoreError::Deadline(deadline)));
        if let Err(error) = &loaded {
            warn!(%error, "realtime clients connect again: whether they may still sign in is not known");
        }
        for key in keys {
            match &loaded {
                Ok(records) => {
                    let now = records.get(key);
                    self.shared.hub.verified(key, |before| bound::caller_by_now(before, now));
                }
                Err(_) => {
                    let seats = self.shared.hub.seats_of(key);
                    self.shared.hub.verified(key, |_| Caller::Guest);
                    self.shared.end(&seats);
                }
            }
        }
    }

    async fn work_out(
        &mut self,
        happened: &Happened,
        interested: &[(Arc<Topic>, bool, Arc<Audience>)],
    ) -> Result<Outcome, SchemaChanged> {
        let (groups, mut judgements) = self.judge(happened, interested);
        let is_judged = !happened.may_miss_others || !deny_the_open(&mut judgements);
        self.ask_store(happened, &mut judgements).await?;
        let mut told = Told::default();
        let mut lost = Vec::new();
        let mut shapes: HashMap<ShapeKey, Arc<str>> = HashMap::new();
        for group in &groups {
            let topic = &interested[group.topic].0;
            match judgements[group.judgement].verdict {
                Verdict::No => {}
                Verdict::NeedsStore => lost.push(group.seats),
                Verdict::Yes => match self.data(happened, topic, group, &mut shapes).await? {
                    Some(data) => told.add(group, data),
                    None => lost.push(group.seats),
                },
            }
        }
        Ok(Outcome { messages: told.into_messages(interested), lost: Seats::merged(&lost), is_judged })
    }

    /// The groups that are to be told, as far as the evaluator can tell.
    fn judge<'a>(
        &mut self,
        happened: &Happened,
        interested: &'a [(Arc<Topic>, bool, Arc<Audience>)],
    ) -> (Vec<Group<'a>>, Vec<Judgement>) {
        let mut groups = Vec::with_capacity(interested.len());
        let mut judgements = Vec::new();
        let mut known: HashMap<JudgementKey, usize> = HashMap::new();
        for (position, (topic, is_record, audience)) in interested.iter().enumerate() {
            let Happened { schema, collection, .. } = happened;
            let plan = Plan::of(topic, *is_record, schema, collection, &mut self.classes);
            for (who, caller, seats) in in_groups(&plan, audience) {
                let judgement = match known.entry((plan.verdict_class, who)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        judgements.push(happened.judge(topic, &plan, &caller));
                        *new.insert(judgements.len() - 1)
                    }
                };
                if judgements[judgement].verdict != Verdict::No {
                    groups.push(Group { topic: position, plan: plan.clone(), who, caller, seats, judgement });
                }
            }
        }
        (groups, judgements)
    }

    /// Has the store decide what the evaluator could not. What it does not answer stays open.
    async fn ask_store(
        &self,
        happened: &Happened,
        judgements: &mut [Judgement],
    ) -> Result<(), SchemaChanged> {
        let mut open: Vec<&mut Judgement> =
            judgements.iter_mut().filter(|judgement| judgement.verdict == Verdict::NeedsStore).collect();
        let deadline = self.shared.options.times.judge;
        for some in open.chunks_mut(JudgeRow::MAX_QUESTIONS) {
            let query = JudgeRow {
                schema_version: happened.schema.version(),
                row: happened.row.clone(),
                questions: some.iter_mut().map(|judgement| std::mem::take(&mut judgement.open)).collect(),
            };
            let answers = timeout(deadline, self.shared.app.store.judge(query)).await;
            match answers.unwrap_or(Err(StoreError::Deadline(deadline))) {
                Ok(answers) => {
                    for (judgement, is_allowed) in some.iter_mut().zip(answers) {
                        judgement.verdict = if is_allowed { Verdict::Yes } else { Verdict::No };
                    }
                }
                Err(StoreError::SchemaChanged) => return Err(SchemaChanged),
                Err(error) => {
                    warn!(%error, "an event could not be judged");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What a group is told, written once for all who see the same. Nothing when the store does not answer.
    async fn data(
        &self,
        happened: &Happened,
        topic: &Topic,
        group: &Group<'_>,
        shapes: &mut HashMap<ShapeKey, Arc<str>>,
    ) -> Result<Option<Arc<str>>, SchemaChanged> {
        let plan = &group.plan;
        let is_plain = !plan.expands && !happened.collection.is_auth();
        let app = &self.shared.app;
        if is_plain {
            let visibility = Visibility::of(&group.caller, &happened.row, false);
            let data = shapes.entry((plan.shape_class, visibility, None)).or_insert_with(|| {
                let mut text = String::with_capacity(512);
                let shape = app.shapes.get(&happened.collection);
                shape.write(&happened.row, visibility, None, &mut text);
                happened.data(text, plan)
            });
            return Ok(Some(data.clone()));
        }
        let context = happened.context(topic, &group.caller);
        let viewer = Viewer::of_context(app, happened.schema.clone(), &context);
        let shaped = async {
            let visibility = viewer.visibility(&happened.row).await?;
            let key = (plan.shape_class, visibility, plan.expands.then_some(group.who));
            if let Some(known) = shapes.get(&key) {
                return Ok(known.clone());
            }
            let shaped = viewer.shape(vec![Record::clone(&happened.row)]).await?;
            let mut text = String::with_capacity(512);
            shaped.iter().for_each(|record| record.write(&mut text));
            let data = happened.data(text, plan);
            shapes.insert(key, data.clone());
            Ok::<_, ApiError>(data)
        };
        match timeout(self.shared.options.times.judge, shaped).await {
            Ok(Ok(data)) => Ok(Some(data)),
            Ok(Err(error)) if error.is_schema_changed() => Err(SchemaChanged),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }
}

/// Of a delete whose surroundings may be gone too, a rule that asks for them would be judged by their absence,
/// which a `!=` takes for a yes: who is no superuser is not told. Whether that befell anybody.
fn deny_the_open(judgements: &mut [Judgement]) -> bool {
    let open = judgements.iter_mut();
    let open = open.filter(|judgement| !judgement.is_superusers && judgement.verdict == Verdict::NeedsStore);
    open.map(|judgement| judgement.verdict = Verdict::No).count() > 0
}

fn is_of_auth(schema: &Schema, collection: &str) -> bool {
    schema.by_id(collection).is_some_and(|collection| collection.is_auth())
}

/// The groups of an audience that a topic's rule and filter can tell apart.
fn in_groups<'a>(
    plan: &Plan,
    audience: &'a Audience,
) -> impl Iterator<Item = (Who, Caller, &'a Seats)> + use<'a> {
    let mut groups = Vec::new();
    let at = |record: &Arc<Record>| Who::Record(Arc::as_ptr(record) as usize);
    if plan.caller_matters {
        groups.push((Who::Everyone, Caller::Guest, &audience.guests));
        for (record, seats) in &audience.records {
            groups.push((at(record), Caller::Record(record.clone()), seats));
        }
    } else {
        groups.push((Who::Everyone, Caller::Guest, &audience.everyone));
    }
    if plan.superuser_matters || plan.expands {
        for (record, seats) in &audience.each_superuser {
            groups.push((at(record), Caller::Superuser(record.clone()), seats));
        }
    } else if let Some((record, _)) = audience.each_superuser.first() {
        groups.push((Who::Superusers, Caller::Superuser(record.clone()), &audience.superusers));
    }
    groups.into_iter().filter(|(_, _, seats)| !seats.is_empty())
}

// === impl Happened ===

impl Happened {
    /// What rules see of a subscription's request.
    fn context(&self, topic: &Topic, caller: &Caller) -> Arc<RequestContext> {
        Arc::new(RequestContext {
            origin: Origin::Realtime,
            method: "GET",
            query: topic.options.query.clone(),
            headers: topic.options.headers.clone(),
            caller: caller.clone(),
            now: self.now,
        })
    }

    fn judge(&self, topic: &Topic, plan: &Plan, caller: &Caller) -> Judgement {
        let asked = if caller.is_superuser() {
            [&Access::All, &plan.superuser_filter]
        } else {
            [&plan.rule, &plan.filter]
        };
        let is_superusers = caller.is_superuser();
        let mut judgement = Judgement { verdict: Verdict::Yes, is_superusers, open: Vec::new() };
        if asked.iter().any(|access| matches!(access, Access::Nobody)) {
            judgement.verdict = Verdict::No;
            return judgement;
        }
        let filters = asked.into_iter().filter_map(|access| match access {
            Access::When(filter) => Some(filter),
            Access::Nobody | Access::All => None,
        });
        let mut context = None;
        for filter in filters {
            let context = context.get_or_insert_with(|| self.context(topic, caller));
            match filter.judge(&self.row, context, &self.body) {
                Verdict::Yes => {}
                Verdict::No => return Judgement { verdict: Verdict::No, is_superusers, open: Vec::new() },
                Verdict::NeedsStore => {
                    judgement.verdict = Verdict::NeedsStore;
                    judgement.open.push(Condition {
                        filter: filter.clone(),
                        context: context.clone(),
                        body: self.body.clone(),
                    });
                }
            }
        }
        judgement
    }

    /// The data of a message with this record.
    fn data(&self, record: String, plan: &Plan) -> Arc<str> {
        let record = match &plan.fields {
            Some(fields) => fields.apply_to_text(record.clone()).unwrap_or(record),
            None => record,
        };
        format!(r#"{{"record":{record},"action":"{}"}}"#, self.action.as_str()).into()
    }
}

// === impl Told ===

impl<'a> Told<'a> {
    fn add(&mut self, group: &Group<'a>, data: Arc<str>) {
        let key = (group.topic, Arc::as_ptr(&data).addr());
        let seats = self.seats.entry(key).or_insert_with(|| {
            self.order.push((group.topic, data));
            Vec::new()
        });
        seats.push(group.seats);
    }

    fn into_messages(self, interested: &[(Arc<Topic>, bool, Arc<Audience>)]) -> Vec<(usize, Message)> {
        let mut messages = Vec::with_capacity(self.order.len());
        for (topic, data) in &self.order {
            let Some(seats) = self.seats.get(&(*topic, Arc::as_ptr(data).addr())) else { continue };
            let tail = tail(interested[*topic].0.text(), data);
            for (outlet, to) in Seats::merged(seats).0 {
                messages.push((outlet, Message { tail: tail.clone(), to, mark: None }));
            }
        }
        messages
    }
}
