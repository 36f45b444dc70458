//! What the configuration says of routes and pools, as all request loops share it, and the foot of the stack that follows
//! it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures_util::future::Either;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::checks::paths;
use crate::limits::Refusals;
use crate::proxy::Way;
use crate::routes::{self, Route, Target};
use crate::upstream::Upstream;
use crate::upstreams::{self, Pool, UpstreamSettings};

/// Routes and pools. They may be replaced while requests are on their way: those go on as they began.
#[derive(Clone, Default)]
pub struct Gateway {
    current: Arc<ArcSwap<Plan>>,
}

/// Routes and pools at one time.
#[derive(Debug, Default)]
struct Plan {
    routes: Vec<Arc<Route>>,
    pools: BTreeMap<String, Arc<Pool>>,
    /// Ends what looks after the pools of this plan alone.
    checks: CancellationToken,
}

/// A route that leads to a pool that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no upstream {0:?}")]
pub struct NoSuchUpstream(pub String);

/// Finds the route of each request of one request loop, and sends it there.
#[derive(Clone)]
pub(crate) struct Routed<L, F> {
    gateway: Gateway,
    local: L,
    forward: F,
    refusals: Refusals,
}

// === impl Gateway ===

impl Gateway {
    /// With these routes and pools. Called on the background runtime, where servers are checked.
    pub fn new(
        routes: Vec<Route>,
        upstreams: BTreeMap<String, UpstreamSettings>,
    ) -> Result<Self, NoSuchUpstream> {
        let gateway = Self::default();
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
        let routes = routes.into_iter().map(Arc::new).collect();
        let before = self.current.load_full();
        let checks = CancellationToken::new();
        let mut pools = BTreeMap::new();
        for (name, settings) in upstreams {
            let pool = match before.pools.get(&name) {
                Some(pool) if pool.settings == settings => pool.clone(),
                _ => Arc::new(Pool::new(&name, settings)),
            };
            tokio::spawn(upstreams::watch(pool.clone(), checks.clone()));
            tokio::spawn(upstreams::follow(pool.clone(), checks.clone()));
            pools.insert(name, pool);
        }
        before.checks.cancel();
        self.current.store(Arc::new(Plan { routes, pools, checks }));
        Ok(())
    }

    /// Waits until it is known which servers there are, or for a while.
    pub async fn settle(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let plan = self.current.load_full();
        let known = futures_util::future::join_all(plan.pools.values().map(|pool| pool.until_known()));
        if tokio::time::timeout(PATIENCE, known).await.is_err() {
            tracing::warn!("not all servers are known yet: requests to them are answered 503");
        }
    }

    /// Ends what looks after servers.
    pub fn stop(&self) {
        self.current.load().checks.cancel();
    }
}

// === impl Routed ===

impl<L, F> Routed<L, F> {
    /// What has a route to a pool of servers goes to `forward`, what has none to `local`.
    pub(crate) fn new(gateway: Gateway, local: L, forward: F) -> Self {
        Self { gateway, local, forward, refusals: Refusals::new() }
    }
}

impl<L: Upstream, F: Upstream> Service<Request<Body>> for Routed<L, F> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<L::Future, F::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.local.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let plan = self.gateway.current.load();
        if plan.routes.is_empty() {
            return Either::Left(self.local.call(request));
        }
        let way = match routes::host(request.headers(), request.uri()) {
            Some(host) => match routes::find(&plan.routes, &request, host) {
                Some(route) => match route.limits.refuse(&request, &self.refusals) {
                    Some(status) => Way::Refused(status),
                    None if route.target == Target::Services => {
                        return Either::Left(self.local.call(request));
                    }
                    None => plan.way(route, &request),
                },
                None => return Either::Left(self.local.call(request)),
            },
            None => Way::Refused(StatusCode::BAD_REQUEST),
        };
        request.extensions_mut().insert(way);
        Either::Right(self.forward.call(request))
    }
}

// === impl Plan ===

impl Plan {
    /// Where a route leads a request.
    fn way(&self, route: &Arc<Route>, request: &Request<Body>) -> Way {
        if let Some(status) = paths::refusal(request) {
            return Way::Refused(status);
        }
        let route = Arc::clone(route);
        match &route.target {
            Target::Redirect(_) => Way::Redirect(route),
            Target::Upstream(name) => match self.pools.get(name) {
                Some(pool) => Way::Upstream { pool: pool.clone(), route },
                None => Way::Refused(StatusCode::INTERNAL_SERVER_ERROR),
            },
            Target::Services => Way::Refused(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}
