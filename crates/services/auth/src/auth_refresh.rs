//! `POST /api/collections/{collection}/auth-refresh` (CONTRACT §5.5)

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use identity::jwt::bearer_token;
use kit::app::{App, now};
use kit::error::ApiError;
use kit::request::Call;
use model::context::Origin;

use crate::{answer, collection};

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    mut call: Call,
) -> Result<Response, ApiError> {
    let schema = app.store.schema();
    let collection = schema.find(&name).ok_or_else(ApiError::missing_or_invalid_collection)?;
    let record = call.caller().record().ok_or_else(ApiError::token_required)?.clone();
    if record.collection.id != collection.id {
        return Err(ApiError::wrong_collection(&record.collection.name));
    }
    let body = call.read_rule_body().await?;
    answer::check_auth_rule(&app, &call, Origin::Default, body, &record).await?;
    let given = call.header(http::header::AUTHORIZATION).map(bearer_token).unwrap_or_default();
    let token = if app.identity.is_refreshable(given) {
        let duration = collection::options(collection)?.auth_token.duration;
        app.identity.auth_token(&record, duration, true, now()).ok_or_else(ApiError::internal)?
    } else {
        given.to_owned()
    };
    answer::respond(&app, &call, (*record).clone(), &token).await
}
