//! What a route asks of whoever calls: `auth` and the keys that go with it.

use std::sync::Arc;

use gateway::{Provider, RouteAuth, Target, TokenRules, may_be_told};

use super::reader::{Section, Text};
use super::tree::Origin;

const AUTH: &str = "required, optional or none";

/// What routes may refer to.
pub(super) struct WhoMayCall<'a> {
    pub(super) tokens: &'a TokenRules,
    pub(super) providers: &'a [Arc<Provider>],
}

/// None for a route that asks nothing.
pub(super) fn read(section: &mut Section<'_>, target: &Target, who: &WhoMayCall<'_>) -> Option<RouteAuth> {
    let auth = section.parsed("auth", AUTH, |text| match text {
        "required" => Some(Some(true)),
        "optional" => Some(Some(false)),
        "none" => Some(None),
        _ => None,
    });
    let collections = section.list("collections");
    let cookie = section.parsed("auth_cookie", "the name of a cookie, such as pb_auth", cookie_name);
    let fields = section.list("token_fields");
    let provider = section.text("identity");
    let forward = section.parsed("forward", "token or original", |text| match text {
        "token" => Some(false),
        "original" => Some(true),
        _ => None,
    });
    let Some((Some(is_required), origin)) = auth else {
        refuse_alone(section, "collections", collections.map(|(_, origin)| origin));
        refuse_alone(section, "identity", provider.map(|name| name.origin));
        refuse_alone(section, "forward", forward.map(|(_, origin)| origin));
        refuse_alone(section, "token_fields", fields.map(|(_, origin)| origin));
        refuse_alone(section, "auth_cookie", cookie.map(|(_, origin)| origin));
        return None;
    };
    if !matches!(target, Target::Upstream(_)) {
        let message = "is for routes to an upstream: the application checks callers itself";
        section.refuse(&origin, "auth", message);
    }
    let provider = provider.and_then(|name| find_provider(section, &name, who));
    if let (Some(_), Some((_, origin))) = (&provider, &collections) {
        section.refuse(origin, "collections", "are the application's own; leave them out beside identity");
    }
    if let (None, Some((true, origin))) = (&provider, &forward) {
        let message = "original tokens are those of identity; the application's own never reach a server";
        section.refuse(origin, "forward", message);
    }
    let collections = collections.map(|(names, origin)| {
        if names.is_empty() {
            section.refuse(&origin, "collections", "must name an auth collection, such as users");
        }
        names
    });
    if let Some((names, origin)) = &fields {
        for name in names.iter().filter(|name| !may_be_told(name)) {
            let message =
                format!("{name:?} is a secret, or something that a token says of itself; leave it out");
            section.refuse(origin, "token_fields", message);
        }
    }
    Some(RouteAuth {
        is_required,
        collections: collections.unwrap_or_default(),
        cookie: cookie.map(|(name, _)| name),
        fields: fields.map(|(names, _)| names).unwrap_or_default(),
        provider,
        forwards_original: forward.is_some_and(|(is_original, _)| is_original),
        tokens: who.tokens.clone(),
    })
}

fn find_provider(section: &Section<'_>, name: &Text, who: &WhoMayCall<'_>) -> Option<Arc<Provider>> {
    let found = who.providers.iter().find(|provider| provider.name() == name.value);
    if found.is_none() {
        let message = format!(
            "there is no identity provider {:?}; write [gateway.identity_providers.{}] with its issuer and keys",
            name.value, name.value
        );
        section.refuse(&name.origin, "identity", message);
    }
    found.cloned()
}

fn refuse_alone(section: &Section<'_>, key: &str, origin: Option<Origin>) {
    if let Some(origin) = origin {
        section.refuse(&origin, key, "does nothing without auth; write auth = \"required\" or \"optional\"");
    }
}

fn cookie_name(text: &str) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!text.is_empty() && text.bytes().all(is_name)).then(|| text.to_owned())
}
