//! Delivering what happened: the jobs of a hook's queue.

use std::sync::Arc;
use std::time::Duration;

use contract::jobs::{Attempt, Finished, Job, JobError, JobHandler};
use http::{Method, StatusCode};
use kit::app::now;
use kit::outbound::{Limits, Outbound, OutboundRequest};
use model::json::Json;

use crate::hook::Hook;
use crate::registry::Hooks;
use crate::sign;

/// How long a job may take, whatever its hook says.
pub const DEADLINE: Duration = Duration::from_secs(40);
/// Attempts that the delivery log of a hook holds.
pub const ATTEMPTS_LOGGED: u64 = 1_000;

/// Bytes of an answer that are read: enough to see what is wrong.
const ANSWER_BYTES: usize = 1_024;
/// Letters of an answer that the log keeps.
const EXCERPT: usize = 200;

/// Delivers the messages of one hook.
pub struct Deliver {
    hooks: Hooks,
    outbound: Arc<Outbound>,
    name: String,
}

/// What came of sending a message.
pub(crate) struct Sent {
    pub(crate) status: Option<StatusCode>,
    /// What is wrong, unless it was delivered.
    pub(crate) error: Option<String>,
    pub(crate) excerpt: String,
}

// === impl Deliver ===

impl Deliver {
    /// For the hook of a name, as it is when a message is sent.
    pub fn new(hooks: Hooks, outbound: Arc<Outbound>, name: String) -> Deliver {
        Deliver { hooks, outbound, name }
    }

    async fn deliver(&self, job: Job) -> Finished {
        let Some(hook) = self.hooks.get(&self.name).filter(|hook| hook.is_enabled) else {
            return Err(JobError::Again("the hook is not there, or switched off".to_owned())).into();
        };
        let id = job.payload.get("id").and_then(Json::as_str).unwrap_or_default();
        let sent = send(&self.outbound, &hook, id, &job.payload).await;
        Finished { note: note(id, &job.payload, &sent), result: result(sent) }
    }
}

impl JobHandler for Deliver {
    fn run(&self, job: Job) -> Attempt<'_> {
        Box::pin(self.deliver(job))
    }
}

/// Sends a message to a hook.
pub(crate) async fn send(outbound: &Outbound, hook: &Hook, id: &str, message: &Json) -> Sent {
    let body = message.to_string();
    let headers = sign::headers(&hook.secrets, id, now(), body.as_bytes());
    let request = OutboundRequest { method: Method::POST, url: &hook.url, headers, body: body.into() };
    let limits = Limits { deadline: hook.timeout, max_answer_bytes: ANSWER_BYTES };
    match outbound.send(request, limits).await {
        Ok(answer) => {
            let is_delivered = answer.status.is_success();
            let text = String::from_utf8_lossy(&answer.body);
            Sent {
                status: Some(answer.status),
                error: (!is_delivered).then(|| refusal(answer.status)),
                excerpt: text.chars().take(EXCERPT).collect(),
            }
        }
        Err(error) => Sent { status: None, error: Some(error.to_string()), excerpt: String::new() },
    }
}

fn refusal(status: StatusCode) -> String {
    let number = status.as_u16();
    if status.is_redirection() {
        format!("it answered {number}, and redirects are not followed")
    } else {
        format!("it answered {number}")
    }
}

/// 410 is how a target says that it is gone for good.
fn result(sent: Sent) -> Result<(), JobError> {
    match sent.error {
        None => Ok(()),
        Some(error) if sent.status == Some(StatusCode::GONE) => Err(JobError::Never(error)),
        Some(error) => Err(JobError::Again(error)),
    }
}

fn note(id: &str, message: &Json, sent: &Sent) -> Json {
    let of_message = |key: &str| message.get(key).cloned().unwrap_or_default();
    let collection = message.get("collection").and_then(|collection| collection.get("name"));
    let status = sent.status.map_or(Json::Null, |status| Json::from(f64::from(status.as_u16())));
    Json::object([
        ("answer", Json::from(sent.excerpt.as_str())),
        ("collectionName", collection.cloned().unwrap_or_default()),
        ("messageId", Json::from(id)),
        ("recordId", of_message("recordId")),
        ("status", status),
        ("type", of_message("type")),
    ])
}
