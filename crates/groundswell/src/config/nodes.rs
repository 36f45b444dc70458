//! What this process is for, and how it knows the other nodes of its application.

use gateway::Route;
use identity::node_keys::NodeKeys;

use super::reader::Section;
use super::settings::Settings;
use super::tree::Origin;

/// What a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The gateway and the services.
    All,
    /// The gateway, before nodes that run the services.
    Gateway,
    /// The services, behind gateways.
    Services,
}

/// `[nodes]`
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeSettings {
    pub(crate) keys: Option<NodeKeys>,
}

/// Where the keys stand that have to fit each other.
pub(super) struct Places<'a> {
    pub(super) roles: Option<&'a Origin>,
    pub(super) http: Option<&'a Origin>,
    pub(super) https: Option<&'a Origin>,
    pub(super) internal: Option<&'a Origin>,
    pub(super) services: Option<&'a Origin>,
    pub(super) keys: Option<&'a Origin>,
}

const SERVICES: [&str; 6] = ["auth", "records", "files", "realtime", "admin", "jobs"];

impl NodeSettings {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let keys = section.list("keys").and_then(|(texts, origin)| {
            let keys = NodeKeys::parse(texts.iter().map(String::as_str));
            // None of them is shown.
            keys.map_err(|error| section.refuse(&origin, "keys", error.to_string())).ok()
        });
        section.finish();
        Self { keys }
    }
}

impl Role {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        const TOGETHER: &str =
            "the services go together while the store is SQLite; write [\"services\"] for all of them";
        let Some((roles, origin)) = section.list("roles") else { return Self::All };
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        let are_services = !roles.is_empty() && roles.iter().all(|role| SERVICES.contains(role));
        match roles.as_slice() {
            ["all"] => return Self::All,
            ["gateway"] => return Self::Gateway,
            ["services"] => return Self::Services,
            roles if are_services && SERVICES.iter().all(|service| roles.contains(service)) => {
                return Self::Services;
            }
            _ if are_services => section.refuse(&origin, "roles", TOGETHER),
            _ => section.refuse(&origin, "roles", "write [\"all\"], [\"gateway\"] or [\"services\"]"),
        }
        Self::All
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Gateway => "gateway",
            Self::Services => "services",
        }
    }
}

const NOT_SIGNED: &str = "a gateway node cannot sign tokens for callers of other identity providers; \
    write forward = \"original\", or roles = [\"all\"]";
const NO_SERVICES: &str =
    "is missing; a gateway node has to know where the services are: write servers = [\"http://HOST:PORT\"]";
const NOT_ON_GATEWAYS: &str = "is for nodes that run the services, and this one is a gateway";
const NO_INTERNAL: &str =
    "is missing; gateways reach the services there: write HOST:PORT, such as 10.0.0.5:8092";
const NOT_FOR_CLIENTS: &str =
    "is for clients, and this node is for gateways; write roles = [\"all\"], or leave it out";
const ONLY_GATEWAYS: &str = "is for gateway nodes; write roles = [\"gateway\"], or leave it out";
const NO_KEYS: &str =
    "are missing; nodes know each other by keys that they share: make one with `openssl rand -hex 32`";

/// Notes what does not fit together.
pub(super) fn check(root: &Section<'_>, settings: &Settings, places: &Places<'_>) {
    let role = settings.server.role;
    let refuse = |origin: Option<&Origin>, key: &str, message: &str| {
        if let Some(origin) = origin.or(places.roles) {
            root.refuse(origin, key, message);
        }
    };
    if role == Role::Gateway {
        if places.services.is_none() {
            refuse(None, "gateway.services", NO_SERVICES);
        }
        if places.internal.is_some() {
            refuse(places.internal, "server.internal", NOT_ON_GATEWAYS);
        }
        let is_told = |route: &Route| {
            let auth = route.auth.as_ref();
            auth.is_some_and(|auth| auth.provider.is_some() && !auth.forwards_original)
        };
        if settings.gateway.routes.iter().any(is_told) {
            refuse(None, "gateway.routes", NOT_SIGNED);
        }
    } else if places.services.is_some() {
        refuse(places.services, "gateway.services", ONLY_GATEWAYS);
    }
    if role == Role::Services {
        if places.internal.is_none() {
            refuse(None, "server.internal", NO_INTERNAL);
        }
        for (origin, key) in [(places.http, "server.http"), (places.https, "server.https")] {
            if origin.is_some() {
                refuse(origin, key, NOT_FOR_CLIENTS);
            }
        }
    }
    if (role == Role::Gateway || places.internal.is_some()) && places.keys.is_none() {
        refuse(places.internal, "nodes.keys", NO_KEYS);
    }
}
