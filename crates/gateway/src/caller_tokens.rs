//! What a server is told of who calls: a token of its own, which counts for a minute and for nobody else.
//!
//! Signing one takes some microseconds, so it is used again for the same caller and route for half of its time. It is
//! known by the record as it was loaded: one that was changed is another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::http::HeaderValue;
use identity::caller_keys::{CallerKeys, ClaimsText};
use kit::record_json;
use metrics::{Counter, counter};
use model::record::Record;
use model::time::Timestamp;

use crate::identity_providers::ExternalCaller;
use crate::route_auth::{RouteAuth, RouteCaller, TokenRules};
use crate::routes::{Route, Target};

/// The `Authorization` that the server gets, among the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct CallerToken(pub(crate) HeaderValue);

/// The tokens of one request loop that are used again.
pub(crate) struct CallerTokens {
    /// By the addresses of record and route, which nothing else can have while they are kept here.
    kept: Mutex<HashMap<(usize, usize), Kept>>,
    signed: Counter,
}

struct Kept {
    _caller: Place,
    _route: Arc<Route>,
    token: CallerToken,
    /// Seconds since 1970; from then on there is another.
    until: i64,
}

/// A caller without what is known of him: only the address must not be another's.
enum Place {
    Record(#[allow(dead_code, reason = "it is held")] Weak<Record>),
    External(#[allow(dead_code, reason = "it is held")] Weak<ExternalCaller>),
}

const MAX_KEPT: usize = 4_096;

/// Of all fields together: servers take heads of some 8 KiB.
const MAX_FIELD_BYTES: usize = 4 << 10;

/// What a token says of itself: no field can.
const CLAIMS: [&str; 10] =
    ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "collection", "provider", "iss_original"];

/// Whether a token may have a field of this name: it would have to be no claim of its own, and no secret.
pub fn may_be_told(field: &str) -> bool {
    !field.is_empty() && !CLAIMS.contains(&field) && !matches!(field, "password" | "tokenKey")
}

// === impl CallerTokens ===

impl CallerTokens {
    /// The token by which the servers of a route know this caller. None while there are no keys.
    pub(crate) fn header(
        &self,
        keys: &CallerKeys,
        route: &Arc<Route>,
        auth: &RouteAuth,
        caller: &RouteCaller,
        now: Timestamp,
    ) -> Option<CallerToken> {
        let now = now.0 / 1_000;
        if let Some(token) = self.kept(route, caller, now) {
            return Some(token);
        }
        let audience = audience(route).unwrap_or_default();
        let (token, expires_at) = sign(keys, audience, &auth.tokens, &auth.fields, caller, now)?;
        self.signed.increment(1);
        self.keep(route, caller, &token, now, expires_at)
    }

    /// The one that this caller's servers were sent before, if that is not long ago.
    pub(crate) fn kept(&self, route: &Arc<Route>, caller: &RouteCaller, now: i64) -> Option<CallerToken> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(&place(route, caller)?).filter(|found| now < found.until)?;
        Some(found.token.clone())
    }

    /// Keeps one for half of its time.
    pub(crate) fn keep(
        &self,
        route: &Arc<Route>,
        caller: &RouteCaller,
        token: &str,
        now: i64,
        expires_at: i64,
    ) -> Option<CallerToken> {
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        let token = CallerToken(header);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, one| now < one.until);
        }
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        let place = place(route, caller)?;
        let caller = match caller {
            RouteCaller::Record(record) => Place::Record(Arc::downgrade(record)),
            RouteCaller::External(caller) => Place::External(Arc::downgrade(caller)),
            RouteCaller::Guest => return None,
        };
        let until = now.saturating_add(expires_at.saturating_sub(now) / 2);
        kept.insert(place, Kept { _caller: caller, _route: route.clone(), token: token.clone(), until });
        Some(token)
    }
}

/// Where a token is kept: while it is, nothing else can have these addresses.
fn place(route: &Arc<Route>, caller: &RouteCaller) -> Option<(usize, usize)> {
    Some((address(caller)?, Arc::as_ptr(route).addr()))
}

/// Whom a route's tokens are for.
pub(crate) fn audience(route: &Route) -> Option<&str> {
    match &route.target {
        Target::Upstream(name) => Some(name),
        Target::Services | Target::Redirect(_) => None,
    }
}

/// A token of this caller for an audience, and until when it counts, in seconds since 1970. None while there are no keys.
pub(crate) fn sign(
    keys: &CallerKeys,
    audience: &str,
    rules: &TokenRules,
    fields: &[String],
    caller: &RouteCaller,
    now: i64,
) -> Option<(String, i64)> {
    let lifetime = i64::try_from(rules.lifetime.as_secs()).unwrap_or(i64::MAX);
    let (claims, expires_at) = claims(audience, rules, fields, caller, now, lifetime);
    Some((keys.sign(&claims, now)?, expires_at))
}

impl Default for CallerTokens {
    fn default() -> Self {
        Self { kept: Mutex::default(), signed: counter!("groundswell_caller_tokens_signed_total") }
    }
}

fn address(caller: &RouteCaller) -> Option<usize> {
    match caller {
        RouteCaller::Guest => None,
        RouteCaller::Record(record) => Some(Arc::as_ptr(record).addr()),
        RouteCaller::External(caller) => Some(Arc::as_ptr(caller).addr()),
    }
}

/// What the token says, and until when it counts.
fn claims(
    audience: &str,
    rules: &TokenRules,
    fields: &[String],
    caller: &RouteCaller,
    now: i64,
    lifetime: i64,
) -> (String, i64) {
    let mut claims = ClaimsText::default();
    let mut expires_at = now.saturating_add(lifetime);
    claims.text("iss", &rules.issuer);
    if !audience.is_empty() {
        claims.text("aud", audience);
    }
    match caller {
        RouteCaller::Guest => {}
        RouteCaller::Record(record) => {
            claims.text("sub", record.id());
            claims.text("collection", &record.collection.name);
        }
        RouteCaller::External(caller) => {
            claims.text("sub", &caller.claims.subject);
            claims.text("provider", &caller.provider);
            claims.text("iss_original", &caller.issuer);
            // Ours does not outlive the one that it stands for, but for the difference of clocks.
            expires_at = expires_at.min(caller.claims.expires_at.max(now + 1));
        }
    }
    claims.number("iat", now);
    claims.number("exp", expires_at);
    claims.text("jti", &format!("{:032x}", rand::random::<u128>()));
    let mut room = MAX_FIELD_BYTES;
    let mut json = String::new();
    for field in fields {
        json.clear();
        if !may_be_told(field) || !write_field(caller, field, &mut json) {
            continue;
        }
        match room.checked_sub(json.len()) {
            Some(left) => {
                room = left;
                claims.json(field, &json);
            }
            None => tracing::warn!(field, "a token has no room for a field of its caller, and goes without"),
        }
    }
    (claims.finish(), expires_at)
}

fn write_field(caller: &RouteCaller, field: &str, json: &mut String) -> bool {
    match caller {
        RouteCaller::Guest => false,
        RouteCaller::Record(record) => record_json::write_field(record, field, json),
        RouteCaller::External(caller) => match caller.claims.all.get(field) {
            Some(claim) => {
                claim.write(json);
                true
            }
            None => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use contract::store::Store as _;
    use identity::caller_keys::KeySet;
    use model::json::Json;
    use model::value::Value;
    use store::sqlite::{self, SqliteStore};

    use super::*;

    /// A user as a fresh install has the collection.
    fn user(name: &str) -> Arc<Record> {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(sqlite::Options::new(folder.path().to_owned())).unwrap();
        let mut record = Record::empty(store.schema().by_name("users").unwrap().clone());
        for (field, value) in [("id", "r1"), ("email", "a@b.de"), ("name", name), ("tokenKey", "secret-1")] {
            record.set(field, Value::Text(value.to_owned()));
        }
        Arc::new(record)
    }

    fn route(fields: &[&str]) -> Arc<Route> {
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        let auth = Some(RouteAuth { fields, ..RouteAuth::default() });
        Arc::new(Route { auth, ..Route::new("/", Target::Upstream("shop".to_owned())) })
    }

    fn keys() -> CallerKeys {
        let keys = CallerKeys::default();
        keys.take(KeySet::generate(0));
        keys
    }

    fn token(
        tokens: &CallerTokens,
        keys: &CallerKeys,
        route: &Arc<Route>,
        record: &Arc<Record>,
        now: i64,
    ) -> String {
        let auth = route.auth.as_ref().unwrap();
        let CallerToken(header) = tokens
            .header(keys, route, auth, &RouteCaller::Record(record.clone()), Timestamp(now * 1_000))
            .unwrap();
        header.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned()
    }

    fn claims_of(token: &str) -> model::json::JsonObject {
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let Json::Object(claims) = Json::parse_first(&payload).unwrap() else { panic!("no object") };
        claims
    }

    #[test]
    fn a_token_says_who_calls_and_for_whom() {
        let route = route(&["email", "name", "verified", "tokenKey", "password", "nothing"]);
        let claims = claims_of(&token(&CallerTokens::default(), &keys(), &route, &user("Ann"), 1_000));
        for (name, value) in [
            ("iss", "\"groundswell\""),
            ("aud", "\"shop\""),
            ("sub", "\"r1\""),
            ("collection", "\"users\""),
            ("iat", "1000"),
            ("exp", "1060"),
            ("email", "\"a@b.de\""),
            ("name", "\"Ann\""),
            ("verified", "false"),
        ] {
            assert_eq!(claims.get(name).map(Json::to_string).as_deref(), Some(value), "{name}");
        }
        let all: Vec<&String> = claims.keys().collect();
        assert_eq!(all.len(), 10, "{all:?}");
    }

    #[test]
    fn a_token_is_used_again_while_nothing_changes() {
        let (tokens, keys, user, shop) = (CallerTokens::default(), keys(), user("Ann"), route(&[]));
        let first = token(&tokens, &keys, &shop, &user, 1_000);
        assert_eq!(token(&tokens, &keys, &shop, &user, 1_029), first);
        assert_ne!(token(&tokens, &keys, &shop, &user, 1_030), first);
        let again = token(&tokens, &keys, &shop, &user, 1_031);
        assert_ne!(token(&tokens, &keys, &route(&[]), &user, 1_031), again);
        assert_ne!(token(&tokens, &keys, &shop, &Arc::new((*user).clone()), 1_031), again);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (tokens, keys, user, shop) = (CallerTokens::default(), keys(), user("Ann"), route(&[]));
        for _ in 0..MAX_KEPT + 10 {
            token(&tokens, &keys, &shop, &Arc::new((*user).clone()), 1_000);
        }
        assert!(tokens.kept.lock().unwrap().len() <= MAX_KEPT);
    }

    #[test]
    fn a_field_that_is_too_long_is_left_out() {
        let long = "x".repeat(MAX_FIELD_BYTES);
        let claims =
            claims_of(&token(&CallerTokens::default(), &keys(), &route(&["name", "email"]), &user(&long), 0));
        assert!(!claims.contains_key("name") && claims.contains_key("email"));
    }

    #[test]
    fn without_keys_there_is_no_token() {
        let (route, keys) = (route(&[]), CallerKeys::default());
        let auth = route.auth.as_ref().unwrap();
        let caller = RouteCaller::Record(user("Ann"));
        assert!(CallerTokens::default().header(&keys, &route, auth, &caller, Timestamp(0)).is_none());
    }
}
