//! The edge: what every request passes before a service sees it, and every response after.
//!
//! [`accept`] takes connections from a listening socket and hands each to a loop of the [`RequestLoops`], where, after
//! the handshake of [`Tls`] if the socket is for that, a [`ConnectionServer`] reads its requests and gives them to the
//! [`stack()`]: `tower` layers, each of which does one thing (`layers/`), over an [`Upstream`]. Every layer over an
//! upstream is one again.
//!
//! At its top the [`Gateway`] finds the route of the request (`routes.rs`). There every request gets its id, is counted
//! by its route (`meters.rs`) and written down (`observe.rs`), whatever answers it further down, also a refusal or a caught
//! panic. Above it stand only the client, as trusted proxies name him (`layers/client.rs`: all that asks for an address has
//! it from there), and the header that asks browsers to keep to HTTPS.
//!
//! Then there are two ways. What has a route to a pool of servers is asked who calls if the route says so
//! (`layers/route_caller.rs`), and sent on (`proxy.rs`) to one of the pool (`upstreams.rs`); what it is answered is the
//! server's business. Everything else goes to the router of this process's services, called directly, through what the
//! contract has of an edge; nothing above it can tell. Both ways begin with the size of the head and the one host that it
//! names, whose refusals are looked at no further, and the redirect to HTTPS.
//!
//! Who refuses a request puts a `Refusal` among the response's extensions (`refusal.rs`): it is counted by its cause and
//! named in the log.
//!
//! Above all of it is the [`Passage`], which another process that takes this one's place closes.
//!
//! The order of the other layers (`stack.rs`), from the route down, and why:
//!
//! 1. What the head alone decides: a clean path, one framing, preflights. They are answered without an id and a routed
//!    response's headers, as the contract has it. The path comes before the framing, since that order is what clients see.
//! 2. The request's id, onto every answer from here down.
//! 3. What every such answer has: CORS, then the security headers.
//! 4. Compression, beneath what only adds headers, above whatever makes a body.
//! 5. The catching of panics, above all that asks the store or runs a service.
//! 6. The rates of addresses and the places of unanswered requests, so that not even who asks is found out for one too
//!    many.
//! 7. Who asks: the only layer that waits.
//! 8. The limits of requests, which depend on who asks: a refusal has a routed response's headers, as the contract has
//!    it. Then the rates of callers.
//!
//! What a response says to the layers above it travels among its extensions: [`kit::respond::AllowFraming`],
//! [`kit::respond::NoCompression`], and `Unrouted` for a refusal of the edge's own. To the upstream goes a
//! [`kit::request::CallInfo`].
//!
//! A request costs the local stack no boxed future, and no lock but that of the tokens that are remembered and, where limits are on,
//! that of its counter. What a stack answers from is its loop's own, and so are the connections to other servers; what is known of these is shared.
//!
//! The services may be on another node: then the foot of the stack is a `Remote`, and the stack behind the internal listener there
//! is a short one (`nodes.rs`).
//!
//! # What is bounded, and what happens then
//!
//! | what | past it |
//! |---|---|
//! | connections of the process, and of one address if so configured | 503, and closed |
//! | the header of a proxy that hands on connections (4 KiB, 5 s) | closed |
//! | TLS handshakes under way on a loop (1,024, 10 s each), and of one address once half are (64) | closed |
//! | a request's head (128 KiB, 256 headers) | 431 |
//! | requests at once of a connection of HTTP/2 (128) | the stream is refused |
//! | frames of no use on it, against answers and time | closed |
//! | an answer of which a client takes nothing (60 s; of HTTP/2 up to 120 s) | closed; of HTTP/2 the stream is reset |
//! | rules (200, 8 KiB each, patterns 256 KiB) | refused with the configuration |
//! | a request's body, where its route has `max_body` | 413, and no more of it goes on |
//! | time that a body lets us wait (10 s, 60 s over HTTP/2, and a second for each 256 bytes, before the answer) | 408 |
//! | requests that a server has at once | it is passed over; 503 when all are full |
//! | tries of a request, their time, retries in all | 502 or 504 |
//! | unanswered requests, in all and of a route, if so configured; those that wait for a place | 503 |
//! | keys that a rule of rates remembers (65,536) | those nearest to a full bucket are forgotten |
//! | challenges of certificate authorities that are answered (256) | the next waits for the next attempt |
//! | lines that wait for the access log (32,768) | lost, and counted |
//! | tokens of identity providers that are remembered (4,096 a loop) | all are forgotten, and verified anew |
//! | the keys of an identity provider (64 in 256 KiB, 5 s) | the old ones stay |
//! | tokens for servers that are used again (4,096 a loop) | all are forgotten, and signed anew |
//! | bodies that are looked at for a client of realtime, on a gateway node (64 MiB) | 503 |
//! | requests that wait while another process takes over (4,096, 10 s) | 503 |
//! | notices kept for gateways that come back (1,024) | a gateway begins anew, and forgets all tokens |
//! | streams of notices (256) | 503 |
//! | tokens that a gateway remembers (65,536) | old ones are asked for anew |
//! | servers that a name stands for (256), the look-up (5 s, 8 questions at once) | others are left out; the old ones stay |
//! | idle connections to a server (128 a loop, 4 s; of HTTP/2 30 s) | closed |
//! | connections of HTTP/2 to a server (8 a loop), requests on one (128, or what the server takes) | they wait for their turn |

mod access_log;
mod caller_tokens;
mod checks;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gateway;
mod identity_providers;
mod layers;
mod limits;
mod loops;
mod meters;
mod net;
mod networks;
mod nodes;
mod observe;
mod passage;
mod proxy;
mod refusal;
mod route_auth;
mod routes;
mod stack;
mod tls;
mod trace;
mod upstream;
mod upstreams;

pub use access_log::{AccessLog, AccessLogWriter};
pub use caller_tokens::may_be_told;
pub use checks::accepts::{Accepts, ContentType};
pub use checks::rules::{BadCondition, Condition, MAX_RULES, Rule, RuleAction, Scanners, scanner_names};
pub use gateway::{Gateway, GatewayOptions, NoSuchUpstream};
pub use identity_providers::{KeySource, Provider, ProviderSettings};
pub use layers::caller::Callers;
pub use layers::challenges::{Challenges, PendingChallenge};
pub use layers::cors::Origins;
pub use layers::https::HttpsRules;
pub use layers::rate_limit::RateLimit;
pub use limits::{CommonLimits, InFlight, MaxInFlight, Most, RateBy, RateRule, RouteLimits, TokenBuckets};
pub use loops::RequestLoops;
pub use net::{Admission, ConnectionRules, ConnectionServer, Transport, accept, bind, raise_open_files};
pub use networks::Networks;
pub use nodes::{Doors, Foot, Internal, Notices, Remote, ServiceNodes, internal};
pub use passage::{Passage, arrivals};
pub use route_auth::{RouteAuth, TokenRules};
pub use routes::{HostPattern, Route, Target};
pub use stack::{Edge, stack};
pub use tls::{CertificateFiles, CertificateProblem, Certificates, Tls, Validity};
pub use trace::Tracing;
pub use upstream::{Answer, Upstream};
pub use upstreams::{
    Balance, Discovery, HealthCheck, ServerTls, ServerTlsFiles, ServerTlsProblem, ServerUrl, ServiceName,
    SystemRoots, UpstreamSettings,
};
