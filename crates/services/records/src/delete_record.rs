//! `DELETE /api/collections/{collection}/records/{id}`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use kit::app::App;
use kit::error::ApiError;
use kit::request::Call;
use kit::respond;
use kit::viewer::Viewer;
use model::schema::RuleKind;
use model::step::{Access, DeleteRecord, Step, WriteBatch};

use crate::{before_hooks, collection, refusal};

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
    mut call: Call,
) -> Result<Response, ApiError> {
    let collection = collection::of_path(&app, &name)?;
    collection::refuse_view(&collection)?;
    refusal::check_unlocked(call.caller(), &collection, RuleKind::Delete)?;
    let body = call.read_rule_body().await?;
    let viewer = Viewer::new(&app, &call);
    let step = DeleteRecord {
        collection: collection.id.clone(),
        id,
        body,
        access: Access::of(viewer.context().clone()),
    };
    before_hooks::ask_delete(&viewer, &call, &collection, &step, None).await?;
    match app.store.write(WriteBatch::one(Step::Delete(step))).await? {
        Ok(_) => Ok(respond::no_content()),
        Err(refused) => Err(refusal::of_delete(refused.why)),
    }
}
