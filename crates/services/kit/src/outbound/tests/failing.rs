//! Peers that hang, break off, or do not speak HTTP.

use super::*;

/// Sends to a server that writes some bytes and then waits: the deadline passes, and the connection is closed.
async fn hangs_after(scheme: &'static str, bytes: &'static [u8]) {
    let (tx, mut rx) = mpsc::channel(1);
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        if scheme == "http" {
            read_request(&mut stream).await.unwrap();
        }
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await;
        tx.send(()).await.unwrap();
    });
    let client = client();
    let error = failure(&client, &url(scheme, "127.0.0.1", port), SHORT).await;
    assert_eq!(error, OutboundError::Deadline(error_target(port)));
    rx.recv().await.unwrap();
}

fn error_target(port: u16) -> Target {
    Target { host: Host::Address([127, 0, 0, 1].into()), port }
}

async fn bad_answer(answer: impl Into<Vec<u8>>) -> OutboundError {
    let port = serve_bytes(answer).await;
    failure(&client(), &url("http", "127.0.0.1", port), LONG).await
}

#[tokio::test]
async fn a_peer_that_hangs_before_tls_or_in_it_is_left_at_the_deadline() {
    hangs_after("https", b"").await;
    hangs_after("https", b"\x16\x03\x03\x00\x7a\x02").await;
}

#[tokio::test]
async fn a_peer_that_hangs_before_or_in_the_head_is_left_at_the_deadline() {
    hangs_after("http", b"").await;
    hangs_after("http", b"HTTP/1.1 200 OK\r\nContent-Le").await;
}

#[tokio::test]
async fn a_peer_that_hangs_in_the_body_is_left_at_the_deadline() {
    hangs_after("http", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
    hangs_after("http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
}

/// Writes the same piece again and again, at intervals, until the client goes.
async fn repeats(head: &'static [u8], piece: &'static [u8], every: Duration) {
    let (tx, mut rx) = mpsc::channel(1);
    let port = serve_one(move |mut stream| async move {
        stream.write_all(head).await.unwrap();
        let mut interval = tokio::time::interval(every);
        while stream.write_all(piece).await.is_ok() {
            interval.tick().await;
        }
        tx.send(()).await.unwrap();
    })
    .await;
    let client = client();
    assert_eq!(failure(&client, &url("http", "127.0.0.1", port), SHORT).await.kind(), "deadline");
    rx.recv().await.unwrap();
}

#[tokio::test]
async fn a_drip_does_not_move_the_deadline() {
    let every = Duration::from_millis(5);
    repeats(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", every).await;
    repeats(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x", every).await;
    repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n", every).await;
}

#[tokio::test]
async fn a_flood_of_interim_answers_does_not_move_the_deadline() {
    repeats(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", Duration::from_nanos(1)).await;
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_answer() {
    for answer in [
        "",
        "\r\n",
        "hello\r\n\r\n",
        "HTTP/1.1 200",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let error = bad_answer(answer).await;
        assert_eq!(error.kind(), "bad_answer", "{answer:?} gave {error}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_bad_answer() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(65 << 10));
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(100));
    for answer in [long, many] {
        assert!(bad_answer(answer).await.to_string().ends_with("its head is too large"));
    }
    let endless = "HTTP/1.1 200 OK\r\nX: ".to_owned() + &"x".repeat(8 << 20);
    assert!(bad_answer(endless).await.to_string().ends_with("its head is too large"));
    let most = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(99));
    let port = serve_bytes(most).await;
    let answer = send(&client(), &url("http", "127.0.0.1", port), LONG).await.unwrap();
    assert_eq!(answer.headers.len(), 100);
}

#[tokio::test]
async fn a_port_that_nobody_listens_at_is_unreachable() {
    let (listener, port) = listen().await;
    drop(listener);
    let error = failure(&client(), &url("http", "127.0.0.1", port), LONG).await;
    assert_eq!(
        error.to_string(),
        format!("127.0.0.1:{port} cannot be reached: it refuses connections at that port")
    );
}

#[tokio::test]
async fn a_name_without_an_address_is_unresolvable() {
    let error = failure(&client(), &url("http", "groundswell-test.invalid", 80), LONG).await;
    assert_eq!(error.kind(), "unresolvable");
}

#[tokio::test]
async fn a_request_that_is_dropped_takes_its_connection_along() {
    let (read, mut is_read) = mpsc::channel(1);
    let (ended, mut has_ended) = mpsc::channel(1);
    let port = serve_one(|mut stream| async move {
        read.send(()).await.unwrap();
        read_to_end(&mut stream).await;
        ended.send(()).await.unwrap();
    })
    .await;
    let (client, url) = (client(), url("http", "127.0.0.1", port));
    tokio::select! {
        _ = send(&client, &url, LONG) => panic!("nobody answers"),
        _ = is_read.recv() => (),
    }
    has_ended.recv().await.unwrap();
}

/// No buffer holds so much.
fn large() -> Bytes {
    Bytes::from(vec![b'x'; 32 << 20])
}

/// Whether a client of one connection gets to have another.
async fn has_a_free_connection(client: &Outbound) -> bool {
    let port = serve_bytes(OK).await;
    send(client, &url("http", "127.0.0.1", port), LONG).await.is_ok()
}

#[tokio::test]
async fn a_peer_that_answers_and_does_not_read_is_heard_and_keeps_no_connection() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await.unwrap();
        stream.write_all(OK).await.unwrap();
        std::future::pending::<()>().await;
    });
    let client = bounded_client(Bounds { max_connections: 1, ..BOUNDS });
    let answer = client.send(post(&url("http", "127.0.0.1", port), large()), LONG).await.unwrap();
    assert_eq!(answer.body, "ok");
    assert!(has_a_free_connection(&client).await);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_keeps_no_connection() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let _unread = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    let client = bounded_client(Bounds { max_connections: 1, ..BOUNDS });
    let unread = url("http", "127.0.0.1", port);
    let error = client.send(post(&unread, large()), SHORT).await.unwrap_err();
    assert_eq!(error.kind(), "deadline");
    assert!(has_a_free_connection(&client).await);
}

#[tokio::test]
async fn patience_with_a_peer_that_reads_nothing_ends() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let _unread = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    let client = bounded_client(Bounds { patience: Duration::from_millis(100), ..BOUNDS });
    let unread = url("http", "127.0.0.1", port);
    assert_eq!(client.send(post(&unread, large()), LONG).await.unwrap_err().kind(), "bad_answer");
}
