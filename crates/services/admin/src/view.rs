//! Trying the query of a view: `POST /api/collections/meta/dry-run-view` (CONTRACT §3.4)

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use contract::store::{StoreError, TriedView, TryView};
use http::StatusCode;
use kit::app::{App, SchemaAttempts};
use kit::body::{BodyError, BodyLimits};
use kit::error::ApiError;
use kit::fields::Fields;
use kit::record_json::{RecordShape, Visibility};
use kit::request::Call;
use kit::respond;
use model::collection::view::unsaved;
use model::errors::{FieldError, FieldErrors};
use model::schema::Schema;

/// Longest query of a dry run.
const MAX_BYTES: usize = 5_000;

pub(crate) async fn dry_run(State(app): State<Arc<App>>, mut call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let query = read_query(&mut call).await?;
    let tried = try_query(&app, &query).await?;
    if let Some(fault) = tried.trial.fault {
        return Err(ApiError::bad_request_with(format!("Invalid view query. Raw error: \n{fault}")));
    }
    let mut text = String::with_capacity(2_048);
    write(&tried, &mut text);
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}

/// A query as what a store tries.
pub(crate) fn to_try(schema: &Schema, query: String) -> TryView {
    TryView { schema_version: schema.version(), collection: unsaved(query, &mut rand::rng()) }
}

async fn read_query(call: &mut Call) -> Result<String, ApiError> {
    let submitted = call.read_body(BodyLimits::default()).await.map_err(BodyError::into_form_error)?;
    let form = submitted.into_form().map_err(BodyError::into_form_error)?;
    let query = form.text("query").map_err(BodyError::into_form_error)?.unwrap_or_default();
    let error = match query.len() {
        0 => FieldError::required(),
        1..=MAX_BYTES => return Ok(query.to_owned()),
        _ => {
            let message = format!("The length must be no more than {MAX_BYTES}.");
            FieldError::new("validation_length_too_long", message)
                .with("max", MAX_BYTES as f64)
                .with("min", 0.0)
        }
    };
    Err(ApiError::invalid_form(FieldErrors::one("query", error)))
}

async fn try_query(app: &App, query: &str) -> Result<TriedView, ApiError> {
    let mut attempts = SchemaAttempts::default();
    loop {
        let tried = app.store.try_view(to_try(&app.store.schema(), query.to_owned())).await;
        match tried.map_err(|error: StoreError| ApiError::from(error)) {
            Err(error) if attempts.again(&error).await => {}
            tried => return tried,
        }
    }
}

fn write(tried: &TriedView, out: &mut String) {
    out.push_str("{\"fields\":");
    tried.trial.write_fields(out);
    out.push_str(",\"sample\":[");
    for (position, record) in tried.records.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        RecordShape::new(&record.collection).write(record, Visibility::OWN, None, out);
    }
    out.push_str("]}");
}
