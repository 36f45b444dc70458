//! The store's contract, as the owner of a database who is no superuser: by a connection of its own, and through
//! PgBouncer in its transaction mode.

use std::any::Any;
use std::sync::Arc;

use store::postgres::{Options, PoolOptions, PostgresStore};
use testkit::store_suite::{Opened, StoreOptions};

async fn open(wanted: StoreOptions, options: Options, keep: Box<dyn Any>) -> Opened {
    let StoreOptions { read_deadline, observers } = wanted;
    let options = Options { read_deadline, observers, ..options };
    let store = Arc::new(PostgresStore::open(options).await.unwrap());
    Opened { store: store.clone(), jobs: store.clone(), hooks: store.clone(), secrets: store, keep }
}

mod direct {
    use super::*;

    async fn open(wanted: StoreOptions) -> Opened {
        let database = crate::database("contract");
        let options = Options::new(database.url());
        super::open(wanted, options, Box::new(database)).await
    }

    testkit::store_suite!(open unless testkit::postgres::Postgres::is_missing);
}

mod pooled {
    use testkit::postgres::{PgBouncer, Postgres};

    use super::*;

    async fn open(wanted: StoreOptions) -> Opened {
        let database = crate::database("pooled");
        let pooler = PgBouncer::before(&database).unwrap();
        let options = Options {
            direct_url: Some(database.url()),
            pool: PoolOptions { size: 3, ..PoolOptions::default() },
            ..Options::new(pooler.url())
        };
        super::open(wanted, options, Box::new((pooler, database))).await
    }

    fn is_missing() -> bool {
        Postgres::is_missing() || PgBouncer::is_missing()
    }

    testkit::store_suite!(open unless super::is_missing);
}
