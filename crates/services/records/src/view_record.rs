//! `GET /api/collections/{collection}/records/{id}`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use contract::store::{GetRecord, StoreError};
use kit::app::{App, SchemaAttempts};
use kit::error::ApiError;
use kit::request::Call;
use kit::viewer::{ReadAccess, Viewer};
use model::json::JsonObject;
use model::schema::RuleKind;

use crate::collection;

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
    mut call: Call,
) -> Result<Response, ApiError> {
    collection::of_path(&app, &name)?;
    let body = call.read_rule_body().await?;
    let mut attempts = SchemaAttempts::default();
    loop {
        match answer(&app, &call, &name, &id, &body).await {
            Err(error) if attempts.again(&error).await => {}
            answer => return answer,
        }
    }
}

async fn answer(
    app: &App,
    call: &Call,
    name: &str,
    id: &str,
    body: &JsonObject,
) -> Result<Response, ApiError> {
    let viewer = Viewer::new(app, call);
    let collection = collection::find(&viewer.schema, name)?;
    let conditions = match viewer.access(&collection, RuleKind::View, body) {
        ReadAccess::Granted(conditions) => conditions,
        ReadAccess::Locked => return Err(ApiError::superusers_only()),
        ReadAccess::Broken => return Err(ApiError::not_found()),
    };
    let query =
        GetRecord { schema_version: viewer.schema.version(), collection, id: id.to_owned(), conditions };
    let record = match app.store.get(query).await {
        Err(StoreError::BrokenView(_)) => None,
        record => record?,
    };
    viewer.answer_record(record.ok_or_else(ApiError::not_found)?).await
}
