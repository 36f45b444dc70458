//! Who asks: decided once, before any service sees the request.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Request};
use identity::address;
use kit::app::{App, now};
use kit::error::ApiError;
use kit::request::{CallInfo, RequestId};
use model::context::Caller;

/// Puts what is known of the request among its extensions. Refuses a superuser from an address that is not listed.
pub(crate) async fn note(
    app: &App,
    request: &mut Request<Body>,
    peer: SocketAddr,
    request_id: &HeaderValue,
) -> Result<(), ApiError> {
    let settings = app.store.settings();
    let proxy = &settings.trusted_proxy;
    let client_ip = address::client_address(peer.ip(), &proxy.headers, proxy.use_leftmost_ip, |name| {
        last_line(request.headers(), name)
    });
    let caller = match request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        Some(header) => app.identity.caller(&*app.store, header, now()).await?,
        None => Caller::Guest,
    };
    if caller.is_superuser() && !address::is_allowed(&settings.superuser_ips, client_ip) {
        return Err(ApiError::forbidden());
    }
    let request_id = RequestId(request_id.clone());
    request.extensions_mut().insert(CallInfo { client_ip, request_id, caller });
    Ok(())
}

fn last_line<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()
}
