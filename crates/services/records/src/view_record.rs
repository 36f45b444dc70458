//! `GET /api/collections/{collection}/records/{id}`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use contract::store::GetRecord;
use kit::app::App;
use kit::error::ApiError;
use kit::request::Call;
use kit::viewer::Viewer;
use model::schema::RuleKind;

use crate::collection;

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, ApiError> {
    let viewer = Viewer::new(&app, &call);
    let collection = collection::of_path(&viewer, &name)?;
    let conditions = viewer.conditions(&collection, RuleKind::View).ok_or_else(ApiError::superusers_only)?;
    let record = app.store.get(GetRecord { collection, id, conditions }).await?;
    viewer.answer_record(record.ok_or_else(ApiError::not_found)?).await
}
