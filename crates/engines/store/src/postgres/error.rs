//! What PostgreSQL's errors mean (its manual, appendix A: SQLSTATE).

use contract::store::StoreError;
use model::step::Refused;
use tokio_postgres::error::SqlState;

/// Why a statement or a transaction had no outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The server, or the connection to it.
    #[error("{}", told(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// The schema, or who follows the changes, is not what this node knew.
    #[error("the schema was changed meanwhile")]
    SchemaChanged,
    /// An earlier step was refused, which was told late.
    #[error("a step was refused")]
    Late(Refused),
    /// A record was made by somebody else that was to be made or changed.
    #[error("the record was made meanwhile")]
    MadeMeanwhile,
    /// Rows were judged that cannot be locked: the batch must run serializable.
    #[error("the batch must run serializable")]
    NeedsSerializable,
    /// The connection broke, or the server was silent, while it was committing.
    #[error("{0}")]
    Commit(String),
    /// No connection was free, or could be made, in time.
    #[error("no connection to the database: {0}")]
    NoConnection(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// Too many wait for a connection.
    #[error("too many wait for a connection to the database")]
    Busy,
    /// What came back is not what the statement asks for: a bug, or somebody has changed the tables.
    #[error("{0}")]
    Unexpected(String),
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another transaction was in the way: the same again may work.
    Conflict,
    /// The server or the connection is not well.
    Unavailable,
    /// The statement was stopped.
    Cancelled,
    /// A unique index refuses the row.
    NotUnique,
    /// The statement does not fit the tables, or not any more.
    Statement,
    /// Anything else.
    Other,
}

// === impl Error ===

impl Error {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Error::Postgres(error) => kind(error),
            Error::NoConnection(_) | Error::Busy | Error::Closed => Kind::Unavailable,
            Error::SchemaChanged | Error::NeedsSerializable | Error::MadeMeanwhile => Kind::Conflict,
            Error::Late(_) | Error::Commit(_) | Error::Unexpected(_) => Kind::Other,
        }
    }

    /// Whether the server takes no more connections for now.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Error::Postgres(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS))
    }

    /// Whether the server said nothing in time: what it is at is not known.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Error::NoConnection(_) | Error::Commit(_))
    }

    /// Whether a statement was prepared for tables that have changed.
    pub(super) fn is_outdated(&self) -> bool {
        matches!(self, Error::Postgres(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED))
    }

    /// Whether the server itself said so.
    pub(super) fn is_told(&self) -> bool {
        matches!(self, Error::Postgres(error) if error.as_db_error().is_some())
    }

    /// What a caller of the store is told. For what was not a commit.
    pub(super) fn into_store_error(self) -> StoreError {
        match (&self, self.kind()) {
            (Error::SchemaChanged, _) => StoreError::SchemaChanged,
            (Error::Closed, _) => StoreError::Closed,
            (Error::Busy, _) | (_, Kind::Conflict) => StoreError::Busy,
            (_, Kind::Unavailable | Kind::Cancelled) => {
                tracing::warn!(error = %self, "the database cannot be used");
                StoreError::Unavailable(self.to_string())
            }
            _ => {
                tracing::error!(error = %self, "the database refused a statement");
                StoreError::Internal(self.to_string())
            }
        }
    }
}

pub(super) fn kind(error: &tokio_postgres::Error) -> Kind {
    let Some(code) = error.code() else { return Kind::Unavailable };
    match code.code() {
        "40001" | "40P01" | "55P03" => Kind::Conflict,
        "57014" => Kind::Cancelled,
        "23505" => Kind::NotUnique,
        // Read only (a standby), idle for too long, no such database.
        "25006" | "25P03" | "3D000" => Kind::Unavailable,
        // Too many connections, no memory or room, shutting down, starting up, a password that counts no more.
        code if ["08", "28", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            Kind::Unavailable
        }
        "0A000" => Kind::Statement,
        code if code.starts_with("42") => Kind::Statement,
        _ => Kind::Other,
    }
}

/// Whether a guard in a statement failed, which divides by zero then.
pub(super) fn is_guard(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::DIVISION_BY_ZERO)
}

/// The server's words where there are any: without them the driver says "db error".
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} (SQLSTATE {})", told.message(), told.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
