//! `GET` and `PATCH /api/settings` (CONTRACT §8.1)

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kit::app::App;
use kit::error::ApiError;
use kit::fields::Fields;
use kit::request::Call;
use kit::respond;
use model::settings::{Settings, SettingsError};
use model::step::Step;

use crate::save::{self, Change, carry_out};

pub(crate) async fn view(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    answer(&call, &app.store.settings())
}

pub(crate) async fn update(State(app): State<Arc<App>>, mut call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let body = save::read_json(&mut call, SettingsError::Unreadable.to_string()).await?;
    let saved = carry_out(&app, |_| {
        let before = app.store.settings();
        let after = Arc::new(before.merge(&body).map_err(refusal)?);
        let steps = vec![Step::SaveSettings { before, after: after.clone() }];
        Ok(Change { steps, outcome: after })
    });
    let saved = saved.await?.map_err(|_| ApiError::internal())?;
    answer(&call, &saved)
}

fn refusal(error: SettingsError) -> ApiError {
    let answer = ApiError::bad_request_with(error.to_string());
    match error {
        SettingsError::Invalid(fields) => answer.with_fields(fields),
        SettingsError::Unreadable => answer,
    }
}

fn answer(call: &Call, settings: &Settings) -> Result<Response, ApiError> {
    let mut text = String::with_capacity(1_024);
    settings.write_json(&mut text);
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}
