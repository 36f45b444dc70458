//! The store on PostgreSQL: its contract, and what is PostgreSQL's own. Skipped where there is no server.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod contract;
mod faults;
mod layout;
mod trips;

use std::sync::Arc;
use std::time::Duration;

use ::contract::store::{ListRecords, Store};
use model::collection::{Collection, create, update};
use model::context::RequestContext;
use model::json::{Json, JsonObject};
use model::record::Record;
use model::step::{Access, CreateRecord, DeleteRecord, PatchRecord, Refused, Step, StepResult, WriteBatch};
use model::time::Timestamp;
use store::postgres::{Options, PostgresStore};
use testkit::postgres::{Database, Postgres};

/// A store over a fresh database. The database goes after it.
struct Fresh {
    store: Arc<PostgresStore>,
    database: Arc<Database>,
}

/// Runs a test, unless there is no server.
fn with_server<C: Future<Output = ()>>(test: impl FnOnce() -> C) {
    if Postgres::is_missing() {
        return;
    }
    // One thread, and so one pool of connections.
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
}

fn database(hint: &str) -> Arc<Database> {
    Arc::new(Postgres::shared().unwrap().database(hint).unwrap())
}

impl Fresh {
    async fn open(hint: &str) -> Fresh {
        Fresh::over(database(hint)).await
    }

    /// A further store over a database, as another node has it.
    async fn over(database: Arc<Database>) -> Fresh {
        let store = PostgresStore::open(Options::new(database.url())).await.unwrap();
        Fresh { store: Arc::new(store), database }
    }

    async fn collection(&self, name: &str, fields: &str, indexes: &str) -> Arc<Collection> {
        let schema = self.store.schema();
        let body =
            format!(r#"{{"name": "{name}", "type": "base", "fields": {fields}, "indexes": {indexes}}}"#);
        let made = create::create(&schema, &Json::parse_whole(&body).unwrap(), None, now(), &mut rand::rng())
            .unwrap();
        let step = Step::SaveCollection { before: None, after: Arc::new(made) };
        let batch = WriteBatch { schema_version: Some(schema.version()), ..WriteBatch::one(step) };
        self.store.write(batch).await.unwrap().unwrap();
        self.find(name)
    }

    async fn change(&self, name: &str, body: &str) -> Result<(), Refused> {
        let (schema, before) = (self.store.schema(), self.find(name));
        let body = Json::parse_whole(body).unwrap();
        let after = update::update(&schema, &before, &body, None, now(), &mut rand::rng()).unwrap();
        let step = Step::SaveCollection { before: Some(before), after: Arc::new(after) };
        let batch = WriteBatch { schema_version: Some(schema.version()), ..WriteBatch::one(step) };
        self.store.write(batch).await.unwrap().map(drop)
    }

    fn find(&self, name: &str) -> Arc<Collection> {
        self.store.schema().by_name(name).unwrap().clone()
    }

    fn creating(&self, name: &str, body: &str) -> Step {
        Step::Create(CreateRecord {
            set_by_hooks: JsonObject::default(),
            collection: self.find(name).id.clone(),
            body: object(body),
            password_hashes: Default::default(),
            uploads: Default::default(),
            access: server(),
        })
    }

    fn patching(&self, name: &str, id: &str, body: &str) -> Step {
        Step::Patch(PatchRecord {
            set_by_hooks: JsonObject::default(),
            collection: self.find(name).id.clone(),
            id: id.to_owned(),
            body: object(body),
            password_hashes: Default::default(),
            old_password_for: None,
            uploads: Default::default(),
            access: server(),
        })
    }

    fn deleting(&self, name: &str, id: &str) -> Step {
        Step::Delete(DeleteRecord {
            collection: self.find(name).id.clone(),
            id: id.to_owned(),
            body: JsonObject::default(),
            access: server(),
        })
    }

    async fn steps(&self, steps: Vec<Step>) -> Result<Vec<StepResult>, Refused> {
        self.store.write(WriteBatch { steps, ..WriteBatch::default() }).await.unwrap()
    }

    async fn create(&self, name: &str, body: &str) -> Record {
        match self.steps(vec![self.creating(name, body)]).await.unwrap().remove(0) {
            StepResult::Record(record) => record,
            other => panic!("{other:?}"),
        }
    }

    /// All records, in the order in which they were made.
    async fn all(&self, name: &str) -> Vec<Record> {
        let query = ListRecords {
            schema_version: self.store.schema().version(),
            collection: self.find(name),
            conditions: Vec::new(),
            sort: None,
            offset: 0,
            limit: 10_000,
            with_total: false,
        };
        self.store.list(query).await.unwrap().records
    }
}

/// The server itself: past every rule.
fn server() -> Access {
    Access { context: Arc::new(RequestContext::guest(now())), check_rule: false }
}

fn object(text: &str) -> JsonObject {
    match Json::parse_whole(text) {
        Ok(Json::Object(object)) => object,
        other => panic!("{text}: {other:?}"),
    }
}

fn now() -> Timestamp {
    Timestamp(1_700_000_000_000)
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not come to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
