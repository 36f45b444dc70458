//! Asking hooks before a write. A hook agrees by a status of 2xx, and may set fields: `{"set": {"title": "a"}}`. It
//! refuses by one of 4xx with a JSON object that has a `message`, which the client gets with the `data` beside it.
//! Everything else is a failure, and the hook's policy says what becomes of the write.

use std::sync::Arc;
use std::time::Duration;

use contract::event::Action;
use http::{Method, StatusCode};
use kit::app::now;
use kit::before_hooks::{Asked, BeforeHooks, Question};
use kit::error::{ApiError, ErrorStatus};
use kit::outbound::{Limits, Outbound, OutboundAnswer, OutboundRequest};
use model::collection::Collection;
use model::errors::{FieldError, FieldErrors};
use model::json::{Json, JsonObject};
use model::record::resolve::may_be_set_by_hooks;
use rand::distr::{Alphanumeric, SampleString};
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

/// Asks the hooks of this process, from one request loop.
pub struct Before {
    hooks: Hooks,
    outbound: Arc<Outbound>,
}

/// What a hook said.
enum Word {
    /// The write may go on, with these values.
    Set(JsonObject),
    Refused(ApiError),
}

/// Why a hook's word is not known. Without anything of the target's URL or of its answer.
type Failure = String;

// === impl Before ===

impl Before {
    /// With a client of the request loop's own.
    pub fn new(hooks: Hooks, outbound: Arc<Outbound>) -> Before {
        Before { hooks, outbound }
    }

    /// Each hook sees what those before it set.
    async fn ask_all(&self, question: Question<'_>) -> Result<JsonObject, ApiError> {
        let moment = HookEvent::new(true, question.action);
        let set = self.hooks.set();
        let mut values = JsonObject::new();
        for hook in set.iter().filter(|hook| hook.wants(moment, question.collection)) {
            let mut body = question.body.clone();
            body.extend(values.clone());
            match self.ask(hook, &question, &body).await {
                Ok(Word::Set(more)) => values.extend(more),
                Ok(Word::Refused(refusal)) => return Err(refusal),
                Err(failure) => {
                    let policy = hook.on_failure;
                    warn!(
                        hook = hook.name,
                        failure,
                        policy = policy.as_str(),
                        "a hook before a write failed"
                    );
                    if policy == OnFailure::Refuse {
                        return Err(ApiError::unavailable(Duration::from_secs(1)));
                    }
                }
            }
        }
        Ok(values)
    }

    async fn ask(&self, hook: &Hook, question: &Question<'_>, body: &JsonObject) -> Result<Word, Failure> {
        let id = Alphanumeric.sample_string(&mut rand::rng(), ID_LETTERS);
        let body = message::before(&hook.name, question, body).to_string();
        let headers = sign::headers(&hook.secrets, &id, now(), body.as_bytes());
        let request = OutboundRequest { method: Method::POST, url: &hook.url, headers, body: body.into() };
        let limits = Limits { deadline: hook.timeout, max_answer_bytes: ANSWER_BYTES };
        let answer = self.outbound.send(request, limits).await.map_err(|error| error.to_string())?;
        word(&answer, question)
    }
}

impl BeforeHooks for Before {
    fn concern(&self, collection: &Collection, action: Action) -> bool {
        let moment = HookEvent::new(true, action);
        self.hooks.set().iter().any(|hook| hook.wants(moment, collection))
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
