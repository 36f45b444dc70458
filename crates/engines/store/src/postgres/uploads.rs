//! Notes of files that are stored before the record that will name them: rows of `_gs_uploads`. A note is
//! written before its file, and taken away in the transaction that writes the record; a file whose note grows
//! old is nobody's.

use model::time::Timestamp;

use super::sql::{Param, Sql};

pub(super) fn note(keys: &[String], now: Timestamp) -> Sql {
    let mut sql = Sql::new("INSERT INTO _gs_uploads (key, written) SELECT DISTINCT key, ");
    sql.param(Param::Integer(now.0));
    sql.push(" FROM unnest(");
    sql.param(Param::Texts(keys.to_vec()));
    sql.push(") AS key ON CONFLICT (key) DO UPDATE SET written = excluded.written");
    sql
}

/// Takes a note away. It fails, by dividing by zero, where there is none or its file was given up: what comes after
/// it is under way already, and must not be kept.
pub(super) fn take(key: &str) -> Sql {
    let mut sql = Sql::new("WITH gone AS (DELETE FROM _gs_uploads WHERE NOT doomed AND key = ");
    sql.param(Param::from(key));
    sql.push(" RETURNING 1) SELECT 1 / count(*) FROM gone");
    sql
}

/// Gives up those whose note is there, and returns them.
pub(super) fn give_up(keys: &[String]) -> Sql {
    let mut sql = Sql::new("UPDATE _gs_uploads SET doomed = true WHERE key = ANY(");
    sql.param(Param::Texts(keys.to_vec()));
    sql.push(") RETURNING key");
    sql
}

pub(super) fn forget(keys: &[String]) -> Sql {
    let mut sql = Sql::new("DELETE FROM _gs_uploads WHERE doomed AND key = ANY(");
    sql.param(Param::Texts(keys.to_vec()));
    sql.push(")");
    sql
}

/// Those that were given up, or were noted before an instant.
pub(super) fn stale(before: Timestamp, limit: usize) -> Sql {
    let mut sql = Sql::new("SELECT key FROM _gs_uploads WHERE doomed OR written < ");
    sql.param(Param::Integer(before.0));
    sql.push(" LIMIT ");
    sql.param(Param::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    sql
}
