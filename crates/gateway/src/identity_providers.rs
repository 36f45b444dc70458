//! Identity providers of others: their keys, fetched and kept up to date in the background, and the tokens that were
//! verified by them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use identity::external::{self, Algorithm, ExternalClaims, ExternalError, Jwks, TokenPolicy};
use kit::outbound::{Limits, Outbound, OutboundPolicy, OutboundRequest, OutboundUrl};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::routes::Route;

/// What the configuration says of one.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// What its tokens must be like.
    pub policy: TokenPolicy,
    /// Where its keys are.
    pub keys: KeySource,
}

/// Where a provider's keys are.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A JWK set on a server, which must be one that requests may go to.
    Url(OutboundUrl, Arc<OutboundPolicy>),
    /// A JWK set in a file, which is looked at now and then.
    File(PathBuf),
}

/// A provider, and what is known of its keys. All request loops share it.
pub struct Provider {
    name: String,
    settings: ProviderSettings,
    published: ArcSwapOption<Jwks>,
    /// Asks for the keys before their time.
    wanted: Notify,
    /// How many attempts to get them have ended.
    attempts: watch::Sender<u64>,
    is_fetching: AtomicBool,
    /// When the last attempt began, in milliseconds since `born`.
    last_attempt: AtomicU64,
    born: Instant,
}

/// A caller whom a provider vouches for.
#[derive(Debug)]
pub(crate) struct ExternalCaller {
    pub(crate) provider: String,
    pub(crate) issuer: String,
    pub(crate) claims: ExternalClaims,
}

/// Why a token was not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unverified {
    /// It does not count.
    Token(ExternalError),
    /// There have never been keys to verify it with.
    NoKeys,
}

/// The tokens that one request loop has verified.
#[derive(Default)]
pub(crate) struct KnownTokens(Mutex<HashMap<[u8; 32], Known>>);

struct Known {
    caller: Arc<ExternalCaller>,
    /// By which keys: with others it is verified anew.
    keys: Arc<Jwks>,
}

/// A token whose key is not known asks for the keys at most so often, however many there are of them.
const ASKED_EVERY: Duration = Duration::from_secs(30);
/// How long such a request waits for an attempt that is under way.
const PATIENCE: Duration = Duration::from_secs(2);
const LIMITS: Limits = Limits { deadline: Duration::from_secs(5), max_answer_bytes: 256 << 10 };
/// Within which bounds a provider says how long its keys are good for, and what is taken where it says nothing.
const SHORTEST: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
const USUAL: Duration = Duration::from_secs(3_600);
const FILE_EVERY: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Past it all are forgotten.
const MAX_KNOWN: usize = 4_096;

/// Lets routes whose providers stay as they were have those that are there, with their keys. Gives the providers.
pub(crate) fn carry_over(routes: &mut [Route], before: &[Arc<Route>]) -> Vec<Arc<Provider>> {
    let mut all: Vec<Arc<Provider>> = Vec::new();
    let known: Vec<&Arc<Provider>> = before.iter().filter_map(|route| provider_of(route)).collect();
    for route in routes {
        let Some(provider) = route.auth.as_mut().and_then(|auth| auth.provider.as_mut()) else { continue };
        if let Some(same) = all.iter().chain(known.iter().copied()).find(|known| **known == *provider) {
            *provider = same.clone();
        }
        if !all.contains(provider) {
            all.push(provider.clone());
        }
    }
    all
}

fn provider_of(route: &Route) -> Option<&Arc<Provider>> {
    route.auth.as_ref()?.provider.as_ref()
}

/// Keeps a provider's keys up to date until it is told to stop. What was fetched stays when an attempt fails.
pub(crate) async fn follow(provider: Arc<Provider>, stop: CancellationToken) {
    let outbound = match &provider.settings.keys {
        KeySource::Url(_, policy) => Some(Outbound::new(policy.clone())),
        KeySource::File(_) => None,
    };
    let mut retry = FIRST_RETRY;
    while !stop.is_cancelled() {
        let fetched = tokio::select! {
            () = stop.cancelled() => return,
            fetched = provider.attempt(outbound.as_ref()) => fetched,
        };
        let pause = match fetched {
            Ok(pause) => {
                retry = FIRST_RETRY;
                pause
            }
            Err(problem) => {
                warn!(
                    provider = provider.name,
                    problem, "the keys of an identity provider could not be fetched"
                );
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
                pause
            }
        };
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(until) => break,
                () = provider.wanted.notified() => if provider.may_be_asked() { break },
            }
        }
    }
}

// === impl Provider ===

impl Provider {
    /// A provider whose keys are not known yet.
    pub fn new(name: String, settings: ProviderSettings) -> Self {
        Self {
            name,
            settings,
            published: ArcSwapOption::empty(),
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
            is_fetching: AtomicBool::new(false),
            last_attempt: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// Whose token this is. One whose key is not known may wait a little, until the keys were fetched anew.
    pub(crate) async fn verify(
        &self,
        known: &KnownTokens,
        token: &str,
        now: i64,
    ) -> Result<Arc<ExternalCaller>, Unverified> {
        let mut attempts = self.attempts.subscribe();
        let first = self.verify_now(known, token, now);
        let may_help =
            matches!(first, Err(Unverified::NoKeys | Unverified::Token(ExternalError::UnknownKey)));
        if !may_help || !self.ask() {
            return first;
        }
        let _ = timeout(PATIENCE, attempts.changed()).await;
        self.verify_now(known, token, now)
    }

    fn verify_now(
        &self,
        known: &KnownTokens,
        token: &str,
        now: i64,
    ) -> Result<Arc<ExternalCaller>, Unverified> {
        let keys = self.published.load_full().ok_or(Unverified::NoKeys)?;
        let policy = &self.settings.policy;
        let hash = self.hash(token);
        if let Some(caller) = known.get(&hash, &keys) {
            let is_over = now >= caller.claims.expires_at.saturating_add(policy.clock_skew);
            return if is_over { Err(Unverified::Token(ExternalError::Expired)) } else { Ok(caller) };
        }
        let claims = external::verify(token, &keys, policy, now).map_err(Unverified::Token)?;
        let (provider, issuer) = (self.name.clone(), policy.issuer.clone());
        let caller = Arc::new(ExternalCaller { provider, issuer, claims });
        known.insert(hash, Known { caller: caller.clone(), keys });
        Ok(caller)
    }

    /// What is kept in memory of a token signs nobody in.
    fn hash(&self, token: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        hash.update([0]);
        hash.update(token.as_bytes());
        hash.finalize().into()
    }

    /// Asks for the keys. False if nothing comes of it soon.
    fn ask(&self) -> bool {
        if self.is_fetching.load(Ordering::Acquire) {
            return true;
        }
        let may_be_asked = self.may_be_asked();
        if may_be_asked {
            self.wanted.notify_one();
        }
        may_be_asked
    }

    fn may_be_asked(&self) -> bool {
        let last = Duration::from_millis(self.last_attempt.load(Ordering::Acquire));
        self.born.elapsed().saturating_sub(last) >= ASKED_EVERY
    }

    /// Fetches the keys once. Gives how long they are good for.
    async fn attempt(&self, outbound: Option<&Outbound>) -> Result<Duration, String> {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_attempt.store(now, Ordering::Release);
        self.is_fetching.store(true, Ordering::Release);
        let fetched = self.fetch(outbound).await;
        if let Ok((keys, _)) = &fetched {
            self.publish(keys.clone());
        }
        self.is_fetching.store(false, Ordering::Release);
        self.attempts.send_modify(|attempts| *attempts += 1);
        fetched.map(|(_, pause)| pause)
    }

    fn publish(&self, keys: Arc<Jwks>) {
        let before = self.published.load();
        if before.as_ref().is_none_or(|before| **before != *keys) {
            info!(provider = self.name, ?keys, "an identity provider has new keys");
            self.published.store(Some(keys));
        }
    }

    async fn fetch(&self, outbound: Option<&Outbound>) -> Result<(Arc<Jwks>, Duration), String> {
        let (text, pause) = match (&self.settings.keys, outbound) {
            (KeySource::Url(url, _), Some(outbound)) => fetch_url(url, outbound).await?,
            (KeySource::File(path), _) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
                let text = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
                (text, FILE_EVERY)
            }
            (KeySource::Url(..), None) => return Err("there is no client".to_owned()),
        };
        let keys = Jwks::parse(&text).map_err(|error| error.to_string())?;
        Ok((Arc::new(keys), pause))
    }
}

/// As much of it as an answer may have: what goes on reads as no set.
fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LIMITS.max_answer_bytes as u64).read_to_string(&mut text)?;
    Ok(text)
}

async fn fetch_url(url: &OutboundUrl, outbound: &Outbound) -> Result<(String, Duration), String> {
    let (method, headers, body) = (Method::GET, HeaderMap::new(), Bytes::new());
    let request = OutboundRequest { method, url, headers, body };
    let answer = outbound.send(request, LIMITS).await.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("the answer was {}", answer.status.as_u16()));
    }
    if answer.is_cut {
        return Err("the answer was too long".to_owned());
    }
    let text = std::str::from_utf8(&answer.body).map_err(|_| "the answer was no text".to_owned())?;
    Ok((text.to_owned(), good_for(&answer.headers)))
}

/// How long an answer says that it is good for.
fn good_for(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|line| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    let seconds = directives.find_map(|one| one.strip_prefix("max-age=")?.parse().ok());
    seconds.map_or(USUAL, Duration::from_secs).clamp(SHORTEST, LONGEST)
}

/// By what the configuration says: what is known of the keys is not looked at.
impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        let is_same_source = match (&self.settings.keys, &other.settings.keys) {
            (KeySource::Url(one, _), KeySource::Url(other, _)) => one == other,
            (KeySource::File(one), KeySource::File(other)) => one == other,
            _ => false,
        };
        self.name == other.name && is_same_source && self.settings.policy == other.settings.policy
    }
}

impl Eq for Provider {}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl ProviderSettings ===

impl ProviderSettings {
    /// What is allowed where nothing is said.
    pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
}

// === impl KnownTokens ===

impl KnownTokens {
    fn get(&self, hash: &[u8; 32], keys: &Arc<Jwks>) -> Option<Arc<ExternalCaller>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|known| Arc::ptr_eq(&known.keys, keys)).map(|known| known.caller.clone())
    }

    fn insert(&self, hash: [u8; 32], one: Known) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(hash, one);
    }
}

#[cfg(test)]
mod tests {
    use identity::caller_keys::KeySet;

    use super::*;
    use crate::route_auth::RouteAuth;
    use crate::routes::Target;

    const NOW: i64 = 1_000;

    fn provider(name: &str, file: PathBuf) -> Arc<Provider> {
        let policy = TokenPolicy {
            issuer: "i".to_owned(),
            audiences: vec!["a".to_owned()],
            clock_skew: 60,
            algorithms: ProviderSettings::ALGORITHMS.to_vec(),
        };
        Arc::new(Provider::new(name.to_owned(), ProviderSettings { policy, keys: KeySource::File(file) }))
    }

    fn token(keys: &KeySet) -> String {
        keys.sign(r#"{"iss":"i","aud":"a","sub":"u","exp":2000}"#, NOW).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_looked_for_once_in_a_while_and_the_old_set_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let (one, two) = (KeySet::generate(0), KeySet::generate(0));
        let (provider, known) = (provider("p", file.clone()), KnownTokens::default());
        assert_eq!(provider.verify_now(&known, &token(&one), NOW).unwrap_err(), Unverified::NoKeys);
        std::fs::write(&file, one.jwks()).unwrap();
        provider.attempt(None).await.unwrap();
        let first = provider.verify(&known, &token(&one), NOW).await.unwrap();
        assert_eq!((first.claims.subject.as_str(), first.provider.as_str()), ("u", "p"));
        // Asked a moment ago: nobody waits.
        let unknown = Unverified::Token(ExternalError::UnknownKey);
        assert_eq!(provider.verify(&known, &token(&two), NOW).await.unwrap_err(), unknown);
        assert!(!provider.ask());
        tokio::time::advance(ASKED_EVERY).await;
        assert!(provider.ask());
        std::fs::write(&file, "nothing").unwrap();
        provider.attempt(None).await.unwrap_err();
        assert!(provider.verify(&known, &token(&one), NOW).await.is_ok());
        std::fs::write(&file, two.jwks()).unwrap();
        provider.attempt(None).await.unwrap();
        assert!(provider.verify(&known, &token(&two), NOW).await.is_ok());
        // A key that is published no more verifies nothing, also what is remembered.
        assert_eq!(provider.verify(&known, &token(&one), NOW).await.unwrap_err(), unknown);
    }

    #[tokio::test]
    async fn a_verified_token_is_remembered_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(0);
        let (provider, known) = (provider("p", folder.path().join("jwks.json")), KnownTokens::default());
        std::fs::write(folder.path().join("jwks.json"), keys.jwks()).unwrap();
        provider.attempt(None).await.unwrap();
        let token = token(&keys);
        let first = provider.verify_now(&known, &token, NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &provider.verify_now(&known, &token, 2_059).unwrap()));
        let expired = Unverified::Token(ExternalError::Expired);
        assert_eq!(provider.verify_now(&known, &token, 2_060).unwrap_err(), expired);
        // Keys that are fetched again and are the same make nothing forgotten.
        provider.attempt(None).await.unwrap();
        assert!(Arc::ptr_eq(&first, &provider.verify_now(&known, &token, NOW).unwrap()));
    }

    #[test]
    fn a_provider_that_stays_as_it_was_keeps_its_keys() {
        let route = |provider: Arc<Provider>| {
            let auth = RouteAuth { provider: Some(provider), ..RouteAuth::default() };
            Route { auth: Some(auth), ..Route::new("/", Target::Upstream("u".to_owned())) }
        };
        let before = provider("p", "a".into());
        let mut routes = [route(provider("p", "a".into())), route(provider("p", "b".into()))];
        let all = carry_over(&mut routes, &[Arc::new(route(before.clone()))]);
        assert!(Arc::ptr_eq(&all[0], &before) && all.len() == 2);
        assert!(Arc::ptr_eq(provider_of(&routes[0]).unwrap(), &before));
    }

    #[test]
    fn a_provider_says_within_bounds_how_long_its_keys_are_good_for() {
        for (line, seconds) in [
            ("public, max-age=600", 600),
            ("max-age=1", 300),
            ("max-age=99999999", 86_400),
            ("no-store", 3_600),
            ("max-age=x", 3_600),
        ] {
            let headers = [(CACHE_CONTROL, line.parse().unwrap())].into_iter().collect();
            assert_eq!(good_for(&headers), Duration::from_secs(seconds), "{line}");
        }
    }
}
