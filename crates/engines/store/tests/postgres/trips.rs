//! How often a write waits for the server, counted on the wire.

use std::sync::Arc;
use std::time::Duration;

use contract::event::Interest;
use contract::store::{GetRecord, Store};
use store::postgres::{Options, PoolOptions, PostgresStore};
use testkit::wire::{Counted, Proxy};

use crate::{Fresh, database, with_server};

#[test]
fn a_create_and_a_read_are_one_trip_and_an_update_is_two() {
    with_server(|| async {
        let database = database("trips");
        let proxy = Proxy::before(database.postgres().address()).unwrap();
        let options = Options {
            // One connection, so that everything is prepared on it.
            pool: PoolOptions { size: 1, ..PoolOptions::default() },
            ..Options::new(database.url_at(proxy.address()))
        };
        let store = Arc::new(PostgresStore::open(options).await.unwrap());
        let fresh = Fresh { store, database };
        fresh.collection("notes", r#"[{"name": "n", "type": "number"}]"#, "[]").await;
        fresh.store.register_consumer("all".to_owned(), Interest::All).await.unwrap();
        let mut fewest = [u64::MAX; 3];
        // The first are prepared, and the store's own looks come between now and then.
        for number in 0..40 {
            let before = quiet(&proxy).await;
            let id = fresh.create("notes", "{}").await.id().to_owned();
            let created = proxy.counted().since(before);
            let patch = fresh.patching("notes", &id, &format!(r#"{{"n": {number}.5}}"#));
            let before = quiet(&proxy).await;
            fresh.steps(vec![patch]).await.unwrap();
            let updated = proxy.counted().since(before);
            let query = GetRecord {
                schema_version: fresh.store.schema().version(),
                collection: fresh.find("notes"),
                id,
                conditions: Vec::new(),
            };
            let before = quiet(&proxy).await;
            assert!(fresh.store.get(query).await.unwrap().is_some());
            let read = proxy.counted().since(before);
            for (fewest, counted) in fewest.iter_mut().zip([created, updated, read]) {
                *fewest = counted.round_trips.min(*fewest);
            }
        }
        assert_eq!(fewest, [1, 2, 1]);
    });
}

/// Waits until the store does nothing by itself for a moment.
async fn quiet(proxy: &Proxy) -> Counted {
    loop {
        let before = proxy.counted();
        tokio::time::sleep(Duration::from_millis(10)).await;
        if proxy.counted() == before {
            return before;
        }
    }
}
