//! `POST /api/collections/{collection}/impersonate/{id}` (CONTRACT §5.6)

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use contract::store::GetRecord;
use kit::app::{App, now};
use kit::body::{BodyError, BodyLimits};
use kit::error::ApiError;
use kit::request::Call;
use model::context::Origin;
use model::errors::{FieldError, FieldErrors};
use model::json::JsonObject;

use crate::{answer, collection};

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
    mut call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let collection = collection::of_path(&app, &name).map_err(|_| ApiError::not_an_auth_collection())?;
    let query = GetRecord {
        schema_version: app.store.schema().version(),
        collection: collection.clone(),
        id,
        conditions: Vec::new(),
    };
    let record = app.store.get(query).await?.ok_or_else(ApiError::not_found)?;
    let submitted = call.read_body(BodyLimits::default()).await.map_err(BodyError::into_form_error)?;
    let form = submitted.into_form().map_err(BodyError::into_form_error)?;
    let duration = form.integer("duration").map_err(BodyError::into_form_error)?.unwrap_or(0);
    if duration < 0 {
        let error = FieldError::new("validation_min_greater_equal_than_required", "Must be no less than 0.")
            .with("threshold", 0.0);
        return Err(ApiError::invalid_form(FieldErrors::one("duration", error)));
    }
    answer::check_auth_rule(&app, &call, Origin::Default, JsonObject::new(), &record).await?;
    let duration =
        if duration == 0 { collection::options(&collection)?.auth_token.duration } else { duration };
    let token = app.identity.auth_token(&record, duration, false, now()).ok_or_else(ApiError::internal)?;
    answer::respond(&app, &call, record, &token).await
}
