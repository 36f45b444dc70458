//! The broker on the store's outbox: its contract, and consumers that die at random.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod random;

use std::sync::Arc;

use broker::{EmbeddedBroker, Wakeup};
use contract::store::Store;
use store::sqlite::{Options, OutboxBounds, SqliteStore};
use testkit::broker_suite::{BrokerOptions, OpenedBroker};

async fn open(wanted: BrokerOptions) -> OpenedBroker {
    let folder = tempfile::tempdir().expect("a folder is made");
    let wakeup = Arc::new(Wakeup::default());
    let mut outbox = OutboxBounds::default();
    outbox.max_bytes = wanted.max_bytes.unwrap_or(outbox.max_bytes);
    let options =
        Options { outbox, observers: vec![wakeup.clone()], ..Options::new(folder.path().join("data")) };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options).expect("a fresh store opens"));
    let broker = Arc::new(EmbeddedBroker::new(store.clone(), wakeup));
    OpenedBroker { store, broker, keep: Box::new(folder) }
}

testkit::broker_suite!(open);
