//! The stack of one request loop, put together. Each line is a layer; the first is the first to see a request and the
//! last to see its response.

use std::sync::Arc;

use tower::ServiceBuilder;

use crate::access_log::AccessLog;
use crate::gateway::{Gateway, Routed};
use crate::layers::around::AroundLayer;
use crate::layers::before::{Before, BeforeLayer};
use crate::layers::caller::{self, Callers};
use crate::layers::catch_panic::CatchPanicLayer;
use crate::layers::challenges::{AnswerChallenges, Challenges};
use crate::layers::clean_path::CleanPath;
use crate::layers::client::Client;
use crate::layers::compress::Compress;
use crate::layers::cors::{Cors, Origins, Preflight};
use crate::layers::framing::Framing;
use crate::layers::head_size::HeadSize;
use crate::layers::https::{Hsts, HttpsRules, RedirectToHttps};
use crate::layers::one_host::OneHost;
use crate::layers::rate_limit::RateLimit;
use crate::layers::request_id::RequestIds;
use crate::layers::route_caller;
use crate::layers::security_headers::SecurityHeaders;
use crate::limits::{HoldPlaces, Rates};
use crate::net::ConnectionRules;
use crate::observe::Observer;
use crate::passage::Passage;
use crate::upstream::Upstream;

/// What the stack of one request loop goes by.
pub struct Edge {
    /// Whether requests are let in, or go on to the next process.
    pub passage: Passage,
    /// Whose word about clients is taken, and who of them may ask.
    pub connections: Arc<ConnectionRules>,
    /// What certificate authorities ask for.
    pub challenges: Challenges,
    /// What is asked of clients that come without TLS, and of browsers that come with it.
    pub https: HttpsRules,
    /// Whose pages may call.
    pub origins: Origins,
    /// Who asks.
    pub callers: Callers,
    /// How often.
    pub limit: RateLimit,
    /// What goes to other servers.
    pub gateway: Gateway,
    /// Where each answer is told of.
    pub log: Option<AccessLog>,
}

/// Everything between the connections of one request loop and what answers: the services of this process, or what
/// the gateway has routes to.
pub fn stack(edge: Edge, services: impl Upstream) -> impl Upstream {
    let Edge { passage, connections, challenges, https, origins, callers, limit, gateway, log } = edge;
    let head = HeadSize.then(OneHost).then(RedirectToHttps(https.redirect_to));
    let observer = Observer::new(log, &gateway);
    let local = ServiceBuilder::new()
        .layer(BeforeLayer(head.clone().then(CleanPath).then(Framing).then(Preflight(origins.clone()))))
        .layer(AroundLayer(RequestIds))
        .layer(AroundLayer(Cors(origins)))
        .layer(AroundLayer(SecurityHeaders))
        .layer(AroundLayer(Compress))
        .layer(CatchPanicLayer)
        .layer(HoldPlaces)
        .layer(caller::layer(callers.clone()))
        .layer(BeforeLayer(limit.then(Rates::<true>)))
        .service(services);
    let routed = ServiceBuilder::new()
        .layer(BeforeLayer(head.then(Framing)))
        .layer(AroundLayer(RequestIds))
        .layer(CatchPanicLayer)
        .layer(HoldPlaces)
        .layer(route_caller::layer(callers))
        .layer(BeforeLayer(Rates::<true>))
        .service(gateway.forward());
    let challenges = AnswerChallenges::new(challenges, observer.clone());
    ServiceBuilder::new()
        .layer(passage.layer())
        .layer(BeforeLayer(Client::new(connections, observer.clone()).then(challenges)))
        .layer(AroundLayer(Hsts::new(https.hsts)))
        .service(Routed::new(gateway, observer, local, routed))
}

#[cfg(test)]
mod tests;
