use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::event::{ChangeEvent, Events, Interest};
use contract::hooks::HookStore;
use contract::jobs::JobStore;
use contract::secrets::SecretStore;
use contract::store::{Commit, CommitObserver, ListRecords, Store};
use model::collection::{Collection, create, update};
use model::condition::Condition;
use model::context::{Caller, RequestContext, RuleBody};
use model::errors::FieldErrors;
use model::filter::{self, Scope};
use model::json::{Json, JsonObject};
use model::record::Record;
use model::schema::Schema;
use model::step::{
    Access, CreateRecord, DeleteRecord, PatchRecord, Refused, Step, StepResult, Why, WriteBatch,
};
use model::time::Timestamp;

use super::{Opened, StoreOptions};

/// Long enough for any read of a few records, on a busy machine too.
const READ_DEADLINE: Duration = Duration::from_secs(2);

/// How long events may be on their way.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ids of records as the cases write them: short words.
const ID_FIELD: &str = r#"{"id": "text3208210256", "name": "id", "type": "text", "system": true, "primaryKey": true,
    "required": true, "min": 1, "max": 15, "pattern": "^[a-z0-9]+$", "autogeneratePattern": "[a-z0-9]{15}"}"#;

/// A fresh store, and what cases do to it in few words. Bodies are JSON texts; a call that has no answer
/// fails the case, a refusal is a value.
pub struct Stage {
    store: Arc<dyn Store>,
    jobs: Option<Arc<dyn JobStore>>,
    hooks: Option<Arc<dyn HookStore>>,
    secrets: Option<Arc<dyn SecretStore>>,
    _keep: Box<dyn Any>,
    commits: Arc<Commits>,
}

/// Keeps what the store told.
#[derive(Default)]
pub(crate) struct Commits(Mutex<Vec<Commit>>);

impl CommitObserver for Commits {
    fn committed(&self, commit: &Commit) {
        self.0.lock().unwrap().push(commit.clone());
    }
}

// === impl Stage: the store and its collections ===

impl Stage {
    pub(crate) async fn set(open: impl AsyncFnOnce(StoreOptions) -> Opened) -> Stage {
        let commits = Arc::new(Commits::default());
        let options = StoreOptions { read_deadline: READ_DEADLINE, observers: vec![commits.clone()] };
        let Opened { store, jobs, hooks, secrets, keep } = open(options).await;
        let (jobs, hooks, secrets) = (Some(jobs), Some(hooks), Some(secrets));
        Stage { store, jobs, hooks, secrets, _keep: keep, commits }
    }

    /// A store that somebody opened for something else. What it commits is not kept here.
    pub(crate) fn over(store: Arc<dyn Store>) -> Stage {
        Stage { store, jobs: None, hooks: None, secrets: None, _keep: Box::new(()), commits: Arc::default() }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn jobs(&self) -> &dyn JobStore {
        self.jobs.as_deref().unwrap()
    }

    pub(crate) fn hooks(&self) -> &dyn HookStore {
        self.hooks.as_deref().unwrap()
    }

    pub(crate) fn secrets(&self) -> &dyn SecretStore {
        self.secrets.as_deref().unwrap()
    }

    /// Takes what observers were told so far.
    pub(crate) fn take_commits(&self) -> Vec<Commit> {
        std::mem::take(&mut self.commits.0.lock().unwrap())
    }

    /// Makes a collection. Its relations name the collections that they point to.
    pub(crate) async fn collection(&self, name: &str, body: &str) -> Arc<Collection> {
        let mut body = self.collection_body(body);
        body.insert("name".to_owned(), name.into());
        let schema = self.store().schema();
        let made = create::create(&schema, &Json::Object(body), None, now(), &mut rand::rng());
        let step = Step::SaveCollection { before: None, after: Arc::new(made.unwrap()) };
        self.write(of_schema(&schema, step)).await.unwrap();
        self.find(name)
    }

    /// A change of a collection, worked out on the current schema.
    pub(crate) fn change_collection(&self, name: &str, body: &str) -> WriteBatch {
        let body = Json::Object(self.collection_body(body));
        let (schema, before) = (self.store().schema(), self.find(name));
        let changed = update::update(&schema, &before, &body, None, now(), &mut rand::rng());
        let after = Arc::new(changed.unwrap());
        of_schema(&schema, Step::SaveCollection { before: Some(before), after })
    }

    /// A submitted collection: relations by the ids of collections, record ids as the cases write them.
    fn collection_body(&self, text: &str) -> JsonObject {
        let mut body = object(text);
        let Some(Json::Array(fields)) = body.get_mut("fields") else { return body };
        for field in fields.iter_mut() {
            if let Json::Object(field) = field
                && let Some(Json::Text(target)) = field.get_mut("collectionId")
            {
                *target = self.find(target).id.clone();
            }
        }
        fields.insert(0, Json::Object(object(ID_FIELD)));
        body
    }

    pub(crate) fn find(&self, name: &str) -> Arc<Collection> {
        self.store().schema().by_name(name).unwrap().clone()
    }
}

// === impl Stage: writes ===

impl Stage {
    pub(crate) async fn write(&self, batch: WriteBatch) -> Result<Vec<StepResult>, Refused> {
        self.store().write(batch).await.unwrap()
    }

    pub(crate) async fn steps(&self, steps: Vec<Step>) -> Result<Vec<StepResult>, Refused> {
        self.write(WriteBatch { steps, ..WriteBatch::default() }).await
    }

    /// One step: the record that it left, if any.
    pub(crate) async fn step(&self, step: Step) -> Result<Option<Record>, Why> {
        match self.steps(vec![step]).await {
            Ok(mut results) => Ok(match results.pop() {
                Some(StepResult::Record(record)) => Some(record),
                _ => None,
            }),
            Err(refused) => Err(refused.why),
        }
    }

    pub(crate) fn create_step(&self, collection: &str, body: &str, access: Access) -> Step {
        Step::Create(CreateRecord {
            set_by_hooks: Default::default(),
            collection: self.find(collection).id.clone(),
            body: object(body),
            password_hashes: BTreeMap::new(),
            uploads: Default::default(),
            access,
        })
    }

    pub(crate) fn patch_step(&self, collection: &str, id: &str, body: &str, access: Access) -> Step {
        Step::Patch(PatchRecord {
            set_by_hooks: Default::default(),
            collection: self.find(collection).id.clone(),
            id: id.to_owned(),
            body: object(body),
            password_hashes: BTreeMap::new(),
            old_password_for: None,
            uploads: Default::default(),
            access,
        })
    }

    pub(crate) fn delete_step(&self, collection: &str, id: &str, access: Access) -> Step {
        Step::Delete(DeleteRecord {
            collection: self.find(collection).id.clone(),
            id: id.to_owned(),
            body: JsonObject::new(),
            access,
        })
    }

    /// Makes a record as the server itself: no rule applies.
    pub(crate) async fn create(&self, collection: &str, body: &str) -> Record {
        self.step(self.create_step(collection, body, server())).await.unwrap().unwrap()
    }

    pub(crate) async fn patch(&self, collection: &str, id: &str, body: &str) -> Record {
        self.step(self.patch_step(collection, id, body, server())).await.unwrap().unwrap()
    }

    pub(crate) async fn delete(&self, collection: &str, id: &str) -> Result<(), Why> {
        self.step(self.delete_step(collection, id, server())).await.map(drop)
    }

    /// Makes a record that can sign in. Its password's hash is `hash`.
    pub(crate) async fn create_user(&self, collection: &str, id: &str) -> Record {
        let body = format!(
            r#"{{"id": "{id}", "email": "{id}@example.com", "password": "secret1234", "passwordConfirm": "secret1234"}}"#
        );
        let step = Step::Create(CreateRecord {
            set_by_hooks: Default::default(),
            collection: self.find(collection).id.clone(),
            body: object(&body),
            password_hashes: BTreeMap::from([("password".to_owned(), "hash".to_owned())]),
            uploads: Default::default(),
            access: server(),
        });
        self.step(step).await.unwrap().unwrap()
    }
}

// === impl Stage: reads ===

impl Stage {
    /// A list of everything, to be narrowed.
    pub(crate) fn all(&self, collection: &str) -> ListRecords {
        ListRecords {
            schema_version: self.store().schema().version(),
            collection: self.find(collection),
            conditions: Vec::new(),
            sort: None,
            offset: 0,
            limit: 100,
            with_total: false,
        }
    }

    pub(crate) fn condition(&self, collection: &str, filter: &str) -> Condition {
        let checked =
            filter::check(&self.store().schema(), &self.find(collection), filter, Scope::Rule).unwrap();
        Condition {
            filter: Arc::new(checked),
            context: Arc::new(RequestContext::guest(now())),
            body: Arc::new(RuleBody::default()),
        }
    }

    /// The ids of the records that fit a filter, in insertion order, with a space between.
    pub(crate) async fn filtered(&self, collection: &str, filter: &str) -> String {
        let conditions = vec![self.condition(collection, filter)];
        self.ids(ListRecords { conditions, ..self.all(collection) }).await
    }

    /// The ids of all records, sorted.
    pub(crate) async fn sorted(&self, collection: &str, sort: &str) -> String {
        let sort =
            filter::check_sort(&self.store().schema(), &self.find(collection), sort, Scope::Rule).unwrap();
        self.ids(ListRecords { sort: Some(Arc::new(sort)), ..self.all(collection) }).await
    }

    pub(crate) async fn ids(&self, query: ListRecords) -> String {
        ids(&self.store().list(query).await.unwrap().records)
    }

    /// The stored record.
    pub(crate) async fn get(&self, collection: &str, id: &str) -> Option<Record> {
        let query = ListRecords {
            conditions: vec![self.condition(collection, &format!("id = '{id}'"))],
            ..self.all(collection)
        };
        self.store().list(query).await.unwrap().records.pop()
    }

    /// What a consumer has not acknowledged, once that is so many events: they may come later than the
    /// answers to their writes.
    pub(crate) async fn events(&self, consumer: &str, count: usize) -> Vec<ChangeEvent> {
        let started = Instant::now();
        loop {
            let events = self.events_after(consumer, 0, 1_000).await;
            if events.len() >= count || started.elapsed() > PATIENCE {
                return events;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Stage {
    pub(crate) async fn register(&self, consumer: &str, interest: Interest) {
        self.store().register_consumer(consumer.to_owned(), interest).await.unwrap();
    }

    pub(crate) async fn acknowledge(&self, consumer: &str, sequence: u64) {
        self.store().acknowledge(consumer.to_owned(), sequence).await.unwrap();
    }

    /// The events that are there now.
    pub(crate) async fn events_after(&self, consumer: &str, after: u64, limit: usize) -> Vec<ChangeEvent> {
        match self.store().events(consumer.to_owned(), after, limit).await.unwrap().events {
            Events::Some(events) => events,
            Events::Resync { from } => panic!("told to resync from {from}"),
        }
    }
}

// === values ===

/// The server itself: past every rule.
pub(crate) fn server() -> Access {
    Access { context: Arc::new(RequestContext::guest(now())), check_rule: false }
}

pub(crate) fn guest() -> Access {
    Access::of(Arc::new(RequestContext::guest(now())))
}

pub(crate) fn signed_in(record: &Record) -> Access {
    let caller = Caller::Record(Arc::new(record.clone()));
    Access::of(Arc::new(RequestContext { caller, ..RequestContext::guest(now()) }))
}

pub(crate) fn ids(records: &[Record]) -> String {
    let ids: Vec<&str> = records.iter().map(Record::id).collect();
    ids.join(" ")
}

pub(crate) fn object(text: &str) -> JsonObject {
    match Json::parse_whole(text) {
        Ok(Json::Object(object)) => object,
        other => panic!("{text}: {other:?}"),
    }
}

/// The codes of field errors, as `field: code`.
pub(crate) fn field_errors<T: std::fmt::Debug>(result: Result<T, Why>) -> String {
    match result {
        Err(Why::Fields(errors)) => error_text(&errors),
        other => panic!("not refused for its fields: {other:?}"),
    }
}

fn error_text(errors: &FieldErrors) -> String {
    let mut text = String::new();
    errors.write(&mut text);
    let errors = object(&text);
    let code = |error: &Json| error.get("code").and_then(Json::as_str).unwrap_or("nested").to_owned();
    let named: Vec<String> = errors.iter().map(|(name, error)| format!("{name}: {}", code(error))).collect();
    named.join(", ")
}

fn of_schema(schema: &Schema, step: Step) -> WriteBatch {
    WriteBatch { steps: vec![step], schema_version: Some(schema.version()), ..WriteBatch::default() }
}

fn now() -> Timestamp {
    Timestamp(1_700_000_000_000)
}
