//! Jobs: rows of `_gs_jobs` until they are done, and of `_gs_dead_jobs` when they failed for good.
//!
//! A job that is claimed is due again when the lease ends, so nobody has to look for workers that died.

use std::time::Duration;

use contract::jobs::{AttemptEnd, AttemptId, Claimed, DeadJob, DeadJobs, Job, MAX_DEAD_JOBS, QueueStatus};
use model::json::Json;
use model::step::NewJob;
use model::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::outbox::meta;

/// Bytes of an error that are kept: enough to see what it is.
const ERROR_BYTES: usize = 1_000;

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

/// Ends an attempt. False when it is no longer the job's.
pub(super) fn end(
    conn: &Connection,
    attempt: AttemptId,
    end: &AttemptEnd,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let (id, number) = (attempt.job as i64, attempt.number);
    let changed = match end {
        AttemptEnd::Done => conn
            .prepare_cached("DELETE FROM `_gs_jobs` WHERE `id` = ?1 AND `attempts` = ?2")?
            .execute(params![id, number])?,
        AttemptEnd::Again { due, .. } => conn
            .prepare_cached(
                "UPDATE `_gs_jobs` SET `due` = ?3, `is_running` = 0 WHERE `id` = ?1 AND `attempts` = ?2",
            )?
            .execute(params![id, number, due.0])?,
        AttemptEnd::Dead { error } => {
            let buried = conn.execute(
                "INSERT INTO `_gs_dead_jobs` (`queue`, `payload`, `created`, `attempts`, `died`, `error`) \
                 SELECT `queue`, `payload`, `created`, `attempts`, ?3, ?4 FROM `_gs_jobs` \
                 WHERE `id` = ?1 AND `attempts` = ?2",
                params![id, number, now.0, shortened(error)],
            )?;
            conn.execute("DELETE FROM `_gs_jobs` WHERE `id` = ?1 AND `attempts` = ?2", params![id, number])?;
            drop_oldest_dead(conn)?;
            buried
        }
    };
    Ok(changed > 0)
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

pub(super) fn dead_jobs(conn: &Connection, offset: u64, limit: u64) -> rusqlite::Result<DeadJobs> {
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached(
        "SELECT `id`, `queue`, `payload`, `created`, `attempts`, `died`, `error` FROM `_gs_dead_jobs` \
         ORDER BY `id` DESC LIMIT ?1 OFFSET ?2",
    )?;
    let rows = statement.query_map([bound(limit), bound(offset)], dead_job_from_row)?;
    Ok(DeadJobs {
        jobs: rows.collect::<rusqlite::Result<_>>()?,
        total: number(conn, "SELECT count(*) FROM `_gs_dead_jobs`")?,
        dropped: meta(conn, "dead_jobs_dropped")?.unsigned_abs(),
    })
}

pub(super) fn replay(conn: &Connection, id: u64, now: Timestamp) -> rusqlite::Result<bool> {
    let replayed = conn.execute(
        "INSERT INTO `_gs_jobs` (`queue`, `payload`, `created`, `due`) \
         SELECT `queue`, `payload`, `created`, ?2 FROM `_gs_dead_jobs` WHERE `id` = ?1",
        params![id as i64, now.0],
    )?;
    Ok(replayed > 0 && discard(conn, id)?)
}

pub(super) fn discard(conn: &Connection, id: u64) -> rusqlite::Result<bool> {
    Ok(conn.execute("DELETE FROM `_gs_dead_jobs` WHERE `id` = ?1", [id as i64])? > 0)
}

fn job_from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    let job = row.get::<_, i64>(0)?.unsigned_abs();
    Ok(Job {
        attempt: AttemptId { job, number: row.get(1)? },
        payload: payload(row, 2)?,
        created: Timestamp(row.get(3)?),
    })
}

fn dead_job_from_row(row: &Row<'_>) -> rusqlite::Result<DeadJob> {
    Ok(DeadJob {
        id: row.get::<_, i64>(0)?.unsigned_abs(),
        queue: row.get(1)?,
        payload: payload(row, 2)?,
        created: Timestamp(row.get(3)?),
        attempts: row.get(4)?,
        died: Timestamp(row.get(5)?),
        error: row.get(6)?,
    })
}

fn payload(row: &Row<'_>, column: usize) -> rusqlite::Result<Json> {
    Ok(Json::parse_whole(row.get_ref(column)?.as_str()?).unwrap_or_default())
}

fn number(conn: &Connection, sql: &str) -> rusqlite::Result<u64> {
    Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

fn shortened(error: &str) -> &str {
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
            assert!(end(&conn, claimed.jobs[0].attempt, &dead, Timestamp(0)).unwrap());
        }
        let page = dead_jobs(&conn, MAX_DEAD_JOBS - 1, 10).unwrap();
        assert_eq!((page.total, page.dropped), (MAX_DEAD_JOBS, 2));
        assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [3]);
    }
}
