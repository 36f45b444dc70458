//! What the tests of layers share: small services to stand beneath one.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use identity::Identity;
use store::sqlite::{self, SqliteStore};
use tower::{Layer, Service, service_fn};

use super::caller::Callers;
use super::rate_limit::RateLimit;
use crate::upstream::Upstream;

/// Answers `inner` to everything.
pub(crate) fn inner() -> impl Upstream {
    answering(|| Response::new(Body::from("inner")))
}

/// Answers this to everything.
pub(crate) fn answering(response: impl Fn() -> Response<Body> + Clone + Send + 'static) -> impl Upstream {
    service_fn(move |_| std::future::ready(Ok(response())))
}

/// The answer of `inner` behind a layer.
pub(crate) async fn answer<S: Upstream, L: Layer<S, Service: Upstream>>(
    layer: &L,
    inner: S,
    request: Request<Body>,
) -> Response<Body> {
    let Ok(response) = layer.layer(inner).call(request).await;
    response
}

/// A response's body.
pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Callers of an empty application in this folder.
pub(crate) fn callers(folder: &Path) -> Callers {
    callers_and_limit(folder).0
}

/// The same with limits, which are off.
pub(crate) fn callers_and_limit(folder: &Path) -> (Callers, RateLimit) {
    let store = Arc::new(SqliteStore::open(sqlite::Options::new(folder.to_owned())).unwrap());
    let limit = RateLimit::new(store.clone(), Arc::default());
    (Callers::new(store, Arc::new(Identity::start().unwrap())), limit)
}
