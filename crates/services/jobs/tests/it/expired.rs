//! The built-in crons, started by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::store::{ListRecords, Store};
use jobs::{Crons, built_in};
use model::context::RequestContext;
use model::json::{Json, JsonObject};
use model::step::{Access, CreateRecord, Step, Uploads, WriteBatch};
use model::time::Timestamp;
use rusqlite::Connection;
use store::sqlite::SqliteStore;

use crate::{fresh, until};

async fn make(store: &SqliteStore, collection: &str, fields: &[(&str, &str)]) {
    let body: JsonObject =
        fields.iter().map(|(name, value)| ((*name).to_owned(), Json::from(*value))).collect();
    let step = Step::Create(CreateRecord {
        set_by_hooks: Default::default(),
        collection: store.schema().by_name(collection).unwrap().id.clone(),
        body,
        password_hashes: BTreeMap::from([("password".to_owned(), "hash".to_owned())]),
        uploads: Uploads::default(),
        access: Access { context: Arc::new(RequestContext::guest(Timestamp(0))), check_rule: false },
    });
    store.write(WriteBatch::one(step)).await.unwrap().unwrap();
}

async fn ids(store: &SqliteStore, collection: &str) -> Vec<String> {
    let schema = store.schema();
    let query = ListRecords {
        schema_version: schema.version(),
        collection: schema.by_name(collection).unwrap().clone(),
        conditions: Vec::new(),
        sort: None,
        offset: 0,
        limit: 1_000,
        with_total: false,
    };
    store.list(query).await.unwrap().records.iter().map(|record| record.id().to_owned()).collect()
}

fn id(number: usize) -> String {
    format!("r{number:014}")
}

#[tokio::test]
async fn expired_sign_ins_are_removed_and_others_stay() {
    let (folder, store, _wakeup) = fresh();
    let users = store.schema().by_name("users").unwrap().id.clone();
    for number in 0..260 {
        let id = id(number);
        let about = [("id", id.as_str()), ("collectionRef", users.as_str()), ("recordRef", "u")];
        make(&store, "_mfas", &[&about[..], &[("method", "password")]].concat()).await;
        make(&store, "_otps", &[&about[..], &[("password", "12345678")]].concat()).await;
    }
    // Every other one is of long ago.
    let data = Connection::open(folder.path().join("data/data.db")).unwrap();
    for table in ["_mfas", "_otps"] {
        let old = format!("UPDATE {table} SET created = '2020-01-01 00:00:00.000Z' WHERE rowid % 2 = 0");
        data.execute(&old, []).unwrap();
    }
    drop(data);
    let crons = Crons::start(built_in(store.clone()), kit::app::now);
    for (cron, table) in [("__pbMFACleanup__", "_mfas"), ("__pbOTPCleanup__", "_otps")] {
        assert!(crons.run_now(cron).is_ok());
        until(table, async || ids(&store, table).await.len() == 130).await;
        assert!(ids(&store, table).await.iter().enumerate().all(|(place, found)| *found == id(place * 2)));
    }
    crons.stop().await;
}
