//! `GET /api/realtime` (CONTRACT §7.1)

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};
use kit::error::ApiError;
use kit::request::Call;

use crate::client_id::ClientId;
use crate::hub::Full;
use crate::realtime::Gate;

/// When to come again after a refusal.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(crate) async fn handle(State(gate): State<Arc<Gate>>, call: Call) -> Result<Response, ApiError> {
    let id = ClientId::random(&gate.shared.options.node_code);
    let resumes = call.query().first("gs_resume") == Some("1");
    let place = gate.outlet.open(id, resumes).ok_or_else(|| ApiError::unavailable(RETRY_AFTER))?;
    match gate.shared.hub.register(id, call.client_ip(), gate.outlet_index, place, resumes) {
        Ok(registration) => Ok(event_stream(Body::new(gate.outlet.stream(place, registration)))),
        Err(full) => {
            gate.outlet.close(place);
            Err(full.into())
        }
    }
}

fn event_stream(body: Body) -> Response {
    const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

impl From<Full> for ApiError {
    fn from(full: Full) -> ApiError {
        match full {
            Full::Node => ApiError::busy(RETRY_AFTER),
            Full::Address => ApiError::too_many_requests().with_retry_after(RETRY_AFTER),
        }
    }
}
