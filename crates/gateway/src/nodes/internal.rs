//! What stands behind the internal listener of a node that runs the services: only what a node signed goes on.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use axum::response::IntoResponse;
use contract::store::Store;
use futures_util::future::Either;
use identity::node_keys::NodeKeys;
use identity::signed_caller::{Asks, SIGNED_CALLER, Word};
use identity::{Identity, jwt};
use kit::app::now;
use kit::error::ApiError;
use kit::query::Query;
use kit::request::RequestId;
use metrics::{Counter, counter};
use model::record::Record;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service, ServiceBuilder};
use tracing::warn;

use super::marks::WriteMarks;
use super::message::{Told, Whose};
use super::notices::Notices;
use super::{CALLER_PATH, EVENTS_PATH, TOKEN_PATH};
use crate::caller_tokens;
use crate::layers::around::AroundLayer;
use crate::layers::before::BeforeLayer;
use crate::layers::caller::{self, Callers};
use crate::layers::catch_panic::CatchPanicLayer;
use crate::layers::rate_limit::RateLimit;
use crate::net::{Peer, Transport};
use crate::passage::Passage;
use crate::route_auth::{RouteCaller, TokenRules};
use crate::upstream::{Answer, Upstream};

/// Streams of notices at once; gateways are few. One more is answered 503.
const MAX_STREAMS: usize = 256;

/// What the internal listener of a process answers from.
pub struct Internal {
    keys: NodeKeys,
    store: Arc<dyn Store>,
    identity: Arc<Identity>,
    notices: Arc<Notices>,
    rules: TokenRules,
    draining: CancellationToken,
    streams: Arc<AtomicUsize>,
    refused: Counter,
}

/// Lets pass what is signed, and answers what nodes ask of each other.
#[derive(Clone)]
struct NodesOnly(Arc<Internal>);

/// A service behind that.
#[derive(Clone)]
struct NodesOnlyService<S> {
    internal: Arc<Internal>,
    inner: S,
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Takes its stream off the count when it ends, however it ends.
struct Counted(Arc<AtomicUsize>);

/// What a request meets that comes by the internal listener, above the services. The edge is the gateway's that sent
/// it; what is left is to believe its word, to decide with the token who asks, and to count.
pub fn internal(
    internal: Arc<Internal>,
    callers: Callers,
    limit: RateLimit,
    passage: &Passage,
    services: impl Upstream,
) -> impl Upstream {
    ServiceBuilder::new()
        .layer(passage.layer())
        .layer(AroundLayer(WriteMarks))
        .layer(NodesOnly(internal))
        .layer(CatchPanicLayer)
        .layer(caller::signed_layer(callers))
        .layer(BeforeLayer(limit))
        .service(services)
}

// === impl Internal ===

impl Internal {
    /// What other servers are told of callers goes by `rules`. Streams of notices end when `draining`.
    pub fn new(
        keys: NodeKeys,
        store: Arc<dyn Store>,
        identity: Arc<Identity>,
        notices: Arc<Notices>,
        rules: TokenRules,
        draining: CancellationToken,
    ) -> Self {
        let refused = counter!("groundswell_internal_refused_total");
        Self { keys, store, identity, notices, rules, draining, streams: Arc::default(), refused }
    }

    /// What a node says of a request. The header is for nobody else.
    fn word(&self, request: &mut Request<Body>) -> Option<Word> {
        let header = request.headers_mut().remove(SIGNED_CALLER);
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let verify =
            |header: &str| Word::verify(header, &self.keys, request.method().as_str(), target, now());
        match header.as_ref().and_then(|header| header.to_str().ok()).map(verify) {
            Some(Ok(word)) => Some(word),
            Some(Err(error)) => {
                self.refused.increment(1);
                let peer = request.extensions().get().map(|peer: &Peer| peer.address);
                warn!(?peer, %error, "refused a request at the internal listener");
                None
            }
            None => {
                self.refused.increment(1);
                None
            }
        }
    }

    /// What nodes ask of each other.
    async fn answer(self: Arc<Self>, request: Parts) -> Response<Body> {
        match request.uri.path() {
            CALLER_PATH => told(self.whose(&request.headers).await.map(|whose| whose.text())),
            TOKEN_PATH => told(self.token(&request.headers, request.uri.query().unwrap_or_default()).await),
            EVENTS_PATH => self.stream(request.uri.query().unwrap_or_default()),
            _ => ApiError::not_found().into_response(),
        }
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Option<Arc<Record>>, ApiError> {
        let Some(header) = authorization(headers) else { return Ok(None) };
        Ok(self.identity.caller(&*self.store, header, now()).await?.record().cloned())
    }

    /// What the servers of an audience are told of the caller; nothing if the token does not count.
    async fn token(&self, headers: &HeaderMap, query: &str) -> Result<String, ApiError> {
        let Some(record) = self.caller(headers).await? else { return Ok(Whose::Nobody.text()) };
        let query = Query::parse(query);
        let audience = query.first("audience").unwrap_or_default();
        let fields = query.first("fields").unwrap_or_default().split(',').map(str::to_owned);
        let fields: Vec<String> = fields.collect();
        let keys = self.identity.caller_keys();
        let signed = caller_tokens::sign(
            keys,
            audience,
            &self.rules,
            &fields,
            &RouteCaller::Record(record),
            now().0 / 1_000,
        );
        let (token, expires_at) =
            signed.ok_or_else(|| ApiError::unavailable(std::time::Duration::from_secs(1)))?;
        Ok(Told { token, expires_at }.text())
    }

    async fn whose(&self, headers: &HeaderMap) -> Result<Whose, ApiError> {
        let Some(record) = self.caller(headers).await? else { return Ok(Whose::Nobody) };
        let header = authorization(headers).unwrap_or_default();
        // It was read a moment ago.
        let token = jwt::read(jwt::bearer_token(header)).map_err(|_| ApiError::internal())?;
        Ok(Whose::Record {
            collection: record.collection.id.clone(),
            name: record.collection.name.clone(),
            id: record.id().to_owned(),
            expires_at: token.claims().expires_at,
        })
    }

    fn stream(&self, query: &str) -> Response<Body> {
        if self.streams.fetch_add(1, Ordering::Relaxed) >= MAX_STREAMS {
            self.streams.fetch_sub(1, Ordering::Relaxed);
            return ApiError::busy(std::time::Duration::from_secs(1)).into_response();
        }
        let counted = Counted(self.streams.clone());
        let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let after = value("after").and_then(|after| after.parse().ok());
        let seen = value("node").zip(after);
        let body = self.notices.stream(seen, &*self.store, self.draining.clone());
        Response::new(Body::new(http_body_util::BodyExt::map_frame(body, move |frame| {
            let _ = &counted;
            frame
        })))
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()
}

fn told(answer: Result<String, ApiError>) -> Response<Body> {
    match answer {
        Ok(text) => kit::respond::json(StatusCode::OK, text),
        Err(error) => error.into_response(),
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl NodesOnly ===

impl<S> Layer<S> for NodesOnly {
    type Service = NodesOnlyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NodesOnlyService { internal: self.0.clone(), inner }
    }
}

impl<S: Upstream> Service<Request<Body>> for NodesOnlyService<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Answering, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let refuse = || -> Self::Future {
            Either::Left(Box::pin(async { Ok(ApiError::unauthorized().into_response()) }))
        };
        let Some(Word { asks, from, request_id }) = self.internal.word(&mut request) else { return refuse() };
        // Only a node's own requests are for these paths: a client's may be the path of a file.
        if asks == Asks::Node {
            let (internal, (request, _)) = (self.internal.clone(), request.into_parts());
            return Either::Left(Box::pin(async move { Ok(internal.answer(request).await) }));
        }
        let Ok(request_id) = HeaderValue::from_str(&request_id) else { return refuse() };
        let extensions = request.extensions_mut();
        extensions.insert(Peer::new((from, 0).into(), Transport::Internal));
        extensions.insert(RequestId(request_id));
        extensions.insert(asks);
        Either::Right(self.inner.call(request))
    }
}
