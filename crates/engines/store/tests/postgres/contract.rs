//! The store's contract, as the owner of a database who is no superuser.

use std::sync::Arc;

use store::postgres::{Options, PostgresStore};
use testkit::store_suite::{Opened, StoreOptions};

async fn open(wanted: StoreOptions) -> Opened {
    let database = super::database("contract");
    let StoreOptions { read_deadline, observers } = wanted;
    let options = Options { read_deadline, observers, ..Options::new(database.url()) };
    let store = Arc::new(PostgresStore::open(options).await.unwrap());
    Opened {
        store: store.clone(),
        jobs: store.clone(),
        hooks: store.clone(),
        secrets: store,
        keep: Box::new(database),
    }
}

testkit::store_suite!(open unless testkit::postgres::Postgres::is_missing);
