//! The write-ahead log: it begins anew while others read, and goes when nobody writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::contract::store::{GetRecord, Store};
use model::context::RequestContext;
use model::json::JsonObject;
use model::step::{Access, CreateRecord, Step, WriteBatch};
use model::time::Timestamp;
use store::sqlite::{Options, SqliteStore, Synchronous};

use super::block_on;

/// What the log may grow to: far less than everything that is written here.
const MOST_BYTES: u64 = 150 * 1024 * 1024;
/// Long enough for an idle moment and a checkpoint, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

fn log_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("data/data.db-wal")).map_or(0, |log| log.len())
}

/// A record of `users` with a text that fills pages.
fn create(store: &SqliteStore, number: usize) -> WriteBatch {
    let users = store.schema().by_name("users").unwrap().id.clone();
    let mut body = JsonObject::new();
    body.insert("id".to_owned(), format!("user{number:011}").as_str().into());
    body.insert("email".to_owned(), format!("user{number}@example.com").as_str().into());
    body.insert("name".to_owned(), "x".repeat(250).as_str().into());
    body.insert("password".to_owned(), "secret-secret".into());
    body.insert("passwordConfirm".to_owned(), "secret-secret".into());
    WriteBatch::one(Step::Create(CreateRecord {
        set_by_hooks: Default::default(),
        collection: users,
        body,
        password_hashes: BTreeMap::from([("password".to_owned(), "$argon2id$none".to_owned())]),
        uploads: Default::default(),
        access: Access { context: Arc::new(RequestContext::guest(Timestamp(0))), check_rule: false },
    }))
}

async fn read(store: &SqliteStore) {
    let schema = store.schema();
    let query = GetRecord {
        schema_version: schema.version(),
        collection: schema.by_name("users").unwrap().clone(),
        id: "user00000000000".to_owned(),
        conditions: Vec::new(),
    };
    store.get(query).await.unwrap();
}

#[test]
fn the_log_stays_short_under_reads_that_keep_snapshots_and_goes_when_idle() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path().join("data"));
    options.synchronous = Synchronous::Normal;
    let store = SqliteStore::open(options).unwrap();
    let mut longest = 0;
    block_on(async {
        // Each commit is some five pages: some 200 MiB in all.
        for number in 0..10_000 {
            store.write(create(&store, number)).await.unwrap().unwrap();
            if number % 50 == 0 {
                read(&store).await;
                longest = longest.max(log_bytes(folder.path()));
            }
        }
        // The snapshot of this read is open from now on.
        read(&store).await;
    });
    assert!(longest > 0 && longest < MOST_BYTES, "the log grew to {longest} bytes");
    let until = Instant::now() + PATIENCE;
    while log_bytes(folder.path()) > 0 {
        assert!(Instant::now() < until, "the log still holds {} bytes", log_bytes(folder.path()));
        std::thread::yield_now();
    }
}
