//! What the configuration says of routes and pools, as all request loops share it, and the foot of the stack that follows
//! it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use futures_util::future::Either;
use kit::error::ApiError;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::proxy::{Connections, Forwarding, Proxy};
use crate::routes::{self, Route, Target};
use crate::upstream::{Answer, Upstream};
use crate::upstreams::{self, Pool, UpstreamSettings};

/// Routes and pools. They may be replaced while requests are on their way: those go on as they began.
#[derive(Clone)]
pub struct Gateway {
    current: Arc<ArcSwap<Plan>>,
}

/// Routes and pools at one time.
#[derive(Debug, Default)]
struct Plan {
    routes: Vec<Route>,
    pools: BTreeMap<String, Arc<Pool>>,
    /// Ends what looks after the pools of this plan alone.
    checks: CancellationToken,
}

/// A route that leads to a pool that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no upstream {0:?}")]
pub struct NoSuchUpstream(pub String);

/// The foot of the stack of one request loop: finds the route of a request, and sends it there.
#[derive(Clone)]
pub(crate) struct Routed<L> {
    gateway: Gateway,
    local: L,
    connections: Connections,
}

// === impl Gateway ===

impl Gateway {
    /// With these routes and pools. Called on the background runtime, where servers are checked.
    pub fn new(
        routes: Vec<Route>,
        upstreams: BTreeMap<String, UpstreamSettings>,
    ) -> Result<Self, NoSuchUpstream> {
        let gateway = Self { current: Arc::default() };
        gateway.replace(routes, upstreams)?;
        Ok(gateway)
    }

    /// Takes other routes and pools from now on, or none of them. What is known of a pool that stays as it was is kept.
    pub fn replace(
        &self,
        mut routes: Vec<Route>,
        upstreams: BTreeMap<String, UpstreamSettings>,
    ) -> Result<(), NoSuchUpstream> {
        for route in &routes {
            if let Target::Upstream(name) = &route.target
                && !upstreams.contains_key(name)
            {
                return Err(NoSuchUpstream(name.clone()));
            }
        }
        routes::sort(&mut routes);
        let before = self.current.load_full();
        let checks = CancellationToken::new();
        let mut pools = BTreeMap::new();
        for (name, settings) in upstreams {
            let pool = match before.pools.get(&name) {
                Some(pool) if pool.settings == settings => pool.clone(),
                _ => Arc::new(Pool::new(name.clone(), settings)),
            };
            tokio::spawn(upstreams::watch(pool.clone(), checks.clone()));
            pools.insert(name, pool);
        }
        before.checks.cancel();
        self.current.store(Arc::new(Plan { routes, pools, checks }));
        Ok(())
    }

    /// Ends what looks after servers.
    pub fn stop(&self) {
        self.current.load().checks.cancel();
    }
}

// === impl Routed ===

impl<L> Routed<L> {
    pub(crate) fn new(gateway: Gateway, local: L) -> Self {
        Self { gateway, local, connections: Connections::default() }
    }
}

impl<L: Upstream> Service<Request<Body>> for Routed<L> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<L::Future, Either<Forwarding, Ready<Answer>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.local.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let plan = self.gateway.current.load();
        let Some(position) = routes::find(&plan.routes, &request) else {
            return Either::Left(self.local.call(request));
        };
        let route = &plan.routes[position];
        let at_once = |response| Either::Right(Either::Right(ready(Ok(response))));
        match &route.target {
            Target::Services => Either::Left(self.local.call(request)),
            Target::Redirect(to) => at_once(route.redirect(to, request.uri())),
            Target::Upstream(name) => {
                let (mut parts, body) = request.into_parts();
                if routes::may_leave_its_route(&parts) {
                    return at_once(ApiError::bad_request().into_response());
                }
                let Some(pool) = plan.pools.get(name) else {
                    return at_once(ApiError::internal().into_response());
                };
                if let Some(uri) = route.rewritten(&parts.uri) {
                    parts.uri = uri;
                }
                routes::apply(&route.request_headers, &mut parts.headers);
                let proxy = Proxy::new(pool.clone(), self.connections.clone());
                let request = Request::from_parts(parts, body);
                let forwarding = proxy.forward(request, route.response_headers.clone());
                Either::Right(Either::Left(forwarding))
            }
        }
    }
}
