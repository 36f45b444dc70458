//! Jobs: rows of `_gs_jobs`, `_gs_dead_jobs` and `_gs_attempts`. Several nodes claim them at once: a row that one
//! has locked is passed over by the others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::jobs::{
    AttemptEnd, AttemptId, AttemptLog, AttemptPage, Claimed, DeadJob, DeadJobs, Job, JobStore, LOG_MARGIN,
    LoggedAttempt, MAX_DEAD_JOBS, MAX_JOBS, Outcome as AttemptOutcome, QueueStatus,
};
use contract::store::{Answer, Commit, StoreError};
use model::json::Json;
use model::step::NewJob;
use model::time::Timestamp;
use tokio_postgres::Row;

use super::error::Error;
use super::sql::{Param, Sql};
use super::{Inner, PostgresStore, clock, small};

/// Bytes that are kept of an error.
const ERROR_BYTES: usize = 1_000;
/// Rows that one statement moves or removes.
const PART: i64 = 1_000;

/// Leaves a job.
pub(super) fn enqueue(job: &NewJob, now: Timestamp) -> Sql {
    statement(
        "INSERT INTO _gs_jobs (queue, payload, created, due) VALUES ($1, $2, $3, $4)",
        vec![
            Param::from(job.queue()),
            Param::from(job.payload()),
            Param::Integer(now.0),
            Param::Integer(job.due().0),
        ],
    )
}

/// How many there are that are not dead, those of other nodes too; counted up to the most that there may be.
pub(super) fn count() -> Sql {
    Sql::new(format!("SELECT count(*) FROM (SELECT 1 FROM _gs_jobs LIMIT {MAX_JOBS}) AS some"))
}

impl JobStore for PostgresStore {
    fn claim(&self, queue: String, limit: usize, lease: Duration) -> Answer<'_, Claimed> {
        Box::pin(claim(&self.inner, queue, limit, lease))
    }

    fn end(&self, attempt: AttemptId, end: AttemptEnd, log: Option<AttemptLog>) -> Answer<'_, bool> {
        Box::pin(end_attempt(&self.inner, attempt, end, log))
    }

    fn queues(&self) -> Answer<'_, Vec<QueueStatus>> {
        Box::pin(queues(&self.inner))
    }

    fn attempts(&self, queue: String, offset: u64, limit: u64) -> Answer<'_, AttemptPage> {
        Box::pin(attempts(&self.inner, queue, offset, limit))
    }

    fn dead_jobs(&self, queue: Option<String>, offset: u64, limit: u64) -> Answer<'_, DeadJobs> {
        Box::pin(dead_jobs(&self.inner, queue, offset, limit))
    }

    fn replay(&self, id: u64) -> Answer<'_, bool> {
        Box::pin(async move {
            let replayed = replay_where(&self.inner, "id = $2", vec![Param::Integer(bound(id))]).await?;
            Ok(replayed > 0)
        })
    }

    fn replay_all(&self, queue: String) -> Answer<'_, u64> {
        Box::pin(replay_all(&self.inner, queue))
    }

    fn clear(&self, queue: String) -> Answer<'_, u64> {
        Box::pin(clear(&self.inner, queue))
    }

    fn discard(&self, id: u64) -> Answer<'_, bool> {
        Box::pin(async move {
            let sql = statement("DELETE FROM _gs_dead_jobs WHERE id = $1", vec![Param::Integer(bound(id))]);
            Ok(self.inner.run(sql).await?.affected > 0)
        })
    }
}

async fn claim(inner: &Inner, queue: String, limit: usize, lease: Duration) -> Result<Claimed, StoreError> {
    let now = clock();
    let until = now.0.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let claim = statement(
        "UPDATE _gs_jobs SET due = $1, attempts = attempts + 1, is_running = true WHERE id IN \
         (SELECT id FROM _gs_jobs WHERE queue = $2 AND due <= $3 ORDER BY due, id LIMIT $4 FOR UPDATE SKIP LOCKED) \
         RETURNING id, attempts, payload, created",
        vec![
            Param::Integer(until),
            Param::from(queue.as_str()),
            Param::Integer(now.0),
            Param::Integer(limit),
        ],
    );
    let next = statement(
        "SELECT due FROM _gs_jobs WHERE queue = $1 ORDER BY due LIMIT 1",
        vec![Param::from(queue.as_str())],
    );
    let claimed = inner.run(claim).await?;
    let mut jobs = rows_of(&claimed.rows, job_from_row)?;
    jobs.sort_by_key(|job| job.attempt.job);
    let next = rows_of(&inner.run(next).await?.rows, |row| Ok(Timestamp(row.try_get(0)?)))?;
    Ok(Claimed { jobs, next_due: next.first().copied() })
}

async fn end_attempt(
    inner: &Inner,
    attempt: AttemptId,
    end: AttemptEnd,
    log: Option<AttemptLog>,
) -> Result<bool, StoreError> {
    let outcome = end.outcome();
    let queue = small::run(inner, async move |transaction| {
        let id = bound(attempt.job);
        let sql = statement(
            "SELECT queue FROM _gs_jobs WHERE id = $1 AND attempts = $2 FOR UPDATE",
            vec![Param::Integer(id), Param::Integer(i64::from(attempt.number))],
        );
        let found = transaction.ask(sql).await?;
        let Some(queue) = found.rows.first().map(|row| row.try_get::<_, String>(0)).transpose()? else {
            return Ok(None);
        };
        if let Some(log) = log.filter(|log| log.keep > 0) {
            for sql in keep(&queue, attempt, &end, &log) {
                transaction.tell(sql).await?;
            }
        }
        match end {
            AttemptEnd::Done => transaction.tell(remove(id)).await?,
            AttemptEnd::Again { due, .. } => {
                let text = "UPDATE _gs_jobs SET due = $2, is_running = false WHERE id = $1";
                transaction.tell(statement(text, vec![Param::Integer(id), Param::Integer(due.0)])).await?;
            }
            AttemptEnd::Dead { error } => {
                let text = "INSERT INTO _gs_dead_jobs (queue, payload, created, attempts, died, error) \
                     SELECT queue, payload, created, attempts, $2, $3 FROM _gs_jobs WHERE id = $1";
                let error = Param::Text(shortened(&error));
                let params = vec![Param::Integer(id), Param::Integer(clock().0), error];
                transaction.tell(statement(text, params)).await?;
                transaction.tell(remove(id)).await?;
                transaction.tell(drop_oldest_dead()).await?;
            }
        }
        Ok(Some(queue))
    })
    .await?;
    let Some(queue) = queue else { return Ok(false) };
    match outcome {
        AttemptOutcome::Again => tell_queue(inner, queue),
        AttemptOutcome::Done | AttemptOutcome::Dead => less(inner, 1),
    }
    Ok(true)
}

async fn queues(inner: &Inner) -> Result<Vec<QueueStatus>, StoreError> {
    let sql = statement(
        "SELECT queue, sum(waiting)::bigint, sum(running)::bigint, sum(dead)::bigint, min(oldest) FROM ( \
           SELECT queue, count(*) FILTER (WHERE NOT is_running OR due <= $1) AS waiting, \
             count(*) FILTER (WHERE is_running AND due > $1) AS running, 0 AS dead, \
             min(due) FILTER (WHERE NOT is_running OR due <= $1) AS oldest FROM _gs_jobs GROUP BY queue \
           UNION ALL SELECT queue, 0, 0, count(*), NULL FROM _gs_dead_jobs GROUP BY queue) AS q \
         GROUP BY queue ORDER BY queue",
        vec![Param::Integer(clock().0)],
    );
    rows_of(&inner.run(sql).await?.rows, |row| {
        let oldest: Option<i64> = row.try_get(4)?;
        Ok(QueueStatus {
            name: row.try_get(0)?,
            waiting: number(row, 1)?,
            running: number(row, 2)?,
            dead: number(row, 3)?,
            oldest_due: oldest.map(Timestamp),
        })
    })
}

async fn attempts(inner: &Inner, queue: String, offset: u64, limit: u64) -> Result<AttemptPage, StoreError> {
    let page = statement(
        "SELECT id, job, attempt, started, took_ms, outcome, error, note FROM _gs_attempts WHERE queue = $1 \
         ORDER BY id DESC LIMIT $2 OFFSET $3",
        vec![Param::from(queue.as_str()), Param::Integer(bound(limit)), Param::Integer(bound(offset))],
    );
    let total =
        statement("SELECT count(*) FROM _gs_attempts WHERE queue = $1", vec![Param::from(queue.as_str())]);
    let attempts = rows_of(&inner.run(page).await?.rows, attempt_from_row)?;
    let total = rows_of(&inner.run(total).await?.rows, |row| number(row, 0))?;
    Ok(AttemptPage { attempts, total: total.first().copied().unwrap_or_default() })
}

async fn dead_jobs(
    inner: &Inner,
    queue: Option<String>,
    offset: u64,
    limit: u64,
) -> Result<DeadJobs, StoreError> {
    let queue = queue.as_deref().map_or(Param::Null, Param::from);
    let page = statement(
        "SELECT id, queue, payload, created, attempts, died, error FROM _gs_dead_jobs \
         WHERE $1::text IS NULL OR queue = $1 ORDER BY id DESC LIMIT $2 OFFSET $3",
        vec![queue.clone(), Param::Integer(bound(limit)), Param::Integer(bound(offset))],
    );
    let numbers = statement(
        "SELECT (SELECT count(*) FROM _gs_dead_jobs WHERE $1::text IS NULL OR queue = $1), \
         (SELECT value FROM _gs_meta WHERE key = 'dead_jobs_dropped')",
        vec![queue],
    );
    let jobs = rows_of(&inner.run(page).await?.rows, dead_job_from_row)?;
    let numbers = rows_of(&inner.run(numbers).await?.rows, |row| Ok((number(row, 0)?, number(row, 1)?)))?;
    let (total, dropped) = numbers.first().copied().unwrap_or_default();
    Ok(DeadJobs { jobs, total, dropped })
}

/// Statement by statement, so that others' writes come between. What dies again meanwhile is newer than what was
/// there, and is left alone.
async fn replay_all(inner: &Inner, queue: String) -> Result<u64, StoreError> {
    let through = newest(inner, "_gs_dead_jobs").await?;
    let mut replayed = 0;
    loop {
        let which = "id IN (SELECT id FROM _gs_dead_jobs WHERE queue = $2 AND id <= $3 ORDER BY id LIMIT $4)";
        let params = vec![Param::from(queue.as_str()), Param::Integer(through), Param::Integer(PART)];
        let part = replay_where(inner, which, params).await?;
        replayed += part;
        if part < PART as u64 {
            return Ok(replayed);
        }
    }
}

/// Puts dead jobs back to those that wait, with their attempts from nought.
async fn replay_where(inner: &Inner, which: &str, mut params: Vec<Param>) -> Result<u64, StoreError> {
    params.insert(0, Param::Integer(clock().0));
    let text = format!(
        "WITH gone AS (DELETE FROM _gs_dead_jobs WHERE {which} RETURNING id, queue, payload, created) \
         INSERT INTO _gs_jobs (queue, payload, created, due) \
         SELECT queue, payload, created, $1 FROM gone ORDER BY id RETURNING queue"
    );
    let queues =
        rows_of(&inner.run(Sql { text, params }).await?.rows, |row| Ok(row.try_get::<_, String>(0)?))?;
    inner.shared.jobs.fetch_add(queues.len() as u64, Ordering::Relaxed);
    let replayed = queues.len() as u64;
    if let Some(queue) = queues.into_iter().next() {
        tell_queue(inner, queue);
    }
    Ok(replayed)
}

/// Statement by statement. The dead come after those that may die meanwhile.
async fn clear(inner: &Inner, queue: String) -> Result<u64, StoreError> {
    let mut cleared = 0;
    for table in ["_gs_jobs", "_gs_dead_jobs", "_gs_attempts"] {
        let through = newest(inner, table).await?;
        loop {
            let text = format!(
                "DELETE FROM {table} WHERE id IN \
                 (SELECT id FROM {table} WHERE queue = $1 AND id <= $2 ORDER BY id LIMIT $3)"
            );
            let params = vec![Param::from(queue.as_str()), Param::Integer(through), Param::Integer(PART)];
            let gone = inner.run(Sql { text, params }).await?.affected;
            if table == "_gs_jobs" {
                less(inner, gone);
            }
            cleared += if table == "_gs_attempts" { 0 } else { gone };
            if gone < PART as u64 {
                break;
            }
        }
    }
    Ok(cleared)
}

async fn newest(inner: &Inner, table: &str) -> Result<i64, StoreError> {
    let sql = Sql::new(format!("SELECT coalesce(max(id), 0) FROM {table}"));
    let newest = rows_of(&inner.run(sql).await?.rows, |row| Ok(row.try_get(0)?))?;
    Ok(newest.first().copied().unwrap_or_default())
}

/// Logs an attempt, and forgets the oldest once there are more than are to be kept.
fn keep(queue: &str, attempt: AttemptId, end: &AttemptEnd, log: &AttemptLog) -> [Sql; 2] {
    let took = i64::try_from(log.took.as_millis()).unwrap_or(i64::MAX);
    let insert = statement(
        "INSERT INTO _gs_attempts (queue, job, attempt, started, took_ms, outcome, error, note) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        vec![
            Param::from(queue),
            Param::Integer(bound(attempt.job)),
            Param::Integer(i64::from(attempt.number)),
            Param::Integer(log.started.0),
            Param::Integer(took),
            Param::from(end.outcome().as_str()),
            Param::Text(shortened(end.error())),
            Param::Text(log.note_text()),
        ],
    );
    let forget = statement(
        "DELETE FROM _gs_attempts WHERE queue = $1 AND id <= \
         (SELECT id FROM _gs_attempts WHERE queue = $1 ORDER BY id DESC LIMIT 1 OFFSET $2) \
         AND (SELECT count(*) FROM _gs_attempts WHERE queue = $1) >= $2 + $3",
        vec![Param::from(queue), Param::Integer(bound(log.keep)), Param::Integer(bound(LOG_MARGIN))],
    );
    [insert, forget]
}

fn remove(id: i64) -> Sql {
    statement("DELETE FROM _gs_jobs WHERE id = $1", vec![Param::Integer(id)])
}

fn drop_oldest_dead() -> Sql {
    statement(
        "WITH gone AS (DELETE FROM _gs_dead_jobs WHERE id <= \
           (SELECT id FROM _gs_dead_jobs ORDER BY id DESC LIMIT 1 OFFSET $1) RETURNING 1) \
         UPDATE _gs_meta SET value = value + (SELECT count(*) FROM gone) \
         WHERE key = 'dead_jobs_dropped' AND EXISTS (SELECT 1 FROM gone)",
        vec![Param::Integer(bound(MAX_DEAD_JOBS))],
    )
}

fn tell_queue(inner: &Inner, queue: String) {
    inner.shared.tell(&Commit { job_queues: [queue].into(), ..Commit::default() });
}

fn less(inner: &Inner, jobs: u64) {
    let less = |known: u64| Some(known.saturating_sub(jobs));
    let _ = inner.shared.jobs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

fn job_from_row(row: &Row) -> Result<Job, Error> {
    let attempts: i32 = row.try_get(1)?;
    Ok(Job {
        attempt: AttemptId { job: number(row, 0)?, number: attempts.unsigned_abs() },
        payload: json(row, 2)?,
        created: Timestamp(row.try_get(3)?),
    })
}

fn dead_job_from_row(row: &Row) -> Result<DeadJob, Error> {
    let attempts: i32 = row.try_get(4)?;
    Ok(DeadJob {
        id: number(row, 0)?,
        queue: row.try_get(1)?,
        payload: json(row, 2)?,
        created: Timestamp(row.try_get(3)?),
        attempts: attempts.unsigned_abs(),
        died: Timestamp(row.try_get(5)?),
        error: row.try_get(6)?,
    })
}

fn attempt_from_row(row: &Row) -> Result<LoggedAttempt, Error> {
    let (attempt, outcome): (i32, &str) = (row.try_get(2)?, row.try_get(5)?);
    Ok(LoggedAttempt {
        id: number(row, 0)?,
        attempt: AttemptId { job: number(row, 1)?, number: attempt.unsigned_abs() },
        started: Timestamp(row.try_get(3)?),
        took: Duration::from_millis(number(row, 4)?),
        outcome: AttemptOutcome::of_word(outcome).unwrap_or(AttemptOutcome::Again),
        error: row.try_get(6)?,
        note: json(row, 7)?,
    })
}

fn json(row: &Row, column: usize) -> Result<Json, Error> {
    let text: &str = row.try_get(column)?;
    Ok(Json::parse_whole(text).unwrap_or_default())
}

fn number(row: &Row, column: usize) -> Result<u64, Error> {
    Ok(row.try_get::<_, i64>(column)?.unsigned_abs())
}

fn rows_of<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Error>) -> Result<Vec<T>, StoreError> {
    rows.iter().map(read).collect::<Result<_, Error>>().map_err(Error::into_store_error)
}

fn statement(text: &str, params: Vec<Param>) -> Sql {
    Sql { text: text.to_owned(), params }
}

/// As PostgreSQL counts.
fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What is kept of an error.
fn shortened(error: &str) -> String {
    error[..error.floor_char_boundary(ERROR_BYTES)].replace('\0', "")
}
