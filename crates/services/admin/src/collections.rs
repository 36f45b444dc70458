//! Collections one by one (CONTRACT §3.4)

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use kit::app::{App, now};
use kit::error::ApiError;
use kit::fields::Fields;
use kit::request::Call;
use kit::respond;
use model::collection::delete::{DeleteError, check_delete};
use model::collection::save_error::SaveError;
use model::collection::view::submitted_query;
use model::collection::{self, Collection};
use model::schema::Schema;
use model::step::{Refused, Step, Why};

use crate::save::{self, Change, carry_out, carry_out_tried};

pub(crate) async fn view(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    answer(&call, &*find(&app.store.schema(), &name)?)
}

/// `import` is only a name for a GET.
pub(crate) async fn view_import(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    view(State(app), Path("import".to_owned()), call).await
}

pub(crate) async fn create(State(app): State<Arc<App>>, mut call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let body = save::read_json(&mut call, SaveError::UnreadableType.to_string()).await?;
    let query = |_: &Schema| submitted_query(None, &body);
    let made = carry_out_tried(&app, query, |schema, trial| {
        let made = collection::create::create(schema, &body, trial, now(), &mut rand::rng());
        let made = Arc::new(made.map_err(|error| save_refusal(error, collection::create::FAILED))?);
        Ok(Change { steps: save::steps(&mut app.store.settings(), None, made.clone()), outcome: made })
    });
    let made = made.await?.map_err(|refused| store_refusal(refused, collection::create::FAILED))?;
    answer(&call, &made)
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    mut call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    find(&app.store.schema(), &name)?;
    let body = save::read_json(&mut call, SaveError::Unreadable.to_string()).await?;
    let query = |schema: &Schema| submitted_query(schema.find(&name).map(|old| &**old), &body);
    let saved = carry_out_tried(&app, query, |schema, trial| {
        let before = find(schema, &name)?;
        let after = collection::update::update(schema, &before, &body, trial, now(), &mut rand::rng());
        let after = Arc::new(after.map_err(|error| save_refusal(error, collection::update::FAILED))?);
        let steps = save::steps(&mut app.store.settings(), Some(&before), after.clone());
        Ok(Change { steps, outcome: after })
    });
    let saved = saved.await?.map_err(|refused| store_refusal(refused, collection::update::FAILED))?;
    answer(&call, &saved)
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let removed = carry_out(&app, |schema| {
        let collection = find(schema, &name)?;
        check_delete(schema, &collection)
            .map_err(|error: DeleteError| ApiError::bad_request_with(error.to_string()))?;
        Ok(Change { steps: save::removal(collection, true), outcome: () })
    });
    removed.await?.map_err(|_| ApiError::bad_request_with("Failed to delete collection."))?;
    Ok(respond::no_content())
}

pub(crate) async fn truncate(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let truncated = carry_out(&app, |schema| {
        let collection = find(schema, &name)?;
        if collection.is_view() {
            return Err(ApiError::bad_request_with(
                "View collections cannot be truncated since they don't store their own records.",
            ));
        }
        Ok(Change { steps: vec![Step::Truncate(collection)], outcome: () })
    });
    truncated.await?.map_err(|_| {
        ApiError::bad_request_with(
            "Failed to truncate collection (most likely due to required cascade delete record references).",
        )
    })?;
    Ok(respond::no_content())
}

pub(crate) async fn scaffolds(call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let mut text = String::new();
    collection::scaffolds::write_scaffolds(&mut rand::rng(), &mut text);
    answer_text(&call, text)
}

fn find(schema: &Schema, name: &str) -> Result<Arc<Collection>, ApiError> {
    schema.find(name).cloned().ok_or_else(ApiError::not_found)
}

fn save_refusal(error: SaveError, failed: &'static str) -> ApiError {
    match error {
        SaveError::NotFound => ApiError::not_found(),
        SaveError::Invalid(fields) => ApiError::bad_request_with(failed).with_fields(fields),
        SaveError::UnreadableType | SaveError::Unreadable => ApiError::bad_request_with(error.to_string()),
    }
}

fn store_refusal(refused: Refused, failed: &'static str) -> ApiError {
    match refused.why {
        Why::Fields(fields) => ApiError::bad_request_with(failed).with_fields(fields),
        Why::Engine(text) => ApiError::bad_request_with(format!("{failed} Raw error: \n{text}.")),
        _ => ApiError::bad_request_with(failed),
    }
}

fn answer(call: &Call, collection: &Collection) -> Result<Response, ApiError> {
    let mut text = String::with_capacity(2_048);
    collection.write_json(&mut text);
    answer_text(call, text)
}

fn answer_text(call: &Call, mut text: String) -> Result<Response, ApiError> {
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}
