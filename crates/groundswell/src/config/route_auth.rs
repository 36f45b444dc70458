//! What a route asks of whoever calls: `auth` and the keys that go with it.

use gateway::{RouteAuth, Target, TokenRules, may_be_told};

use super::reader::Section;
use super::tree::Origin;

const AUTH: &str = "required, optional or none";

/// None for a route that asks nothing.
pub(super) fn read(section: &mut Section<'_>, target: &Target, tokens: &TokenRules) -> Option<RouteAuth> {
    let auth = section.parsed("auth", AUTH, |text| match text {
        "required" => Some(Some(true)),
        "optional" => Some(Some(false)),
        "none" => Some(None),
        _ => None,
    });
    let collections = section.list("collections");
    let cookie = section.parsed("auth_cookie", "the name of a cookie, such as pb_auth", cookie_name);
    let fields = section.list("token_fields");
    let Some((Some(is_required), origin)) = auth else {
        refuse_alone(section, "collections", collections.map(|(_, origin)| origin));
        refuse_alone(section, "token_fields", fields.map(|(_, origin)| origin));
        refuse_alone(section, "auth_cookie", cookie.map(|(_, origin)| origin));
        return None;
    };
    if !matches!(target, Target::Upstream(_)) {
        let message = "is for routes to an upstream: the application checks callers itself";
        section.refuse(&origin, "auth", message);
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
        tokens: tokens.clone(),
    })
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
