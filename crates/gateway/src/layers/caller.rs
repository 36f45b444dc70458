//! Who asks: decided once, before any service sees the request.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{Extensions, HeaderMap, Request, Response, StatusCode};
use axum::response::IntoResponse;
use contract::store::Store;
use identity::caller_keys::CallerKeys;
use identity::signed_caller::Asks;
use identity::{Identity, address};
use kit::app::now;
use kit::error::ApiError;
use kit::request::{CallInfo, RequestId};
use model::context::Caller;
use model::settings::Settings;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::security_headers::Unrouted;
use crate::net::Peer;
use crate::nodes::{CameFrom, ServiceNodes};
use crate::proxy::Forward;
use crate::refusal::Cause;
use crate::upstream::{Answer, Upstream};

/// What is asked about callers. Each request loop has its own, so that no core waits for another's cache line.
#[derive(Clone)]
pub struct Callers(Arc<Sources>);

enum Sources {
    /// The store is this process's.
    Here { store: Arc<dyn Store>, identity: Arc<Identity> },
    /// It is another node's.
    Elsewhere { nodes: Arc<ServiceNodes>, forward: Forward },
}

/// Decides it for each request. Its parameter is how: the future that it takes has no name.
#[derive(Clone)]
pub(crate) struct CallerLayer<D>(pub(super) D);

/// A service whose requests have a [`CallInfo`].
#[derive(Clone)]
pub(crate) struct CallerService<D, S> {
    decide: D,
    inner: S,
}

/// Takes a request, and some time.
pub(crate) trait Decide: Clone + Send + 'static {
    type Deciding: Future<Output = Decision> + Send;

    fn decide(&self, request: Request<Body>) -> Self::Deciding;
}

/// What becomes of a request.
pub(crate) enum Decision {
    GoOn(Request<Body>),
    Refuse(Response<Body>),
}

pin_project! {
    /// A request of which is decided who asks, then its answer.
    pub(crate) struct Answering<D, S, F> {
        inner: S,
        #[pin]
        step: Step<D, F>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<D, F> {
        Deciding { #[pin] deciding: D },
        Passed { #[pin] answer: F },
    }
}

/// The same for requests of which a gateway said who asks: he is whom his token speaks for by now, or nobody.
pub(crate) fn signed_layer(callers: Callers) -> CallerLayer<impl Decide> {
    CallerLayer(move |mut request: Request<Body>| {
        let callers = callers.clone();
        async move {
            let asks = request.extensions_mut().remove::<Asks>();
            if let Err(refusal) = callers.note(&mut request).await {
                return Decision::Refuse(unrouted(refusal));
            }
            if let Some(info) = request.extensions_mut().get_mut::<CallInfo>()
                && !asks.is_some_and(|asks| is_same(&asks, &info.caller))
            {
                info.caller = Caller::Guest;
            }
            Decision::GoOn(request)
        }
    })
}

/// The layer that asks `callers`.
pub(crate) fn layer(callers: Callers) -> CallerLayer<impl Decide> {
    CallerLayer(move |mut request: Request<Body>| {
        let callers = callers.clone();
        async move {
            match callers.note(&mut request).await {
                Ok(()) => Decision::GoOn(request),
                Err(refusal) => Decision::Refuse(unrouted(refusal)),
            }
        }
    })
}

fn unrouted(refusal: ApiError) -> Response<Body> {
    let mut response = refusal.into_response();
    response.extensions_mut().insert(Unrouted);
    match response.status() {
        StatusCode::FORBIDDEN => Cause::SuperuserAddress.mark(response),
        _ => response,
    }
}

fn is_same(asks: &Asks, caller: &Caller) -> bool {
    match (asks, caller) {
        (Asks::Guest, Caller::Guest) => true,
        (Asks::Record(id), Caller::Record(record)) | (Asks::Superuser(id), Caller::Superuser(record)) => {
            id.collection == record.collection.id && id.id == record.id()
        }
        _ => false,
    }
}

// === impl Callers ===

impl Callers {
    /// Callers whose tokens `identity` knows and whose records are in `store`.
    pub fn new(store: Arc<dyn Store>, identity: Arc<Identity>) -> Self {
        Self(Arc::new(Sources::Here { store, identity }))
    }

    /// Callers whom other nodes know.
    pub fn elsewhere(nodes: Arc<ServiceNodes>) -> Self {
        let forward = nodes.forward();
        Self(Arc::new(Sources::Elsewhere { nodes, forward }))
    }

    /// Puts what is known of the request among its extensions. Refuses a superuser from an address that is not
    /// listed.
    async fn note(&self, request: &mut Request<Body>) -> Result<(), ApiError> {
        let settings = self.settings();
        // Missing only by a mistake in the wiring.
        let peer: Peer = request.extensions_mut().remove().ok_or_else(ApiError::internal)?;
        let request_id = request.extensions_mut().remove::<RequestId>().ok_or_else(ApiError::internal)?;
        let client_ip = client_ip(&settings, peer, request.headers());
        let is_here = matches!(&*self.0, Sources::Here { .. });
        if !is_here {
            request.extensions_mut().insert(CameFrom(peer.client));
        }
        let caller = match request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
            // Not by a function between, of which every request's future would have the arguments.
            Some(header) => match &*self.0 {
                Sources::Here { store, identity } => identity.caller(&**store, header, now()).await?,
                Sources::Elsewhere { nodes, forward } => Box::pin(nodes.caller(forward, header)).await?,
            },
            None => Caller::Guest,
        };
        // The services on another node look with the settings of their moment, which may be newer.
        if is_here {
            refuse_unlisted(&caller, &settings, client_ip)?;
        }
        request.extensions_mut().insert(CallInfo { client_ip, request_id, caller });
        Ok(())
    }

    /// Whose token this is that came with a request, by the rules of the application's own services.
    pub(super) async fn of_token(
        &self,
        token: &str,
        extensions: &Extensions,
        headers: &HeaderMap,
    ) -> Result<Caller, ApiError> {
        let settings = self.settings();
        let peer = *extensions.get::<Peer>().ok_or_else(ApiError::internal)?;
        let client_ip = client_ip(&settings, peer, headers);
        let caller = match &*self.0 {
            Sources::Here { store, identity } => identity.caller(&**store, token, now()).await?,
            // The settings by which a superuser's address is judged may have changed since.
            Sources::Elsewhere { nodes, .. } if !nodes.is_reachable() => {
                return Err(ApiError::unavailable(Duration::from_secs(1)));
            }
            Sources::Elsewhere { nodes, forward } => Box::pin(nodes.caller(forward, token)).await?,
        };
        refuse_unlisted(&caller, &settings, client_ip)?;
        Ok(caller)
    }

    /// The keys that sign what servers are told of a caller, if they are here.
    pub(super) fn keys(&self) -> Option<&CallerKeys> {
        match &*self.0 {
            Sources::Here { identity, .. } => Some(identity.caller_keys()),
            Sources::Elsewhere { .. } => None,
        }
    }

    /// What a server is told of the caller with this token, signed by another node, and until when it counts. None if
    /// the token does not count.
    pub(super) async fn told_elsewhere(
        &self,
        token: &str,
        audience: &str,
        fields: &[String],
    ) -> Result<Option<(String, i64)>, ApiError> {
        match &*self.0 {
            Sources::Here { .. } => Err(ApiError::internal()),
            Sources::Elsewhere { nodes, forward } => {
                Box::pin(nodes.told(forward, token, audience, fields)).await
            }
        }
    }

    fn settings(&self) -> Arc<Settings> {
        match &*self.0 {
            Sources::Here { store, .. } => store.settings(),
            Sources::Elsewhere { nodes, .. } => nodes.settings(),
        }
    }
}

/// Lets superusers in only from addresses that are listed.
fn refuse_unlisted(caller: &Caller, settings: &Settings, client_ip: IpAddr) -> Result<(), ApiError> {
    if caller.is_superuser() && !address::is_allowed(&settings.superuser_ips, client_ip) {
        return Err(ApiError::forbidden());
    }
    Ok(())
}

/// Where a request came from, past the trusted proxies.
fn client_ip(settings: &Settings, peer: Peer, headers: &HeaderMap) -> IpAddr {
    let proxy = &settings.trusted_proxy;
    let line = |name: &str| last_line(headers, name);
    address::client_address(peer.client, &proxy.headers, proxy.use_leftmost_ip, line)
}

fn last_line<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()
}

// === impl CallerLayer ===

impl<D: Decide, S> Layer<S> for CallerLayer<D> {
    type Service = CallerService<D, S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallerService { decide: self.0.clone(), inner }
    }
}

// === impl CallerService ===

impl<D: Decide, S: Upstream> Service<Request<Body>> for CallerService<D, S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering<D::Deciding, S, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let step = Step::Deciding { deciding: self.decide.decide(request) };
        Answering { inner: self.inner.clone(), step }
    }
}

// === impl Decide ===

impl<F, D> Decide for F
where
    F: Fn(Request<Body>) -> D + Clone + Send + 'static,
    D: Future<Output = Decision> + Send,
{
    type Deciding = D;

    fn decide(&self, request: Request<Body>) -> D {
        self(request)
    }
}

// === impl Answering ===

impl<D, S> Future for Answering<D, S, S::Future>
where
    D: Future<Output = Decision>,
    S: Upstream,
{
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProjection::Passed { answer } => return answer.poll(cx),
                StepProjection::Deciding { deciding } => match ready!(deciding.poll(cx)) {
                    Decision::Refuse(response) => return Poll::Ready(Ok(response)),
                    Decision::GoOn(request) => {
                        let answer = this.inner.call(request);
                        this.step.set(Step::Passed { answer });
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use axum::http::HeaderValue;
    use identity::jwt::{self, Claims, Purpose, SigningKey, TokenKind};
    use model::collection::Collection;
    use model::context::RequestContext;
    use model::json::Json;
    use model::record::Record;
    use model::step::{Access, CreateRecord, Step, StepResult, WriteBatch};
    use tower::service_fn;

    use super::*;
    use crate::layers::testing::{answer, callers, text};

    /// Says who asks, and from where.
    fn who() -> impl Upstream {
        service_fn(|request: Request<Body>| async move {
            let info = request.extensions().get::<CallInfo>().unwrap();
            let kind = match info.caller {
                Caller::Guest => "guest",
                Caller::Record(_) => "record",
                Caller::Superuser(_) => "superuser",
            };
            let text = format!("{kind} {} {}", info.client_ip, info.request_id.as_str());
            Ok(Response::new(Body::from(text)))
        })
    }

    fn request(header: &str, value: &str) -> Request<Body> {
        let mut request = Request::get("/").header(header, value).body(Body::empty()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Peer::new(address, crate::net::Transport::Plain));
        request.extensions_mut().insert(RequestId(HeaderValue::from_static("r1")));
        request
    }

    async fn superuser(store: &dyn Store) -> Record {
        let password = Json::from("1234567890");
        let body =
            [("email", Json::from("a@b.de")), ("password", password.clone()), ("passwordConfirm", password)];
        let step = Step::Create(CreateRecord {
            set_by_hooks: Default::default(),
            collection: store.schema().by_name(Collection::SUPERUSERS).unwrap().id.clone(),
            body: body.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            password_hashes: BTreeMap::from([("password".to_owned(), "hash".to_owned())]),
            uploads: Default::default(),
            access: Access { context: Arc::new(RequestContext::guest(now())), check_rule: false },
        });
        let done = store.write(WriteBatch::one(step)).await.unwrap().unwrap();
        let Some(StepResult::Record(record)) = done.into_iter().next() else { panic!("no record") };
        record
    }

    fn store(callers: &Callers) -> Arc<dyn Store> {
        match &*callers.0 {
            Sources::Here { store, .. } => store.clone(),
            Sources::Elsewhere { .. } => panic!("these callers have a store"),
        }
    }

    fn token(record: &Record) -> String {
        let claims = Claims {
            collection_id: record.collection.id.clone(),
            record_id: record.id().to_owned(),
            expires_at: now().0 / 1_000 + 60,
            purpose: Purpose::Auth { refreshable: true },
        };
        jwt::sign(&claims, &SigningKey::of(record, TokenKind::Auth).unwrap())
    }

    async fn allow_superusers_from(store: &dyn Store, address: &str) {
        let before = store.settings();
        let mut after = (*before).clone();
        after.superuser_ips = vec![address.to_owned()];
        let step = Step::SaveSettings { before, after: Arc::new(after) };
        store.write(WriteBatch::one(step)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_asks_goes_with_the_request() {
        let folder = tempfile::tempdir().unwrap();
        let callers = callers(folder.path());
        let layer = layer(callers.clone());
        for header in ["", "no token"] {
            let guest = answer(&layer, who(), request("authorization", header)).await;
            assert_eq!(text(guest).await, "guest 127.0.0.1 r1");
        }
        let token = token(&superuser(&*store(&callers)).await);
        let superuser = answer(&layer, who(), request("authorization", &token)).await;
        assert_eq!(text(superuser).await, "superuser 127.0.0.1 r1");
    }

    #[tokio::test]
    async fn a_superuser_from_an_address_that_is_not_listed_is_refused_before_the_router() {
        let folder = tempfile::tempdir().unwrap();
        let callers = callers(folder.path());
        let layer = layer(callers.clone());
        let token = token(&superuser(&*store(&callers)).await);
        allow_superusers_from(&*store(&callers), "10.0.0.1").await;
        let refused = answer(&layer, who(), request("authorization", &token)).await;
        assert_eq!(refused.status(), 403);
        assert!(refused.extensions().get::<Unrouted>().is_some());
        assert_eq!(answer(&layer, who(), request("authorization", "")).await.status(), 200);
        allow_superusers_from(&*store(&callers), "127.0.0.1").await;
        assert_eq!(answer(&layer, who(), request("authorization", &token)).await.status(), 200);
    }
}
