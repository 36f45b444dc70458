//! `PUT /api/collections/import` (CONTRACT §3.7)

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use kit::app::{App, now};
use kit::error::ApiError;
use kit::request::Call;
use kit::respond;
use model::collection::Collection;
use model::collection::import::{ImportError, ImportPlan, plan};
use model::settings::Settings;
use model::step::{Refused, Step, Why};

use crate::save::{self, Change, carry_out};

pub(crate) async fn handle(State(app): State<Arc<App>>, mut call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let body = save::read_json(&mut call, ImportError::Unreadable.to_string()).await?;
    let mut saved = Vec::new();
    let imported = carry_out(&app, |schema| {
        let plan = plan(schema, &body, now(), &mut rand::rng()).map_err(refusal)?;
        let steps = steps(app.store.settings(), plan);
        saved = steps.iter().map(collection_of).collect();
        Ok(Change { steps, outcome: () })
    });
    imported.await?.map_err(|refused| refusal(of_store(refused, &saved)))?;
    Ok(respond::no_content())
}

fn steps(mut settings: Arc<Settings>, plan: ImportPlan) -> Vec<Step> {
    let removal = |collection| save::removal(collection, false);
    let mut steps: Vec<Step> = plan.deletes.into_iter().flat_map(removal).collect();
    for saved in plan.saves {
        steps.extend(save::steps(&mut settings, saved.old.as_ref(), Arc::new(saved.collection)));
    }
    steps
}

fn refusal(error: ImportError) -> ApiError {
    ApiError::bad_request_with(error.to_string()).with_fields(error.fields())
}

/// What a step saves.
fn collection_of(step: &Step) -> Option<Arc<Collection>> {
    match step {
        Step::SaveCollection { after, .. } => Some(after.clone()),
        _ => None,
    }
}

fn of_store(refused: Refused, saved: &[Option<Arc<Collection>>]) -> ImportError {
    let collection = saved.get(refused.step).and_then(Option::as_deref);
    match (refused.why, collection) {
        (Why::Fields(fields), Some(view)) if view.is_view() => ImportError::invalid(view, &fields),
        (Why::Fields(fields), _) => {
            let mut text = String::new();
            fields.write(&mut text);
            ImportError::from_store(&text)
        }
        (Why::Engine(text), Some(collection)) => {
            ImportError::from_store(&format!("failed to save collection {:?}: {text}", collection.name))
        }
        _ => ImportError::from_store("the collections were refused"),
    }
}
