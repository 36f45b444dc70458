use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// What a query of [`super::Postgres::sql`] found: values as text, NULL as none.
pub type Rows = Vec<Vec<Option<String>>>;

/// No test waits longer for what it does behind the adapter's back.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs SQL on a connection of its own, with a thread of its own, since tests that have a runtime may block on no other.
pub(crate) fn run(config: &Config, sql: &str) -> Result<Rows> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let rows = tokio::time::timeout(DEADLINE, run_here(config, sql)).await;
                rows.with_context(|| format!("{sql}: no answer within {DEADLINE:?}"))?
            })
        });
        worker.join().expect("running SQL panics nowhere")
    })
}

async fn run_here(config: &Config, sql: &str) -> Result<Rows> {
    let (client, connection) = config.connect(NoTls).await.context("connect")?;
    let query = async move { client.simple_query(sql).await };
    // The query ends the connection by dropping its client.
    let (messages, _) = futures_util::future::join(query, connection).await;
    let messages = messages.with_context(|| format!("run {sql}"))?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.map(|row| (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()).collect())
}
