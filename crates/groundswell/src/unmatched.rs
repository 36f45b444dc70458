//! What a request gets that no route wants: a file of the public folder if it reads, otherwise 404. Never 405: a
//! known path with another method is as unknown as any.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use identity::Identity;

mod body;
mod error;
mod static_folder;

pub(crate) use static_folder::StaticFolder;

/// Where other servers look for the keys of callers' tokens. A file of the public folder in this place is served instead.
const JWKS: &str = "/.well-known/jwks.json";

/// `router`, with an answer for every other path and method. Routes added later would not have it.
pub(crate) fn unmatched(router: Router, folder: Arc<StaticFolder>, identity: Arc<Identity>) -> Router {
    let answer = move |request: Request| {
        let (folder, identity) = (Arc::clone(&folder), Arc::clone(&identity));
        // A body cannot be borrowed across threads, and nothing here reads it.
        let (request, _) = request.into_parts();
        async move { answer(&folder, &identity, &request).await }
    };
    router.method_not_allowed_fallback(answer.clone()).fallback(answer)
}

async fn answer(folder: &StaticFolder, identity: &Identity, request: &Parts) -> Response<Body> {
    if matches!(request.method, Method::GET | Method::HEAD) {
        if request.uri.path() == JWKS
            && let Some(keys) = identity.caller_keys().current()
            && !folder.has(JWKS).await
        {
            return admin::jwks_answer(&keys);
        }
        return folder.answer(&request.method, request.uri.path(), &request.headers).await;
    }
    // No service reads this body, so its length is looked at here.
    if body::is_declared_too_large(&request.headers) {
        return error::response(StatusCode::PAYLOAD_TOO_LARGE, error::TOO_LARGE);
    }
    error::response(StatusCode::NOT_FOUND, error::NOT_FOUND)
}
