//! `GET /api/collections/{collection}/auth-methods` (CONTRACT §5.3)

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use kit::app::App;
use kit::error::ApiError;
use kit::fields::Fields;
use kit::request::Call;
use kit::respond;
use model::collection::AuthOptions;
use model::json::Json;

use crate::collection;

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let collection = collection::of_path(&app, &name)?;
    let mut text = methods(collection::options(&collection)?);
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}

/// Only sign-in by password can be enabled in this version; the others are written as the contract
/// writes a disabled method.
fn methods(options: &AuthOptions) -> String {
    let password = &options.password_auth;
    let fields = if password.enabled { password.identity_fields.as_slice() } else { &[] };
    let has = |name: &str| fields.iter().any(|field| field == name);
    let fields_json = Json::Array(fields.iter().map(|field| Json::from(field.as_str())).collect());
    let mut text = String::with_capacity(384);
    let _ = write!(
        text,
        "{{\"password\":{{\"identityFields\":{fields_json},\"enabled\":{}}},\
         \"oauth2\":{{\"providers\":[],\"enabled\":false}},\
         \"mfa\":{{\"enabled\":false,\"duration\":0}},\
         \"otp\":{{\"enabled\":false,\"duration\":0}},\
         \"authProviders\":[],\"usernamePassword\":{},\"emailPassword\":{}}}",
        password.enabled,
        has("username"),
        has("email")
    );
    text
}
