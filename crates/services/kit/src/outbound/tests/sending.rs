//! What is sent, and what comes back.

use super::*;

/// What a server reads when a request is sent.
async fn sent(make: impl FnOnce(&OutboundUrl) -> OutboundRequest<'_>, path: &str) -> (String, u16) {
    let (tx, mut rx) = mpsc::channel(1);
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await.unwrap();
        stream.write_all(OK).await.unwrap();
        tx.send(request).await.unwrap();
    });
    let url = OutboundUrl::parse(&format!("HTTP://LocalHost:{port}{path}")).unwrap();
    let answer = Outbound::new(policy(&["localhost"])).send(make(&url), LONG).await.unwrap();
    assert_eq!((answer.status, answer.body.as_ref(), answer.is_cut), (StatusCode::OK, &b"ok"[..], false));
    (rx.recv().await.unwrap(), port)
}

#[tokio::test]
async fn a_request_has_its_host_agent_and_length() {
    let (text, port) = sent(|url| post(url, Bytes::from_static(b"hello")), "/a?b=c").await;
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nhello"), "{text}");
    for line in [
        "x-key: SECRET".to_owned(),
        format!("host: localhost:{port}"),
        format!("user-agent: Groundswell/{version}"),
        "content-length: 5".to_owned(),
    ] {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} in {text}");
    }
}

#[tokio::test]
async fn headers_of_the_caller_win_but_for_those_of_the_connection() {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("mine"));
    headers.insert(header::HOST, HeaderValue::from_static("elsewhere.example"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("1"));
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let body = Bytes::from_static(b"hello");
    let (text, port) = sent(|url| OutboundRequest { method: Method::PUT, url, headers, body }, "").await;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let host = format!("host: localhost:{port}");
    let expected = ["", "PUT / HTTP/1.1", "content-length: 5", "hello", &host, "user-agent: mine"];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_body_without_bytes_has_a_length_where_a_body_is_meant() {
    let (text, _) =
        sent(|url| OutboundRequest { method: Method::GET, ..post(url, Bytes::new()) }, "?x=1").await;
    assert!(text.starts_with("GET /?x=1 HTTP/1.1\r\n") && !text.contains("content-length"), "{text}");
    let (text, _) = sent(|url| post(url, Bytes::new()), "/").await;
    assert!(text.contains("\r\ncontent-length: 0\r\n"), "{text}");
}

#[tokio::test]
async fn tasks_may_share_a_client() {
    let client = Arc::new(client());
    for _ in 0..2 {
        let (client, url) = (client.clone(), url("http", "127.0.0.1", serve_bytes(OK).await));
        let sending = tokio::spawn(async move { send(&client, &url, LONG).await.unwrap().body });
        assert_eq!(sending.await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn connect_is_not_sent() {
    let (listener, port) = listen().await;
    let url = url("http", "127.0.0.1", port);
    let request = OutboundRequest { method: Method::CONNECT, ..post(&url, Bytes::new()) };
    assert_eq!(client().send(request, LONG).await.unwrap_err().kind(), "unreachable");
    assert!(is_untouched(listener).await);
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit() {
    let limits = Limits { max_answer_bytes: 4, ..LONG };
    for (framing, body, expected) in [
        ("Content-Length: 3", "abc", ("abc", false)),
        ("Content-Length: 4", "abcd", ("abcd", false)),
        ("Content-Length: 5", "abcde", ("abcd", true)),
        ("Content-Length: 0", "", ("", false)),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", ("abc", false)),
        ("Transfer-Encoding: chunked", "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", ("abcd", true)),
        ("Connection: close", "abc", ("abc", false)),
        ("Connection: close", "abcde", ("abcd", true)),
    ] {
        let port = serve_bytes(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}")).await;
        let answer = send(&client(), &url("http", "127.0.0.1", port), limits).await.unwrap();
        assert_eq!((std::str::from_utf8(&answer.body).unwrap(), answer.is_cut), expected, "{framing} {body}");
    }
}

#[tokio::test]
async fn of_gigabytes_no_more_is_read_than_the_limit() {
    let (tx, mut rx) = mpsc::channel(1);
    let port = serve_one(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n").await.unwrap();
        let piece = vec![b'x'; 64 << 10];
        let mut written = 0_usize;
        while stream.write_all(&piece).await.is_ok() {
            written += piece.len();
        }
        tx.send(written).await.unwrap();
    })
    .await;
    let client = client();
    let answer = send(&client, &url("http", "127.0.0.1", port), LONG).await.unwrap();
    assert_eq!((answer.body.len(), answer.is_cut), (64 << 10, true));
    // What the system buffers on both sides comes to some megabytes.
    let written = rx.recv().await.unwrap();
    assert!(written < 64 << 20, "{written} bytes were taken");
}

#[tokio::test]
async fn a_drip_past_the_limit_is_not_waited_for() {
    let (tx, mut rx) = mpsc::channel(1);
    let port = serve_one(|mut stream| async move {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n")
            .await
            .unwrap();
        read_to_end(&mut stream).await;
        tx.send(()).await.unwrap();
    })
    .await;
    let client = client();
    let limits = Limits { max_answer_bytes: 4, ..LONG };
    let answer = send(&client, &url("http", "127.0.0.1", port), limits).await.unwrap();
    assert_eq!((answer.body.as_ref(), answer.is_cut), (&b"abcd"[..], true));
    rx.recv().await.unwrap();
}

#[tokio::test]
async fn an_answer_shows_neither_its_headers_nor_its_body() {
    let port = serve_bytes("HTTP/1.1 200 OK\r\nX-Token: SECRET\r\nContent-Length: 6\r\n\r\nSECRET").await;
    let url = url("http", "127.0.0.1", port);
    let answer = send(&client(), &url, LONG).await.unwrap();
    assert!(!format!("{answer:?} {:?}", post(&url, Bytes::from_static(b"SECRET"))).contains("SECRET"));
}
