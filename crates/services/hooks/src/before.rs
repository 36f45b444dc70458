//! Asking hooks before a write. A hook agrees by a status of 2xx, and may set fields: `{"set": {"title": "a"}}`. It
//! refuses by one of 4xx with a JSON object that has a `message`, which the client gets with the `data` beside it.
//! Everything else is a failure, and the hook's policy says what becomes of the write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::event::Action;
use http::{Method, StatusCode};
use kit::app::now;
use kit::before_hooks::{Asked, BeforeHooks, Question};
use kit::error::{ApiError, ErrorStatus};
use kit::outbound::{Limits, Outbound, OutboundAnswer, OutboundRequest};
use model::collection::Collection;
use model::errors::{FieldError, FieldErrors};
use model::json::{Json, JsonObject};
use model::record::resolve::{Resolved, may_be_set_by_hooks};
use rand::distr::{Alphanumeric, SampleString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use crate::event::HookEvent;
use crate::hook::{Hook, OnFailure};
use crate::message;
use crate::registry::Hooks;
use crate::sign;

/// Most bytes of an answer.
const ANSWER_BYTES: usize = 1 << 20;
/// Most letters of a refusal's message and of the words for a field.
const MAX_TEXT: usize = 1_000;
/// Most fields that a refusal has something to say of.
const MAX_FIELDS: usize = 100;
const ID_LETTERS: usize = 24;
/// Requests of one loop that wait for one hook's word; the next wait for a place, within the hook's time.
const MAX_WAITING: usize = 32;
/// For all hooks of a request together.
const TIME_FOR_ALL: Duration = Duration::from_secs(30);
/// What a batch keeps of its time for the write, and for the answer that a hook's failure is.
const KEPT_OF_BATCH: Duration = Duration::from_millis(250);
/// Hooks whose places are remembered before those are forgotten that nobody waits for.
const MAX_PLACES: usize = 200;

/// Asks the hooks of this process, from one request loop.
pub struct Before {
    hooks: Hooks,
    outbound: Arc<Outbound>,
    /// Of each hook that was asked, by its name.
    places: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// What a hook said.
enum Word {
    /// The write may go on, with these values.
    Set(JsonObject),
    Refused(ApiError),
}

/// Why a hook's word is not known. It says of the target no more than
/// its host and port, and of its answer the status, or the name of a field.
type Failure = String;

// === impl Before ===

impl Before {
    /// With a client of the request loop's own.
    pub fn new(hooks: Hooks, outbound: Arc<Outbound>) -> Before {
        Before { hooks, outbound, places: Mutex::default() }
    }

    /// Each hook sees the values that those before it set.
    async fn ask_all(&self, question: Question<'_>) -> Result<JsonObject, ApiError> {
        let moment = HookEvent::new(true, question.action);
        let set = self.hooks.set();
        for hook in set.broken().filter(|hook| hook.may_want(moment, question.collection)) {
            apply(hook.on_failure(), &hook.name, "it is broken")?;
        }
        let until = ask_until(Instant::now(), question.deadline);
        let mut resolved = question.resolved.cloned();
        let mut values = JsonObject::new();
        for hook in set.iter().filter(|hook| hook.wants(moment, question.collection)) {
            let resolved_values = resolved.as_ref().map(Resolved::values).unwrap_or_default();
            match self.ask(hook, &question, &resolved_values, until).await {
                Ok(Word::Set(more)) => {
                    if let Some(resolved) = &mut resolved {
                        resolved.set_over(&more, &mut rand::rng());
                    }
                    values.extend(more);
                }
                Ok(Word::Refused(refusal)) => return Err(refusal),
                Err(failure) => apply(hook.on_failure, &hook.name, &failure)?,
            }
        }
        Ok(values)
    }

    async fn ask(
        &self,
        hook: &Hook,
        question: &Question<'_>,
        values: &JsonObject,
        until: Instant,
    ) -> Result<Word, Failure> {
        let until = until.min(Instant::now() + hook.timeout);
        let _place = self.place(&hook.name, until).await?;
        let id = Alphanumeric.sample_string(&mut rand::rng(), ID_LETTERS);
        let body = message::before(&hook.name, question, values).to_string();
        let headers = sign::headers(&hook.secrets, &id, now(), body.as_bytes());
        let request = OutboundRequest { method: Method::POST, url: &hook.url, headers, body: body.into() };
        let limits = Limits { deadline: left(until), max_answer_bytes: ANSWER_BYTES };
        let answer = self.outbound.send(request, limits).await.map_err(|error| error.to_string())?;
        word(&answer, question)
    }

    /// A place among those who wait for a hook's word.
    async fn place(&self, hook: &str, until: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let time = left(until);
        if time.is_zero() {
            return Err("no time was left to ask it".to_owned());
        }
        match timeout(time, self.places_of(hook).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(format!("{MAX_WAITING} requests wait for its word already")),
        }
    }

    fn places_of(&self, hook: &str) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = places.get(hook) {
            return places.clone();
        }
        if places.len() >= MAX_PLACES {
            places.retain(|_, places| Arc::strong_count(places) > 1);
        }
        places.entry(hook.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(MAX_WAITING))).clone()
    }
}

/// How long the hooks of a request may take, all together.
fn ask_until(now: Instant, deadline: Option<Instant>) -> Instant {
    let most = now + TIME_FOR_ALL;
    deadline.map_or(most, |deadline| most.min(deadline.checked_sub(KEPT_OF_BATCH).unwrap_or(now)))
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// What a hook's policy makes of its failure.
fn apply(policy: OnFailure, hook: &str, failure: &str) -> Result<(), ApiError> {
    warn!(hook, failure, policy = policy.as_str(), "a hook before a write failed");
    match policy {
        OnFailure::Refuse => Err(ApiError::unavailable(Duration::from_secs(1))),
        OnFailure::Allow => Ok(()),
    }
}

impl BeforeHooks for Before {
    fn concern(&self, collection: &Collection, action: Action) -> bool {
        let moment = HookEvent::new(true, action);
        let set = self.hooks.look();
        set.iter().any(|hook| hook.wants(moment, collection))
            || set.broken().any(|hook| hook.may_want(moment, collection))
    }

    fn ask<'a>(&'a self, question: Question<'a>) -> Asked<'a> {
        Box::pin(self.ask_all(question))
    }
}

fn word(answer: &OutboundAnswer, question: &Question<'_>) -> Result<Word, Failure> {
    if answer.is_cut {
        return Err(format!("its answer has more than {ANSWER_BYTES} bytes"));
    }
    let status = answer.status;
    if status.is_success() {
        return Ok(Word::Set(values(&answer.body, question)?));
    }
    let number = status.as_u16();
    if status.is_client_error()
        && status != StatusCode::REQUEST_TIMEOUT
        && status != StatusCode::TOO_MANY_REQUESTS
    {
        return refusal(status, &answer.body)
            .map(Word::Refused)
            .ok_or_else(|| format!("it answered {number} without a message for the client"));
    }
    Err(format!("it answered {number}"))
}

/// What the hook sets: only fields that hooks may set, so that a slip is noticed.
fn values(body: &[u8], question: &Question<'_>) -> Result<JsonObject, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(JsonObject::new());
    }
    let Some(Json::Object(mut answer)) = parse(body) else {
        return Err("its answer is no JSON object".to_owned());
    };
    let values = match answer.remove("set") {
        None | Some(Json::Null) => return Ok(JsonObject::new()),
        Some(Json::Object(values)) => values,
        Some(_) => return Err("\"set\" in its answer is no object".to_owned()),
    };
    if question.action == Action::Delete && !values.is_empty() {
        return Err("it sets fields of a record that is to be deleted".to_owned());
    }
    for name in values.keys() {
        if !question.collection.field(name).is_some_and(may_be_set_by_hooks) {
            let name: String = name.chars().take(100).collect();
            return Err(format!("it sets {name:?}, which is no field that hooks may set"));
        }
    }
    Ok(values)
}

fn refusal(status: StatusCode, body: &[u8]) -> Option<ApiError> {
    let answer = parse(body)?;
    let message = shortened(answer.get("message")?)?;
    let mut fields = FieldErrors::new();
    let data = answer.get("data").and_then(Json::as_object);
    for (name, error) in data.into_iter().flatten().take(MAX_FIELDS) {
        let text = |key: &str| error.get(key).and_then(shortened);
        if let (Some(code), Some(message)) = (text("code"), text("message")) {
            fields.add(name, FieldError::new(code, message));
        }
    }
    let status = ErrorStatus::try_from(status).ok()?;
    Some(ApiError::new(status, message).with_fields(fields))
}

fn shortened(text: &Json) -> Option<String> {
    text.as_str().map(|text| text.chars().take(MAX_TEXT).collect())
}

fn parse(body: &[u8]) -> Option<Json> {
    Json::parse_whole(std::str::from_utf8(body).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_have_half_a_minute_together_and_leave_a_batch_time_to_be_written() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(ask_until(now, None), after(30));
        assert_eq!(ask_until(now, Some(after(60))), after(30));
        assert_eq!(ask_until(now, Some(after(3))), after(3) - Duration::from_millis(250));
        assert!(left(ask_until(now, Some(now))).is_zero());
    }
}
