//! `GET /api/health` (CONTRACT §1.7)

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kit::app::App;
use kit::error::ApiError;
use kit::fields::Fields;
use kit::request::Call;
use kit::respond;
use model::json::write_string;

/// Headers in which proxies commonly put the client's address.
const PROXY_HEADERS: [&str; 3] = ["CF-Connecting-IP", "Fly-Client-IP", "X-Forwarded-For"];

pub(crate) async fn handle(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let mut text = String::from("{\"message\":\"API is healthy.\",\"code\":200,\"data\":{");
    if call.caller().is_superuser() {
        text.push_str("\"canBackup\":true,\"realIP\":");
        write_string(&call.client_ip_text(), &mut text);
        text.push_str(",\"possibleProxyHeader\":");
        write_string(&possible_proxy_header(&app, &call), &mut text);
    }
    text.push_str("}}");
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}

/// The first header that is there, of those trusted and then of the common ones.
fn possible_proxy_header(app: &App, call: &Call) -> String {
    let settings = app.store.settings();
    let trusted = settings.trusted_proxy.headers.iter().map(String::as_str);
    let mut names = trusted.chain(PROXY_HEADERS);
    names.find(|name| call.headers().contains_key(*name)).unwrap_or_default().to_owned()
}
