//! `/api/gs/jobs…`: what is to be done, and what failed for good. Superusers only.

use axum::Extension;
use axum::extract::Path;
use axum::response::Response;
use contract::jobs::{DeadJob, DeadJobs, QueueStatus};
use http::StatusCode;
use kit::error::ApiError;
use kit::list_json::{Page, write_list};
use kit::request::Call;
use kit::respond;
use model::errors::{FieldError, FieldErrors};
use model::json::Json;

use crate::Jobs;

/// `GET /api/gs/jobs`: the queues, and how many dead jobs were forgotten because there were too many.
pub(crate) async fn queues(Extension(jobs): Extension<Jobs>, call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let queues = jobs.store.queues().await?.iter().map(queue_json).collect();
    let dropped = jobs.store.dead_jobs(None, 0, 0).await?.dropped;
    let answer = Json::object([("deadDropped", count(dropped)), ("queues", Json::Array(queues))]);
    Ok(respond::json(StatusCode::OK, answer.to_string()))
}

/// `DELETE /api/gs/jobs?queue=NAME`: forgets all jobs of a queue, and its log.
pub(crate) async fn clear(Extension(jobs): Extension<Jobs>, call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let cleared = jobs.store.clear(one_queue(&call)?).await?;
    Ok(respond::json(StatusCode::OK, Json::object([("cleared", count(cleared))]).to_string()))
}

/// `GET /api/gs/jobs/dead`: a page of the dead jobs, of all queues or of `queue`, the newest first.
pub(crate) async fn dead(Extension(jobs): Extension<Jobs>, call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let list = call.query().list()?;
    let DeadJobs { jobs, total, dropped: _ } =
        jobs.store.dead_jobs(queue(&call), list.offset(), list.per_page.into()).await?;
    let page = Page { page: list.page, per_page: list.per_page, total_items: Some(total) };
    let mut text = String::with_capacity(1_024);
    write_list(page, &jobs, |job, out| dead_job_json(job).write(out), &mut text);
    Ok(respond::json(StatusCode::OK, text))
}

/// `POST /api/gs/jobs/dead/replay?queue=NAME`: has all of a queue done again, from their first attempts.
pub(crate) async fn replay_all(Extension(jobs): Extension<Jobs>, call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let replayed = jobs.store.replay_all(one_queue(&call)?).await?;
    Ok(respond::json(StatusCode::OK, Json::object([("replayed", count(replayed))]).to_string()))
}

/// `POST /api/gs/jobs/dead/{id}/replay`: has it done again, from its first attempt.
pub(crate) async fn replay(
    Extension(jobs): Extension<Jobs>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let is_replayed = jobs.store.replay(number(&id)?).await?;
    done(is_replayed)
}

/// `DELETE /api/gs/jobs/dead/{id}`: forgets it.
pub(crate) async fn discard(
    Extension(jobs): Extension<Jobs>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let is_discarded = jobs.store.discard(number(&id)?).await?;
    done(is_discarded)
}

/// The queue that is asked for, if any.
fn queue(call: &Call) -> Option<String> {
    call.query().first("queue").filter(|queue| !queue.is_empty()).map(str::to_owned)
}

/// The queue that must be asked for: what is done to all of its jobs is done to no others by mistake.
fn one_queue(call: &Call) -> Result<String, ApiError> {
    let missing = || ApiError::invalid_form(FieldErrors::one("queue", FieldError::required()));
    queue(call).ok_or_else(missing)
}

fn number(id: &str) -> Result<u64, ApiError> {
    id.parse().ok().filter(|id| i64::try_from(*id).is_ok()).ok_or_else(ApiError::not_found)
}

fn done(is_done: bool) -> Result<Response, ApiError> {
    if is_done { Ok(respond::no_content()) } else { Err(ApiError::not_found()) }
}

fn queue_json(queue: &QueueStatus) -> Json {
    Json::object([
        ("dead", count(queue.dead)),
        ("name", Json::from(queue.name.as_str())),
        ("oldestDue", Json::from(queue.oldest_due.map_or(String::new(), |due| due.to_text()))),
        ("running", count(queue.running)),
        ("waiting", count(queue.waiting)),
    ])
}

fn dead_job_json(job: &DeadJob) -> Json {
    Json::object([
        ("attempts", count(job.attempts.into())),
        ("created", Json::from(job.created.to_text())),
        ("died", Json::from(job.died.to_text())),
        ("error", Json::from(job.error.as_str())),
        ("id", Json::from(job.id.to_string())),
        ("payload", job.payload.clone()),
        ("queue", Json::from(job.queue.as_str())),
    ])
}

fn count(number: u64) -> Json {
    Json::from(number as f64)
}
