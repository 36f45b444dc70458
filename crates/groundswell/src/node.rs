//! What a process is by its role: the application itself, or a gateway before other nodes that run it.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use gateway::{Callers, Foot, Internal, Passage, RateLimit, Remote, ServiceNodes, Upstream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{self, App};
use crate::config::{Role, Settings};
use crate::readiness::DependsOn;

/// What stands at the foot of the stack, and what that needs.
pub(crate) enum Node {
    /// The services, here.
    Services {
        app: Box<App>,
        /// For gateways on other nodes, if there may be any.
        internal: Option<Arc<Internal>>,
    },
    /// The services, on other nodes.
    Gateway { nodes: Arc<ServiceNodes>, stop: CancellationToken, following: TaskTracker },
}

/// What one request loop has of it.
pub(crate) struct PerLoop<I> {
    pub(crate) callers: Callers,
    pub(crate) limit: RateLimit,
    pub(crate) foot: Foot<Router>,
    /// What stands behind the internal listener.
    pub(crate) internal: Option<I>,
}

impl Node {
    /// Opens what the role needs. `draining` is cancelled when the process is asked to stop.
    pub(crate) async fn open(settings: &Settings, draining: CancellationToken) -> anyhow::Result<Self> {
        if settings.server.role != Role::Gateway {
            let app = App::open(settings, draining.clone()).await?;
            let internal = app.internal(settings, draining);
            return Ok(Self::Services { app: Box::new(app), internal });
        }
        // The configuration is not right without both.
        let keys = settings.nodes.keys.clone().context("there are no [nodes] keys")?;
        let services = settings.gateway.services.clone().context("there is no [gateway.services]")?;
        let nodes = Arc::new(ServiceNodes::new(keys, services));
        let stop = CancellationToken::new();
        let following = TaskTracker::new();
        following.spawn(nodes.clone().follow(stop.clone()));
        following.close();
        nodes.settle().await;
        Ok(Self::Gateway { nodes, stop, following })
    }

    /// The application, if it runs here.
    pub(crate) fn app(&self) -> Option<&App> {
        match self {
            Self::Services { app, .. } => Some(app),
            Self::Gateway { .. } => None,
        }
    }

    /// What has to be well for requests to come here.
    pub(crate) fn depends_on(&self) -> DependsOn {
        match self {
            Self::Services { app, .. } => DependsOn::Store(app.store().clone()),
            Self::Gateway { nodes, .. } => DependsOn::Services(nodes.clone()),
        }
    }

    /// What one request loop answers from. Called once for each.
    pub(crate) fn for_loop(&self, passage: &Passage) -> PerLoop<impl Upstream> {
        match self {
            Self::Services { app, internal } => {
                let services = app.services();
                let callers = Callers::new(services.store.clone(), services.identity.clone());
                let limit = RateLimit::new(services.store.clone(), services.rate_limits.clone());
                let router = app::router(app, services);
                let internal = internal.clone().map(|internal| {
                    gateway::internal(internal, callers.clone(), limit.clone(), passage, router.clone())
                });
                PerLoop { callers, limit, foot: Foot::Here(router), internal }
            }
            Self::Gateway { nodes, .. } => PerLoop {
                callers: Callers::elsewhere(nodes.clone()),
                // Where the services are, for all gateways together.
                limit: RateLimit::elsewhere(),
                foot: Foot::Elsewhere(Remote::new(nodes.clone())),
                internal: None,
            },
        }
    }

    /// Brings everything to rest, once no request runs.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        match self {
            Self::Services { app, .. } => app.close().await,
            Self::Gateway { stop, following, .. } => {
                stop.cancel();
                following.wait().await;
                Ok(())
            }
        }
    }
}
