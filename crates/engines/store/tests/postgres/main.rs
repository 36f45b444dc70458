//! The store's contract on PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::postgres::{Options, PostgresStore};
use testkit::store_suite::{Opened, StoreOptions};

static NUMBER: AtomicUsize = AtomicUsize::new(0);

async fn open(wanted: StoreOptions) -> Opened {
    let name = format!("t{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let admin = "postgres://postgres@127.0.0.1:54991/postgres";
    let (client, connection) = tokio_postgres::connect(admin, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name} OWNER app")).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
    let StoreOptions { read_deadline, observers } = wanted;
    let url = format!("postgres://app:secret@127.0.0.1:54991/{name}");
    let mut options = Options { read_deadline, observers, ..Options::new(url.clone()) };
    if std::env::var_os("PGB").is_some() {
        options.url = format!("postgres://app:secret@127.0.0.1:54992/{name}");
        options.direct_url = Some(url);
        options.pool.size = 3;
    }
    let store = Arc::new(PostgresStore::open(options).await.unwrap());
    Opened {
        store: store.clone(),
        jobs: store.clone(),
        hooks: store.clone(),
        secrets: store,
        keep: Box::new(()),
    }
}

testkit::store_suite!(open);
