//! Opening a database: what it must be, making what is missing, reading what a node must know.

use std::sync::Arc;

use model::collection::diff::diff;
use model::collection::system;
use model::settings::Settings;
use model::time::Timestamp;

use crate::batch::StepFailure;
use crate::interest::{Wanted, interest_of};

use super::error::{Error, told};
use super::layout::{self, FORMAT, FUNCTIONS};
use super::session::Session;
use super::shared::{Known, Versions};
use super::sql::{Param, Sql};
use super::transaction::BatchTransaction;
use super::{Options, connector::UrlError, consumers, filter_sql, schema_rows, schema_steps};

/// The oldest server that is known to work, as `server_version_num` has it.
const OLDEST_SERVER: i32 = 150_000;

/// Why a database cannot be used: a sentence for the person who started the server.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be used.
    #[error("the store's URL cannot be used: {0}")]
    Url(#[from] UrlError),
    /// There is no connection.
    #[error("the database {database} cannot be reached: {detail}")]
    Unreachable {
        /// Its name.
        database: String,
        /// What went wrong.
        detail: String,
    },
    /// The server is too old.
    #[error("the database server is PostgreSQL {found}; version 15 or newer is needed")]
    OldServer {
        /// Its version.
        found: String,
    },
    /// The database has another encoding.
    #[error("the database {database} has the encoding {found}; make one with ENCODING 'UTF8'")]
    Encoding {
        /// Its name.
        database: String,
        /// Its encoding.
        found: String,
    },
    /// The role lacks a right.
    #[error("the role {role} may not {what}; run as the database's owner: {grant}")]
    Privilege {
        /// The role.
        role: String,
        /// What it may not do.
        what: String,
        /// What would give it the right.
        grant: String,
    },
    /// Its tables are not ours.
    #[error(
        "the schema {schema} of the database {database} holds {what}; give Groundswell a database or a schema of its own"
    )]
    Foreign {
        /// The database's name.
        database: String,
        /// The schema's name.
        schema: String,
        /// What was found.
        what: String,
    },
    /// A newer version wrote it.
    #[error(
        "the database {database} was written by a newer version (format {found}, this version knows {known}); use that version"
    )]
    Newer {
        /// Its name.
        database: String,
        /// Its format.
        found: i64,
        /// The newest format that this version knows.
        known: i64,
    },
    /// Anything else.
    #[error("the database {database} cannot be opened: {detail}")]
    Other {
        /// Its name.
        database: String,
        /// What went wrong.
        detail: String,
    },
}

/// What opening found.
pub(super) struct Opened {
    pub(super) known: Known,
    pub(super) positions: Vec<(String, i64)>,
    pub(super) jobs: u64,
    pub(super) durability: String,
}

/// Checks the database, makes what is missing in one transaction, and reads what a node must know. Nodes that
/// start at once wait for each other.
pub(super) async fn open(
    session: &Arc<Session>,
    database: &str,
    options: &Options,
) -> Result<Opened, OpenError> {
    let other = |error: Error| OpenError::Other { database: database.to_owned(), detail: error.to_string() };
    check_server(session, database).await?;
    session.run_script("BEGIN; SELECT pg_advisory_xact_lock(7165206870436115)").await.map_err(other)?;
    let is_ours = check_tables(session, database).await?;
    install_functions(session, database, is_ours).await?;
    if !is_ours {
        create(session, options).await.map_err(other)?;
    }
    session.run(&note_functions()).await.map_err(other)?;
    session.run_script("COMMIT").await.map_err(other)?;
    let (known, positions) = read_known(session).await.map_err(other)?;
    let numbers = session
        .run(&Sql::new("SELECT (SELECT count(*) FROM _gs_jobs), current_setting('synchronous_commit')"))
        .await
        .map_err(other)?;
    let row = numbers.rows.first().ok_or_else(|| other(Error::Unexpected("no row".to_owned())))?;
    let jobs = row.try_get::<_, i64>(0).map_err(|error| other(error.into()))?.unsigned_abs();
    let durability = row.try_get(1).map_err(|error| other(error.into()))?;
    Ok(Opened { known, positions, jobs, durability })
}

/// A fresh look at what a node must know, of one moment.
pub(super) async fn read_known(session: &Session) -> Result<(Known, Vec<(String, i64)>), Error> {
    // A share lock: nobody changes any of it between the statements.
    session.run_script("BEGIN; LOCK TABLE _gs_versions IN ACCESS SHARE MODE").await?;
    let read = read_locked(session).await;
    session.run_script("COMMIT").await?;
    read
}

async fn read_locked(session: &Session) -> Result<(Known, Vec<(String, i64)>), Error> {
    let versions = session.run(&Sql::new("SELECT schema, settings, consumers FROM _gs_versions")).await?;
    let Some(versions) = versions.rows.first() else {
        return Err(Error::Unexpected("_gs_versions has no row".to_owned()));
    };
    let versions = Versions::of_row(versions)?;
    let collections = session.run(&Sql::new(schema_rows::SELECT_COLLECTIONS)).await?;
    let settings = session.run(&Sql::new(schema_rows::SELECT_SETTINGS)).await?;
    let rows = session.run(&Sql::new(consumers::SELECT)).await?;
    let rows = consumers::of_rows(&rows.rows)?;
    let interests = rows.iter().map(|(name, _, interest)| (name.clone(), Arc::new(interest_of(interest))));
    let consumers = Arc::new(interests.collect::<std::collections::BTreeMap<_, _>>());
    let known = Known {
        versions,
        schema: Arc::new(schema_rows::schema(versions.schema, &collections.rows)?),
        settings: Arc::new(schema_rows::settings(&settings.rows)?),
        wanted: Arc::new(Wanted::of(consumers.values().map(|interest| &**interest))),
        consumers,
    };
    Ok((known, rows.into_iter().map(|(name, position, _)| (name, position)).collect()))
}

pub(super) async fn check_server(session: &Session, database: &str) -> Result<(), OpenError> {
    let sql = Sql::new(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
         current_setting('server_encoding')",
    );
    let outcome = session.run(&sql).await;
    let read = |outcome: super::session::Outcome| -> Option<(i32, String, String)> {
        let row = outcome.rows.first()?;
        Some((row.try_get(0).ok()?, row.try_get(1).ok()?, row.try_get(2).ok()?))
    };
    let detail = |detail: String| OpenError::Other { database: database.to_owned(), detail };
    let (number, version, encoding) = read(outcome.map_err(|error| detail(error.to_string()))?)
        .ok_or_else(|| detail("it does not say which version it is".to_owned()))?;
    if number < OLDEST_SERVER {
        return Err(OpenError::OldServer { found: version });
    }
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { database: database.to_owned(), found: encoding });
    }
    Ok(())
}

/// Whether our tables are there. Refused when others are, or ours of a newer version.
pub(super) async fn check_tables(session: &Session, database: &str) -> Result<bool, OpenError> {
    let other = |error: Error| OpenError::Other { database: database.to_owned(), detail: error.to_string() };
    let sql = Sql::new(
        "SELECT coalesce(current_schema()::text, ''), current_user::text, \
         coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), \
         (SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = current_schema()::regnamespace \
            AND relkind IN ('r', 'v', 'm', 'p', 'f')), \
         to_regclass(quote_ident(current_schema()) || '._gs_meta') IS NOT NULL, \
         to_regclass(quote_ident(current_schema()) || '._collections') IS NOT NULL",
    );
    let outcome = session.run(&sql).await.map_err(other)?;
    let row = outcome.rows.first().ok_or_else(|| other(Error::Unexpected("no row".to_owned())))?;
    let get = |error: tokio_postgres::Error| other(error.into());
    let (schema, role): (String, String) = (row.try_get(0).map_err(get)?, row.try_get(1).map_err(get)?);
    let (may_create, tables): (bool, i64) = (row.try_get(2).map_err(get)?, row.try_get(3).map_err(get)?);
    let (has_meta, has_collections): (bool, bool) =
        (row.try_get(4).map_err(get)?, row.try_get(5).map_err(get)?);
    if schema.is_empty() || !may_create {
        let schema = if schema.is_empty() { "public".to_owned() } else { schema };
        return Err(OpenError::Privilege {
            what: format!("make tables in the schema {schema}"),
            grant: format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"),
            role,
        });
    }
    if !has_meta && tables > 0 {
        let what =
            if has_collections { "tables like PocketBase's, but not Groundswell's" } else { "other tables" };
        return Err(OpenError::Foreign { database: database.to_owned(), schema, what: what.to_owned() });
    }
    if !has_meta {
        return Ok(false);
    }
    let format =
        session.run(&Sql::new("SELECT value FROM _gs_meta WHERE key = 'format'")).await.map_err(other)?;
    let found: i64 =
        format.rows.first().map(|row| row.try_get(0)).transpose().map_err(get)?.unwrap_or_default();
    if found > FORMAT {
        return Err(OpenError::Newer { database: database.to_owned(), found, known: FORMAT });
    }
    Ok(true)
}

/// Makes the functions, or replaces those of another version. A node of the version before goes on with them:
/// a function's meaning never changes under its name.
async fn install_functions(session: &Session, database: &str, is_ours: bool) -> Result<(), OpenError> {
    let other = |error: Error| OpenError::Other { database: database.to_owned(), detail: error.to_string() };
    let version = filter_sql::FUNCTIONS_VERSION;
    if is_ours {
        let found = session
            .run(&Sql::new("SELECT value FROM _gs_meta WHERE key = 'functions'"))
            .await
            .map_err(other)?;
        let found: Option<i64> =
            found.rows.first().map(|row| row.try_get(0)).transpose().map_err(|error| other(error.into()))?;
        if found.is_some_and(|found| found >= version) {
            return Ok(());
        }
    }
    let made = session.run_script(&format!("CREATE SCHEMA IF NOT EXISTS {FUNCTIONS}")).await;
    if let Err(Error::Postgres(error)) = &made
        && error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE)
    {
        return Err(OpenError::Privilege {
            role: "of the store's URL".to_owned(),
            what: format!("make the schema {FUNCTIONS} in the database {database} ({})", told(error)),
            grant: format!("GRANT CREATE ON DATABASE {database} TO that role"),
        });
    }
    made.map_err(other)?;
    session.run_script(filter_sql::FUNCTIONS_SQL).await.map_err(other)?;
    Ok(())
}

/// Everything that a fresh database holds.
async fn create(session: &Arc<Session>, options: &Options) -> Result<(), Error> {
    let now = super::clock();
    session.run_script(layout::BASE_TABLES).await?;
    let mut transaction = BatchTransaction::within(session.clone(), options.write_deadline);
    let collections = system::fresh_install(now, &mut rand::rng());
    for collection in collections {
        let made =
            schema_steps::apply_all(&mut transaction, &collection, &diff(None, Some(&collection))).await;
        made.map_err(|failure| match failure {
            StepFailure::Engine(error) => error,
            refused => Error::Unexpected(format!("a system collection was refused: {refused:?}")),
        })?;
        transaction.tell(schema_rows::save(&collection)).await?;
    }
    transaction.tell(schema_rows::save_settings(&Settings::default(), Timestamp(now.0))).await?;
    transaction.settle().await
}

/// Notes which functions there are, unless newer ones are.
fn note_functions() -> Sql {
    let mut sql = Sql::new("INSERT INTO _gs_meta VALUES ('functions', ");
    sql.param(Param::Integer(filter_sql::FUNCTIONS_VERSION));
    sql.push(") ON CONFLICT (key) DO UPDATE SET value = greatest(_gs_meta.value, excluded.value)");
    sql
}
