//! Whether this process should be sent requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::store::{ListRecords, Store, StoreError};
use gateway::ServiceNodes;
use model::collection::Collection;
use tracing::warn;

/// How long the store may take to answer. It is asked for one row; longer means that requests wait too.
const STORE_DEADLINE: Duration = Duration::from_secs(1);

/// The life of the process as its readiness sees it: starting, then ready for as long as the store answers, then
/// draining.
#[derive(Default)]
pub(crate) struct Readiness {
    depends_on: OnceLock<DependsOn>,
    is_draining: AtomicBool,
}

/// What the process answers from.
pub(crate) enum DependsOn {
    /// A store of its own.
    Store(Arc<dyn Store>),
    /// Other nodes that run the services.
    Services(Arc<ServiceNodes>),
}

impl Readiness {
    /// The listeners are open and the application answers, from this.
    pub(crate) fn set_ready(&self, depends_on: DependsOn) {
        let _ = self.depends_on.set(depends_on);
    }

    /// The process is on its way out.
    pub(crate) fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Why no request should come here, if so.
    pub(crate) async fn objection(&self) -> Option<&'static str> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Some("draining");
        }
        let store = match self.depends_on.get() {
            None => return Some("starting"),
            Some(DependsOn::Services(nodes)) if nodes.is_reachable() => return None,
            Some(DependsOn::Services(_)) => return Some("the services are out of reach"),
            Some(DependsOn::Store(store)) => store,
        };
        match tokio::time::timeout(STORE_DEADLINE, has_superuser(&**store)).await {
            // A schema that is being changed is a store that works.
            Ok(Ok(_) | Err(StoreError::SchemaChanged)) => None,
            Ok(Err(error)) => {
                warn!(%error, "not ready: the store failed");
                Some("the store failed")
            }
            Err(_) => {
                warn!("not ready: the store does not answer");
                Some("the store does not answer")
            }
        }
    }
}

/// Whether anybody can sign in as a superuser: a read of one row.
pub(crate) async fn has_superuser(store: &dyn Store) -> Result<bool, StoreError> {
    let schema = store.schema();
    let Some(collection) = schema.by_name(Collection::SUPERUSERS) else { return Ok(false) };
    let query = ListRecords {
        schema_version: schema.version(),
        collection: collection.clone(),
        conditions: Vec::new(),
        sort: None,
        offset: 0,
        limit: 1,
        with_total: false,
    };
    Ok(!store.list(query).await?.records.is_empty())
}

#[cfg(test)]
mod tests {
    use contract::event::{EventPage, Interest};
    use contract::store::{
        Answer, FindByField, GetRecord, GetRecords, JudgeRow, RecordPage, ReferringRecords, StoreStatus,
        TriedView, TryView,
    };
    use model::record::Record;
    use model::schema::Schema;
    use model::settings::Settings;
    use model::step::{Refused, StepResult, WriteBatch};
    use store::sqlite::{Options, SqliteStore};

    use model::time::Timestamp;

    use super::*;

    /// A store whose lists fail, or with no error never end.
    struct Broken(SqliteStore, Option<StoreError>);

    impl Store for Broken {
        fn schema(&self) -> Arc<Schema> {
            self.0.schema()
        }
        fn settings(&self) -> Arc<Settings> {
            self.0.settings()
        }
        fn write(&self, batch: WriteBatch) -> Answer<'_, Result<Vec<StepResult>, Refused>> {
            self.0.write(batch)
        }
        fn get(&self, query: GetRecord) -> Answer<'_, Option<Record>> {
            self.0.get(query)
        }
        fn list(&self, _: ListRecords) -> Answer<'_, RecordPage> {
            match self.1.clone() {
                Some(error) => Box::pin(async { Err(error) }),
                None => Box::pin(std::future::pending()),
            }
        }
        fn get_many(&self, query: GetRecords) -> Answer<'_, Vec<Record>> {
            self.0.get_many(query)
        }
        fn referring(&self, query: ReferringRecords) -> Answer<'_, Vec<Record>> {
            self.0.referring(query)
        }
        fn judge(&self, query: JudgeRow) -> Answer<'_, Vec<bool>> {
            self.0.judge(query)
        }
        fn find_by_field(&self, query: FindByField) -> Answer<'_, Option<Record>> {
            self.0.find_by_field(query)
        }
        fn try_view(&self, query: TryView) -> Answer<'_, TriedView> {
            self.0.try_view(query)
        }
        fn register_consumer(&self, name: String, interest: Interest) -> Answer<'_, ()> {
            self.0.register_consumer(name, interest)
        }
        fn unregister_consumer(&self, name: String) -> Answer<'_, ()> {
            self.0.unregister_consumer(name)
        }
        fn events(&self, consumer: String, after: u64, limit: usize) -> Answer<'_, EventPage> {
            self.0.events(consumer, after, limit)
        }
        fn acknowledge(&self, consumer: String, sequence: u64) -> Answer<'_, ()> {
            self.0.acknowledge(consumer, sequence)
        }
        fn optimize(&self) -> Answer<'_, ()> {
            self.0.optimize()
        }
        fn stale_uploads(&self, before: Timestamp, limit: usize) -> Answer<'_, Vec<String>> {
            self.0.stale_uploads(before, limit)
        }
        fn status(&self) -> Answer<'_, StoreStatus> {
            self.0.status()
        }
        fn close(&self) -> Answer<'_, ()> {
            self.0.close()
        }
    }

    #[tokio::test]
    async fn the_life_of_the_process_decides_first() {
        let folder = tempfile::tempdir().unwrap();
        let readiness = Readiness::default();
        assert_eq!(readiness.objection().await, Some("starting"));
        let store = Arc::new(SqliteStore::open(Options::new(folder.path())).unwrap());
        readiness.set_ready(DependsOn::Store(store));
        assert_eq!(readiness.objection().await, None);
        readiness.set_draining();
        assert_eq!(readiness.objection().await, Some("draining"));
    }

    #[tokio::test]
    async fn not_ready_while_the_store_fails_or_is_silent() {
        for (error, objection) in
            [(Some(StoreError::Busy), "the store failed"), (None, "the store does not answer")]
        {
            let folder = tempfile::tempdir().unwrap();
            let inner = SqliteStore::open(Options::new(folder.path())).unwrap();
            let readiness = Readiness::default();
            readiness.set_ready(DependsOn::Store(Arc::new(Broken(inner, error))));
            assert_eq!(readiness.objection().await, Some(objection));
        }
    }
}
