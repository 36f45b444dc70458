//! What the configuration says of routes and pools, as all request loops share it, and the top of the stack that follows
//! it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures_util::future::Either;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::checks::paths;
use crate::checks::rules::{Rule, Rules};
use crate::identity_providers;
use crate::limits::{self, CommonLimits, Limited};
use crate::meters::{self, Cell, RouteLabels, RouteMeter, Standing, Text};
use crate::nodes::{ServiceNodes, TOLD_AS};
use crate::observe::{Observer, Observing};
use crate::proxy::{Connections, Forward, Way};
use crate::refusal::Cause;
use crate::routes::{self, Route, Target};
use crate::trace::Tracing;
use crate::upstream::Upstream;
use crate::upstreams::{self, Pool, UpstreamSettings};

/// Routes and pools. They may be replaced while requests are on their way: those go on as they began.
#[derive(Clone, Default)]
pub struct Gateway {
    current: Arc<ArcSwap<Plan>>,
    rules: Arc<ArcSwapOption<Rules>>,
    loops: Arc<Loops>,
    /// Told of with the pools, on a node that does not run the services.
    services: Arc<OnceLock<Arc<ServiceNodes>>>,
}

/// The request loops that follow a gateway.
#[derive(Default)]
struct Loops {
    count: AtomicUsize,
    connections: Mutex<Vec<Connections>>,
}

/// What else the configuration says of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayOptions {
    /// Limits of all routes, the application's own too.
    pub limits: CommonLimits,
    /// What is done about traces.
    pub trace: Tracing,
    /// Who is asked for names; none: those of the system.
    pub name_servers: Vec<SocketAddr>,
}

/// Routes and pools at one time.
#[derive(Debug)]
struct Plan {
    routes: Vec<Arc<Route>>,
    /// What is counted of each of them.
    counted: Vec<RouteMeter>,
    /// By what they are called, with what has no route.
    meters: BTreeMap<RouteLabels, RouteMeter>,
    services: RouteMeter,
    unrouted: RouteMeter,
    pools: BTreeMap<String, Arc<Pool>>,
    options: GatewayOptions,
    /// Ends what looks after the pools of this plan alone.
    checks: CancellationToken,
}

/// A route that leads to a pool that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no upstream {0:?}")]
pub struct NoSuchUpstream(pub String);

/// What requests without a route to elsewhere are counted as, and those of which none can be found.
const SERVICES: &str = "services";
const UNROUTED: &str = "none";

/// Finds the route of each request of one request loop, and sends it there.
#[derive(Clone)]
pub(crate) struct Routed<L, F> {
    gateway: Gateway,
    observer: Observer,
    /// Which of a route's cells is this loop's.
    number: usize,
    local: L,
    forward: F,
}

/// What is found of a request by its head.
struct Found {
    /// Without one it is for the services.
    way: Option<Way>,
    /// Where it is counted.
    cell: Arc<Cell>,
    limited: Option<Limited>,
    min_body_rate: Option<NonZeroU32>,
    tracing: Tracing,
}

// === impl Gateway ===

impl Gateway {
    /// With these routes and pools. Called on the background runtime, where servers are checked.
    pub fn new(
        routes: Vec<Route>,
        upstreams: BTreeMap<String, UpstreamSettings>,
        options: GatewayOptions,
    ) -> Result<Self, NoSuchUpstream> {
        let gateway = Self::default();
        gateway.replace(routes, upstreams, options)?;
        Ok(gateway)
    }

    /// Takes other routes and pools from now on, or none of them. What is known of a pool or a route that stays as it was is
    /// kept.
    pub fn replace(
        &self,
        mut routes: Vec<Route>,
        upstreams: BTreeMap<String, UpstreamSettings>,
        mut options: GatewayOptions,
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
        let providers = identity_providers::carry_over(&mut routes, &before.routes);
        let routes: Vec<Arc<Route>> = routes.into_iter().map(|route| before.kept(route)).collect();
        options.limits.go_on_from(&before.options.limits);
        let meters = meters(Some(&before), &routes);
        let checks = CancellationToken::new();
        let mut pools = BTreeMap::new();
        for (name, settings) in upstreams {
            let pool = match before.pools.get(&name) {
                Some(pool) if pool.settings == settings => pool.clone(),
                Some(pool) => Arc::new(pool.with(settings)),
                None => Arc::new(Pool::new(&name, settings, Arc::default())),
            };
            tokio::spawn(upstreams::watch(pool.clone(), checks.clone()));
            tokio::spawn(upstreams::follow(pool.clone(), options.name_servers.clone(), checks.clone()));
            pools.insert(name, pool);
        }
        for provider in providers {
            tokio::spawn(identity_providers::follow(provider, checks.clone()));
        }
        before.checks.cancel();
        self.current.store(Arc::new(Plan::new(routes, meters, pools, options, checks)));
        Ok(())
    }

    /// Takes other rules from now on. They are looked at in this order.
    pub fn replace_rules(&self, rules: Vec<Rule>) {
        self.rules.store(Rules::new(rules).map(Arc::new));
    }

    /// Tells of these nodes as of a pool, from now on.
    pub fn tell_of(&self, nodes: Arc<ServiceNodes>) {
        // There is one for the process, so that it is the first.
        let _ = self.services.set(nodes);
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

    /// What is counted of routes and pools, as Prometheus reads it.
    pub fn metrics(&self) -> String {
        let plan = self.current.load_full();
        let mut text = Text::default();
        meters::tell_routes(&mut text, plan.meters.iter());
        let connections = self.loops.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let standing = plan.pools.iter().map(|(name, pool)| {
            let servers = pool.servers();
            let idle = connections.iter().flat_map(|loop_| servers.iter().map(|server| loop_.idle(server)));
            Standing { name, pool, idle: idle.sum::<usize>() as u64 }
        });
        // No series twice, should a pool of the configuration have that name.
        let services = self.services.get().filter(|_| !plan.pools.contains_key(TOLD_AS));
        let standing = standing.chain(services.map(|nodes| nodes.standing()));
        meters::tell_pools(&mut text, &standing.collect::<Vec<_>>());
        text.into_string()
    }

    /// Counts what is answered before there is a route.
    pub(crate) fn unrouted(&self) -> Arc<Cell> {
        let number = self.loops.count.load(Ordering::Relaxed);
        self.current.load().unrouted.cell(number).clone()
    }

    /// What sends requests of one more request loop to other servers.
    pub(crate) fn forward(&self) -> Forward {
        let forward = Forward::default();
        let mut all = self.loops.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(forward.connections.clone());
        forward
    }

    /// Ends what looks after servers.
    pub fn stop(&self) {
        self.current.load().checks.cancel();
    }
}

// === impl Routed ===

impl<L, F> Routed<L, F> {
    /// What has a route to a pool of servers goes to `forward`, what has none to `local`.
    pub(crate) fn new(gateway: Gateway, observer: Observer, local: L, forward: F) -> Self {
        let number = gateway.loops.count.fetch_add(1, Ordering::Relaxed);
        Self { gateway, observer, number, local, forward }
    }

    fn find(&self, request: &mut Request<Body>) -> Found {
        let plan = self.gateway.current.load();
        let cell = |meter: &RouteMeter| meter.cell(self.number).clone();
        let unlimited = |way, meter| Found {
            way,
            cell: cell(meter),
            limited: Limited::by(&plan.options.limits, None),
            min_body_rate: plan.options.limits.min_body_rate,
            tracing: plan.options.trace,
        };
        if let Some(rules) = self.gateway.rules.load().as_ref()
            && let Some(stop) = rules.judge(request)
        {
            return unlimited(Some(Way::Stopped(stop)), &plan.unrouted);
        }
        if plan.routes.is_empty() {
            return unlimited(None, &plan.services);
        }
        let Some(host) = routes::host(request.headers(), request.uri()) else {
            return unlimited(Some(Way::Refused(StatusCode::BAD_REQUEST, Cause::BadHost)), &plan.unrouted);
        };
        let Some((position, route)) = routes::find(&plan.routes, request, host) else {
            return unlimited(None, &plan.services);
        };
        let way = if !route.limits.let_in(request) {
            Some(Way::Refused(StatusCode::FORBIDDEN, Cause::RouteAddress))
        } else if let Some((status, cause)) = route.accepts.refuse(request) {
            Some(Way::NotAccepted(status, cause, route.clone()))
        } else {
            (route.target != Target::Services).then(|| plan.way(route, request))
        };
        Found {
            way,
            cell: cell(&plan.counted[position]),
            limited: Limited::by(&plan.options.limits, Some(route)),
            min_body_rate: plan.options.limits.min_body_rate,
            tracing: plan.options.trace,
        }
    }
}

impl<L: Upstream, F: Upstream> Service<Request<Body>> for Routed<L, F> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Observing<Either<L::Future, F::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.local.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Found { way, cell, limited, min_body_rate, tracing } = self.find(&mut request);
        let goes_on = matches!(way, Some(Way::Upstream { .. }));
        let trace = tracing.of(request.headers_mut(), goes_on);
        let awaited = limits::pace(&mut request, min_body_rate);
        let observed = self.observer.begin(&mut request, cell, trace, goes_on).awaited(awaited);
        if let Some(limited) = limited {
            request.extensions_mut().insert(limited);
        }
        observed.on(match way {
            None => Either::Left(self.local.call(request)),
            Some(way) => {
                request.extensions_mut().insert(way);
                Either::Right(self.forward.call(request))
            }
        })
    }
}

// === impl Plan ===

impl Plan {
    fn new(
        routes: Vec<Arc<Route>>,
        meters: BTreeMap<RouteLabels, RouteMeter>,
        pools: BTreeMap<String, Arc<Pool>>,
        options: GatewayOptions,
        checks: CancellationToken,
    ) -> Self {
        // What is asked for is there: `meters` makes one for each.
        let of =
            |labels: &RouteLabels| meters.get(labels).cloned().unwrap_or_else(|| RouteMeter::new(labels));
        Self {
            counted: routes.iter().map(|route| of(&labels(route))).collect(),
            services: of(&RouteLabels::new(SERVICES, None)),
            unrouted: of(&RouteLabels::new(UNROUTED, None)),
            routes,
            meters,
            pools,
            options,
            checks,
        }
    }

    /// The route with what was counted of it, if there is the same one already; of one for the same requests those of its
    /// limits that stay.
    fn kept(&self, mut route: Route) -> Arc<Route> {
        if let Some(known) = self.routes.iter().find(|known| ***known == route) {
            return known.clone();
        }
        if let Some(known) = self.routes.iter().find(|known| known.is_for_the_same(&route)) {
            route.limits.go_on_from(&known.limits);
        }
        Arc::new(route)
    }

    /// Where a route leads a request.
    fn way(&self, route: &Arc<Route>, request: &Request<Body>) -> Way {
        if let Some(status) = paths::refusal(request) {
            let cause =
                if status == StatusCode::METHOD_NOT_ALLOWED { Cause::Method } else { Cause::LeavesRoute };
            return Way::NotAccepted(status, cause, route.clone());
        }
        let route = Arc::clone(route);
        match &route.target {
            Target::Redirect(_) => Way::Redirect(route),
            Target::Upstream(name) => match self.pools.get(name) {
                Some(pool) => Way::Upstream { pool: pool.clone(), route },
                None => Way::Lost,
            },
            Target::Services => Way::Lost,
        }
    }
}

impl Default for Plan {
    fn default() -> Self {
        let meters = meters(None, &[]);
        Self::new(Vec::new(), meters, BTreeMap::new(), GatewayOptions::default(), CancellationToken::new())
    }
}

/// What is counted of these routes and of what has none. What was counted before goes on.
fn meters(before: Option<&Plan>, routes: &[Arc<Route>]) -> BTreeMap<RouteLabels, RouteMeter> {
    let built_in = [SERVICES, UNROUTED].map(|name| RouteLabels::new(name, None));
    let all = built_in.into_iter().chain(routes.iter().map(|route| labels(route)));
    let meter = |labels: &RouteLabels| before?.meters.get(labels).cloned();
    let mut meters = BTreeMap::new();
    for labels in all {
        let found = meter(&labels).unwrap_or_else(|| RouteMeter::new(&labels));
        meters.entry(labels).or_insert(found);
    }
    meters
}

fn labels(route: &Route) -> RouteLabels {
    let upstream = match &route.target {
        Target::Upstream(name) => Some(name.as_str()),
        Target::Redirect(_) | Target::Services => None,
    };
    RouteLabels::new(&route.label(), upstream)
}
