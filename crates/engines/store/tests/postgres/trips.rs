//! How often a write waits for the server, counted on the wire.

use std::sync::Arc;

use contract::event::Interest;
use contract::store::{GetRecord, Store};
use store::postgres::{Options, PostgresStore};

use crate::relay::Relay;
use crate::{Fresh, database, with_server};

#[test]
fn a_create_is_one_trip_and_an_update_two() {
    with_server(|| async {
        let database = database("trips");
        let relay = Relay::before(database.postgres().address()).await;
        let options = Options {
            // One connection, so that everything is prepared on it.
            pool: store::postgres::PoolOptions { size: 1, ..Default::default() },
            ..Options::new(database.url_at(relay.address))
        };
        let store = Arc::new(PostgresStore::open(options).await.unwrap());
        let fresh = Fresh { store, database };
        fresh.collection("notes", r#"[{"name": "n", "type": "number"}]"#, "[]").await;
        fresh.store.register_consumer("all".to_owned(), Interest::All).await.unwrap();
        let local = tokio::task::LocalSet::new();
        // On one thread, and so in one pool; the store's own looks come between now and then.
        local
            .run_until(async {
                let mut fewest = [usize::MAX; 3];
                for number in 0..40 {
                    relay.take_trips();
                    let id = fresh.create("notes", "{}").await.id().to_owned();
                    let created = relay.take_trips();
                    let patch = fresh.patching("notes", &id, &format!(r#"{{"n": {number}.5}}"#));
                    fresh.steps(vec![patch]).await.unwrap();
                    let updated = relay.take_trips();
                    let query = GetRecord {
                        schema_version: fresh.store.schema().version(),
                        collection: fresh.find("notes"),
                        id,
                        conditions: Vec::new(),
                    };
                    assert!(fresh.store.get(query).await.unwrap().is_some());
                    let read = relay.take_trips();
                    for (fewest, count) in fewest.iter_mut().zip([created, updated, read]) {
                        *fewest = count.min(*fewest);
                    }
                }
                assert_eq!(fewest, [1, 2, 1]);
            })
            .await;
    });
}
