//! `POST /api/batch`: several writes as one, all or none (CONTRACT §4.9).
//!
//! The requests become the steps of one batch, in order. One that cannot become a step stands in it as a step
//! that can never be carried out: those before it are still tried, so that the first that fails is the
//! one that is reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use contract::event::Action as EventAction;
use contract::store::GetRecord;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use kit::app::{App, now};
use kit::body::{self, BodyError, BodyLimits, Form};
use kit::error::ApiError;
use kit::fields::Fields;
use kit::rate_limits::{self, Asked};
use kit::request::Call;
use kit::respond;
use kit::viewer::Viewer;
use model::collection::Collection;
use model::context::Origin;
use model::errors::{FieldError, FieldErrors};
use model::json::{Json, JsonObject};
use model::record::coerce;
use model::schema::RuleKind;
use model::settings::Batch;
use model::step::{Access, CreateRecord, DeleteRecord, Step, StepResult, UpsertRecord, Why, WriteBatch};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::uploads::Prepared;
use crate::{before_hooks, collection, create_record, refusal, update_record, uploads};

const FAILED: &str = "Batch transaction failed.";
const UNREADABLE: &str = "Failed to read the submitted batch data.";

/// One request of the batch.
struct SubRequest {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: JsonObject,
    files: Vec<body::Upload>,
}

/// What a request asks for.
enum Action {
    Create { collection: String },
    Update { collection: String, id: String },
    Upsert { collection: String },
    Delete { collection: String, id: String },
}

/// What is left of a request once it has become a step.
struct Part {
    files: Prepared,
    kind: RuleKind,
    collection: Arc<Collection>,
    call: Call,
}

pub(crate) async fn handle(State(app): State<Arc<App>>, mut call: Call) -> Result<Response, ApiError> {
    let settings = app.store.settings();
    let bounds = &settings.batch;
    if !bounds.enabled || bounds.max_requests <= 0 {
        return Err(ApiError::forbidden_with("Batch requests are not allowed."));
    }
    // Before anything is written.
    call.query().fields().map(Fields::parse).transpose()?;
    let requests = read(&app, &mut call, bounds).await?;
    let timeout = Duration::from_secs(bounds.timeout.try_into().unwrap_or(0));
    let timeout = if timeout.is_zero() { Duration::from_secs(3) } else { timeout };
    let deadline = Instant::now() + timeout;

    let (mut steps, mut parts) = (Vec::with_capacity(requests.len()), Vec::with_capacity(requests.len()));
    let mut failed = None;
    for (position, request) in requests.into_iter().enumerate() {
        match tokio::time::timeout_at(deadline.into(), prepare(&app, &call, request, position, deadline))
            .await
        {
            Err(_) => {
                clean_up(&app, &parts).await;
                return Err(ApiError::bad_request_with(FAILED));
            }
            Ok(Ok((step, part))) => {
                steps.push(step);
                parts.push(part);
            }
            Ok(Err(error)) => {
                steps.push(Step::Impossible);
                failed = Some(error);
                break;
            }
        }
    }
    let batch = WriteBatch { steps, schema_version: None, deadline: Some(deadline) };
    match app.store.write(batch).await {
        Ok(Ok(results)) => answer(&app, &call, &parts, results).await,
        Err(error) => {
            clean_up(&app, &parts).await;
            Err(error.into())
        }
        Ok(Err(refused)) => {
            clean_up(&app, &parts).await;
            Err(match (parts.get(refused.step), refused.why) {
                (_, Why::Deadline) => ApiError::bad_request_with(FAILED),
                (Some(part), why) => failure(refused.step, part.refusal(why)),
                (None, _) => failure(refused.step, failed.unwrap_or_else(ApiError::internal)),
            })
        }
    }
}

async fn read(app: &App, call: &mut Call, bounds: &Batch) -> Result<Vec<SubRequest>, ApiError> {
    let unreadable = |error: BodyError| error.into_api_for_all(ApiError::bad_request_with(UNREADABLE));
    let max_bytes = match u64::try_from(bounds.max_body_size) {
        Ok(0) | Err(_) => 128 << 20,
        Ok(bytes) => bytes,
    };
    let submitted = call.read_body_with_files(BodyLimits::bytes(max_bytes), &app.files.spool).await;
    let mut submitted = submitted.map_err(unreadable)?;
    let files = submitted.take_uploads();
    let form = submitted.into_form().map_err(unreadable)?;
    let items = form.array("requests").map_err(unreadable)?.unwrap_or_default();
    let mut requests = Vec::with_capacity(items.len().min(1_000));
    for item in items {
        let Json::Object(item) = item else {
            return Err(ApiError::bad_request_with(UNREADABLE));
        };
        requests.push(SubRequest::read(Form::from_json(item.clone())).map_err(unreadable)?);
    }
    check(&requests, bounds.max_requests)?;
    for file in files {
        if let Some((position, field)) = place_of(&file.field)
            && let Some(request) = requests.get_mut(position)
        {
            // A file goes before a value of the same name, and its name is made twice, as in the
            // contract's server, which sends it on as a request of its own.
            request.body.remove(field);
            request.files.push(body::Upload {
                field: field.to_owned(),
                file_name: uploads::stored_name(&file),
                ..file
            });
        }
    }
    Ok(requests)
}

fn check(requests: &[SubRequest], max: i64) -> Result<(), ApiError> {
    let mut errors = FieldErrors::new();
    if requests.is_empty() {
        errors.add("requests", FieldError::required());
    } else if requests.len() as i64 > max {
        let message = format!("The length must be no more than {max}.");
        let error = FieldError::new("validation_length_too_long", message);
        errors.add("requests", error.with("max", max as f64).with("min", 0.0));
    } else {
        for (position, request) in requests.iter().enumerate() {
            let position = position.to_string();
            if let Some(error) = request.method_error() {
                errors.add_at(&["requests", &position, "method"], error);
            }
            if let Some(error) = request.url_error() {
                errors.add_at(&["requests", &position, "url"], error);
            }
        }
    }
    errors
        .into_result()
        .map_err(|errors| ApiError::bad_request_with("Invalid batch request data.").with_fields(errors))
}

/// The request and the field that a file's part names: `requests.0.cover` or `requests[0].cover`.
fn place_of(part: &str) -> Option<(usize, &str)> {
    let rest = part.strip_prefix("requests")?;
    let (position, field) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once("].")?,
        None => rest.strip_prefix('.')?.split_once('.')?,
    };
    Some((position.parse().ok()?, field))
}

async fn prepare(
    app: &App,
    outer: &Call,
    request: SubRequest,
    position: usize,
    deadline: Instant,
) -> Result<(Step, Part), ApiError> {
    let action = Action::of(&request).ok_or_else(|| unsupported(position))?;
    let call = request.call(outer, action.method()).ok_or_else(|| unsupported(position))?;
    let has_bad_fields = call.query().fields().is_some_and(|fields| Fields::parse(fields).is_err());
    if call.query().has_bad_pair() || has_bad_fields {
        return Err(unsupported(position));
    }
    let collection = collection::find(&app.store.schema(), action.collection())?;
    collection::refuse_view(&collection)?;
    let (step, files, kind) = match action {
        Action::Create { .. } => {
            limit(app, &call, call.path(), &collection, RuleKind::Create)?;
            let SubRequest { body, files, .. } = request;
            let (step, files) =
                create_record::step(&viewer(app, &call), &call, &collection, body, files, Some(deadline))
                    .await?;
            (Step::Create(step), files, RuleKind::Create)
        }
        Action::Update { id, .. } => {
            limit(app, &call, call.path(), &collection, RuleKind::Update)?;
            refusal::check_unlocked(call.caller(), &collection, RuleKind::Update)?;
            let SubRequest { body, files, .. } = request;
            let viewer = viewer(app, &call);
            let (step, files) =
                update_record::step(&viewer, &call, &collection, id, body, files, Some(deadline)).await?;
            (Step::Patch(step), files, RuleKind::Update)
        }
        Action::Upsert { .. } => {
            // To its rule, a change is a PATCH, also where it was asked for by PUT.
            let update = request.call(outer, Method::PATCH).ok_or_else(|| unsupported(position))?;
            let SubRequest { body, files, .. } = request;
            upsert(app, (&call, &update), &collection, (body, files), deadline).await?
        }
        Action::Delete { id, .. } => {
            limit(app, &call, call.path(), &collection, RuleKind::Delete)?;
            refusal::check_unlocked(call.caller(), &collection, RuleKind::Delete)?;
            let viewer = viewer(app, &call);
            let access = Access::of(viewer.context().clone());
            let step = DeleteRecord { collection: collection.id.clone(), id, body: request.body, access };
            before_hooks::ask_delete(&viewer, &call, &collection, &step, Some(deadline)).await?;
            (Step::Delete(step), Prepared::default(), RuleKind::Delete)
        }
    };
    Ok((step, Part { files, kind, collection, call }))
}

/// Counts a request of the batch as one that comes alone would be, but with its own kind: in counters for batches. It is
/// counted before those ahead of it are carried out, so also where one of them fails. It is from where the batch is,
/// whatever its own headers say of addresses.
fn limit(
    app: &App,
    call: &Call,
    path: &str,
    collection: &Collection,
    kind: RuleKind,
) -> Result<(), ApiError> {
    let name = match kind {
        RuleKind::Update => "update",
        RuleKind::Delete => "delete",
        _ => "create",
    };
    let action = rate_limits::Action { collection, names: &[name], is_in_batch: true };
    let asked = Asked {
        method: call.method().as_str(),
        path,
        action: Some(action),
        caller: call.caller(),
        client_ip: call.client_ip(),
    };
    if app.rate_limits.allow(&asked, now()) { Ok(()) } else { Err(ApiError::too_many_requests()) }
}

/// What the contract's server says of a request that a batch cannot hold, as the first and as another.
fn unsupported(position: usize) -> ApiError {
    if position == 0 { ApiError::bad_request() } else { ApiError::internal() }
}

fn viewer<'a>(app: &'a App, call: &'a Call) -> Viewer<'a> {
    Viewer::in_context(app, call, call.caller().clone(), Origin::Batch)
}

/// Both ways at once where the body names a record: which of them it is, is seen when the step is carried out.
/// The request comes as one that creates and as one that changes: rules see its method.
async fn upsert(
    app: &App,
    (create, update): (&Call, &Call),
    collection: &Arc<Collection>,
    (body, files): (JsonObject, Vec<body::Upload>),
    deadline: Instant,
) -> Result<(Step, Prepared, RuleKind), ApiError> {
    let id = body.get("id").map(coerce::text).unwrap_or_default();
    if id.is_empty() {
        limit(app, create, create.path(), collection, RuleKind::Create)?;
        let (step, files) =
            create_record::step(&viewer(app, create), create, collection, body, files, Some(deadline))
                .await?;
        return Ok((Step::Create(step), files, RuleKind::Create));
    }
    let kind = if exists(app, collection, &id).await? { RuleKind::Update } else { RuleKind::Create };
    match kind {
        RuleKind::Update => limit(app, update, &format!("{}/{id}", update.path()), collection, kind)?,
        _ => limit(app, create, create.path(), collection, kind)?,
    }
    refusal::check_unlocked(update.caller(), collection, kind)?;
    if is_hooked(app, collection) {
        return upsert_as_asked(app, (create, update), collection, id, (body, files), kind, deadline).await;
    }
    let as_update = viewer(app, update);
    let (patch, files) =
        update_record::step(&as_update, update, collection, id, body, files, Some(deadline)).await?;
    let create = CreateRecord {
        collection: patch.collection.clone(),
        body: patch.body.clone(),
        set_by_hooks: JsonObject::new(),
        password_hashes: patch.password_hashes.clone(),
        uploads: patch.uploads.clone(),
        access: Access::of(viewer(app, create).context().clone()),
    };
    Ok((Step::Upsert(UpsertRecord { create, patch }), files, kind))
}

fn is_hooked(app: &App, collection: &Collection) -> bool {
    [EventAction::Create, EventAction::Update]
        .into_iter()
        .any(|action| app.before_hooks.concern(collection, action))
}

/// Where hooks are asked it must be what they were asked about, or nothing: a request before this one in the
/// batch could make it the other.
async fn upsert_as_asked(
    app: &App,
    (create, update): (&Call, &Call),
    collection: &Arc<Collection>,
    id: String,
    (body, files): (JsonObject, Vec<body::Upload>),
    kind: RuleKind,
    deadline: Instant,
) -> Result<(Step, Prepared, RuleKind), ApiError> {
    if kind == RuleKind::Update {
        let as_update = viewer(app, update);
        let (step, files) =
            update_record::step(&as_update, update, collection, id, body, files, Some(deadline)).await?;
        return Ok((Step::Patch(step), files, kind));
    }
    let (step, files) =
        create_record::step(&viewer(app, create), create, collection, body, files, Some(deadline)).await?;
    Ok((Step::Create(step), files, kind))
}

async fn exists(app: &App, collection: &Arc<Collection>, id: &str) -> Result<bool, ApiError> {
    let query = GetRecord {
        schema_version: app.store.schema().version(),
        collection: collection.clone(),
        id: id.to_owned(),
        conditions: Vec::new(),
    };
    Ok(app.store.get(query).await?.is_some())
}

/// `[{"body":…,"status":…}, …]` in the order of the requests.
async fn answer(
    app: &App,
    outer: &Call,
    parts: &[Part],
    results: Vec<StepResult>,
) -> Result<Response, ApiError> {
    let mut text = String::with_capacity(64 + parts.len() * 256);
    text.push('[');
    for (position, (part, result)) in parts.iter().zip(results).enumerate() {
        if position > 0 {
            text.push(',');
        }
        match result {
            StepResult::Record(record) => {
                part.files.clean_up_but(app, &record).await;
                text.push_str("{\"body\":");
                let call = &part.call;
                text.push_str(&Viewer::written_text(app, call, Origin::Batch, record).await?);
                text.push_str(",\"status\":200}");
            }
            _ => text.push_str("{\"body\":null,\"status\":204}"),
        }
    }
    text.push(']');
    if let Some(fields) = outer.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}

async fn clean_up(app: &App, parts: &[Part]) {
    for part in parts {
        part.files.clean_up(app).await;
    }
}

/// The answer of a batch of which one request failed.
fn failure(position: usize, error: ApiError) -> ApiError {
    let text = |text: &str| Json::from(text);
    let object = |pairs: [(&str, Json); 3]| {
        Json::Object(pairs.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
    };
    let response = Json::parse_whole(&error.to_body()).unwrap_or_default();
    let request = object([
        ("code", text("batch_request_failed")),
        ("message", text("Batch request failed.")),
        ("response", response),
    ]);
    let requests = JsonObject::from([(position.to_string(), request)]);
    let data = JsonObject::from([("requests".to_owned(), Json::Object(requests))]);
    ApiError::bad_request_with(FAILED).with_data(data)
}

// === impl SubRequest ===

impl SubRequest {
    fn read(item: Form) -> Result<SubRequest, BodyError> {
        let text = |name: &str| item.text(name).map(|text| text.unwrap_or_default().to_owned());
        let mut headers = BTreeMap::new();
        for (name, value) in item.object("headers")?.into_iter().flatten() {
            let Json::Text(value) = value else {
                return Err(BodyError::Malformed("a header that is no text".into()));
            };
            headers.insert(name.clone(), value.clone());
        }
        Ok(SubRequest {
            method: text("method")?,
            url: text("url")?,
            headers,
            body: item.object("body")?.cloned().unwrap_or_default(),
            files: Vec::new(),
        })
    }

    fn method_error(&self) -> Option<FieldError> {
        match self.method.as_str() {
            "" => Some(FieldError::required()),
            "GET" | "POST" | "PUT" | "PATCH" | "DELETE" => None,
            _ => Some(FieldError::new("validation_in_invalid", "Must be a valid value.")),
        }
    }

    fn url_error(&self) -> Option<FieldError> {
        const MAX: usize = 2_000;
        if self.url.is_empty() {
            return Some(FieldError::required());
        }
        (self.url.chars().count() > MAX).then(|| {
            let message = format!("The length must be no more than {MAX}.");
            let error = FieldError::new("validation_length_too_long", message);
            error.with("max", MAX as f64).with("min", 0.0)
        })
    }

    /// The request as if it had come alone: with the outer one's headers, but for those that it gives itself,
    /// and with the outer one's caller. None if its URL is none.
    fn call(&self, outer: &Call, method: Method) -> Option<Call> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = target(&self.url)?;
        *request.headers_mut() = outer.headers().clone();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value))
                && name != header::AUTHORIZATION
            {
                request.headers_mut().insert(name, value);
            }
        }
        Some(Call::new(request, outer.info().clone()))
    }
}

/// A URL as it would stand in a request line: without its fragment, and with what cannot stand there encoded.
fn target(url: &str) -> Option<Uri> {
    const ENCODED: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'<')
        .add(b'>')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}');
    let url = url.split('#').next().unwrap_or_default();
    if url.chars().any(char::is_control) {
        return None;
    }
    utf8_percent_encode(url, ENCODED).to_string().parse().ok()
}

// === impl Action ===

impl Action {
    /// The names are taken as they stand: the contract's server does not decode them here.
    fn of(request: &SubRequest) -> Option<Action> {
        let path = request.url.split('?').next().unwrap_or_default();
        let mut segments = path.strip_prefix("/api/collections/")?.split('/').map(str::to_owned);
        let collection = segments.next().filter(|name| !name.is_empty())?;
        if segments.next()? != "records" {
            return None;
        }
        let id = segments.next();
        match (request.method.as_str(), id, segments.next()) {
            ("POST", None, None) => Some(Action::Create { collection }),
            ("PUT", None, None) => Some(Action::Upsert { collection }),
            ("PATCH", Some(id), None) if !id.is_empty() => Some(Action::Update { collection, id }),
            ("DELETE", Some(id), None) if !id.is_empty() => Some(Action::Delete { collection, id }),
            _ => None,
        }
    }

    fn method(&self) -> Method {
        match self {
            Action::Create { .. } | Action::Upsert { .. } => Method::POST,
            Action::Update { .. } => Method::PATCH,
            Action::Delete { .. } => Method::DELETE,
        }
    }

    fn collection(&self) -> &str {
        match self {
            Action::Create { collection }
            | Action::Update { collection, .. }
            | Action::Upsert { collection }
            | Action::Delete { collection, .. } => collection,
        }
    }
}

// === impl Part ===

impl Part {
    fn refusal(&self, why: Why) -> ApiError {
        let is_locked = self.kind.text(&self.collection).is_none() && !self.call.caller().is_superuser();
        match self.kind {
            _ if is_locked && why == Why::RuleDenied => ApiError::superusers_only(),
            RuleKind::Create => refusal::of_create(why),
            RuleKind::Update => refusal::of_update(why),
            _ => refusal::of_delete(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_file_names_its_request_and_field() {
        assert_eq!(place_of("requests.0.cover"), Some((0, "cover")));
        assert_eq!(place_of("requests[12].pages+"), Some((12, "pages+")));
        for part in
            ["cover", "requests", "requests.x.cover", "requests[0]cover", "requests.-1.a", "requests[0.a"]
        {
            assert_eq!(place_of(part), None, "{part}");
        }
    }

    #[test]
    fn only_the_four_actions_are_taken() {
        let action = |method: &str, url: &str| {
            let request = SubRequest {
                method: method.to_owned(),
                url: url.to_owned(),
                headers: BTreeMap::new(),
                body: JsonObject::new(),
                files: Vec::new(),
            };
            Action::of(&request).is_some()
        };
        assert!(action("POST", "/api/collections/a/records?expand=b"));
        assert!(action("PUT", "/api/collections/a/records"));
        assert!(action("PATCH", "/api/collections/a/records/1"));
        assert!(action("DELETE", "/api/collections/a/records/1"));
        for (method, url) in [
            ("GET", "/api/collections/a/records"),
            ("POST", "/api/collections/a/records/1"),
            ("PATCH", "/api/collections/a/records"),
            ("DELETE", "/api/collections/a/records/"),
            ("POST", "/api/collections/a/records/"),
            ("POST", "/api/collections//records"),
            ("POST", "/api/collections/a/records#b"),
            ("POST", "http://elsewhere/api/collections/a/records"),
            ("PATCH", "/api/collections/a/records/1/2"),
        ] {
            assert!(!action(method, url), "{method} {url}");
        }
    }
}
