//! What a request gets that no route wants: a file of the public folder if it reads, otherwise 404. Never 405: a
//! known path with another method is as unknown as any.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};

mod body;
mod error;
mod static_folder;

pub(crate) use static_folder::StaticFolder;

/// `router`, with an answer for every other path and method. Routes added later would not have it.
pub(crate) fn unmatched(router: Router, folder: Arc<StaticFolder>) -> Router {
    let answer = move |request: Request| {
        let folder = Arc::clone(&folder);
        // A body cannot be borrowed across threads, and nothing here reads it.
        let (request, _) = request.into_parts();
        async move { answer(&folder, &request).await }
    };
    router.method_not_allowed_fallback(answer.clone()).fallback(answer)
}

async fn answer(folder: &StaticFolder, request: &Parts) -> Response<Body> {
    if matches!(request.method, Method::GET | Method::HEAD) {
        return folder.answer(&request.method, request.uri.path(), &request.headers).await;
    }
    // No service reads this body, so its length is looked at here.
    if body::is_declared_too_large(&request.headers) {
        return error::response(StatusCode::PAYLOAD_TOO_LARGE, error::TOO_LARGE);
    }
    error::response(StatusCode::NOT_FOUND, error::NOT_FOUND)
}
