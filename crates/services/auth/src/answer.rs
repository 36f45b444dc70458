//! The answer of a successful sign-in: a token and the record as its owner sees it (CONTRACT §5.2).

use std::sync::Arc;

use axum::response::Response;
use contract::store::GetRecord;
use http::StatusCode;
use identity::address::is_allowed;
use kit::app::App;
use kit::error::ApiError;
use kit::request::Call;
use kit::respond;
use kit::viewer::Viewer;
use model::collection::Collection;
use model::condition::{Condition, Demand};
use model::context::{Caller, Origin, RuleBody};
use model::filter::Verdict;
use model::json::{JsonObject, write_string};
use model::record::Record;
use model::schema::RuleKind;

/// Refuses whom the collection's auth rule does not let sign in. The rule sees the request as it came:
/// its caller is who was signed in before.
pub(crate) async fn check_auth_rule(
    app: &App,
    call: &Call,
    origin: Origin,
    body: JsonObject,
    record: &Record,
) -> Result<(), ApiError> {
    if call.caller().is_superuser() {
        return Ok(());
    }
    let schema = app.store.schema();
    let context = Arc::new(call.context(origin, kit::app::now()));
    let body = Arc::new(RuleBody { values: body });
    let may_sign_in = match Demand::of(&schema, &record.collection, RuleKind::Auth, &context, &body) {
        Demand::Nothing => true,
        Demand::Impossible => false,
        Demand::That(condition) => holds(app, schema.version(), condition, record).await?,
    };
    if may_sign_in { Ok(()) } else { Err(ApiError::auth_rule_denied()) }
}

async fn holds(
    app: &App,
    schema_version: u64,
    condition: Condition,
    record: &Record,
) -> Result<bool, ApiError> {
    match condition.judge(record) {
        Verdict::Yes => Ok(true),
        Verdict::No => Ok(false),
        Verdict::NeedsStore => {
            let query = GetRecord {
                schema_version,
                collection: record.collection.clone(),
                id: record.id().to_owned(),
                conditions: vec![condition],
            };
            Ok(app.store.get(query).await?.is_some())
        }
    }
}

/// Superusers sign in from listed addresses only, where any are listed.
pub(crate) fn check_address(app: &App, call: &Call, collection: &Collection) -> Result<(), ApiError> {
    let is_refused =
        collection.is_superusers() && !is_allowed(&app.store.settings().superuser_ips, call.client_ip());
    if is_refused { Err(ApiError::forbidden()) } else { Ok(()) }
}

/// The whole answer.
pub(crate) async fn respond(
    app: &App,
    call: &Call,
    record: Record,
    token: &str,
) -> Result<Response, ApiError> {
    let record_caller = Arc::new(record.clone());
    let caller = if record.collection.is_superusers() {
        Caller::Superuser(record_caller)
    } else {
        Caller::Record(record_caller)
    };
    let viewer = Viewer::as_caller(app, call, caller);
    let fields = viewer.fields()?;
    let mut text = String::from("{\"record\":");
    for shaped in viewer.shape(vec![record]).await? {
        shaped.write(&mut text);
    }
    text.push_str(",\"token\":");
    write_string(token, &mut text);
    text.push('}');
    if let Some(fields) = fields {
        text = fields.apply_to_text(text)?;
    }
    Ok(respond::secret_json(StatusCode::OK, text))
}
