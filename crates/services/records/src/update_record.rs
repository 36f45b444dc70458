//! `PATCH /api/collections/{collection}/records/{id}`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use kit::app::App;
use kit::error::ApiError;
use kit::request::Call;
use kit::viewer::Viewer;
use model::schema::RuleKind;
use model::step::{Access, Guard, PatchRecord, Step, Why, WriteBatch};

use crate::{collection, passwords, refusal, uploads};

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
    let address = call.client_ip();
    let viewer = Viewer::new(&app, &call);
    let password_hashes = passwords::hash_all(&app, &collection, &body).await?;
    let files = uploads::prepare(&collection, Some(&id), &body, files);
    files.store(&app).await?;
    for _ in 0..ATTEMPTS {
        let step = PatchRecord {
            collection: collection.id.clone(),
            id: id.clone(),
            old_password_for: passwords::verify_old(&viewer, address, &collection, &id, &body).await?,
            body: body.clone(),
            password_hashes: password_hashes.clone(),
            uploads: files.uploads.clone(),
            access: Access::of(viewer.context().clone()),
        };
        match app.store.write(WriteBatch::one(Step::Patch(step))).await? {
            Ok(results) => {
                let record = refusal::record_of(results)?;
                files.clean_up_but(&app, &record).await;
                return Viewer::answer_written(&app, &call, record).await;
            }
            Err(refused) if refused.why == Why::Guard(Guard::PasswordHash) => continue,
            Err(refused) => {
                files.clean_up(&app).await;
                return Err(refusal::of_update(refused.why));
            }
        }
    }
    files.clean_up(&app).await;
    Err(refusal::of_update(Why::Guard(Guard::PasswordHash)))
}
