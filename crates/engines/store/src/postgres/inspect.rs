//! Looks at a database and changes nothing: what it is, what the role may do, and which settings matter.

use std::sync::Arc;

use tokio_postgres::Row;

use super::error::Error;
use super::layout::{FORMAT, FUNCTIONS};
use super::open::{OpenError, check_server, check_tables};
use super::session::Session;
use super::sql::Sql;

/// What a database is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The server's version.
    pub version: String,
    /// The database, the schema in it, and the role of the URL.
    pub place: Place,
    /// The format of our tables; none when there are none yet.
    pub format: Option<i64>,
    /// Whether the role may make what is missing.
    pub may_create: bool,
    /// Whether the role is a superuser, which is never needed.
    pub is_superuser: bool,
    /// Whether the server is a standby, on which nothing can be written.
    pub is_standby: bool,
    /// Settings that matter, by name, as the server has them.
    pub settings: Vec<(String, String)>,
    /// Extensions in the database.
    pub extensions: Vec<String>,
}

/// Where our tables are or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The database.
    pub database: String,
    /// The schema in it.
    pub schema: String,
    /// Who the URL signs in as.
    pub role: String,
}

/// Settings that say how much can be done at once, how durable a commit is, and what is ready for replicas and
/// shards.
const SETTINGS: [&str; 8] = [
    "max_connections",
    "superuser_reserved_connections",
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "wal_level",
    "max_wal_senders",
    "max_prepared_transactions",
];

pub(super) async fn inspect(session: &Arc<Session>, database: &str) -> Result<Inspection, OpenError> {
    check_server(session, database).await?;
    let is_ours = check_tables(session, database).await?;
    look(session, database, is_ours)
        .await
        .map_err(|error| OpenError::Other { database: database.to_owned(), detail: error.to_string() })
}

async fn look(session: &Session, database: &str, is_ours: bool) -> Result<Inspection, Error> {
    let sql = Sql::new(format!(
        "SELECT current_setting('server_version'), coalesce(current_schema()::text, ''), current_user::text, \
         (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), pg_is_in_recovery(), \
         has_database_privilege(current_database(), 'CREATE') OR to_regnamespace('{FUNCTIONS}') IS NOT NULL"
    ));
    let outcome = session.run(&sql).await?;
    let row = outcome.rows.first().ok_or_else(|| Error::Unexpected("no row".to_owned()))?;
    let format = if is_ours { Some(format_of(session).await?) } else { None };
    Ok(Inspection {
        version: row.try_get(0)?,
        place: Place { database: database.to_owned(), schema: row.try_get(1)?, role: row.try_get(2)? },
        is_superuser: row.try_get(3)?,
        is_standby: row.try_get(4)?,
        may_create: row.try_get(5)?,
        format,
        settings: settings(session).await?,
        extensions: extensions(session).await?,
    })
}

async fn format_of(session: &Session) -> Result<i64, Error> {
    let found = session.run(&Sql::new("SELECT value FROM _gs_meta WHERE key = 'format'")).await?;
    Ok(found.rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(FORMAT))
}

async fn settings(session: &Session) -> Result<Vec<(String, String)>, Error> {
    let mut found = Vec::new();
    for name in SETTINGS {
        let outcome = session.run(&Sql::new(format!("SELECT current_setting('{name}', true)"))).await?;
        let value: Option<String> = outcome.rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
        if let Some(value) = value {
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}

async fn extensions(session: &Session) -> Result<Vec<String>, Error> {
    let sql =
        Sql::new("SELECT extname::text FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql' ORDER BY 1");
    let names = |row: &Row| -> Result<String, Error> { Ok(row.try_get(0)?) };
    session.run(&sql).await?.rows.iter().map(names).collect()
}

// === impl Inspection ===

impl Inspection {
    /// The value of a setting as a number.
    pub fn number(&self, setting: &str) -> Option<u64> {
        let (_, value) = self.settings.iter().find(|(name, _)| name == setting)?;
        value.parse().ok()
    }
}
