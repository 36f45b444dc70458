//! The nodes that run the services, as a gateway knows them, and what it remembers of callers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Limited};
use identity::cache::{Remembered, TokenCache};
use identity::jwt::{self, TokenKind};
use identity::node_keys::NodeKeys;
use identity::signed_caller::{Asks, SIGNED_CALLER, Word};
use kit::app::now;
use kit::error::ApiError;
use model::collection::{AuthOptions, Collection, CollectionKind, Rules};
use model::context::Caller;
use model::field::{Field, FieldKind, TextOptions};
use model::record::Record;
use model::settings::Settings;
use model::value::Value;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::{info, warn};

use super::message::{Hello, Notice, Told, Whose};
use super::{CALLER_PATH, TOKEN_PATH, link};
use crate::meters::{PoolMeter, Standing};
use crate::proxy::{Connections, Forward, Way};
use crate::routes::{Route, Target};
use crate::upstreams::{Pool, ServerUrl, UpstreamSettings};

/// Tokens that are remembered; past it old ones are forgotten and asked for anew.
const TOKENS: usize = 65_536;
/// How long a stream may be silent with what is remembered still believed: with the time that news takes, a revoked token
/// is asked for anew within a second. A stream says something every 200 ms.
const TRUSTED_FOR: Duration = Duration::from_millis(700);
/// How long a stream may be silent with requests still sent to its node: then they are answered 503 at once.
const REACHABLE_FOR: Duration = Duration::from_secs(2);
/// How long a node may take to say whose a token is.
const ASKED_FOR: Duration = Duration::from_secs(2);
/// The longest answer to that.
const MOST_ANSWER_BYTES: usize = 16 << 10;
/// How long a start waits for a first node.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the pool is called where it is told of. A pool of the configuration may be called `services`.
pub(crate) const TOLD_AS: &str = "gateway.services";

/// When to come again after a 503.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The nodes that run the services. One for the process.
pub struct ServiceNodes {
    keys: NodeKeys,
    nodes: Vec<Node>,
    /// All of them.
    pool: Arc<Pool>,
    /// The only one that their requests have.
    route: Arc<Route>,
    /// Of all that sends to them: a few for each request loop.
    connections: Mutex<Vec<Connections>>,
    tokens: TokenCache,
    settings: ArcSwap<Settings>,
    /// How often a node was found or lost.
    changes: watch::Sender<u64>,
    started: Instant,
}

/// One node.
pub(super) struct Node {
    pub(super) url: ServerUrl,
    /// It alone, for what no other can answer.
    alone: Arc<Pool>,
    code: ArcSwapOption<String>,
    /// The number of its last notice that was taken.
    number: AtomicU64,
    /// The number with which all is taken that was missed.
    caught_up_at: AtomicU64,
    /// When it last said something, in milliseconds since the start; 0 for never.
    heard: AtomicU64,
    /// Whether there is a stream.
    is_up: AtomicBool,
    is_lost: AtomicBool,
}

// === impl ServiceNodes ===

impl ServiceNodes {
    /// The nodes of these settings, of which nothing is known yet.
    pub fn new(keys: NodeKeys, settings: UpstreamSettings) -> Self {
        const NAME: &str = "services";
        // One for all: it is told of them together.
        let meter = Arc::<PoolMeter>::default();
        let pool = |settings| Arc::new(Pool::new(NAME, settings, meter.clone()));
        let node = |url: &ServerUrl| Node {
            url: url.clone(),
            alone: pool(UpstreamSettings { servers: vec![url.clone()], discovery: None, ..settings.clone() }),
            code: ArcSwapOption::empty(),
            number: AtomicU64::new(0),
            caught_up_at: AtomicU64::new(u64::MAX),
            heard: AtomicU64::new(0),
            is_up: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
        };
        Self {
            keys,
            nodes: settings.servers.iter().map(node).collect(),
            route: Arc::new(Route::new("/", Target::Upstream(NAME.to_owned()))),
            pool: pool(settings),
            connections: Mutex::default(),
            tokens: TokenCache::new(TOKENS),
            settings: ArcSwap::default(),
            changes: watch::Sender::new(0),
            started: Instant::now(),
        }
    }

    /// Follows all nodes until it is told to stop. Called on the background runtime.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let links = (0..self.nodes.len()).map(|index| link::keep(&self, &self.nodes[index]));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = join_all(links) => {}
        }
    }

    /// Waits until a node is known, or for a while.
    pub async fn settle(&self) {
        let mut changes = self.changes.subscribe();
        let known = changes.wait_for(|_| self.is_reachable());
        if tokio::time::timeout(PATIENCE, known).await.is_err() {
            warn!("no node runs the services yet: requests for them are answered 503");
        }
    }

    /// Whether a node that runs the services can be reached.
    pub fn is_reachable(&self) -> bool {
        let now = self.now();
        self.nodes.iter().any(|node| node.is_heard_within(REACHABLE_FOR, now))
    }

    /// What sends requests to them from one more place.
    pub(crate) fn forward(&self) -> Forward {
        let forward = Forward::default();
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(forward.connections.clone());
        forward
    }

    /// All nodes as one pool, as it is told of.
    pub(crate) fn standing(&self) -> Standing<'_> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pools = || std::iter::once(&self.pool).chain(self.nodes.iter().map(|node| &node.alone));
        let idle_of = |pool: &Arc<Pool>| -> usize {
            let servers = pool.servers();
            connections.iter().flat_map(|of| servers.iter().map(|server| of.idle(server))).sum()
        };
        Standing { name: TOLD_AS, pool: &self.pool, idle: pools().map(idle_of).sum::<usize>() as u64 }
    }

    /// The settings that the edge goes by; as they are by default before the first node is known.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Whose token this is, as an `Authorization` header has it. What is no token that counts is a guest's.
    pub(crate) async fn caller(&self, forward: &Forward, header: &str) -> Result<Caller, ApiError> {
        let seconds = now().0.div_euclid(1_000);
        let token = jwt::bearer_token(header);
        if token.is_empty() {
            return Ok(Caller::Guest);
        }
        if self.is_trusted()
            && let Some(remembered) = self.tokens.get(token, seconds)
        {
            return Ok(caller_of(remembered.record));
        }
        // What cannot be a token that counts is not asked about.
        match jwt::read(token) {
            Ok(token) if token.claims().purpose.kind() != TokenKind::Auth => return Ok(Caller::Guest),
            Ok(token) if token.claims().expires_at <= seconds => return Ok(Caller::Guest),
            Ok(_) => {}
            Err(_) => return Ok(Caller::Guest),
        }
        let ticket = self.tokens.begin();
        let whose = Whose::read(&self.ask(forward, CALLER_PATH, header).await?);
        let (collection, name, id, expires_at) = match whose {
            Some(Whose::Record { collection, name, id, expires_at }) => (collection, name, id, expires_at),
            Some(Whose::Nobody) => return Ok(Caller::Guest),
            None => return Err(ApiError::unavailable(RETRY_AFTER)),
        };
        let record = Arc::new(sketch(collection, name, id));
        if self.is_trusted() {
            let remembered = Remembered { record: record.clone(), expires_at, refreshable: false };
            self.tokens.insert(ticket, token, remembered, seconds);
        }
        Ok(caller_of(record))
    }

    /// What servers are told of the caller with this token, and until when it counts. None if it does not count.
    pub(crate) async fn told(
        &self,
        forward: &Forward,
        token: &str,
        audience: &str,
        fields: &[String],
    ) -> Result<Option<(String, i64)>, ApiError> {
        let encoded = |text: &str| percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string();
        let (audience, fields) = (encoded(audience), encoded(&fields.join(",")));
        let target = format!("{TOKEN_PATH}?audience={audience}&fields={fields}");
        let text = self.ask(forward, &target, token).await?;
        match Told::read(&text) {
            Some(Told { token, expires_at }) => Ok(Some((token, expires_at))),
            None if Whose::read(&text) == Some(Whose::Nobody) => Ok(None),
            None => Err(ApiError::unavailable(RETRY_AFTER)),
        }
    }

    /// What a node says of the token in an `Authorization` header.
    async fn ask(&self, forward: &Forward, target: &str, header: &str) -> Result<String, ApiError> {
        let header = HeaderValue::from_str(header).map_err(|_| ApiError::internal())?;
        let mut request = self.own_request(target)?;
        request.headers_mut().insert(AUTHORIZATION, header);
        let asked = async {
            let response = self.send(forward, self.pool.clone(), request).await;
            let is_answer = response.status() == StatusCode::OK;
            let body = Limited::new(response.into_body(), MOST_ANSWER_BYTES).collect().await.ok()?.to_bytes();
            String::from_utf8(body.to_vec()).ok().filter(|_| is_answer)
        };
        let answer = tokio::time::timeout(ASKED_FOR, asked).await;
        answer.ok().flatten().ok_or_else(|| ApiError::unavailable(RETRY_AFTER))
    }

    /// A request of the gateway's own.
    pub(super) fn own_request(&self, target: &str) -> Result<Request<Body>, ApiError> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = target.parse().map_err(|_| ApiError::internal())?;
        let from = std::net::Ipv4Addr::UNSPECIFIED.into();
        self.sign(&mut request, &Word { asks: Asks::Node, from, request_id: String::new() })?;
        Ok(request)
    }

    /// Puts a word into the head of a request, where nobody else's stays.
    pub(super) fn sign(&self, request: &mut Request<Body>, word: &Word) -> Result<(), ApiError> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let signed = word.sign(&self.keys, request.method().as_str(), target, now());
        let header = signed.and_then(|signed| HeaderValue::try_from(signed).ok());
        // Only ids and addresses are in it, which are short.
        request.headers_mut().insert(SIGNED_CALLER, header.ok_or_else(ApiError::internal)?);
        Ok(())
    }

    /// Sends a request to a node of a pool.
    pub(super) async fn send(
        &self,
        forward: &Forward,
        pool: Arc<Pool>,
        mut request: Request<Body>,
    ) -> Response<Body> {
        request.extensions_mut().insert(Way::Upstream { pool, route: self.route.clone() });
        let Ok(response) = forward.clone().call(request).await;
        response
    }

    /// All nodes.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Whether it matters which node a request goes to.
    pub(super) fn are_several(&self) -> bool {
        self.nodes.len() > 1
    }

    /// The node that holds a client's stream, alone. None where no node has such a code.
    pub(super) fn of_client(&self, client: &str) -> Option<&Arc<Pool>> {
        let holds = |node: &&Node| {
            let code = node.code.load();
            code.as_ref().is_some_and(|code| client.starts_with(code.as_str()))
        };
        self.nodes.iter().find(holds).map(|node| &node.alone)
    }

    /// Whether all that was revoked is known, but for what happened in this moment.
    fn is_trusted(&self) -> bool {
        let now = self.now();
        let is_trusted = |node: &Node| {
            let is_up = node.is_up.load(Ordering::SeqCst);
            is_up && node.has_caught_up() && node.is_heard_within(TRUSTED_FOR, now)
        };
        self.nodes.iter().all(is_trusted)
    }

    /// A stream began.
    pub(super) fn take_hello(&self, node: &Node, hello: Hello) {
        if !hello.continues {
            // What happened meanwhile is not known.
            self.tokens.forget_all();
            node.number.store(hello.number, Ordering::SeqCst);
        }
        self.settings.store(Arc::new(hello.edge.into_settings()));
        node.code.store(Some(Arc::new(hello.node)));
        node.caught_up_at.store(hello.number, Ordering::SeqCst);
        node.heard.store(self.millis(), Ordering::SeqCst);
        node.is_up.store(true, Ordering::SeqCst);
        self.pool.note_health(&node.url, true);
        if node.is_lost.swap(false, Ordering::Relaxed) {
            info!(server = %node.url, "a node that runs the services is back");
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// A stream said something, if only that it is there.
    pub(super) fn take_notice(&self, node: &Node, notice: Option<Notice>) {
        if let Some(Notice { number, records, all_tokens, edge }) = notice {
            for (collection, record) in &records {
                self.tokens.forget_record(collection, record);
            }
            if all_tokens {
                self.tokens.forget_all();
            }
            if let Some(edge) = edge {
                self.settings.store(Arc::new(edge.into_settings()));
            }
            node.number.store(number, Ordering::SeqCst);
        }
        node.heard.store(self.millis(), Ordering::SeqCst);
    }

    /// A stream ended, or did not begin. For a moment requests may still go there: a process that takes the place of
    /// another answers them, and one that is gone refuses them.
    pub(super) fn take_loss(&self, node: &Node, why: &str) {
        node.is_up.store(false, Ordering::SeqCst);
        self.pool.note_health(&node.url, false);
        if !node.is_lost.swap(true, Ordering::Relaxed) {
            warn!(server = %node.url, why, "a node that runs the services is out of reach");
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

// === impl Node ===

impl Node {
    /// It alone.
    pub(super) fn alone(&self) -> &Arc<Pool> {
        &self.alone
    }

    /// What was seen of it: its code, and the number of the last notice.
    pub(super) fn seen(&self) -> Option<(Arc<String>, u64)> {
        Some((self.code.load_full()?, self.number.load(Ordering::SeqCst)))
    }

    fn has_caught_up(&self) -> bool {
        self.number.load(Ordering::SeqCst) >= self.caught_up_at.load(Ordering::SeqCst)
    }

    fn is_heard_within(&self, time: Duration, now: Duration) -> bool {
        match self.heard.load(Ordering::SeqCst) {
            0 => false,
            heard => now.saturating_sub(Duration::from_millis(heard)) <= time,
        }
    }
}

/// A record of which only is known what it is called: enough for the edge. Its services load it themselves.
fn sketch(collection: String, name: String, id: String) -> Record {
    let field = Field {
        id: "id".to_owned(),
        name: "id".to_owned(),
        system: true,
        hidden: false,
        presentable: false,
        required: true,
        help: String::new(),
        kind: FieldKind::Text(TextOptions::default()),
    };
    let collection = Collection {
        id: collection,
        name,
        system: false,
        rules: Rules::default(),
        fields: vec![field],
        indexes: Vec::new(),
        created: String::new(),
        updated: String::new(),
        kind: CollectionKind::Auth(Box::<AuthOptions>::default()),
    };
    let mut record = Record::empty(Arc::new(collection));
    record.set("id", Value::Text(id));
    record
}

fn caller_of(record: Arc<Record>) -> Caller {
    if record.collection.is_superusers() { Caller::Superuser(record) } else { Caller::Record(record) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::message::EdgeSettings;

    const TOKEN: &str = "a.b.c";

    fn nodes() -> ServiceNodes {
        let servers = ["http://a:1", "http://b:1"].map(|url| ServerUrl::parse(url).unwrap());
        let keys = NodeKeys::parse(["1".repeat(64).as_str()]).unwrap();
        ServiceNodes::new(keys, UpstreamSettings::new(servers.to_vec()))
    }

    fn hello(node: &str, number: u64, continues: bool) -> Hello {
        Hello { node: node.to_owned(), number, continues, edge: EdgeSettings::default() }
    }

    fn remember(nodes: &ServiceNodes) {
        let record = Arc::new(sketch("c".to_owned(), "users".to_owned(), "r".to_owned()));
        let remembered = Remembered { record, expires_at: i64::MAX, refreshable: false };
        assert!(nodes.tokens.insert(nodes.tokens.begin(), TOKEN, remembered, 0));
    }

    /// Whether what is remembered of the token is believed.
    fn is_known(nodes: &ServiceNodes) -> bool {
        nodes.is_trusted() && nodes.tokens.get(TOKEN, 0).is_some()
    }

    #[test]
    fn a_client_is_at_the_node_whose_code_its_id_begins_with() {
        let nodes = nodes();
        nodes.take_hello(&nodes.nodes[0], hello("aaaa", 0, false));
        nodes.take_hello(&nodes.nodes[1], hello("bbbb", 0, false));
        let url = |client: &str| nodes.of_client(client).map(|pool| pool.servers()[0].url.to_string());
        assert_eq!(url("aaaa0123").as_deref(), Some("http://a:1"));
        assert_eq!(url("bbbb0123").as_deref(), Some("http://b:1"));
        assert_eq!(url("cccc0123"), None);
        // A process that took the place of another has another code.
        nodes.take_hello(&nodes.nodes[1], hello("cccc", 0, false));
        assert_eq!((url("cccc0123").as_deref(), url("bbbb0123")), (Some("http://b:1"), None));
    }

    #[test]
    fn what_is_remembered_is_believed_only_while_every_node_is_heard() {
        let nodes = nodes();
        nodes.take_hello(&nodes.nodes[0], hello("aaaa", 0, false));
        remember(&nodes);
        assert!(!is_known(&nodes), "nothing is known of the other node");
        nodes.take_hello(&nodes.nodes[1], hello("bbbb", 0, false));
        assert!(!is_known(&nodes), "what happened before it was heard is not known");
        remember(&nodes);
        assert!(is_known(&nodes));
        nodes.take_loss(&nodes.nodes[1], "a test");
        assert!(!is_known(&nodes) && nodes.is_reachable());
        // Back without a gap: but only once what was missed is taken.
        nodes.take_hello(&nodes.nodes[1], hello("bbbb", 1, true));
        assert!(!is_known(&nodes));
        nodes.take_notice(&nodes.nodes[1], Some(Notice { number: 1, ..Notice::default() }));
        assert!(is_known(&nodes));
    }

    #[test]
    fn a_notice_forgets_what_it_names() {
        let nodes = nodes();
        nodes.take_hello(&nodes.nodes[0], hello("aaaa", 0, false));
        nodes.take_hello(&nodes.nodes[1], hello("bbbb", 0, false));
        let records = vec![("c".to_owned(), "r".to_owned())];
        for notice in [
            Notice { number: 1, records, ..Notice::default() },
            Notice { number: 2, all_tokens: true, ..Notice::default() },
        ] {
            remember(&nodes);
            assert!(is_known(&nodes));
            nodes.take_notice(&nodes.nodes[0], Some(notice));
            assert!(!is_known(&nodes));
        }
        let edge = EdgeSettings { superuser_ips: vec!["10.0.0.1".to_owned()], ..EdgeSettings::default() };
        nodes.take_notice(&nodes.nodes[0], Some(Notice { number: 3, edge: Some(edge), ..Notice::default() }));
        assert_eq!(nodes.settings().superuser_ips, ["10.0.0.1"]);
    }
}
