use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::postgres::{Postgres, PostgresOptions};
use tokio_postgres::error::SqlState;

use crate::{connect, wait_until};

/// Says to the test below that it is the child of another.
const CHILD: &str = "TESTKIT_CHILD_OF_A_TEST";

#[tokio::test]
async fn an_owner_may_do_all_in_its_database_and_nothing_beyond() {
    if Postgres::is_missing() {
        return;
    }
    let database = Postgres::shared().unwrap().database("owner").unwrap();
    let client = connect(&database.url()).await.unwrap();
    client
        .batch_execute("CREATE SCHEMA own; CREATE TABLE own.t (n int); INSERT INTO own.t VALUES (1)")
        .await
        .unwrap();
    client.batch_execute("CREATE TABLE public.t (n int)").await.unwrap();

    let roles = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls \
                 FROM pg_roles WHERE rolname = current_user";
    assert!(!client.query_one(roles, &[]).await.unwrap().get::<_, bool>(0));
    for beyond in ["CREATE DATABASE other", "CREATE ROLE other", "ALTER SYSTEM SET work_mem = '1MB'"] {
        let error = client.batch_execute(beyond).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{beyond}");
    }
}

#[tokio::test]
async fn a_database_demands_the_password() {
    if Postgres::is_missing() {
        return;
    }
    let database = Postgres::shared().unwrap().database("password").unwrap();
    let error = connect(&database.url().replace(database.password(), "wrong")).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn a_dropped_database_is_gone_with_its_owner_also_under_a_client() {
    if Postgres::is_missing() {
        return;
    }
    let postgres = Postgres::shared().unwrap();
    let database = postgres.database("Dropped, or not?").unwrap();
    let name = database.name().to_owned();
    let found = format!(
        "SELECT datname FROM pg_database WHERE datname = '{name}' \
         UNION ALL SELECT rolname FROM pg_roles WHERE rolname = '{name}'"
    );
    assert_eq!(postgres.sql(&found).unwrap().len(), 2);
    let client = connect(&database.url()).await.unwrap();

    drop(database);
    assert_eq!(postgres.sql(&found).unwrap().len(), 0);
    assert!(client.simple_query("SELECT 1").await.is_err());
}

#[tokio::test]
async fn the_superuser_sees_and_ends_what_clients_do() {
    if Postgres::is_missing() {
        return;
    }
    let database = Postgres::shared().unwrap().database("seen").unwrap();
    let client = connect(&database.url()).await.unwrap();
    client.query("SELECT 40 + $1::int4", &[&2]).await.unwrap();
    let name = database.name();

    let seen = database.postgres().sql(&format!(
        "SELECT s.query, s.calls FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
         WHERE d.datname = '{name}' AND s.query LIKE 'SELECT $%'"
    ));
    let ended = database.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND usename = '{name}'"
    ));
    assert_eq!(ended.unwrap(), [[Some("t".to_owned())]]);
    assert!(client.simple_query("SELECT 1").await.is_err());
    // Not every server has the library.
    if let Ok(seen) = seen {
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0][1].as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn order_is_that_of_bytes_only_where_it_is_asked_for() {
    if Postgres::is_missing() {
        return;
    }
    let database = Postgres::shared().unwrap().database("order").unwrap();
    let rows = database.sql(r#"SELECT 'a' < 'B', 'a' COLLATE "C" < 'B'"#).unwrap();
    assert_eq!(rows, [[Some("t".to_owned()), Some("f".to_owned())]]);
}

#[test]
fn the_shared_server_is_one() {
    if Postgres::is_missing() {
        return;
    }
    let [one, other] = [(); 2].map(|()| std::thread::spawn(|| Postgres::shared().unwrap()));
    assert_eq!(one.join().unwrap().pid(), other.join().unwrap().pid());
}

/// What the next test starts, as a process of its own.
#[test]
fn a_process_that_aborts() {
    let Some(told) = std::env::var_os(CHILD) else { return };
    let postgres = Postgres::shared().unwrap();
    let folder = postgres.sql("SHOW data_directory").unwrap()[0][0].clone().unwrap();
    if told == "paused" {
        postgres.pause().unwrap();
    }
    std::fs::write(
        std::env::var_os("TESTKIT_TELL").unwrap(),
        format!("{} {folder}", postgres.pid().unwrap()),
    )
    .unwrap();
    std::process::abort();
}

#[test]
fn the_shared_server_ends_with_a_process_that_aborts_even_paused() {
    if Postgres::is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for state in ["running", "paused"] {
        let told = folder.path().join(state);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "postgres::a_process_that_aborts"])
            .env(CHILD, state)
            .env("TESTKIT_TELL", &told)
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(6), "{child:?}");
        let told = std::fs::read_to_string(told).unwrap();
        let (pid, data) = told.split_once(' ').unwrap();
        wait_until("the server and its folder are gone", || {
            !Path::new(&format!("/proc/{pid}")).exists() && !Path::new(data).parent().unwrap().exists()
        });
    }
}

#[tokio::test]
async fn a_server_of_ones_own_dies_comes_back_and_is_gone_at_last() {
    if Postgres::is_missing() {
        return;
    }
    let options =
        PostgresOptions { fsync: true, tls: false, settings: vec![("work_mem".into(), "7MB".into())] };
    let postgres = Postgres::start(options).unwrap();
    assert_eq!(postgres.sql("SHOW fsync").unwrap(), [[Some("on".to_owned())]]);
    assert_eq!(postgres.sql("SHOW work_mem").unwrap(), [[Some("7MB".to_owned())]]);
    let database = postgres.database("killed").unwrap();
    let (first_pid, address) = (postgres.pid().unwrap(), postgres.address());
    database.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").unwrap();
    let client = connect(&database.url()).await.unwrap();

    postgres.kill().unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
    assert!(connect(&database.url()).await.is_err());
    assert_eq!(postgres.pid(), None);

    postgres.restart().unwrap();
    assert_eq!(postgres.address(), address);
    assert_eq!(database.sql("SELECT n FROM kept").unwrap(), [[Some("1".to_owned())]]);
    assert!(postgres.log().contains("automatic recovery"), "{}", postgres.log());
    let last_pid = postgres.pid().unwrap();
    assert_ne!(last_pid, first_pid);

    let data = postgres.sql("SHOW data_directory").unwrap()[0][0].clone().unwrap();
    drop(database);
    drop(postgres);
    assert!(!Path::new(&format!("/proc/{last_pid}")).exists());
    assert!(!Path::new(&data).parent().unwrap().exists());
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    if Postgres::is_missing() {
        return;
    }
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    let database = postgres.database("paused").unwrap();
    let client = connect(&database.url()).await.unwrap();

    postgres.pause().unwrap();
    let answer = client.simple_query("SELECT 1");
    tokio::pin!(answer);
    let waited = tokio::time::timeout(Duration::from_millis(100), &mut answer).await;
    assert!(waited.is_err(), "a paused server answered");

    postgres.resume().unwrap();
    answer.await.unwrap();
}

#[tokio::test]
async fn clients_of_a_server_with_tls_must_use_it_and_can_verify_it() {
    if Postgres::is_missing() {
        return;
    }
    let postgres = Postgres::start(PostgresOptions { tls: true, ..Default::default() }).unwrap();
    let database = postgres.database("tls").unwrap();
    let error = connect(&database.url()).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "{error:?}");

    let root = postgres.root_certificate().unwrap();
    let with_root = |root: &Path| {
        let url = format!("{}?sslmode=verify-full&sslrootcert={}", database.url(), root.display());
        psql(&url, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    };
    assert_eq!(with_root(&root).unwrap(), "t\n");
    let other = Postgres::start(PostgresOptions { tls: true, ..Default::default() }).unwrap();
    let error = with_root(&other.root_certificate().unwrap()).unwrap_err();
    // Its words depend on the version.
    assert!(error.contains("SSL error"), "{error}");
    assert_eq!(psql(&postgres.superuser_url(), "SELECT 1").unwrap(), "1\n");
    assert!(Postgres::shared().unwrap().root_certificate().is_none());
}

#[tokio::test]
async fn a_standby_follows_and_shows_it_when_it_may() {
    if Postgres::is_missing() {
        return;
    }
    let primary = Postgres::start(PostgresOptions::default()).unwrap();
    let database = primary.database("followed").unwrap();
    let standby = Postgres::standby_of(&primary, false).unwrap();
    let client = connect(&database.url()).await.unwrap();
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.unwrap();
    standby.catch_up_with(&primary).unwrap();
    let on_standby = connect(&database.url_at(standby.address())).await.unwrap();
    let count = async || -> i64 { on_standby.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0) };
    assert_eq!(count().await, 1);
    let error = on_standby.batch_execute("INSERT INTO t VALUES (2)").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));

    standby.pause_replay().unwrap();
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(count().await, 1);
    standby.resume_replay().unwrap();
    standby.catch_up_with(&primary).unwrap();
    assert_eq!(count().await, 2);
}

#[tokio::test]
async fn a_synchronous_standby_has_what_was_acknowledged_when_it_is_promoted() {
    if Postgres::is_missing() {
        return;
    }
    let primary = Postgres::start(PostgresOptions::default()).unwrap();
    let database = primary.database("failover").unwrap();
    let standby = Postgres::standby_of(&primary, true).unwrap();
    let client = connect(&database.url()).await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();

    standby.pause().unwrap();
    let write = client.batch_execute("INSERT INTO t VALUES (1)");
    tokio::pin!(write);
    let waited = tokio::time::timeout(Duration::from_millis(100), &mut write).await;
    assert!(waited.is_err(), "a commit did not wait for its standby");
    standby.resume().unwrap();
    write.await.unwrap();

    primary.kill().unwrap();
    standby.promote().unwrap();
    let client = connect(&database.url_at(standby.address())).await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 2);
}

/// What PostgreSQL's own client says.
fn psql(url: &str, sql: &str) -> Result<String, String> {
    let folder = std::env::var("POSTGRES_BIN").unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".to_owned());
    let output = Command::new(Path::new(&folder).join("psql")).args(["-XtAc", sql, url]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
