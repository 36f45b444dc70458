//! HTTP/2 as clients meet it: chosen with TLS, or begun without it where that is allowed.

use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::server::{PATIENCE, Server, connect, read_response, request};
use crate::tls::{Secured, TLS, secured};
use crate::upstreams::{echo, read_head, upstream};

/// A connection of HTTP/2, and what drives it.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    pub(crate) sender: SendRequest<Full<Bytes>>,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A server that takes HTTP/2 without TLS, and whose configuration goes on with `config` after `[server]`.
pub(crate) fn plain(config: &str) -> Server {
    plain_with(|_| (), config)
}

fn plain_with(prepare: impl FnOnce(&Path), config: &str) -> Server {
    let config = format!("[server]\nhttp2_plain = true\n{config}");
    let prepare = |folder: &Path| {
        prepare(folder);
        fs::write(folder.join("g.toml"), config).unwrap();
    };
    Server::start_with(prepare, &["--config", "g.toml"])
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What comes of it, in time.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

async fn handshake<S>(stream: S) -> SendRequest<Full<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn ask(method: &str, target: &str, headers: &[&str], body: &[u8]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("http://test{target}"));
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}

async fn read(response: hyper::Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

impl Client {
    /// Begins with HTTP/2 at once.
    pub(crate) fn connect(server: &Server) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            handshake(tokio::net::TcpStream::connect(&server.address).await.unwrap()).await
        });
        Self { runtime, sender }
    }

    /// The first of these protocols that the server takes is what is spoken; it must be HTTP/2.
    fn secured(secured: &Secured) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = shake(secured, &[b"h2", b"http/1.1"]).await;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            handshake(stream).await
        });
        Self { runtime, sender }
    }

    pub(crate) fn request(&mut self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
        let request = ask(method, target, headers, body);
        self.runtime.block_on(in_time(async { read(self.sender.send_request(request).await.unwrap()).await }))
    }

    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], &[])
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
        values.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn shake(
    secured: &Secured,
    protocols: &[&[u8]],
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(secured.trusted())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = tokio::net::TcpStream::connect(&secured.address).await.unwrap();
    let name = ServerName::try_from("app.example").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[test]
fn clients_with_tls_may_choose_it_unless_it_is_switched_off() {
    let with = secured(&format!("http2 = true\n{TLS}"));
    let mut client = Client::secured(&with);
    let answer = client.get("/api/health");
    assert_eq!((answer.status, answer.text().contains("healthy")), (200, true));
    let chosen = |secured: &Secured, protocols: &[&[u8]]| {
        let stream = runtime().block_on(shake(secured, protocols));
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(chosen(&with, &[b"http/1.1"]).unwrap(), b"http/1.1");
    assert_eq!(chosen(&with, &[]), None);
    let without = secured(&format!("http2 = false\n{TLS}"));
    assert_eq!(chosen(&without, &[b"h2", b"http/1.1"]).unwrap(), b"http/1.1");
}

#[test]
fn without_tls_it_is_taken_only_where_that_is_configured() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    assert_ne!(read_response(&mut stream).status, 200);
    let server = plain("");
    assert_eq!(Client::connect(&server).get("/api/health").status, 200);
    assert_eq!(server.get("/api/health").status, 200, "HTTP/1.1 stays");
    let raw = server.get("/api/health?filter=\"<>");
    assert_eq!(raw.status, 200, "and so does what it rewrites");
}

#[test]
fn a_request_is_answered_as_over_http1() {
    let folder = |folder: &Path| {
        let public = folder.join("gs_public");
        fs::create_dir_all(public.join("dir")).unwrap();
        fs::write(public.join("file.txt"), "hello\n").unwrap();
        fs::write(public.join("large.txt"), "many words ".repeat(100_000)).unwrap();
    };
    let server = plain_with(folder, "");
    let mut client = Client::connect(&server);
    let json = "Content-Type: application/json";
    for (method, target, headers, body) in [
        ("GET", "/api/health", &[][..], ""),
        ("HEAD", "/api/health", &[], ""),
        ("GET", "/nope", &[], ""),
        ("HEAD", "/nope", &[], ""),
        ("TRACE", "/api/health", &[], ""),
        ("GET", "/a/../b?x=1", &[], ""),
        ("POST", "/api//health", &[], ""),
        ("GET", "/a%zz", &[], ""),
        ("OPTIONS", "/nope", &["Origin: http://a.b", "Access-Control-Request-Headers: X-A, b"], ""),
        ("GET", "/api/health", &["Origin: http://a.b"], ""),
        ("GET", "/file.txt", &[], ""),
        ("HEAD", "/file.txt", &[], ""),
        ("GET", "/file.txt", &["Range: bytes=1-2"], ""),
        ("GET", "/dir", &[], ""),
        ("GET", "/large.txt", &[], ""),
        ("HEAD", "/large.txt", &[], ""),
        ("GET", "/large.txt", &["Accept-Encoding: gzip"], ""),
        ("GET", "/api/collections", &["Authorization: none"], ""),
        ("POST", "/api/collections/users/records", &[json], r#"{"email":"x"}"#),
        ("POST", "/api/collections/users/records", &[json], "{"),
        ("POST", "/api/collections/users/auth-with-password", &[json], r#"{"identity":"a","password":"b"}"#),
    ] {
        let length = format!("Content-Length: {}", body.len());
        let with_length = [headers, &[&length]].concat();
        let bytes = request(method, target, if body.is_empty() { headers } else { &with_length });
        let over_http1 = server.send(&[bytes, body.as_bytes().to_vec()].concat());
        let over_http2 = client.request(method, target, headers, body.as_bytes());
        let what = format!("{method} {target} {headers:?}");
        assert_eq!(over_http2.status, over_http1.status, "{what}");
        if over_http1.header("transfer-encoding").is_empty() {
            assert_eq!(over_http2.body, over_http1.body, "{what}");
        } else {
            assert!(!over_http2.body.is_empty(), "{what}");
        }
        for name in over_http1.head.lines().skip(1).filter_map(|line| line.split(':').next()) {
            let is_its_own = ["connection", "transfer-encoding", "date", "x-request-id", "ratelimit"];
            // Without a body none is needed to say where it ends.
            let is_empty = name.eq_ignore_ascii_case("content-length") && over_http1.header(name) == "0";
            if !is_empty && !is_its_own.iter().any(|own| name.to_lowercase().starts_with(own)) {
                assert_eq!(over_http2.header(name), over_http1.header(name), "{name} of {what}");
            }
        }
        for name in over_http2.headers.keys() {
            assert!(!over_http1.header(name.as_str()).is_empty(), "{name} of {what} is new");
        }
        assert!(over_http2.headers.contains_key("date") && !over_http2.headers.contains_key("connection"));
    }
}

#[test]
fn a_request_for_another_server_goes_on_as_http1() {
    let server = plain(&format!(
        "[gateway.upstreams.echo]\nservers = [\"http://{}\"]\n[[gateway.routes]]\npath = \"/\"\nhost = \"test\"\nupstream = \"echo\"",
        echo()
    ));
    let mut client = Client::connect(&server);
    let headers = ["cookie: a=1", "cookie: b=2", "te: trailers", "x-own: kept", "x-forwarded-for: 10.9.9.9"];
    let answer = client.request("POST", "/a%20b?c=d", &headers, b"body");
    assert_eq!(answer.status, 200);
    let text = answer.text().to_lowercase();
    assert!(text.starts_with("post /a%20b?c=d http/1.1\n"), "{text}");
    for line in
        ["host: test", "cookie: a=1; b=2", "x-own: kept", "content-length: 4", "x-forwarded-host: test"]
    {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    for name in ["10.9.9.9", "\nte:", "connection", "transfer-encoding", ":authority"] {
        assert!(!text.contains(name), "{name}: {text}");
    }
    let head = client.request("HEAD", "/", &[], &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn many_requests_with_bodies_share_a_connection() {
    const LARGE: usize = 3 << 20;
    let folder = |folder: &Path| {
        fs::create_dir(folder.join("gs_public")).unwrap();
        fs::write(folder.join("gs_public/large.bin"), vec![7; LARGE]).unwrap();
    };
    let counts = upstream(|stream| {
        while let Some(head) = read_head(stream) {
            let length = head
                .iter()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).unwrap();
            crate::upstreams::reply(stream, 200, &body.len().to_string());
        }
    });
    let server = plain_with(
        folder,
        &format!(
            "[gateway.upstreams.count]\nservers = [\"http://{counts}\"]\n[[gateway.routes]]\npath = \"/count\"\nupstream = \"count\""
        ),
    );
    let client = Client::connect(&server);
    let body = vec![1; LARGE];
    client.runtime.block_on(in_time(async {
        let mut answers = Vec::new();
        for number in 0..60 {
            let request = match number % 3 {
                0 => ask("GET", "/large.bin", &[], &[]),
                1 => ask("POST", "/count", &[], &body),
                _ => ask("GET", "/api/health", &[], &[]),
            };
            let answer = client.sender.clone().send_request(request);
            answers.push(tokio::spawn(async move { (number, read(answer.await.unwrap()).await) }));
        }
        for answer in answers {
            let (number, answer) = answer.await.unwrap();
            assert_eq!(answer.status, 200);
            match number % 3 {
                0 => assert_eq!(answer.body.len(), LARGE),
                1 => assert_eq!(answer.text(), LARGE.to_string()),
                _ => assert!(answer.text().contains("healthy")),
            }
        }
    }));
}

#[test]
fn events_come_as_they_are_sent_beside_other_requests() {
    let server = plain("");
    let mut client = Client::connect(&server);
    let streams = 20;
    let mut events = client.runtime.block_on(in_time(async {
        let mut events = Vec::new();
        for _ in 0..streams {
            let request = ask("GET", "/api/realtime", &[], &[]);
            let mut body = client.sender.send_request(request).await.unwrap().into_body();
            let mut text = String::new();
            while !text.contains("PB_CONNECT") {
                let frame = body.frame().await.unwrap().unwrap();
                text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
            }
            events.push(body);
        }
        events
    }));
    assert_eq!(client.get("/api/health").status, 200);
    server.terminate();
    client.runtime.block_on(in_time(async {
        for body in &mut events {
            while let Some(Ok(_)) = body.frame().await {}
        }
    }));
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn the_request_in_flight_is_finished_and_then_the_connection_ends() {
    const LARGE: usize = 64 << 20;
    let folder = |folder: &Path| {
        fs::create_dir(folder.join("gs_public")).unwrap();
        fs::write(folder.join("gs_public/large.bin"), vec![7; LARGE]).unwrap();
    };
    let server = plain_with(folder, "");
    let idle = Client::connect(&server);
    let client = Client::connect(&server);
    let mut sender = client.sender.clone();
    client.runtime.block_on(in_time(async {
        let mut body = sender.send_request(ask("GET", "/large.bin", &[], &[])).await.unwrap().into_body();
        let mut length = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        server.terminate();
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(length, LARGE);
    }));
    idle.runtime.block_on(in_time(async {
        let mut sender = idle.sender;
        while sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }));
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn heads_are_bounded_as_over_http1() {
    let server = plain("");
    let mut client = Client::connect(&server);
    let lines = |count: usize| (0..count).map(|number| format!("x-{number}: 1")).collect::<Vec<_>>();
    let mut status = |lines: &[String]| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        client.request("GET", "/api/health", &lines, &[]).status
    };
    assert_eq!(status(&lines(200)), 200);
    assert_eq!(status(&lines(300)), 431);
    assert_eq!(status(&[format!("x-large: {}", "a".repeat(120 << 10))]), 200);
    assert_eq!(status(&[format!("x-large: {}", "a".repeat(130 << 10))]), 431);
    assert_eq!(status(&[format!("x-large: {}", "a".repeat(300 << 10))]), 431);
    assert_eq!(status(&[]), 200, "the connection goes on");
}

#[test]
fn a_connection_without_requests_ends() {
    let server = plain("head_timeout = \"200ms\"");
    let mut silent: TcpStream = connect(&server.address);
    let mut idle = server.connect();
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    idle.read_to_end(&mut rest).unwrap();
    assert!(rest.windows(9).any(|frame| frame[3] == 7), "it was told to go: {rest:?}");
}
