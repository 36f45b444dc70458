//! `POST /api/collections/{collection}/records`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use kit::app::App;
use kit::error::ApiError;
use kit::request::Call;
use kit::viewer::Viewer;
use model::schema::RuleKind;
use model::step::{Access, CreateRecord, Step, WriteBatch};

use crate::{collection, passwords, refusal};

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    mut call: Call,
) -> Result<Response, ApiError> {
    let schema = app.store.schema();
    let collection = collection::to_write(&schema, &name)?;
    let body = collection::read_body(&mut call, &collection).await?;
    let viewer = Viewer::new(&app, &call);
    refusal::check_unlocked(viewer.caller(), &collection, RuleKind::Create)?;
    let password_hashes = passwords::hash_all(&app, &collection, &body).await?;
    let step = CreateRecord {
        collection: collection.id.clone(),
        body,
        password_hashes,
        access: Access::of(viewer.context().clone()),
    };
    match app.store.write(WriteBatch::one(Step::Create(step))).await? {
        Ok(results) => Viewer::answer_written(&app, &call, refusal::record_of(results)?).await,
        Err(refused) => Err(refusal::of_create(refused.why)),
    }
}
