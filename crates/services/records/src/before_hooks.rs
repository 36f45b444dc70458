//! Asking the hooks that stand before a write, before anything slow is done for it.
//!
//! A request that comes alone is judged first, as far as that is possible, so that hooks are not asked for who may
//! not write at all, and nobody learns by a hook's refusal of a record that he may not change. In a batch the
//! requests before it have not happened yet, so nothing can be said: hooks are always asked, and within the time
//! that the whole batch has.

use std::sync::Arc;
use std::time::Instant;

use contract::event::Action;
use contract::store::GetRecord;
use kit::app::now;
use kit::before_hooks::Question;
use kit::error::ApiError;
use kit::request::Call;
use kit::viewer::Viewer;
use model::collection::Collection;
use model::context::Origin;
use model::json::JsonObject;
use model::plan::{self, Environment, Pending};
use model::record::Record;
use model::record::resolve::{Resolved, WriteInput, resolve_body};
use model::step::{Access, CreateRecord, DeleteRecord, PatchRecord, Uploads, Why};
use rand::rngs::ThreadRng;

use crate::refusal;

/// Has a create looked at; what hooks set goes into the step.
pub(crate) async fn ask_create(
    viewer: &Viewer<'_>,
    call: &Call,
    collection: &Arc<Collection>,
    step: &mut CreateRecord,
    deadline: Option<Instant>,
) -> Result<(), ApiError> {
    let hooks = &viewer.app.before_hooks;
    if !hooks.concern(collection, Action::Create) {
        return Ok(());
    }
    if is_alone(viewer) {
        planned(viewer, |environment| plan::create(environment, collection, step))
            .map_err(refusal::of_create)?;
    }
    let id = step.body.get("id").and_then(|id| id.as_str()).filter(|id| !id.is_empty());
    let resolved = resolved(collection, None, &step.body, &step.uploads, &step.access);
    let question = Question {
        action: Action::Create,
        collection,
        id,
        body: &step.body,
        resolved: Some(&resolved),
        record: None,
        deadline,
        call,
    };
    step.set_by_hooks = hooks.ask(question).await?;
    Ok(())
}

/// Has an update looked at; what hooks set goes into the step.
pub(crate) async fn ask_update(
    viewer: &Viewer<'_>,
    call: &Call,
    collection: &Arc<Collection>,
    step: &mut PatchRecord,
    deadline: Option<Instant>,
) -> Result<(), ApiError> {
    let hooks = &viewer.app.before_hooks;
    if !hooks.concern(collection, Action::Update) {
        return Ok(());
    }
    let stored = stored(viewer, collection, &step.id).await?;
    if is_alone(viewer) {
        let refused = refusal::of_update;
        let old = stored.as_ref().ok_or(Why::NotFound).map_err(refused)?;
        let pending = planned(viewer, |environment| plan::patch(environment, step, old)).map_err(refused)?;
        check_rule(viewer, old, &pending).await?.map_err(refused)?;
    }
    let resolved = resolved(collection, stored.as_ref(), &step.body, &step.uploads, &step.access);
    let question = Question {
        action: Action::Update,
        collection,
        id: Some(&step.id),
        body: &step.body,
        resolved: Some(&resolved),
        record: stored.as_ref(),
        deadline,
        call,
    };
    step.set_by_hooks = hooks.ask(question).await?;
    Ok(())
}

/// Has a delete looked at.
pub(crate) async fn ask_delete(
    viewer: &Viewer<'_>,
    call: &Call,
    collection: &Arc<Collection>,
    step: &DeleteRecord,
    deadline: Option<Instant>,
) -> Result<(), ApiError> {
    let hooks = &viewer.app.before_hooks;
    if !hooks.concern(collection, Action::Delete) {
        return Ok(());
    }
    let stored = stored(viewer, collection, &step.id).await?;
    if is_alone(viewer) {
        let refused = refusal::of_delete;
        let old = stored.as_ref().ok_or(Why::NotFound).map_err(refused)?;
        let pending = planned(viewer, |environment| plan::delete(environment, step, old)).map_err(refused)?;
        check_rule(viewer, old, &pending).await?.map_err(refused)?;
    }
    let question = Question {
        action: Action::Delete,
        collection,
        id: Some(&step.id),
        body: &step.body,
        resolved: None,
        record: stored.as_ref(),
        deadline,
        call,
    };
    hooks.ask(question).await?;
    Ok(())
}

/// What the body comes to, were it written now.
fn resolved(
    collection: &Arc<Collection>,
    old: Option<&Record>,
    body: &JsonObject,
    uploads: &Uploads,
    access: &Access,
) -> Resolved {
    let input = WriteInput { body, uploads: &uploads.files, is_superuser: access.is_superuser() };
    resolve_body(collection, old, input, &mut rand::rng())
}

fn is_alone(viewer: &Viewer<'_>) -> bool {
    viewer.origin() != Origin::Batch
}

async fn stored(
    viewer: &Viewer<'_>,
    collection: &Arc<Collection>,
    id: &str,
) -> Result<Option<Record>, ApiError> {
    let query = GetRecord {
        schema_version: viewer.schema.version(),
        collection: collection.clone(),
        id: id.to_owned(),
        conditions: Vec::new(),
    };
    Ok(viewer.app.store.get(query).await?)
}

/// What the store would plan now. Only the rule is looked at: what the plan generates is thrown away.
fn planned(
    viewer: &Viewer<'_>,
    plan: impl FnOnce(&mut Environment<'_, ThreadRng>) -> Result<Pending, Why>,
) -> Result<Pending, Why> {
    let mut rng = rand::rng();
    plan(&mut Environment { schema: &viewer.schema, now: now(), rng: &mut rng })
}

/// Whether the rule allows a change of a stored record, where only the store can tell.
async fn check_rule(
    viewer: &Viewer<'_>,
    old: &Record,
    pending: &Pending,
) -> Result<Result<(), Why>, ApiError> {
    let conditions = pending.rule_conditions();
    if conditions.is_empty() {
        return Ok(Ok(()));
    }
    let query = GetRecord {
        schema_version: viewer.schema.version(),
        collection: old.collection.clone(),
        id: old.id().to_owned(),
        conditions,
    };
    let is_allowed = viewer.app.store.get(query).await?.is_some();
    Ok(if is_allowed { Ok(()) } else { Err(Why::RuleDenied) })
}
