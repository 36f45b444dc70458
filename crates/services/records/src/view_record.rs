//! `GET /api/collections/{collection}/records/{id}`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use contract::store::GetRecord;
use kit::app::App;
use kit::error::ApiError;
use kit::request::Call;
use kit::viewer::{ReadAccess, Viewer};
use model::schema::RuleKind;

use crate::collection;

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
    mut call: Call,
) -> Result<Response, ApiError> {
    let collection = collection::of_path(&app, &name)?;
    let body = call.read_rule_body().await?;
    let viewer = Viewer::new(&app, &call);
    let conditions = match viewer.access(&collection, RuleKind::View, body) {
        ReadAccess::Granted(conditions) => conditions,
        ReadAccess::Locked => return Err(ApiError::superusers_only()),
        ReadAccess::Broken => return Err(ApiError::not_found()),
    };
    let record = app.store.get(GetRecord { collection, id, conditions }).await?;
    viewer.answer_record(record.ok_or_else(ApiError::not_found)?).await
}
