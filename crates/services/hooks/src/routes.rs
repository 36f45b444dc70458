//! `/api/gs/hooks…`: superusers see hooks, make them, try them, and see what became of their messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use contract::hooks::Saved;
use contract::jobs::LoggedAttempt;
use http::StatusCode;
use kit::app::App;
use kit::body::{BodyError, BodyLimits, Form};
use kit::error::ApiError;
use kit::list_json::{Page, write_list};
use kit::request::Call;
use kit::respond;
use model::errors::{FieldError, FieldErrors};
use model::json::{Json, JsonObject};
use model::schema::Schema;
use rand::distr::{Alphanumeric, SampleString};

use crate::hook::{Hook, HookInput, Source, queue_of, seconds};
use crate::registry::Hooks;
use crate::sign::Secret;
use crate::{deliver, message};

const NOT_SAVED: &str = "Failed to save the hook.";
const OF_CONFIGURATION: &str = "This hook stands in the configuration, and is changed there.";
const BROKEN: &str = "This hook is broken, and cannot be called.";
/// How often a change is made again because the hook changed meanwhile.
const PATCH_ATTEMPTS: usize = 8;
const MAX_BODY_BYTES: u64 = 64 << 10;

/// `GET /api/gs/hooks`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(hooks): Extension<Hooks>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let list = call.query().list()?;
    let schema = app.store.schema();
    let all: Vec<Json> = all_json(&hooks, &schema).into_values().map(Json::Object).collect();
    let page = Page { page: list.page, per_page: list.per_page, total_items: Some(all.len() as u64) };
    let offset = usize::try_from(list.offset()).unwrap_or(usize::MAX);
    let items = all.iter().skip(offset).take(list.per_page as usize);
    let mut text = String::with_capacity(1_024);
    write_list(page, items, |item, out| item.write(out), &mut text);
    Ok(respond::json(StatusCode::OK, text))
}

/// `POST /api/gs/hooks`. The answer shows the secrets, this once.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(hooks): Extension<Hooks>,
    mut call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let form = read_form(&mut call).await?;
    let mut input = HookInput::default();
    take(&mut input, &form).map_err(BodyError::into_form_error)?;
    input.name = form.text("name").map_err(BodyError::into_form_error)?.unwrap_or_default().to_owned();
    if input.secrets.is_empty() {
        input.secrets.push(Secret::generate(&mut rand::rng()).to_text());
    }
    let schema = app.store.schema();
    input.keep_collections_by_id(&schema);
    let hook = input.check(Source::Api).map_err(problems)?;
    let is_configured = hooks.get(&hook.name).is_some_and(|hook| hook.source == Source::Config);
    let saved = if is_configured { Saved::Changed } else { hooks.save(&hook, None).await? };
    match saved {
        Saved::Kept => {}
        Saved::Changed => return Err(not_saved("name", FieldError::not_unique())),
        Saved::TooMany => return Err(too_many()),
    }
    let mut json = hook_json(&hooks, &hook, &schema);
    let secrets = hook.secrets.iter().map(|secret| Json::from(secret.to_text())).collect();
    json.insert("secrets".to_owned(), Json::Array(secrets));
    Ok(respond::secret_json(StatusCode::OK, Json::Object(json).to_string()))
}

/// `GET /api/gs/hooks/{name}`
pub(crate) async fn view(
    State(app): State<Arc<App>>,
    Extension(hooks): Extension<Hooks>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let json = all_json(&hooks, &app.store.schema()).remove(&name).ok_or_else(ApiError::not_found)?;
    Ok(respond::json(StatusCode::OK, Json::Object(json).to_string()))
}

/// `PATCH /api/gs/hooks/{name}`. Its name stays.
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Extension(hooks): Extension<Hooks>,
    Path(name): Path<String>,
    mut call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let form = read_form(&mut call).await?;
    check_of_api(&hooks, &name)?;
    for _ in 0..PATCH_ATTEMPTS {
        let before = hooks.stored(&name).await?.ok_or_else(ApiError::not_found)?;
        let mut input = HookInput::of_definition(&name, &before.definition);
        take(&mut input, &form).map_err(BodyError::into_form_error)?;
        let schema = app.store.schema();
        input.keep_collections_by_id(&schema);
        let hook = input.check(Source::Api).map_err(problems)?;
        match hooks.save(&hook, Some(before.definition)).await? {
            Saved::Kept => {
                let json = hook_json(&hooks, &hook, &schema);
                return Ok(respond::json(StatusCode::OK, Json::Object(json).to_string()));
            }
            Saved::TooMany => return Err(too_many()),
            // By somebody else, meanwhile: what this one does not mention is his.
            Saved::Changed => {}
        }
    }
    Err(ApiError::unavailable(Duration::from_secs(1)))
}

/// `DELETE /api/gs/hooks/{name}`, with what waits for it.
pub(crate) async fn remove(
    Extension(hooks): Extension<Hooks>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    check_of_api(&hooks, &name)?;
    if hooks.remove(&name).await? { Ok(respond::no_content()) } else { Err(ApiError::not_found()) }
}

/// `GET /api/gs/hooks/{name}/deliveries`: the attempts, the newest first.
pub(crate) async fn deliveries(
    Extension(hooks): Extension<Hooks>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    check_exists(&hooks, &name)?;
    let list = call.query().list()?;
    let attempts = hooks.jobs().attempts(queue_of(&name), list.offset(), list.per_page.into()).await?;
    let page = Page { page: list.page, per_page: list.per_page, total_items: Some(attempts.total) };
    let mut text = String::with_capacity(1_024);
    write_list(page, attempts.attempts, |attempt, out| attempt_json(attempt).write(out), &mut text);
    Ok(respond::json(StatusCode::OK, text))
}

/// `POST /api/gs/hooks/{name}/replay`: delivers all dead messages again.
pub(crate) async fn replay(
    Extension(hooks): Extension<Hooks>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    check_exists(&hooks, &name)?;
    let replayed = hooks.jobs().replay_all(queue_of(&name)).await?;
    Ok(respond::json(StatusCode::OK, Json::object([("replayed", Json::from(replayed as f64))]).to_string()))
}

/// `POST /api/gs/hooks/{name}/test`: sends a `ping`, whether the hook is switched on or not, and says what came of it.
pub(crate) async fn test(
    Extension(hooks): Extension<Hooks>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    check_exists(&hooks, &name)?;
    let hook = hooks.get(&name).ok_or_else(|| ApiError::bad_request_with(BROKEN))?;
    let id = format!("{}-ping-{}", hook.name, Alphanumeric.sample_string(&mut rand::rng(), 16));
    let started = Instant::now();
    let sent = deliver::send(&hooks.outbound(), &hook, &id, &message::ping(&hook.name)).await;
    let answer = Json::object([
        ("answer", Json::from(sent.excerpt)),
        ("error", Json::from(sent.error.unwrap_or_default())),
        ("status", sent.status.map_or(Json::Null, |status| Json::from(f64::from(status.as_u16())))),
        ("took", Json::from(started.elapsed().as_millis() as f64)),
    ]);
    Ok(respond::json(StatusCode::OK, answer.to_string()))
}

async fn read_form(call: &mut Call) -> Result<Form, ApiError> {
    let submitted = call.read_body(BodyLimits::bytes(MAX_BODY_BYTES)).await;
    submitted.and_then(|submitted| submitted.into_form()).map_err(BodyError::into_form_error)
}

/// What a form says; what it does not mention stays.
fn take(input: &mut HookInput, form: &Form) -> Result<(), BodyError> {
    if let Some(url) = form.text("url")? {
        input.url = url.to_owned();
    }
    if let Some(on) = form.texts("on")? {
        input.on = on;
    }
    if form.has("collections")? {
        input.collections = form.texts("collections")?.filter(|names| !names.is_empty());
    }
    if let Some(secrets) = form.texts("secrets")? {
        input.secrets = secrets;
    }
    match form.number("timeout") {
        Ok(None) => {}
        // One that is no time, or no number, is none that is allowed either.
        Ok(Some(timeout)) => input.timeout = Some(seconds(timeout).unwrap_or_default()),
        Err(_) => input.timeout = Some(Duration::ZERO),
    }
    if let Some(policy) = form.text("onFailure")? {
        input.on_failure = Some(policy.to_owned());
    }
    if let Some(enabled) = form.boolean("enabled")? {
        input.enabled = Some(enabled);
    }
    Ok(())
}

/// All hooks as superusers see them, by name; those that are broken too.
fn all_json(hooks: &Hooks, schema: &Schema) -> BTreeMap<String, JsonObject> {
    let set = hooks.set();
    let good = set.iter().map(|hook| (hook.name.clone(), hook_json(hooks, hook, schema)));
    let broken =
        set.broken().map(|hook| (hook.name.clone(), with_dropped(hooks, &hook.name, hook.to_json(schema))));
    good.chain(broken).collect()
}

fn hook_json(hooks: &Hooks, hook: &Hook, schema: &Schema) -> JsonObject {
    with_dropped(hooks, &hook.name, hook.to_json(schema))
}

fn with_dropped(hooks: &Hooks, name: &str, mut json: JsonObject) -> JsonObject {
    json.insert("dropped".to_owned(), Json::from(hooks.dropped(&queue_of(name)) as f64));
    json
}

fn check_exists(hooks: &Hooks, name: &str) -> Result<(), ApiError> {
    let set = hooks.set();
    let is_broken = set.broken().any(|hook| hook.name == name);
    if is_broken || set.get(name).is_some() { Ok(()) } else { Err(ApiError::not_found()) }
}

fn check_of_api(hooks: &Hooks, name: &str) -> Result<(), ApiError> {
    check_exists(hooks, name)?;
    match hooks.get(name) {
        Some(hook) if hook.source == Source::Config => Err(ApiError::bad_request_with(OF_CONFIGURATION)),
        _ => Ok(()),
    }
}

fn too_many() -> ApiError {
    not_saved("name", FieldError::new("validation_too_many", "There are too many hooks."))
}

fn problems(problems: Vec<crate::hook::Problem>) -> ApiError {
    let mut errors = FieldErrors::new();
    for problem in problems {
        errors.add(problem.key, FieldError::new("validation_invalid_value", problem.message));
    }
    ApiError::bad_request_with(NOT_SAVED).with_fields(errors)
}

fn not_saved(key: &str, error: FieldError) -> ApiError {
    ApiError::bad_request_with(NOT_SAVED).with_fields(FieldErrors::one(key, error))
}

fn attempt_json(attempt: LoggedAttempt) -> Json {
    let mut json = match attempt.note {
        Json::Object(note) => note,
        _ => JsonObject::new(),
    };
    let mut put = |name: &str, value: Json| _ = json.insert(name.to_owned(), value);
    put("attempt", Json::from(f64::from(attempt.attempt.number)));
    put("error", Json::from(attempt.error));
    put("id", Json::from(attempt.id.to_string()));
    put("job", Json::from(attempt.attempt.job.to_string()));
    put("outcome", Json::from(attempt.outcome.as_str()));
    put("started", Json::from(attempt.started.to_text()));
    put("took", Json::from(attempt.took.as_millis() as f64));
    Json::Object(json)
}
