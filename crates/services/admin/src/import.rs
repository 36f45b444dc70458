//! `PUT /api/collections/import` (CONTRACT §3.7)

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use kit::app::{App, now};
use kit::error::ApiError;
use kit::request::Call;
use kit::respond;
use model::collection::import::{ImportError, ImportPlan, plan};
use model::settings::Settings;
use model::step::{Refused, Step, Why};

use crate::save::{self, Change, carry_out};

pub(crate) async fn handle(State(app): State<Arc<App>>, mut call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let body = save::read_json(&mut call, ImportError::Unreadable.to_string()).await?;
    let imported = carry_out(&app, |schema| {
        let plan = plan(schema, &body, now(), &mut rand::rng()).map_err(refusal)?;
        Ok(Change { steps: steps(app.store.settings(), plan), outcome: () })
    });
    imported.await?.map_err(store_refusal)?;
    Ok(respond::no_content())
}

fn steps(mut settings: Arc<Settings>, plan: ImportPlan) -> Vec<Step> {
    let mut steps: Vec<Step> = plan.deletes.into_iter().flat_map(save::removal).collect();
    for saved in plan.saves {
        steps.extend(save::steps(&mut settings, saved.old.as_ref(), Arc::new(saved.collection)));
    }
    steps
}

fn refusal(error: ImportError) -> ApiError {
    ApiError::bad_request_with(error.to_string()).with_fields(error.fields())
}

fn store_refusal(refused: Refused) -> ApiError {
    let detail = match refused.why {
        Why::Fields(fields) => {
            let mut text = String::new();
            fields.write(&mut text);
            text
        }
        _ => "the collections were refused".to_owned(),
    };
    refusal(ImportError::from_store(&detail))
}
