//! Saving collections and settings: a change is worked out on one schema version and one state of the
//! settings, refused by the store when they are no longer the current ones, then worked out again.

use std::sync::Arc;

use contract::store::StoreError;
use kit::app::App;
use kit::body::{BodyError, BodyLimits};
use kit::error::ApiError;
use kit::file_removal::FileRemoval;
use kit::request::Call;
use model::collection::Collection;
use model::collection::view::Trial;
use model::json::Json;
use model::schema::Schema;
use model::settings::Settings;
use model::step::{Guard, Refused, Step, Why, WriteBatch};

use crate::view;

/// How often a change is worked out again when others change the same at the same time. Of those who
/// come together one gets through at a time, so this is how many may come together.
const ATTEMPTS: usize = 20;

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
    carry_out_tried(app, |_| None, |schema, _| work_out(schema)).await
}

/// The same for what depends on a trial of a view's query, where there is one.
pub(crate) async fn carry_out_tried<T>(
    app: &App,
    query: impl Fn(&Schema) -> Option<String>,
    mut work_out: impl FnMut(&Schema, Option<&Trial>) -> Result<Change<T>, ApiError>,
) -> Result<Result<T, Refused>, ApiError> {
    for _ in 0..ATTEMPTS {
        let schema = app.store.schema();
        let trial = match query(&schema) {
            None => None,
            Some(query) => match app.store.try_view(view::to_try(&schema, query)).await {
                Err(StoreError::SchemaChanged) => continue,
                tried => Some(tried?.trial),
            },
        };
        let change = work_out(&schema, trial.as_ref())?;
        if change.steps.is_empty() {
            return Ok(Ok(change.outcome));
        }
        let batch = WriteBatch {
            steps: change.steps,
            schema_version: Some(schema.version()),
            ..WriteBatch::default()
        };
        match app.store.write(batch).await? {
            Ok(_) => return Ok(Ok(change.outcome)),
            Err(refused) if is_outdated(&refused.why) => {}
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Err(ApiError::busy(std::time::Duration::from_secs(1)))
}

fn is_outdated(why: &Why) -> bool {
    matches!(why, Why::Guard(Guard::SchemaVersion | Guard::Settings))
}

/// The steps that remove a collection, and later the files of its records. `check_views` refuses it while a view
/// needs it.
pub(crate) fn removal(collection: Arc<Collection>, check_views: bool) -> Vec<Step> {
    // Also where no field holds files now: a field that was dropped leaves its files until here.
    let files = FileRemoval::of_collection(&collection.id).filter(|_| !collection.is_view());
    let jobs = files.into_iter().flat_map(FileRemoval::into_jobs).map(Step::Enqueue);
    std::iter::once(Step::DeleteCollection { collection, check_views }).chain(jobs).collect()
}

/// The steps that save a collection, and the settings when its new name stands in them. `settings` are
/// those that the steps before these leave, and become those that these leave.
pub(crate) fn steps(
    settings: &mut Arc<Settings>,
    before: Option<&Arc<Collection>>,
    after: Arc<Collection>,
) -> Vec<Step> {
    let renamed = before.filter(|before| before.name != after.name).and_then(|before| {
        let mut renamed = (**settings).clone();
        renamed.rename_collection(&before.name, &after.name).then(|| Arc::new(renamed))
    });
    let mut steps = vec![Step::SaveCollection { before: before.cloned(), after }];
    if let Some(renamed) = renamed {
        let before = std::mem::replace(settings, renamed.clone());
        steps.push(Step::SaveSettings { before, after: renamed });
    }
    steps
}

/// Reads a body whose JSON the model reads itself: an object, or `null` if that was sent.
pub(crate) async fn read_json(call: &mut Call, unreadable: String) -> Result<Json, ApiError> {
    let malformed = || ApiError::bad_request_with(unreadable.clone());
    let read = call.read_body(BodyLimits::default()).await;
    let submitted = read.map_err(|error| BodyError::into_api_for_all(error, malformed()))?;
    if submitted.is_null() {
        return Ok(Json::Null);
    }
    let object = submitted.into_object();
    object.map(Json::Object).map_err(|error| BodyError::into_api_for_all(error, malformed()))
}
