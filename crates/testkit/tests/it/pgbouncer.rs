use std::path::Path;

use testkit::postgres::{PgBouncer, Postgres};

use crate::connect;

#[tokio::test]
async fn clients_share_the_servers_connections_by_transaction() {
    if Postgres::is_missing() || PgBouncer::is_missing() {
        return;
    }
    let database = Postgres::shared().unwrap().database("pooled").unwrap();
    let pooler = PgBouncer::with_settings(&database, &[("default_pool_size", "1")]).unwrap();
    let [one, other] = [connect(pooler.url()).await.unwrap(), connect(pooler.url()).await.unwrap()];
    let mut servers = Vec::new();
    for client in [&one, &other] {
        // The protocol without prepared statements, which this PgBouncer has not in this mode.
        let messages = client.simple_query("SELECT pg_backend_pid()").await.unwrap();
        let row = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        servers.push(row.unwrap().get(0).unwrap().to_owned());
    }
    assert_eq!(servers[0], servers[1]);

    let pools = pooler.console("SHOW POOLS").unwrap();
    assert!(pools.iter().any(|pool| pool[0].as_deref() == Some(database.name())), "{pools:?}");
}

#[tokio::test]
async fn a_pooler_takes_the_owner_by_each_kind_of_password_and_nobody_else() {
    if Postgres::is_missing() || PgBouncer::is_missing() {
        return;
    }
    let database = Postgres::shared().unwrap().database("pool_auth").unwrap();
    for kind in ["plain", "md5", "scram-sha-256"] {
        let pooler = PgBouncer::with_settings(&database, &[("auth_type", kind)]).unwrap();
        connect(pooler.url()).await.unwrap().simple_query("SELECT 1").await.unwrap();
        let wrong = pooler.url().replace(database.password(), "wrong");
        assert!(connect(&wrong).await.is_err(), "{kind}");
    }
}

#[test]
fn a_dropped_pooler_is_gone() {
    if Postgres::is_missing() || PgBouncer::is_missing() {
        return;
    }
    let database = Postgres::shared().unwrap().database("pool_gone").unwrap();
    let pooler = PgBouncer::before(&database).unwrap();
    let process = format!("/proc/{}", pooler.pid().unwrap());
    assert!(Path::new(&process).exists());
    drop(pooler);
    assert!(!Path::new(&process).exists());
}
