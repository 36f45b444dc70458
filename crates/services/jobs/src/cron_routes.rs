//! `GET /api/crons` and `POST /api/crons/{id}` (CONTRACT §8.3)

use std::fmt::Write as _;
use std::time::Duration;

use axum::Extension;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use kit::error::ApiError;
use kit::fields::Fields;
use kit::request::Call;
use kit::respond;
use model::json::write_string;

use crate::Jobs;
use crate::crons::NotStarted;

pub(crate) async fn list(Extension(jobs): Extension<Jobs>, call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let mut text = String::from("[");
    for (index, (id, expression)) in jobs.crons.list().iter().enumerate() {
        let separator = if index > 0 { "," } else { "" };
        let _ = write!(text, "{separator}{{\"id\":");
        write_string(id, &mut text);
        text.push_str(",\"expression\":");
        write_string(expression, &mut text);
        text.push('}');
    }
    text.push(']');
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}

/// Answered once it is certain to be started.
pub(crate) async fn start(
    Extension(jobs): Extension<Jobs>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    call.require_superuser()?;
    match jobs.crons.run_now(&id) {
        Ok(()) => Ok(respond::no_content()),
        Err(NotStarted::Unknown) => Err(ApiError::not_found_with("Missing or invalid cron job.")),
        Err(NotStarted::Busy) => Err(ApiError::busy(Duration::from_secs(1))),
    }
}
