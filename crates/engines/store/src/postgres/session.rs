//! One connection to the database, and the statements that are prepared on it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, RowStream, Statement};

use super::connector::Connector;
use super::error::Error;
use super::sql::{Param, Sql};

/// Statements that stay prepared on a connection; past it the oldest goes. A server keeps some ten
/// kilobytes for each.
const PREPARED: usize = 256;

/// Longest time for a request to stop a statement.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);

/// A connection.
pub(super) struct Session {
    client: Client,
    connector: Arc<Connector>,
    prepared: Mutex<Prepared>,
    /// Reads from the socket and writes to it.
    driver: AbortHandle,
    is_aborted: AtomicBool,
    /// What is prepared is of this generation of the schema.
    generation: AtomicU64,
}

#[derive(Default)]
struct Prepared {
    statements: HashMap<Key, Statement>,
    order: VecDeque<Key>,
}

/// The text of a statement and the types of its parameters.
type Key = (String, Vec<Type>);

/// What a statement gave.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) rows: Vec<Row>,
    /// Rows that were written or given.
    pub(super) affected: u64,
}

// === impl Session ===

impl Session {
    pub(super) fn new(client: Client, connector: Arc<Connector>, driver: AbortHandle) -> Session {
        Session {
            client,
            connector,
            prepared: Mutex::default(),
            driver,
            is_aborted: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        }
    }

    /// Whether a pooler gives each transaction another connection.
    pub(super) fn is_pooled(&self) -> bool {
        self.connector.is_pooled()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_aborted.load(Ordering::Acquire) || self.client.is_closed()
    }

    /// Runs a statement. It is on its way with the first poll once it is prepared ([`Session::prepare`]): what
    /// is polled later comes after it, without waiting for its outcome.
    pub(super) async fn run(&self, sql: &Sql) -> Result<Outcome, Error> {
        if self.connector.is_pooled() {
            return self.run_once(sql).await;
        }
        let statement = self.prepare(sql).await?;
        outcome(self.client.query_raw(&statement, sql.params.iter()).await?).await
    }

    /// Runs a statement, which the server itself stops after a while. Through a pooler that takes a transaction of its
    /// own; without one the connection's settings say so.
    pub(super) async fn run_within(&self, sql: &Sql, longest: Duration) -> Result<Outcome, Error> {
        if !self.connector.is_pooled() {
            return self.run(sql).await;
        }
        let (begin, end) = (Sql::new("BEGIN"), Sql::new("COMMIT"));
        let bound = bound(longest);
        let (begun, bounded, outcome, ended) = futures_util::future::join4(
            self.run_once(&begin),
            self.run_once(&bound),
            self.run_once(sql),
            self.run_once(&end),
        )
        .await;
        begun.and(bounded)?;
        let outcome = outcome?;
        ended.map(|_| outcome)
    }

    /// Runs a statement that is not worth being prepared. It is on its way with the first poll.
    pub(super) async fn run_once(&self, sql: &Sql) -> Result<Outcome, Error> {
        let typed: Vec<(&(dyn ToSql + Sync), Type)> =
            sql.params.iter().map(|param| (param as &(dyn ToSql + Sync), param.pg_type())).collect();
        outcome(self.client.query_typed_raw(&sql.text, typed).await?).await
    }

    /// Runs statements without parameters and without rows, one after the other.
    pub(super) async fn run_script(&self, text: &str) -> Result<(), Error> {
        Ok(self.client.batch_execute(text).await?)
    }

    /// Prepares a statement, or finds it prepared. Through a pooler nothing can stay prepared.
    pub(super) async fn prepare(&self, sql: &Sql) -> Result<Statement, Error> {
        let types: Vec<Type> = sql.params.iter().map(Param::pg_type).collect();
        let key = (sql.text.clone(), types);
        if let Some(statement) = self.prepared().statements.get(&key) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare_typed(&key.0, &key.1).await?;
        self.prepared().keep(key, statement.clone());
        Ok(statement)
    }

    /// Whether a statement can be sent without waiting.
    pub(super) fn is_prepared(&self, sql: &Sql) -> bool {
        if self.connector.is_pooled() {
            return true;
        }
        let types: Vec<Type> = sql.params.iter().map(Param::pg_type).collect();
        self.prepared().statements.contains_key(&(sql.text.clone(), types))
    }

    /// Forgets what is prepared if it is of another generation of the schema than this.
    pub(super) fn keep_to(&self, generation: u64) {
        if self.generation.swap(generation, Ordering::AcqRel) != generation {
            *self.prepared() = Prepared::default();
        }
    }

    /// Asks the server to stop what the connection is at. It is not used any more afterwards: the request may reach
    /// the server late, and would stop something else.
    ///
    /// A pooler is not asked: PgBouncer 1.18 ends itself over such a request (seen: "bad client state"). There the
    /// server's own bound stops it.
    pub(super) async fn stop(&self) {
        if !self.connector.is_pooled() {
            let cancelled = self.connector.cancel(self.client.cancel_token());
            if tokio::time::timeout(CANCEL_DEADLINE, cancelled).await.is_err() {
                tracing::warn!("the database did not take the request to stop a statement");
            }
        }
        self.abort();
    }

    /// Ends the connection without waiting for the server.
    pub(super) fn abort(&self) {
        // The driver ends a moment later, and the client's end knows of it only then.
        self.is_aborted.store(true, Ordering::Release);
        self.driver.abort();
    }

    fn prepared(&self) -> std::sync::MutexGuard<'_, Prepared> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Prepared ===

impl Prepared {
    fn keep(&mut self, key: Key, statement: Statement) {
        if self.order.len() >= PREPARED
            && let Some(oldest) = self.order.pop_front()
        {
            self.statements.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.statements.insert(key, statement);
    }
}

/// Bounds the statements of a transaction.
pub(super) fn bound(longest: Duration) -> Sql {
    Sql::new(format!("SET LOCAL statement_timeout = {}", longest.as_millis()))
}

async fn outcome(stream: RowStream) -> Result<Outcome, Error> {
    let mut stream = std::pin::pin!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(row);
    }
    let affected = stream.rows_affected().unwrap_or(rows.len() as u64);
    Ok(Outcome { rows, affected })
}
