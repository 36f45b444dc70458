//! `GET /api/health` (CONTRACT §1.7)

use axum::response::Response;
use http::StatusCode;
use kit::error::ApiError;
use kit::fields::Fields;
use kit::request::Call;
use kit::respond;
use model::json::write_string;

/// Headers in which proxies commonly put the client's address.
const PROXY_HEADERS: [&str; 3] = ["CF-Connecting-IP", "Fly-Client-IP", "X-Forwarded-For"];

pub(crate) async fn handle(call: Call) -> Result<Response, ApiError> {
    let mut text = String::from("{\"message\":\"API is healthy.\",\"code\":200,\"data\":{");
    if call.caller().is_superuser() {
        text.push_str("\"canBackup\":true,\"realIP\":");
        write_string(&call.client_ip_text(), &mut text);
        text.push_str(",\"possibleProxyHeader\":");
        write_string(possible_proxy_header(&call), &mut text);
    }
    text.push_str("}}");
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}

fn possible_proxy_header(call: &Call) -> &'static str {
    PROXY_HEADERS.into_iter().find(|name| call.header(*name).is_some()).unwrap_or_default()
}
