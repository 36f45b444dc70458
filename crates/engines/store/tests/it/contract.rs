//! The store's contract on SQLite.

use std::sync::Arc;

use store::sqlite::{Options, SqliteStore};
use testkit::store_suite::{Opened, StoreOptions};

async fn open(wanted: StoreOptions) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let StoreOptions { read_deadline, observers } = wanted;
    let options = Options { read_deadline, observers, ..Options::new(folder.path().join("data")) };
    let store = Arc::new(SqliteStore::open(options).unwrap());
    Opened {
        store: store.clone(),
        jobs: store.clone(),
        hooks: store.clone(),
        secrets: store,
        keep: Box::new(folder),
    }
}

testkit::store_suite!(open);
