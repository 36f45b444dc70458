//! The `jobs` service: what is done after an answer, and what is done at its time.
//!
//! A [`Worker`] claims jobs from a [`JobStore`] and has them run by the handlers of their queues, as many at
//! once as a queue allows, again after a failure, until they are done or dead. [`Crons`] start scheduled work
//! at the minutes of their expressions. Both run where they are started, and are stopped with the process.
//! Superusers see them: [`router`].

mod attempt;
mod backoff;
mod cron_routes;
mod crons;
mod job_routes;
mod wakeup;
mod worker;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use contract::jobs::JobStore;
use kit::app::App;

pub use backoff::Backoff;
pub use crons::{Cron, Crons, NotStarted, Task, built_in};
pub use wakeup::Wakeup;
pub use worker::{Policy, Queue, Worker};

/// What the routes show and start.
#[derive(Clone)]
pub struct Jobs {
    /// The jobs that wait, run, or are dead.
    pub store: Arc<dyn JobStore>,
    /// Scheduled work.
    pub crons: Arc<Crons>,
}

/// The service's routes.
pub fn router(jobs: Jobs) -> Router<Arc<App>> {
    Router::new()
        .route("/api/crons", get(cron_routes::list))
        .route("/api/crons/{id}", post(cron_routes::start))
        .route("/api/gs/jobs", get(job_routes::queues).delete(job_routes::clear))
        .route("/api/gs/jobs/dead", get(job_routes::dead))
        .route("/api/gs/jobs/dead/replay", post(job_routes::replay_all))
        .route("/api/gs/jobs/dead/{id}", delete(job_routes::discard))
        .route("/api/gs/jobs/dead/{id}/replay", post(job_routes::replay))
        .layer(axum::Extension(jobs))
}
