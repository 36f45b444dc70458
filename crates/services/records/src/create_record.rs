//! `POST /api/collections/{collection}/records`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::Response;
use kit::app::App;
use kit::body::Upload;
use kit::error::ApiError;
use kit::request::Call;
use kit::viewer::Viewer;
use model::collection::Collection;
use model::json::JsonObject;
use model::schema::RuleKind;
use model::step::{Access, CreateRecord, Step, WriteBatch};

use crate::uploads::Prepared;
use crate::{before_hooks, collection, passwords, refusal, uploads};

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    mut call: Call,
) -> Result<Response, ApiError> {
    let schema = app.store.schema();
    let collection = collection::to_write(&schema, &name)?;
    let (body, files) = collection::read_body(&app, &mut call, &collection).await?;
    let viewer = Viewer::new(&app, &call);
    let (step, files) = step(&viewer, &call, &collection, body, files, None).await?;
    match app.store.write(WriteBatch::one(Step::Create(step))).await {
        Ok(Ok(results)) => {
            let record = refusal::record_of(results)?;
            files.clean_up_but(&app, &record).await;
            Viewer::answer_written(&app, &call, record).await
        }
        Ok(Err(refused)) => {
            files.clean_up(&app).await;
            Err(refusal::of_create(refused.why))
        }
        Err(error) => {
            files.clean_up(&app).await;
            Err(error.into())
        }
    }
}

/// The step that makes a record, once hooks agreed and its files are stored. Hooks have time until the deadline.
pub(crate) async fn step(
    viewer: &Viewer<'_>,
    call: &Call,
    collection: &Arc<Collection>,
    body: JsonObject,
    files: Vec<Upload>,
    deadline: Option<Instant>,
) -> Result<(CreateRecord, Prepared), ApiError> {
    refusal::check_unlocked(viewer.caller(), collection, RuleKind::Create)?;
    let files = uploads::prepare(collection, None, &body, files);
    let mut step = CreateRecord {
        collection: collection.id.clone(),
        body,
        set_by_hooks: JsonObject::new(),
        password_hashes: BTreeMap::new(),
        uploads: files.uploads.clone(),
        access: Access::of(viewer.context().clone()),
    };
    before_hooks::ask_create(viewer, call, collection, &mut step, deadline).await?;
    step.password_hashes = passwords::hash_all(viewer.app, collection, &step.body).await?;
    files.store(viewer.app).await?;
    Ok((step, files))
}
