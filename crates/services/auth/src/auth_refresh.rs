//! `POST /api/collections/{collection}/auth-refresh` (CONTRACT §5.5)

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use identity::jwt::bearer_token;
use kit::app::{App, now};
use kit::error::ApiError;
use kit::request::Call;
use model::context::Origin;
use model::json::JsonObject;

use crate::{answer, collection};

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let collection = collection::of_path(&app, &name)?;
    let record = call.caller().record().ok_or_else(ApiError::token_required)?.clone();
    if record.collection.id != collection.id {
        return Err(ApiError::wrong_collection(&record.collection.name));
    }
    answer::check_auth_rule(&app, &call, Origin::Default, JsonObject::new(), &record).await?;
    let given = call.header(http::header::AUTHORIZATION).map(bearer_token).unwrap_or_default();
    let token = if app.identity.is_refreshable(given) {
        let duration = collection::options(&collection)?.auth_token.duration;
        app.identity.auth_token(&record, duration, true, now()).ok_or_else(ApiError::internal)?
    } else {
        given.to_owned()
    };
    answer::respond(&app, &call, (*record).clone(), &token).await
}
