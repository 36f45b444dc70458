//! `GET /api/gs/status`: what an operator wants to know of this node. Superusers only.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kit::app::App;
use kit::error::ApiError;
use kit::request::Call;
use kit::respond;
use model::json::Json;

pub(crate) async fn handle(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let status = app.store.status().await?;
    let judged = model::filter::judge_counts();
    let store = Json::object([
        ("adapter", Json::from(status.adapter)),
        ("synchronous", Json::from(status.durability)),
        ("commits", Json::from(status.commits as f64)),
        ("batches", Json::from(status.batches as f64)),
    ]);
    let rules = Json::object([
        ("decidedInMemory", Json::from(judged.decided as f64)),
        ("leftToStore", Json::from(judged.passed as f64)),
    ]);
    let version = Json::from(env!("CARGO_PKG_VERSION"));
    let answer = Json::object([("rules", rules), ("store", store), ("version", version)]);
    Ok(respond::json(StatusCode::OK, answer.to_string()))
}
