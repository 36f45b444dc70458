//! `POST /api/files/token`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kit::app::{App, now};
use kit::error::ApiError;
use kit::fields::Fields;
use kit::request::Call;
use kit::respond;
use model::json::{Json, JsonObject};

pub(crate) async fn handle(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let record = call.caller().record().ok_or_else(ApiError::token_required)?;
    let token = app.identity.file_token(record, now()).ok_or_else(ApiError::internal)?;
    let answer = Json::Object(JsonObject::from([("token".to_owned(), Json::Text(token))]));
    let mut text = answer.to_string();
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::secret_json(StatusCode::OK, text))
}
