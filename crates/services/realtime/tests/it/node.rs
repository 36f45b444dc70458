//! A node of one process with request loops of its own, and clients that read its streams.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use blobs::FolderBlobs;
use broker::{EmbeddedBroker, Wakeup};
use contract::store::{GetRecord, Store};
use http_body_util::BodyExt;
use identity::Identity;
use kit::app::App;
use kit::files::Files;
use kit::request::{CallInfo, RequestId};
use kit::spool::{Spool, SpoolBounds};
use model::context::{Caller, RequestContext};
use model::json::Json;
use model::step::{Access, CreateRecord, Step, WriteBatch};
use model::time::Timestamp;
use realtime::{Options, Realtime};
use store::sqlite::{Options as StoreOptions, SqliteStore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    router: Router,
    /// Of another request loop.
    other_router: Router,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) draining: CancellationToken,
    pub(crate) realtime: Realtime,
    marks: std::cell::Cell<u32>,
    _folder: tempfile::TempDir,
}

/// A client with its stream.
pub(crate) struct Client {
    pub(crate) id: String,
    address: IpAddr,
    body: Body,
    buffer: Vec<u8>,
}

/// One message, as it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) event: String,
    pub(crate) data: String,
}

pub(crate) const ROOT: &str = "root";

impl Node {
    pub(crate) async fn start() -> Node {
        Node::with(Options { node_code: "n0de".to_owned(), ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::start().unwrap());
        let wakeup = Arc::new(Wakeup::default());
        let mut store_options = StoreOptions::new(folder.path().join("data"));
        store_options.observers = vec![identity.clone(), wakeup.clone()];
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(store_options).unwrap());
        let broker = Arc::new(EmbeddedBroker::new(store.clone(), wakeup));
        let draining = CancellationToken::new();
        let files = Arc::new(Files {
            blobs: Arc::new(FolderBlobs::open(blobs::Options::new(folder.path().join("storage"))).unwrap()),
            spool: Arc::new(Spool::new(folder.path().to_owned(), SpoolBounds::default())),
        });
        let app = || App::new(store.clone(), identity.clone(), files.clone());
        let realtime = Realtime::start(app(), broker, options, draining.clone());
        let router = || {
            let services = Router::new().merge(records::router()).merge(admin::router());
            realtime.router().merge(services.with_state(Arc::new(app())))
        };
        let (router, other_router) = (router(), router());
        let node = Node {
            router,
            other_router,
            store,
            draining,
            realtime,
            marks: std::cell::Cell::new(0),
            _folder: folder,
        };
        let root = r#"{"id": "root00000000000", "email": "root@example.com", "password": "password1234",
            "passwordConfirm": "password1234"}"#;
        node.create_as_server("_superusers", root).await;
        node.collection(r#"{"name": "marks", "listRule": "", "fields": [{"name": "n", "type": "number"}]}"#)
            .await;
        node
    }

    /// Makes a record as the server itself.
    async fn create_as_server(&self, collection: &str, body: &str) {
        self.store.write(WriteBatch::one(self.create_step(collection, body))).await.unwrap().unwrap();
    }

    /// A step of the server itself.
    pub(crate) fn create_step(&self, collection: &str, body: &str) -> Step {
        let Ok(Json::Object(body)) = Json::parse_whole(body) else { panic!("{body}") };
        Step::Create(CreateRecord {
            set_by_hooks: Default::default(),
            collection: self.store.schema().by_name(collection).unwrap().id.clone(),
            body,
            uploads: Default::default(),
            password_hashes: [("password".to_owned(), "hash".to_owned())].into(),
            access: Access {
                context: Arc::new(RequestContext::guest(Timestamp(1_700_000_000_000))),
                check_rule: false,
            },
        })
    }

    /// Who signs in as `collection/id`; `root` is the superuser, the empty text a guest.
    pub(crate) async fn caller(&self, who: &str) -> Caller {
        let (collection, id) = match who {
            "" => return Caller::Guest,
            ROOT => ("_superusers", "root00000000000"),
            who => who.split_once('/').unwrap(),
        };
        let schema = self.store.schema();
        let query = GetRecord {
            schema_version: schema.version(),
            collection: schema.by_name(collection).unwrap().clone(),
            id: id.to_owned(),
            conditions: Vec::new(),
        };
        let record = Arc::new(self.store.get(query).await.unwrap().unwrap());
        if who == ROOT { Caller::Superuser(record) } else { Caller::Record(record) }
    }

    pub(crate) async fn send(
        &self,
        who: &str,
        address: IpAddr,
        method: &str,
        path: &str,
        body: &str,
    ) -> Response<Body> {
        let caller = self.caller(who).await;
        self.send_as(caller, address, method, path, body).await
    }

    pub(crate) async fn send_as(
        &self,
        caller: Caller,
        client_ip: IpAddr,
        method: &str,
        path: &str,
        body: &str,
    ) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        let request_id = RequestId(HeaderValue::from_static("r"));
        request.extensions_mut().insert(CallInfo { client_ip, request_id, caller });
        // Streams are spread over the loops by address.
        let is_other = matches!(client_ip, IpAddr::V4(ip) if ip.octets()[3] % 2 == 0);
        let router = if is_other { &self.other_router } else { &self.router };
        router.clone().call(request).await.unwrap()
    }

    /// Status and body.
    pub(crate) async fn call(&self, who: &str, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        read(self.send(who, local(1), method, path, body).await).await
    }

    /// A call that succeeds.
    pub(crate) async fn must(&self, who: &str, method: &str, path: &str, body: &str) -> Json {
        let (status, text) = self.call(who, method, path, body).await;
        assert!(status.is_success(), "{method} {path} {body}: {status} {text}");
        Json::parse_whole(&text).unwrap_or_default()
    }

    pub(crate) async fn collection(&self, body: &str) -> Json {
        self.must(ROOT, "POST", "/api/collections", body).await
    }

    /// Makes a record as the superuser.
    pub(crate) async fn create(&self, collection: &str, body: &str) -> Json {
        self.must(ROOT, "POST", &format!("/api/collections/{collection}/records"), body).await
    }

    pub(crate) async fn update(&self, collection: &str, id: &str, body: &str) -> Json {
        self.must(ROOT, "PATCH", &format!("/api/collections/{collection}/records/{id}"), body).await
    }

    pub(crate) async fn delete(&self, collection: &str, id: &str) {
        self.must(ROOT, "DELETE", &format!("/api/collections/{collection}/records/{id}"), "").await;
    }

    /// An auth collection `users` with these ids.
    pub(crate) async fn users(&self, rules: &str, ids: &[&str]) {
        // The one of a fresh install has rules of its own.
        self.must(ROOT, "DELETE", "/api/collections/users", "").await;
        self.collection(&format!(
            r#"{{"name": "users", "type": "auth", {rules} "fields": [{{"name": "team", "type": "text"}}]}}"#
        ))
        .await;
        for id in ids {
            let body = format!(
                r#"{{"id": "{id}", "email": "{}@example.com", "team": "a", "password": "secret1234",
                    "passwordConfirm": "secret1234"}}"#,
                id.trim_end_matches('0')
            );
            self.create("users", &body).await;
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_from(local(1)).await
    }

    pub(crate) async fn connect_from(&self, address: IpAddr) -> Client {
        self.connect_to("/api/realtime", address).await
    }

    pub(crate) async fn connect_to(&self, path: &str, address: IpAddr) -> Client {
        let response = self.send("", address, "GET", path, "").await;
        assert_eq!(response.status(), 200);
        let mut client =
            Client { id: String::new(), address, body: response.into_body(), buffer: Vec::new() };
        let text = client.next_text().await.unwrap();
        client.id = text.strip_prefix("id:").unwrap().split('\n').next().unwrap().to_owned();
        assert_eq!(text, format!("id:{0}\nevent:PB_CONNECT\ndata:{{\"clientId\":\"{0}\"}}\n\n", client.id));
        client
    }

    /// Sets a client's topics as somebody.
    pub(crate) async fn subscribe(&self, client: &Client, who: &str, topics: &[&str]) {
        let answer = self.try_subscribe(client, who, topics).await;
        assert_eq!(answer, (StatusCode::NO_CONTENT, String::new()));
    }

    pub(crate) async fn try_subscribe(
        &self,
        client: &Client,
        who: &str,
        topics: &[&str],
    ) -> (StatusCode, String) {
        let body = subscription(&client.id, topics);
        read(self.send(who, client.address, "POST", "/api/realtime", &body).await).await
    }

    /// A client that follows topics, and `marks`.
    pub(crate) async fn follower(&self, who: &str, topics: &[&str]) -> Client {
        let client = self.connect().await;
        self.subscribe(&client, who, &[topics, &["marks"]].concat()).await;
        client
    }

    /// All that a client is told of what was written before.
    pub(crate) async fn told(&self, client: &mut Client) -> Vec<Message> {
        let number = self.marks.get() + 1;
        self.marks.set(number);
        self.create("marks", &format!(r#"{{"n": {number}}}"#)).await;
        client.until_mark(number).await
    }

    /// The same of several clients.
    pub(crate) async fn all_told(&self, clients: &mut [Client]) -> Vec<Vec<Message>> {
        let number = self.marks.get() + 1;
        self.marks.set(number);
        self.create("marks", &format!(r#"{{"n": {number}}}"#)).await;
        let mut all = Vec::new();
        for client in clients {
            all.push(client.until_mark(number).await);
        }
        all
    }
}

impl Client {
    /// The next message as text; nothing when the stream has ended.
    pub(crate) async fn next_text(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let message = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8(message).unwrap());
            }
            let frame =
                timeout(PATIENCE, self.body.frame()).await.expect("the stream says something in time");
            self.buffer.extend_from_slice(&frame?.unwrap().into_data().unwrap());
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Message> {
        let text = self.next_text().await?;
        let rest = text.strip_prefix(&format!("id:{}\nevent:", self.id)).unwrap_or_else(|| panic!("{text}"));
        let (event, rest) = rest.split_once("\ndata:").unwrap();
        Some(Message { event: event.to_owned(), data: rest.strip_suffix("\n\n").unwrap().to_owned() })
    }

    async fn until_mark(&mut self, number: u32) -> Vec<Message> {
        let mut told = Vec::new();
        loop {
            let message = self.next().await.expect("the stream goes on");
            if message.event == "marks" {
                if message.json().get("record").unwrap().get("n").unwrap().as_number() == Some(number.into())
                {
                    return told;
                }
            } else {
                told.push(message);
            }
        }
    }

    /// Reads to the end of the stream.
    pub(crate) async fn ends(&mut self) -> bool {
        while self.next_text().await.is_some() {}
        true
    }
}

impl Message {
    pub(crate) fn json(&self) -> Json {
        Json::parse_whole(&self.data).unwrap()
    }

    /// `create id`
    pub(crate) fn said(&self) -> String {
        let json = self.json();
        let id = json.get("record").unwrap().get("id").and_then(Json::as_str).unwrap_or("?");
        format!("{} {id}", json.get("action").unwrap().as_str().unwrap())
    }
}

pub(crate) fn said(messages: &[Message]) -> Vec<String> {
    messages.iter().map(Message::said).collect()
}

pub(crate) fn subscription(client_id: &str, topics: &[&str]) -> String {
    let topics = topics.iter().map(|topic| Json::from(*topic)).collect();
    let body = [("clientId", Json::from(client_id)), ("subscriptions", Json::Array(topics))];
    Json::Object(body.map(|(name, value)| (name.to_owned(), value)).into()).to_string()
}

/// A topic with a filter.
pub(crate) fn filtered(topic: &str, filter: &str) -> String {
    with_query(topic, &[("filter", filter)])
}

pub(crate) fn with_query(topic: &str, query: &[(&str, &str)]) -> String {
    let query = query.iter().map(|(name, value)| ((*name).to_owned(), Json::from(*value))).collect();
    let options = Json::Object([("query".to_owned(), Json::Object(query))].into()).to_string();
    let encoded: String = options.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{topic}?options={encoded}")
}

pub(crate) fn local(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

pub(crate) async fn read(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}
