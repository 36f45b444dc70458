//! How servers are spoken to: TLS in both directions, and HTTP/2.

use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::http2::{Client, ask, in_time};
use crate::server::{Server, request};
use crate::tls::{TLS, certificate, secured, write_certificate};
use crate::upstreams::{Process, read_head, upstream};

const ALL: &str = "[[gateway.routes]]\npath = \"/\"\nupstream = \"pool\"\n";

/// A gateway that takes HTTP/2 without TLS, in whose folder the files lie that `prepare` writes.
fn gateway(prepare: impl FnOnce(&Path), server: &str, more: &str) -> Server {
    let config = format!(
        "[server]\nhttp2_plain = true\n[gateway.upstreams.pool]\nservers = [\"{server}\"]\n{more}\n{ALL}"
    );
    let prepare = |folder: &Path| {
        prepare(folder);
        fs::write(folder.join("g.toml"), config).unwrap();
    };
    Server::start_with(prepare, &["--config", "g.toml"])
}

/// Runs a server's connections on a thread of its own, until the process ends. Gives its address, and how many came.
fn serve<F>(connection: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> (String, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::<AtomicUsize>::default();
    let counted = count.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(stream));
            }
        });
    });
    (address, count)
}

/// What a request was, as text.
async fn told(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap();
    let mut text = format!("{} {} {:?}\n", head.method, head.uri, head.version);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    text.push_str(&format!("bytes: {}\n", body.to_bytes().len()));
    Ok(Response::new(Full::new(text.into())))
}

/// A server of HTTP/2 without TLS that tells what it was asked.
fn tells() -> (String, Arc<AtomicUsize>) {
    serve(|stream| async move {
        let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        _ = http.max_concurrent_streams(4).serve_connection(TokioIo::new(stream), service_fn(told)).await;
    })
}

#[test]
fn servers_with_tls_are_trusted_by_the_authority_and_the_name_that_are_configured() {
    let backend = secured(TLS);
    let url = format!("https://{}", backend.address);
    let ca = fs::read(backend.server.folder().join("app.pem")).unwrap();
    let trusted = |folder: &Path| fs::write(folder.join("ca.pem"), &ca).unwrap();
    for http2 in [false, true] {
        let right = format!("http2 = {http2}\ntls = {{ ca = \"ca.pem\", server_name = \"app.example\" }}");
        let server = gateway(trusted, &url, &right);
        for _ in 0..5 {
            assert!(server.get("/api/health").text().contains("healthy"));
        }
    }
    // Of its own authority, which the system does not know; and another name than that of its address.
    for wrong in ["tls = { server_name = \"app.example\" }", "tls = { ca = \"ca.pem\" }", ""] {
        assert_eq!(gateway(trusted, &url, wrong).get("/api/health").status, 502, "{wrong}");
    }
}

#[test]
fn a_server_that_asks_who_connects_is_told() {
    let (pem, key) = certificate("backend.example");
    let (client_pem, client_key) = certificate("gateway.example");
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut clients = RootCertStore::empty();
    clients.add(der(&client_pem)).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone()).build();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(vec![der(&pem)], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (address, _) = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let http = hyper::server::conn::http1::Builder::new();
            _ = http.serve_connection(TokioIo::new(stream), service_fn(told)).await;
        }
    });
    let url = format!("https://{address}");
    let files = |folder: &Path| {
        fs::write(folder.join("ca.pem"), &pem).unwrap();
        fs::write(folder.join("client.pem"), &client_pem).unwrap();
        fs::write(folder.join("client.key"), &client_key).unwrap();
        write_certificate(folder, "stranger", "stranger.example");
    };
    let tls = |client: &str| {
        format!(
            "health = {{ path = \"/\", every = \"50ms\" }}\n\
             tls = {{ ca = \"ca.pem\", server_name = \"backend.example\"{client} }}"
        )
    };
    let known = ", client_cert = \"client.pem\", client_key = \"client.key\"";
    let answer = gateway(files, &url, &tls(known)).get("/a");
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("GET /a HTTP/1.1\n"), "{}", answer.text());
    let stranger = ", client_cert = \"stranger.pem\", client_key = \"stranger.key\"";
    for client in ["", stranger] {
        assert_eq!(gateway(files, &url, &tls(client)).get("/a").status, 502, "{client}");
    }
}

#[test]
fn a_wrong_configuration_of_tls_says_what_is_wrong() {
    for (server, more, complaint) in [
        ("http://a:1", "tls = { ca = \"a.pem\" }", "no server of this pool has TLS"),
        ("https://a:1", "tls = { ca = \"missing.pem\" }", "cannot read missing.pem"),
        ("https://a:1", "tls = { client_key = \"a.key\" }", "client_cert: stands alone"),
        ("https://a:1", "tls = { ca = \"a.key\" }", "a.key holds no certificate"),
        ("https://a:1", "tls = { client_cert = \"a.pem\", client_key = \"b.key\" }", "cannot be used"),
        ("https://a:1", "tls = { server_name = \"a b\" }", "is no name"),
        ("https://a:1", "tls = { insecure = true }", "unknown key"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_certificate(folder.path(), "a", "a.example");
        write_certificate(folder.path(), "b", "b.example");
        let config = format!("[gateway.upstreams.pool]\nservers = [\"{server}\"]\n{more}");
        fs::write(folder.path().join("g.toml"), config).unwrap();
        let output = crate::server::run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more}: {said}");
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn requests_are_put_into_the_form_of_http2() {
    let (address, connections) = tells();
    let server = gateway(|_| (), &format!("http://{address}"), "http2 = true");
    let check = |text: &str, method: &str, bytes: usize| {
        assert!(text.starts_with(&format!("{method} http://test/a%20b?c=d HTTP/2.0\n")), "{text}");
        assert!(text.contains(&format!("bytes: {bytes}\n")), "{text}");
        for name in ["connection", "transfer-encoding", "\nhost:", "keep-alive"] {
            assert!(!text.contains(name), "{name}: {text}");
        }
        assert!(text.contains("x-forwarded-host: test") && text.contains("cookie: a=1"), "{text}");
    };
    let from_http1 = server.request("GET", "/a%20b?c=d", &["Cookie: a=1", "Keep-Alive: 5"]);
    check(&from_http1.text(), "GET", 0);
    let chunked = ["Cookie: a=1", "Transfer-Encoding: chunked"];
    let chunked = [request("POST", "/a%20b?c=d", &chunked), b"3\r\nabc\r\n0\r\n\r\n".to_vec()].concat();
    check(&server.send(&chunked).text(), "POST", 3);
    let mut client = Client::connect(&server);
    let from_http2 = client.request("POST", "/a%20b?c=d", &["cookie: a=1", "te: trailers"], b"12345");
    check(&from_http2.text(), "POST", 5);
    assert!(from_http2.text().contains("te: trailers"), "{}", from_http2.text());
    // Each loop has one of its own.
    assert!(connections.load(Ordering::SeqCst) <= 2);
}

#[test]
fn a_full_connection_is_joined_by_others() {
    let (address, connections) = tells();
    let server = gateway(|_| (), &format!("http://{address}"), "http2 = true");
    // All of one client, and so of one loop.
    let client = Client::connect(&server);
    let body = vec![1; 1 << 20];
    client.runtime.block_on(in_time(async {
        let answers: Vec<_> = (0..64)
            .map(|_| {
                let answer = client.sender.clone().send_request(ask("POST", "/", &[], &body));
                tokio::spawn(async move { answer.await.unwrap().into_body().collect().await.unwrap() })
            })
            .collect();
        for answer in answers {
            let text = answer.await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&text);
            assert!(text.contains("bytes: 1048576\n"), "{text}");
        }
    }));
    let connections = connections.load(Ordering::SeqCst);
    assert!((2..=8).contains(&connections), "{connections}");
}

#[test]
fn an_exchange_of_grpc_comes_through_with_its_trailers() {
    let answered = |request: Request<Incoming>| async move {
        let wants_trailers = request.headers().get("te").is_some_and(|te| te == "trailers");
        let mut messages = request.into_body();
        let (sender, answers) = tokio::sync::mpsc::channel(1);
        // Each message is answered when it comes: the other side waits for that.
        tokio::spawn(async move {
            while let Some(Ok(frame)) = messages.frame().await {
                if let Ok(data) = frame.into_data() {
                    sender.send(Frame::data(data)).await.unwrap();
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", if wants_trailers { "0" } else { "13" }.parse().unwrap());
            _ = sender.send(Frame::trailers(trailers)).await;
        });
        let frames = futures_util::stream::unfold(answers, |mut answers| async move {
            let frame = answers.recv().await?;
            Some((Ok::<_, Infallible>(frame), answers))
        });
        let response = Response::builder().header("content-type", "application/grpc");
        Ok::<_, Infallible>(response.body(StreamBody::new(frames)).unwrap())
    };
    let (address, _) = serve(move |stream| async move {
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        _ = http.serve_connection(TokioIo::new(stream), service_fn(answered)).await;
    });
    let server = gateway(|_| (), &format!("http://{address}"), "http2 = true");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(in_time(async {
        let stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://test/pkg.Service/Method")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut messages) = client.send_request(request, false).unwrap();
        messages.send_data(Bytes::from_static(b"first"), false).unwrap();
        let mut answers = response.await.unwrap().into_body();
        assert_eq!(answers.data().await.unwrap().unwrap(), "first");
        messages.send_data(Bytes::from_static(b"second"), true).unwrap();
        assert_eq!(answers.data().await.unwrap().unwrap(), "second");
        assert!(answers.data().await.is_none());
        let trailers = answers.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    }));
}

#[test]
fn what_a_server_refuses_unseen_is_tried_again_and_what_it_breaks_off_is_not() {
    // The first request of each path: refused, broken off, or with the connection told to go.
    let (address, _) = serve(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let is_again = |path: &str| {
                static SEEN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
                let mut seen = SEEN.lock().unwrap();
                let is_again = seen.iter().any(|seen| seen == path);
                seen.push(path.to_owned());
                is_again
            };
            let path = request.uri().path().to_owned();
            match path.as_str() {
                "/refused" if !is_again(&path) => respond.send_reset(h2::Reason::REFUSED_STREAM),
                "/broken" if !is_again(&path) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                _ => {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"answered"), true).unwrap();
                }
            }
        }
    });
    let server = gateway(|_| (), &format!("http://{address}"), "http2 = true");
    let post = |path: &str| server.request("POST", path, &["Content-Length: 0"]);
    assert!(post("/refused").text().contains("answered"));
    assert_eq!(post("/broken").status, 502, "nobody knows what was done");
    assert!(post("/broken").text().contains("answered"));
}

#[test]
fn a_server_that_is_restarted_is_spoken_to_again() {
    let mut backend = Process::start();
    let url = format!("http://{}", backend.address);
    let health = "http2 = true\nhealth = { path = \"/api/health\", every = \"50ms\" }";
    let server = gateway(|_| (), &url, health);
    assert_eq!(server.get("/me").text(), "here");
    backend.restart();
    crate::app::wait_until("an answer", || server.get("/me").text() == "here");
}

#[test]
fn a_websocket_goes_over_http1_to_a_pool_of_http2() {
    let backend = upstream(|stream| {
        let Some(head) = read_head(stream) else { return };
        assert!(head[0].ends_with("HTTP/1.1"), "{head:?}");
        let agreed = "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.get_mut().write_all(agreed.as_bytes()).unwrap();
        let mut byte = [0];
        let _ = stream.read(&mut byte);
    });
    let server = gateway(|_| (), &format!("http://{backend}"), "http2 = true");
    let mut stream = server.connect();
    let upgrade = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(upgrade).unwrap();
    let mut text = String::new();
    while !text.ends_with("hello") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
}

#[test]
fn answers_of_a_route_are_compressed_where_it_says_so() {
    let backend = upstream(|stream| {
        while let Some(head) = read_head(stream) {
            let body = "many words ".repeat(1_000);
            let more = if head[0].contains("/fixed") { "Cache-Control: no-transform\r\n" } else { "" };
            let answer = format!(
                "HTTP/1.1 200 S\r\nContent-Type: text/html\r\nETag: \"1\"\r\n{more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let route = "[[gateway.routes]]\npath = \"/small\"\nupstream = \"pool\"\ncompress = true\n";
    let server = gateway(|_| (), &format!("http://{backend}"), route);
    let mut client = Client::connect(&server);
    for encoding in ["gzip", "br", "zstd"] {
        let accept = format!("accept-encoding: {encoding}");
        let answer = client.request("GET", "/small", &[&accept], &[]);
        assert_eq!(answer.header("content-encoding"), encoding);
        assert!(answer.body.len() < 1_000, "{encoding}: {}", answer.body.len());
        assert_eq!(
            (answer.header("vary"), answer.header("etag")),
            ("Accept-Encoding".into(), "W/\"1\"".into())
        );
        let fixed = client.request("GET", "/small/fixed", &[&accept], &[]);
        assert_eq!((fixed.header("content-encoding").as_str(), fixed.body.len()), ("", 11_000));
        let other = client.request("GET", "/other", &[&accept], &[]);
        assert_eq!((other.header("content-encoding").as_str(), other.header("vary").as_str()), ("", ""));
    }
    let plain = client.request("GET", "/small", &[], &[]);
    assert_eq!((plain.body.len(), plain.header("vary").as_str()), (11_000, "Accept-Encoding"));
}
