//! `POST /api/realtime` (CONTRACT §7.2)

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use kit::body::{BodyError, BodyLimits, Form};
use kit::error::ApiError;
use kit::request::Call;
use kit::respond;
use model::checks;
use model::context::Caller;
use model::errors::{FieldError, FieldErrors};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::bound;
use crate::client_id::ClientId;
use crate::hub::{Full, Known, auth_key};
use crate::realtime::{Gate, Shared};
use crate::resume::Resume;
use crate::topic::{self, Topic};

/// As many bytes as the most and longest topics need as JSON, with some escapes.
const MAX_BODY_BYTES: u64 = 4 << 20;
const MAX_CLIENT_ID_BYTES: usize = 255;
const MAX_TOPICS: usize = 1_000;
const MAX_TOPIC_BYTES: usize = 2_500;

/// How often whom a stream speaks for is read again because it is being changed.
const BIND_ATTEMPTS: usize = 16;

/// What the client sent.
struct Wanted {
    client_id: String,
    topics: Vec<String>,
    /// What it saw last, from a client that connects again.
    since: Option<String>,
}

pub(crate) async fn handle(State(gate): State<Arc<Gate>>, mut call: Call) -> Result<Response, ApiError> {
    let shared = &gate.shared;
    let wanted = read(&mut call).await?;
    wanted.check()?;
    let client = find(shared, &wanted.client_id)?;
    if client.address != call.client_ip() {
        return Err(ApiError::bad_request_with("Invalid realtime client."));
    }
    refuse_other_caller(shared, &client, call.caller()).await?;
    let topics = wanted.topics.iter().filter(|text| !text.is_empty());
    let topics: Vec<&str> = topics.map(String::as_str).collect();
    let reservation = match topics.iter().any(|text| topic::is_of_records(text)) {
        true => Some(follow(shared).await?),
        false => None,
    };
    let is_resumed = client.resumes && reservation.is_some();
    let since = is_resumed.then_some(wanted.since.clone());
    bind(shared, &client, call.caller(), &topics, since).await?;
    Ok(respond::no_content())
}

async fn read(call: &mut Call) -> Result<Wanted, ApiError> {
    let malformed = |error: BodyError| error.into_api_for_all(ApiError::bad_request());
    let body = call.read_body(BodyLimits::bytes(MAX_BODY_BYTES)).await.map_err(malformed)?;
    Wanted::of(&body.into_form().map_err(malformed)?).map_err(malformed)
}

fn find(shared: &Shared, client_id: &str) -> Result<Known, ApiError> {
    ClientId::parse(client_id)
        .and_then(|id| shared.hub.find(id))
        .ok_or_else(|| ApiError::not_found_with("Missing or invalid client id."))
}

/// A stream that speaks for a record speaks for no other, unless that can no longer sign in as it did.
async fn refuse_other_caller(shared: &Shared, client: &Known, caller: &Caller) -> Result<(), ApiError> {
    let Some(record) = client.caller.record().filter(|_| !bound::is_same(&client.caller, caller)) else {
        return Ok(());
    };
    let key = auth_key(record);
    let now = bound::load(&*shared.app.store, std::slice::from_ref(&key)).await?;
    if matches!(bound::caller_by_now(record, now.get(&key)), Caller::Guest) {
        shared.hub.unbind(client.key, record);
        return Ok(());
    }
    Err(ApiError::forbidden_with("The current and the previous request authorization don't match."))
}

/// Waits until every write from now on is seen.
async fn follow(shared: &Shared) -> Result<crate::hub::Reservation, ApiError> {
    let reservation = shared.hub.reserve();
    shared.wanted.notify_one();
    let mut follows = shared.follows.subscribe();
    match timeout(shared.options.times.follow, follows.wait_for(|follows| *follows)).await {
        Ok(Ok(_)) => Ok(reservation),
        _ => Err(ApiError::unavailable(Duration::from_secs(1))),
    }
}

/// Sets the topics. The caller is read once more: what happened to him since his token was verified was told to
/// streams that speak for him, and this one did not yet.
async fn bind(
    shared: &Shared,
    client: &Known,
    caller: &Caller,
    topics: &[&str],
    since: Option<Option<String>>,
) -> Result<(), ApiError> {
    for _ in 0..BIND_ATTEMPTS {
        let (caller, generation) = match caller.record() {
            None => (Caller::Guest, None),
            Some(record) => {
                let key = auth_key(record);
                let generation = shared.hub.generation(&key);
                let now = bound::load(&*shared.app.store, std::slice::from_ref(&key)).await?;
                (bound::caller_by_now(record, now.get(&key)), Some(generation))
            }
        };
        let topics = topics.iter().map(|text| Topic::parse(text)).collect();
        let is_set = match &since {
            None => shared.hub.set(client.key, caller, topics, generation)?,
            Some(since) => {
                let (reply, answer) = oneshot::channel();
                let (key, since) = (client.key, since.clone());
                resume(shared, Resume { key, caller, topics, generation, since, reply }, answer).await?
            }
        };
        if is_set {
            return Ok(());
        }
    }
    Err(ApiError::busy(Duration::from_secs(1)))
}

/// Has the task set the topics, which knows what the client missed.
async fn resume(
    shared: &Shared,
    resume: Resume,
    answer: oneshot::Receiver<Result<bool, Full>>,
) -> Result<bool, ApiError> {
    let answered = async {
        shared.resumes.send(resume).await.ok()?;
        answer.await.ok()
    };
    match timeout(shared.options.times.follow, answered).await {
        Ok(Some(is_set)) => Ok(is_set?),
        _ => Err(ApiError::unavailable(Duration::from_secs(1))),
    }
}

// === impl Wanted ===

impl Wanted {
    fn of(form: &Form) -> Result<Wanted, BodyError> {
        Ok(Wanted {
            client_id: form.text("clientId")?.unwrap_or_default().to_owned(),
            topics: form.texts("subscriptions")?.unwrap_or_default(),
            // Whoever sends something else is no such client.
            since: form.text("seq").ok().flatten().map(str::to_owned),
        })
    }

    fn check(&self) -> Result<(), ApiError> {
        let mut errors = FieldErrors::new();
        let id = checks::required(&self.client_id)
            .and_then(|()| checks::length(&self.client_id, 1, MAX_CLIENT_ID_BYTES));
        if let Err(error) = id {
            errors.add("clientId", error);
        }
        if self.topics.len() > MAX_TOPICS {
            errors.add("subscriptions", too_long(MAX_TOPICS));
        } else {
            for (index, topic) in self.topics.iter().enumerate() {
                if topic.len() > MAX_TOPIC_BYTES {
                    errors.add_at(&["subscriptions", &index.to_string()], too_long(MAX_TOPIC_BYTES));
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(ApiError::bad_request().with_fields(errors)) }
    }
}

fn too_long(max: usize) -> FieldError {
    FieldError::new("validation_length_too_long", format!("The length must be no more than {max}."))
        .with("max", max as f64)
        .with("min", 0.0)
}
