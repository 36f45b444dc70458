//! Saving collections: a change is worked out under one schema version and refused by the store when
//! that is no longer the current one, then worked out again.

use std::sync::Arc;

use kit::app::App;
use kit::body::{BodyError, BodyLimits};
use kit::error::ApiError;
use kit::request::Call;
use model::collection::Collection;
use model::json::Json;
use model::schema::Schema;
use model::step::{Guard, Refused, Step, Why, WriteBatch};

/// How often a change is worked out again when others change the schema at the same time.
const ATTEMPTS: usize = 5;

/// What a change amounts to.
pub(crate) struct Change<T> {
    /// The steps; without any nothing is written.
    pub(crate) steps: Vec<Step>,
    /// What the answer is made of.
    pub(crate) outcome: T,
}

/// Works out a change and carries it out. `Err` of the inner result is the store's refusal.
pub(crate) async fn carry_out<T>(
    app: &App,
    mut work_out: impl FnMut(&Schema) -> Result<Change<T>, ApiError>,
) -> Result<Result<T, Refused>, ApiError> {
    for _ in 0..ATTEMPTS {
        let schema = app.store.schema();
        let change = work_out(&schema)?;
        if change.steps.is_empty() {
            return Ok(Ok(change.outcome));
        }
        let batch = WriteBatch { steps: change.steps, schema_version: Some(schema.version()) };
        match app.store.write(batch).await? {
            Ok(_) => return Ok(Ok(change.outcome)),
            Err(refused) if refused.why == Why::Guard(Guard::SchemaVersion) => {}
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Err(ApiError::busy(std::time::Duration::from_secs(1)))
}

/// The steps that save a collection, and the settings when its new name stands in them.
pub(crate) fn steps(app: &App, before: Option<&Arc<Collection>>, after: Arc<Collection>) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(before) = before.filter(|before| before.name != after.name) {
        let mut settings = (*app.store.settings()).clone();
        if settings.rename_collection(&before.name, &after.name) {
            steps.push(Step::SaveSettings(Arc::new(settings)));
        }
    }
    steps.insert(0, Step::SaveCollection { before: before.cloned(), after });
    steps
}

/// Reads a body whose JSON the model reads itself; an empty one is `null`.
pub(crate) async fn read_json(call: &mut Call, unreadable: String) -> Result<Json, ApiError> {
    let malformed = || ApiError::bad_request_with(unreadable.clone());
    let read = call.read_body(BodyLimits::default()).await;
    let submitted = read.map_err(|error| BodyError::into_api_for_all(error, malformed()))?;
    if submitted.is_empty() {
        return Ok(Json::Null);
    }
    submitted.refuse_uploads()?;
    let object = submitted.into_object();
    object.map(Json::Object).map_err(|error| BodyError::into_api_for_all(error, malformed()))
}
