//! `PATCH /api/collections/{collection}/records/{id}`

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
use model::record::Record;
use model::schema::RuleKind;
use model::step::{Access, Guard, PatchRecord, Step, Why, WriteBatch};

use crate::uploads::Prepared;
use crate::{before_hooks, collection, passwords, refusal, uploads};

/// How often a step is built again because the password changed between its check and its write.
const ATTEMPTS: usize = 3;

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
    mut call: Call,
) -> Result<Response, ApiError> {
    let schema = app.store.schema();
    let collection = collection::to_write(&schema, &name)?;
    refusal::check_unlocked(call.caller(), &collection, RuleKind::Update)?;
    let (body, files) = collection::read_body(&app, &mut call, &collection).await?;
    let viewer = Viewer::new(&app, &call);
    let (step, files) = step(&viewer, &call, &collection, id, body, files, None).await?;
    match write(&viewer, &call, &collection, step).await {
        Ok(record) => {
            files.clean_up_but(&app, &record).await;
            Viewer::answer_written(&app, &call, record).await
        }
        Err(error) => {
            files.clean_up(&app).await;
            Err(error)
        }
    }
}

async fn write(
    viewer: &Viewer<'_>,
    call: &Call,
    collection: &Arc<Collection>,
    mut step: PatchRecord,
) -> Result<Record, ApiError> {
    for _ in 0..ATTEMPTS {
        match viewer.app.store.write(WriteBatch::one(Step::Patch(step.clone()))).await? {
            Ok(results) => return refusal::record_of(results),
            Err(refused) if refused.why == Why::Guard(Guard::PasswordHash) => {
                let address = call.client_ip();
                step.old_password_for =
                    passwords::verify_old(viewer, address, collection, &step.id, &step.body).await?;
            }
            Err(refused) => return Err(refusal::of_update(refused.why)),
        }
    }
    Err(refusal::of_update(Why::Guard(Guard::PasswordHash)))
}

/// The step that changes a record, once hooks agreed and its files are stored. Hooks have time until the deadline.
pub(crate) async fn step(
    viewer: &Viewer<'_>,
    call: &Call,
    collection: &Arc<Collection>,
    id: String,
    body: JsonObject,
    files: Vec<Upload>,
    deadline: Option<Instant>,
) -> Result<(PatchRecord, Prepared), ApiError> {
    let files = uploads::prepare(collection, Some(&id), &body, files);
    let mut step = PatchRecord {
        collection: collection.id.clone(),
        id,
        body,
        set_by_hooks: JsonObject::new(),
        password_hashes: BTreeMap::new(),
        old_password_for: None,
        uploads: files.uploads.clone(),
        access: Access::of(viewer.context().clone()),
    };
    before_hooks::ask_update(viewer, call, collection, &mut step, deadline).await?;
    step.password_hashes = passwords::hash_all(viewer.app, collection, &step.body).await?;
    step.old_password_for =
        passwords::verify_old(viewer, call.client_ip(), collection, &step.id, &step.body).await?;
    files.store(viewer.app).await?;
    Ok((step, files))
}
