//! What goes wrong between a store and its server, and in what order others' transactions end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::event::{Events, Interest};
use contract::store::{ListRecords, Store, StoreError};
use model::step::{Refused, Step, Why, WriteBatch};
use store::postgres::{Options, PoolOptions, PostgresStore};
use testkit::postgres::{Postgres, PostgresOptions};
use testkit::wire::Proxy;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::{Fresh, database, until, with_server};

const NOTES: &str =
    r#"[{"id": "f1", "name": "n", "type": "number"}, {"id": "f2", "name": "title", "type": "text"}]"#;
const UNIQUE: &str = r#"["CREATE UNIQUE INDEX idx_title ON notes (title)"]"#;

async fn events(fresh: &Fresh, consumer: &str) -> Vec<(String, u64)> {
    match fresh.store.events(consumer.to_owned(), 0, 1_000).await.unwrap().events {
        Events::Some(events) => events.into_iter().map(|event| (event.record, event.sequence)).collect(),
        Events::Resync { .. } => panic!("told to resync"),
    }
}

#[test]
fn a_step_that_the_server_refuses_late_undoes_the_batch_whichever_it_is() {
    with_server(|| async {
        let fresh = Fresh::open("late").await;
        fresh.collection("notes", NOTES, UNIQUE).await;
        fresh.store.register_consumer("all".to_owned(), Interest::All).await.unwrap();
        fresh.create("notes", r#"{"title": "taken"}"#).await;
        for position in 0..5 {
            let steps = (0..5)
                .map(|step| {
                    let title =
                        if step == position { "taken".to_owned() } else { format!("t{position}{step}") };
                    fresh.creating("notes", &format!(r#"{{"title": "{title}"}}"#))
                })
                .collect();
            let Err(Refused { step, why: Why::Fields(errors) }) = fresh.steps(steps).await else {
                panic!("a batch with a title twice was written");
            };
            assert!(step == position && errors.contains("title"), "{step}");
        }
        // One that is refused in memory comes after one that the server has refused already.
        let steps = vec![fresh.creating("notes", r#"{"title": "taken"}"#), Step::Impossible];
        assert_eq!(fresh.steps(steps).await.unwrap_err().step, 0);
        assert_eq!(fresh.all("notes").await.len(), 1);
        // Others' transactions on the same server may hold events up for a moment.
        until("the event", async || events(&fresh, "all").await.len() == 1).await;
        // The connections are whole.
        fresh.create("notes", r#"{"title": "free"}"#).await;
    });
}

/// Somebody's connection, whose transactions end when the test says so.
struct Slow {
    client: Client,
    driver: JoinHandle<()>,
}

impl Slow {
    async fn connect(fresh: &Fresh) -> Slow {
        let (client, connection) = tokio_postgres::connect(&fresh.database.url(), NoTls).await.unwrap();
        let driver = tokio::spawn(async move { connection.await.unwrap() });
        Slow { client, driver }
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Writes a row and its event, and does not end.
    async fn begin(&self, id: &str) {
        self.run(&format!(
            "BEGIN; INSERT INTO notes (id) VALUES ('{id}'); \
             INSERT INTO _gs_outbox (collection, record, action, schema_version, caller, written, loses_files, \
             bytes, batch, sequence) SELECT 'c', '{id}', 'create', 0, '', 0, false, 1, n, n << 20 \
             FROM (SELECT nextval('_gs_batches') AS n) AS x"
        ))
        .await;
    }

    async fn end(self) {
        drop(self.client);
        self.driver.await.unwrap();
    }
}

async fn records(fresh: &Fresh) -> Vec<String> {
    events(fresh, "all").await.into_iter().map(|(record, _)| record).collect()
}

#[test]
fn events_wait_for_a_transaction_that_may_come_before_them() {
    with_server(|| async {
        let fresh = Fresh::open("order").await;
        fresh.collection("notes", NOTES, "[]").await;
        fresh.store.register_consumer("all".to_owned(), Interest::All).await.unwrap();
        let slow = Slow::connect(&fresh).await;
        slow.begin("slow").await;
        let quick = fresh.create("notes", r#"{"title": "quick"}"#).await;
        for _ in 0..20 {
            assert!(records(&fresh).await.is_empty(), "the quick one's event has a larger number");
        }
        slow.run("COMMIT").await;
        until("both events", async || records(&fresh).await.len() == 2).await;
        assert_eq!(records(&fresh).await, ["slow", quick.id()]);
        slow.end().await;
    });
}

#[test]
fn events_come_in_order_whichever_of_several_transactions_ends_first() {
    with_server(|| async {
        let fresh = Fresh::open("orders").await;
        fresh.collection("notes", NOTES, "[]").await;
        fresh.store.register_consumer("all".to_owned(), Interest::All).await.unwrap();
        let (oldest, first, second) =
            (Slow::connect(&fresh).await, Slow::connect(&fresh).await, Slow::connect(&fresh).await);
        oldest.run("BEGIN; SELECT pg_current_xact_id()").await;
        first.begin("first").await;
        second.begin("second").await;
        assert!(records(&fresh).await.is_empty());
        oldest.run("COMMIT").await;
        assert!(records(&fresh).await.is_empty());
        second.run("COMMIT").await;
        for _ in 0..20 {
            assert!(records(&fresh).await.is_empty(), "the first is open");
        }
        first.run("COMMIT").await;
        until("both events", async || records(&fresh).await.len() == 2).await;
        assert_eq!(records(&fresh).await, ["first", "second"]);
        for slow in [oldest, first, second] {
            slow.end().await;
        }
    });
}

#[test]
fn numbers_that_many_nodes_add_to_at_once_all_count() {
    with_server(|| async {
        let first = Fresh::open("modifiers").await;
        first.collection("notes", NOTES, "[]").await;
        let id = first.create("notes", "{}").await.id().to_owned();
        let nodes = [
            Arc::new(Fresh::over(first.database.clone()).await),
            Arc::new(Fresh::over(first.database.clone()).await),
            Arc::new(first),
        ];
        let mut writers = Vec::new();
        for node in &nodes {
            for _ in 0..4 {
                let (node, id) = (node.clone(), id.clone());
                writers.push(tokio::spawn(async move {
                    for _ in 0..25 {
                        let patch = node.patching("notes", &id, r#"{"n+": 1}"#);
                        node.steps(vec![patch]).await.unwrap();
                    }
                }));
            }
        }
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(nodes[0].all("notes").await[0].get("n").clone(), model::value::Value::Number(300.0));
    });
}

#[test]
fn no_relation_points_to_a_record_that_was_deleted_at_the_same_time() {
    with_server(|| async {
        let one = Arc::new(Fresh::open("race").await);
        let teams = one.collection("teams", "[]", "[]").await;
        let fields = format!(
            r#"[{{"name": "team", "type": "relation", "collectionId": "{}", "required": true, "maxSelect": 1}}]"#,
            teams.id
        );
        one.collection("people", &fields, "[]").await;
        let other = Arc::new(Fresh::over(one.database.clone()).await);
        for round in 0..30 {
            let team = one.create("teams", "{}").await.id().to_owned();
            let (deleting, creating) = (one.clone(), other.clone());
            let delete = deleting.deleting("teams", &team);
            let create = creating.creating("people", &format!(r#"{{"team": "{team}"}}"#));
            let deleted = tokio::spawn(async move { deleting.steps(vec![delete]).await.is_ok() });
            let created = tokio::spawn(async move { creating.steps(vec![create]).await.is_ok() });
            let (deleted, created) = (deleted.await.unwrap(), created.await.unwrap());
            assert!(deleted != created, "round {round}: one of them wins, {deleted} {created}");
        }
        let teams: HashSet<String> = one.all("teams").await.iter().map(|team| team.id().to_owned()).collect();
        for person in one.all("people").await {
            assert!(teams.contains(person.get("team").as_str()));
        }
    });
}

#[test]
fn a_change_of_the_schema_is_known_to_another_node_at_once_or_the_write_is_planned_anew() {
    with_server(|| async {
        let one = Fresh::open("schema").await;
        one.collection("notes", NOTES, "[]").await;
        let other = Fresh::over(one.database.clone()).await;
        one.change("notes", r#"{"fields": [{"name": "added", "type": "text", "required": true}]}"#)
            .await
            .unwrap();
        let Err(refused) = other.steps(vec![other.creating("notes", "{}")]).await else {
            panic!("written under the schema of before");
        };
        assert!(matches!(refused.why, Why::Fields(errors) if errors.contains("added")));
        assert_eq!(other.find("notes").fields.len(), 2);
    });
}

#[test]
fn an_answer_to_a_commit_that_is_lost_is_told_as_unknown_and_a_lost_connection_before_it_is_not() {
    with_server(|| async {
        let database = database("unknown");
        let proxy = Proxy::before(database.postgres().address()).unwrap();
        let store = PostgresStore::open(Options::new(database.url_at(proxy.address()))).await.unwrap();
        let fresh = Fresh { store: Arc::new(store), database };
        fresh.collection("notes", NOTES, "[]").await;
        let write = |title: &str| {
            let step = fresh.creating("notes", &format!(r#"{{"title": "{title}"}}"#));
            fresh.store.write(WriteBatch::one(step))
        };
        // Twice, so that everything is prepared.
        for _ in 0..2 {
            write("before").await.unwrap().unwrap();
        }
        proxy.hold_answers();
        let cut = async {
            let stored = "SELECT 1 FROM notes WHERE title = 'lost'";
            until("the row", async || fresh.database.sql(stored).unwrap().len() == 1).await;
            proxy.refuse();
        };
        let (lost, ()) = tokio::join!(write("lost"), cut);
        assert!(matches!(lost, Err(StoreError::Unknown(_))), "{lost:?}");
        let refused = write("later").await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        proxy.pass();
        until("a connection", async || write("after").await.is_ok()).await;
        let titles: Vec<String> =
            fresh.all("notes").await.iter().map(|note| note.get("title").as_str().to_owned()).collect();
        assert_eq!(titles, ["before", "before", "lost", "after"]);
    });
}

#[test]
fn a_server_that_hangs_costs_the_deadline_and_nothing_more() {
    with_server(|| async {
        let postgres = Postgres::start(PostgresOptions::default()).unwrap();
        let database = Arc::new(postgres.database("hangs").unwrap());
        let patience = Duration::from_millis(300);
        let options = Options {
            read_deadline: patience,
            write_deadline: patience,
            pool: PoolOptions { wait: patience, ..PoolOptions::default() },
            ..Options::new(database.url())
        };
        let fresh = Fresh { store: Arc::new(PostgresStore::open(options).await.unwrap()), database };
        fresh.collection("notes", NOTES, "[]").await;
        let list = || {
            let schema_version = fresh.store.schema().version();
            fresh.store.list(ListRecords {
                schema_version,
                collection: fresh.find("notes"),
                conditions: Vec::new(),
                sort: None,
                offset: 0,
                limit: 1,
                with_total: false,
            })
        };
        let write = || fresh.store.write(WriteBatch::one(fresh.creating("notes", "{}")));
        write().await.unwrap().unwrap();
        list().await.unwrap();
        postgres.pause().unwrap();
        let started = Instant::now();
        let (read, written) = tokio::join!(list(), write());
        assert!(matches!(read, Err(StoreError::Deadline(_))), "{read:?}");
        // Whether COMMIT was carried out nobody can say.
        assert!(matches!(written, Err(StoreError::Unknown(_) | StoreError::Unavailable(_))), "{written:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        postgres.resume().unwrap();
        until("a write", async || write().await.is_ok()).await;
        until("a read", async || list().await.is_ok()).await;
    });
}

#[test]
fn a_server_is_known_by_its_certificate() {
    with_server(|| async {
        let postgres = Postgres::start(PostgresOptions { tls: true, ..PostgresOptions::default() }).unwrap();
        let database = postgres.database("tls").unwrap();
        let root = postgres.root_certificate().unwrap();
        let verified = format!("{}?sslmode=verify-full&sslrootcert={}", database.url(), root.display());
        PostgresStore::open(Options::new(verified)).await.unwrap().close().await.unwrap();
        for plain in ["?sslmode=require", "?sslmode=prefer", ""] {
            PostgresStore::open(Options::new(database.url() + plain)).await.unwrap().close().await.unwrap();
        }
        let other = tempfile::NamedTempFile::new().unwrap();
        let another = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(other.path(), another.cert.pem()).unwrap();
        let unknown =
            format!("{}?sslmode=verify-full&sslrootcert={}", database.url(), other.path().display());
        assert!(PostgresStore::open(Options::new(unknown)).await.is_err());
        let open = PostgresStore::open(Options::new(database.url() + "?sslmode=disable")).await;
        assert!(open.is_err(), "the server takes nothing without TLS");
    });
}

#[test]
fn connections_that_the_server_ends_are_made_anew() {
    with_server(|| async {
        let fresh = Fresh::open("ended").await;
        fresh.collection("notes", NOTES, "[]").await;
        for round in 0..3 {
            let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                          WHERE datname = current_database() AND pid <> pg_backend_pid()";
            fresh.database.sql(others).unwrap();
            until("a write", async || {
                let step = fresh.creating("notes", &format!(r#"{{"n": {round}}}"#));
                fresh.store.write(WriteBatch::one(step)).await.is_ok()
            })
            .await;
        }
        assert_eq!(fresh.all("notes").await.len(), 3);
    });
}

#[test]
fn nodes_that_start_at_once_on_an_empty_database_all_start() {
    with_server(|| async {
        let database = database("starts");
        let starts: Vec<_> = (0..4)
            .map(|_| {
                let url = database.url();
                tokio::spawn(async move { PostgresStore::open(Options::new(url)).await })
            })
            .collect();
        let mut stores = Vec::new();
        for start in starts {
            stores.push(start.await.unwrap().unwrap());
        }
        let versions: HashSet<u64> = stores.iter().map(|store| store.schema().version()).collect();
        assert_eq!(versions.len(), 1);
    });
}

#[test]
fn what_cannot_be_used_is_refused_in_a_sentence() {
    with_server(|| async {
        let database = database("refused");
        let refusal =
            async |url: String| PostgresStore::open(Options::new(url)).await.err().unwrap().to_string();
        let wrong = database.url().replace(database.password(), "wrong");
        let told = refusal(wrong).await;
        assert!(
            told.contains("cannot be reached") && told.contains("password authentication failed"),
            "{told}"
        );
        let nowhere = database.url().replace(&format!("/{}", database.name()), "/nowhere");
        let told = refusal(nowhere).await;
        assert!(told.contains("cannot be reached") && !told.contains(database.password()), "{told}");
        database.sql("CREATE TABLE public.others (n int)").unwrap();
        let told = refusal(database.url()).await;
        assert!(told.contains("holds other tables"), "{told}");
        database.sql("DROP TABLE public.others").unwrap();
        database.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC, pg_database_owner").unwrap();
        let told = refusal(database.url()).await;
        assert!(told.contains("GRANT USAGE, CREATE ON SCHEMA public TO"), "{told}");
    });
}
