//! Jobs: rows of `_gs_jobs` until they are done, and of `_gs_dead_jobs` when they failed for good.
//!
//! A job that is claimed is due again when the lease ends, so nobody has to look for workers that died.

use std::time::Duration;

use contract::jobs::{
    AttemptEnd, AttemptId, AttemptLog, Claimed, DeadJob, DeadJobs, Job, MAX_DEAD_JOBS, QueueStatus,
};
use model::json::Json;
use model::step::NewJob;
use model::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::attempts;
use super::outbox::meta;

/// Most rows that one transaction moves or removes of a queue: some milliseconds of work.
pub(super) const PART: usize = 1_000;

/// Bytes of an error that are kept: enough to see what it is.
const ERROR_BYTES: usize = 1_000;

/// Where something of a queue lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Jobs that wait or run.
    Jobs,
    /// Jobs that failed for good.
    Dead,
    /// Attempts that are over.
    Attempts,
}

// === impl Kept ===

impl Kept {
    pub(super) const ALL: [Kept; 3] = [Kept::Jobs, Kept::Dead, Kept::Attempts];

    fn table(self) -> &'static str {
        match self {
            Kept::Jobs => "_gs_jobs",
            Kept::Dead => "_gs_dead_jobs",
            Kept::Attempts => "_gs_attempts",
        }
    }
}

pub(super) fn enqueue(conn: &Connection, job: &NewJob, now: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT INTO `_gs_jobs` (`queue`, `payload`, `created`, `due`) VALUES (?1, ?2, ?3, ?4)";
    conn.prepare_cached(sql)?.execute(params![job.queue(), job.payload(), now.0, job.due().0.max(now.0)])?;
    Ok(())
}

/// How many jobs there are that are not dead.
pub(super) fn count(conn: &Connection) -> rusqlite::Result<u64> {
    number(conn, "SELECT count(*) FROM `_gs_jobs`")
}

pub(super) fn claim(
    conn: &Connection,
    queue: &str,
    limit: usize,
    lease: Duration,
    now: Timestamp,
) -> rusqlite::Result<Claimed> {
    let until = now.0.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
    let mut statement = conn.prepare_cached(
        "UPDATE `_gs_jobs` SET `due` = ?1, `attempts` = `attempts` + 1, `is_running` = 1 WHERE `id` IN \
         (SELECT `id` FROM `_gs_jobs` WHERE `queue` = ?2 AND `due` <= ?3 ORDER BY `due`, `id` LIMIT ?4) \
         RETURNING `id`, `attempts`, `payload`, `created`",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![until, queue, now.0, limit], job_from_row)?;
    let mut jobs = rows.collect::<rusqlite::Result<Vec<Job>>>()?;
    jobs.sort_by_key(|job| job.attempt.job);
    let next_due = conn
        .prepare_cached("SELECT `due` FROM `_gs_jobs` WHERE `queue` = ?1 ORDER BY `due` LIMIT 1")?
        .query_row([queue], |row| Ok(Timestamp(row.get(0)?)))
        .optional()?;
    Ok(Claimed { jobs, next_due })
}

/// Ends an attempt, and logs it. The job's queue; none when the attempt is no longer the job's.
pub(super) fn end(
    conn: &Connection,
    attempt: AttemptId,
    end: &AttemptEnd,
    log: Option<&AttemptLog>,
    now: Timestamp,
) -> rusqlite::Result<Option<String>> {
    let (id, number) = (attempt.job as i64, attempt.number);
    let queue: Option<String> = conn
        .prepare_cached("SELECT `queue` FROM `_gs_jobs` WHERE `id` = ?1 AND `attempts` = ?2")?
        .query_row(params![id, number], |row| row.get(0))
        .optional()?;
    let Some(queue) = queue else { return Ok(None) };
    if let Some(log) = log {
        attempts::keep(conn, &queue, attempt, end, log)?;
    }
    match end {
        AttemptEnd::Done => remove(conn, id)?,
        AttemptEnd::Again { due, .. } => {
            conn.prepare_cached("UPDATE `_gs_jobs` SET `due` = ?2, `is_running` = 0 WHERE `id` = ?1")?
                .execute(params![id, due.0])?;
        }
        AttemptEnd::Dead { error } => {
            conn.execute(
                "INSERT INTO `_gs_dead_jobs` (`queue`, `payload`, `created`, `attempts`, `died`, `error`) \
                 SELECT `queue`, `payload`, `created`, `attempts`, ?2, ?3 FROM `_gs_jobs` WHERE `id` = ?1",
                params![id, now.0, shortened(error)],
            )?;
            remove(conn, id)?;
            drop_oldest_dead(conn)?;
        }
    }
    Ok(Some(queue))
}

fn remove(conn: &Connection, id: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM `_gs_jobs` WHERE `id` = ?1")?.execute([id]).map(drop)
}

fn drop_oldest_dead(conn: &Connection) -> rusqlite::Result<()> {
    let dropped = conn.execute(
        "DELETE FROM `_gs_dead_jobs` WHERE `id` <= \
         (SELECT `id` FROM `_gs_dead_jobs` ORDER BY `id` DESC LIMIT 1 OFFSET ?1)",
        [MAX_DEAD_JOBS as i64],
    )?;
    if dropped > 0 {
        conn.execute(
            "UPDATE `_gs_meta` SET `value` = `value` + ?1 WHERE `key` = 'dead_jobs_dropped'",
            [dropped as i64],
        )?;
    }
    Ok(())
}

pub(super) fn queues(conn: &Connection, now: Timestamp) -> rusqlite::Result<Vec<QueueStatus>> {
    let mut statement = conn.prepare_cached(
        "SELECT `name`, sum(`waiting`), sum(`running`), sum(`dead`), min(`oldest`) FROM (\
           SELECT `queue` AS `name`, 1 AS `waiting`, 0 AS `running`, 0 AS `dead`, `due` AS `oldest` \
           FROM `_gs_jobs` WHERE NOT `is_running` OR `due` <= ?1 \
           UNION ALL SELECT `queue`, 0, 1, 0, NULL FROM `_gs_jobs` WHERE `is_running` AND `due` > ?1 \
           UNION ALL SELECT `queue`, 0, 0, 1, NULL FROM `_gs_dead_jobs`\
         ) GROUP BY `name` ORDER BY `name`",
    )?;
    let rows = statement.query_map([now.0], |row| {
        let count = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
        Ok(QueueStatus {
            name: row.get(0)?,
            waiting: count(1)?,
            running: count(2)?,
            dead: count(3)?,
            oldest_due: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        })
    })?;
    rows.collect()
}

pub(super) fn dead_jobs(
    conn: &Connection,
    queue: Option<&str>,
    offset: u64,
    limit: u64,
) -> rusqlite::Result<DeadJobs> {
    let mut statement = conn.prepare_cached(
        "SELECT `id`, `queue`, `payload`, `created`, `attempts`, `died`, `error` FROM `_gs_dead_jobs` \
         WHERE ?1 IS NULL OR `queue` = ?1 ORDER BY `id` DESC LIMIT ?2 OFFSET ?3",
    )?;
    let rows = statement.query_map(params![queue, bound(limit), bound(offset)], dead_job_from_row)?;
    let total = "SELECT count(*) FROM `_gs_dead_jobs` WHERE ?1 IS NULL OR `queue` = ?1";
    Ok(DeadJobs {
        jobs: rows.collect::<rusqlite::Result<_>>()?,
        total: conn.query_row(total, [queue], |row| row.get::<_, i64>(0))?.unsigned_abs(),
        dropped: meta(conn, "dead_jobs_dropped")?.unsigned_abs(),
    })
}

/// The queue of the dead job that is done again; none when there is no such job.
pub(super) fn replay(conn: &Connection, id: u64, now: Timestamp) -> rusqlite::Result<Option<String>> {
    let queue = conn
        .prepare_cached(
            "INSERT INTO `_gs_jobs` (`queue`, `payload`, `created`, `due`) \
             SELECT `queue`, `payload`, `created`, ?2 FROM `_gs_dead_jobs` WHERE `id` = ?1 RETURNING `queue`",
        )?
        .query_row(params![id as i64, now.0], |row| row.get(0))
        .optional()?;
    discard(conn, id)?;
    Ok(queue)
}

pub(super) fn discard(conn: &Connection, id: u64) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached("DELETE FROM `_gs_dead_jobs` WHERE `id` = ?1")?.execute([id as i64])? > 0)
}

/// The newest of its kind, whatever queue it is of.
pub(super) fn newest(conn: &Connection, kept: Kept) -> rusqlite::Result<i64> {
    conn.query_row(&format!("SELECT coalesce(max(`id`), 0) FROM `{}`", kept.table()), [], |row| row.get(0))
}

/// Has [`PART`] dead jobs of a queue done again, or as many as there are, of those up to `through`. How many.
pub(super) fn replay_part(
    conn: &Connection,
    queue: &str,
    through: i64,
    now: Timestamp,
) -> rusqlite::Result<usize> {
    let mut statement = conn.prepare_cached(
        "SELECT `id` FROM `_gs_dead_jobs` WHERE `queue` = ?1 AND `id` <= ?2 ORDER BY `id` LIMIT ?3",
    )?;
    let rows = statement.query_map(params![queue, through, PART as i64], |row| row.get::<_, i64>(0))?;
    let ids = rows.collect::<rusqlite::Result<Vec<i64>>>()?;
    for id in &ids {
        replay(conn, id.unsigned_abs(), now)?;
    }
    Ok(ids.len())
}

/// Forgets [`PART`] of what is kept of a queue, or as much as there is, of that up to `through`. How much.
pub(super) fn clear_part(
    conn: &Connection,
    kept: Kept,
    queue: &str,
    through: i64,
) -> rusqlite::Result<usize> {
    let table = kept.table();
    let sql = format!(
        "DELETE FROM `{table}` WHERE `id` IN \
         (SELECT `id` FROM `{table}` WHERE `queue` = ?1 AND `id` <= ?2 LIMIT ?3)"
    );
    conn.prepare_cached(&sql)?.execute(params![queue, through, PART as i64])
}

fn job_from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    let job = row.get::<_, i64>(0)?.unsigned_abs();
    Ok(Job {
        attempt: AttemptId { job, number: row.get(1)? },
        payload: json(row, 2)?,
        created: Timestamp(row.get(3)?),
    })
}

fn dead_job_from_row(row: &Row<'_>) -> rusqlite::Result<DeadJob> {
    Ok(DeadJob {
        id: row.get::<_, i64>(0)?.unsigned_abs(),
        queue: row.get(1)?,
        payload: json(row, 2)?,
        created: Timestamp(row.get(3)?),
        attempts: row.get(4)?,
        died: Timestamp(row.get(5)?),
        error: row.get(6)?,
    })
}

/// A JSON column.
pub(super) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Json> {
    Ok(Json::parse_whole(row.get_ref(column)?.as_str()?).unwrap_or_default())
}

/// As SQLite counts.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(conn: &Connection, sql: &str) -> rusqlite::Result<u64> {
    Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// What is kept of an error.
pub(super) fn shortened(error: &str) -> &str {
    &error[..error.floor_char_boundary(ERROR_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_dead_jobs_go_and_are_counted() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(super::super::layout::BASE_TABLES).unwrap();
        conn.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
             INSERT INTO `_gs_dead_jobs` SELECT i, 'q', '{}', 0, 1, 0, '' FROM n",
            [MAX_DEAD_JOBS as i64],
        )
        .unwrap();
        for _ in 0..2 {
            let job = NewJob::new("q", &Json::Null, Timestamp(0)).unwrap();
            enqueue(&conn, &job, Timestamp(0)).unwrap();
            let claimed = claim(&conn, "q", 1, Duration::from_secs(1), Timestamp(0)).unwrap();
            let dead = AttemptEnd::Dead { error: String::new() };
            assert!(end(&conn, claimed.jobs[0].attempt, &dead, None, Timestamp(0)).unwrap().is_some());
        }
        let page = dead_jobs(&conn, None, MAX_DEAD_JOBS - 1, 10).unwrap();
        assert_eq!((page.total, page.dropped), (MAX_DEAD_JOBS, 2));
        assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [3]);
    }
}
